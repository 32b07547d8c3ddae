//! The time by which deadlines are kept: monotonic, to about four milliseconds, at a fifth of the price.

use std::time::Duration;

/// Nanoseconds of the monotonic clock, as of its last tick.
pub(crate) fn coarse() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Nanoseconds of the same clock, to the nanosecond.
pub(crate) fn fine() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A span in nanoseconds; for ever if it does not fit.
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;

/// Nanoseconds of `CLOCK_BOOTTIME`, which goes on while the machine sleeps.
pub(crate) fn boot() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
