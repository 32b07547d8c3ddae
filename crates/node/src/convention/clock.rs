//! The clock that leases are counted on: it runs on while the machine is suspended.

use odeon_protocol::Time;
use rustix::time::{ClockId, clock_gettime};

/// Now, by `CLOCK_BOOTTIME`.
#[must_use]
pub fn now() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    Time::from_nanos(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
}
