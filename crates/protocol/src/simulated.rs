//! Clocks and randomness as a simulation has them, for everything that runs on its thread. Without the feature
//! `simulation`, which only the test kit asks for, there are none, and every caller takes the machine's.

use crate::Time;
use std::time::Duration;

/// What the clocks of a simulated machine show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// `CLOCK_BOOTTIME`.
    pub boot: Time,
    /// `CLOCK_MONOTONIC`: it stands still while the machine is suspended.
    pub monotonic: Time,
    /// The time of day, since the beginning of 1970.
    pub wall: Duration,
}

#[cfg(feature = "simulation")]
mod chosen {
    use super::{Clocks, Duration, Time};
    use crate::planted::{self, Fault};
    use std::cell::{Cell, RefCell};

    type Read = Box<dyn Fn() -> Clocks>;

    thread_local! {
        static CLOCKS: RefCell<Option<Read>> = const { RefCell::new(None) };
        static RANDOM: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// From now on this thread's clocks are read so; the machine's with nothing.
    pub fn set_clocks(read: Option<Read>) {
        CLOCKS.set(read);
    }

    /// From now on this thread's random numbers follow from `seed`; they are the machine's with nothing.
    pub fn set_random(seed: Option<u64>) {
        RANDOM.set(seed);
    }

    /// What [`set_random`] has to be given to go on from here.
    #[must_use]
    pub fn random_state() -> Option<u64> {
        RANDOM.get()
    }

    /// What `CLOCK_BOOTTIME` shows, if it is simulated.
    #[must_use]
    pub fn boot_time() -> Option<Time> {
        let stands = planted::is(Fault::ClockStandsInSuspend);
        CLOCKS.with_borrow(|read| read.as_ref().map(|read| if stands { read().monotonic } else { read().boot }))
    }

    /// The time of day, since the beginning of 1970, if it is simulated.
    #[must_use]
    pub fn wall_time() -> Option<Duration> {
        CLOCKS.with_borrow(|read| read.as_ref().map(|read| read().wall))
    }

    /// A random number, if they are simulated: splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
    /// generators, 2014).
    #[must_use]
    pub fn random() -> Option<u64> {
        let state = RANDOM.get()?.wrapping_add(0x9e37_79b9_7f4a_7c15);
        RANDOM.set(Some(state));
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(mixed ^ (mixed >> 31))
    }
}

#[cfg(feature = "simulation")]
pub use chosen::{boot_time, random, random_state, set_clocks, set_random, wall_time};

/// What `CLOCK_BOOTTIME` shows, if it is simulated.
#[cfg(not(feature = "simulation"))]
#[must_use]
pub const fn boot_time() -> Option<Time> {
    None
}

/// The time of day, since the beginning of 1970, if it is simulated.
#[cfg(not(feature = "simulation"))]
#[must_use]
pub const fn wall_time() -> Option<Duration> {
    None
}

/// A random number, if they are simulated.
#[cfg(not(feature = "simulation"))]
#[must_use]
pub const fn random() -> Option<u64> {
    None
}
