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

/// The hasher of tables whose keys strangers choose and that are gone through: in a simulation the order is the same in
/// each run.
#[cfg(not(feature = "simulation"))]
pub type RandomState = std::hash::RandomState;

/// The hasher of tables whose keys strangers choose and that are gone through: in a simulation the order is the same in
/// each run.
#[cfg(feature = "simulation")]
pub type RandomState = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

#[cfg(feature = "simulation")]
mod chosen {
    use super::{Clocks, Duration, Time};
    use crate::planted::{self, Fault};
    use std::cell::RefCell;

    type Read = Box<dyn Fn() -> Clocks>;
    type Next = Box<dyn FnMut() -> u64>;

    thread_local! {
        static CLOCKS: RefCell<Option<Read>> = const { RefCell::new(None) };
        static RANDOM: RefCell<Option<Next>> = const { RefCell::new(None) };
    }

    /// From now on this thread's clocks are read so; the machine's with nothing.
    pub fn set_clocks(read: Option<Read>) {
        CLOCKS.set(read);
    }

    /// From now on this thread's random numbers are these; the machine's with nothing.
    pub fn set_random(next: Option<Next>) {
        RANDOM.set(next);
    }

    /// What `CLOCK_BOOTTIME` shows, if it is simulated.
    #[must_use]
    pub fn boot_time() -> Option<Time> {
        let stands = planted::is(Fault::ClockStandsInSuspend);
        CLOCKS.with_borrow(|read| read.as_ref().map(|read| if stands { read().monotonic } else { read().boot }))
    }

    /// What `CLOCK_MONOTONIC` shows, if it is simulated.
    #[must_use]
    pub fn monotonic_time() -> Option<Time> {
        CLOCKS.with_borrow(|read| read.as_ref().map(|read| read().monotonic))
    }

    /// The time of day, since the beginning of 1970, if it is simulated.
    #[must_use]
    pub fn wall_time() -> Option<Duration> {
        CLOCKS.with_borrow(|read| read.as_ref().map(|read| read().wall))
    }

    /// A random number, if they are simulated.
    #[must_use]
    pub fn random() -> Option<u64> {
        RANDOM.with_borrow_mut(|next| next.as_mut().map(|next| next()))
    }
}

#[cfg(feature = "simulation")]
pub use chosen::{boot_time, monotonic_time, random, set_clocks, set_random, wall_time};

/// What `CLOCK_BOOTTIME` shows, if it is simulated.
#[cfg(not(feature = "simulation"))]
#[must_use]
pub const fn boot_time() -> Option<Time> {
    None
}

/// What `CLOCK_MONOTONIC` shows, if it is simulated.
#[cfg(not(feature = "simulation"))]
#[must_use]
pub const fn monotonic_time() -> Option<Time> {
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
