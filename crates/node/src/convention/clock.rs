//! The machine's clocks and randomness, or a simulation's: nothing else in the agent reads them.

use odeon_protocol::{Time, simulated};
use rustix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, by `CLOCK_BOOTTIME`, on which leases are counted: it runs on while the machine is suspended.
#[must_use]
pub fn now() -> Time {
    simulated::boot_time().unwrap_or_else(|| {
        let now = clock_gettime(ClockId::Boottime);
        Time::from_nanos(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
    })
}

/// The time of day, by which certificates and tokens run out.
pub(crate) fn wall() -> SystemTime {
    simulated::wall_time().map_or_else(SystemTime::now, |since| UNIX_EPOCH + since)
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A random number; not for secrets.
pub(crate) fn random() -> u64 {
    simulated::random().unwrap_or_else(rand::random)
}
