//! The time by which deadlines are kept: monotonic, to about four milliseconds, at a fifth of the price.

use odeon_protocol::simulated;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Nanoseconds of the monotonic clock, as of its last tick.
pub(crate) fn coarse() -> u64 {
    simulated::monotonic_time().map_or_else(|| read(ClockId::MonotonicCoarse), |now| now.as_nanos())
}

/// Nanoseconds of the same clock, to the nanosecond.
pub(crate) fn fine() -> u64 {
    simulated::monotonic_time().map_or_else(|| read(ClockId::Monotonic), |now| now.as_nanos())
}

/// A span in nanoseconds; for ever if it does not fit.
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;

/// Nanoseconds of `CLOCK_BOOTTIME`, which goes on while the machine sleeps.
pub(crate) fn boot() -> u64 {
    simulated::boot_time().map_or_else(|| read(ClockId::Boottime), |now| now.as_nanos())
}

fn read(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
