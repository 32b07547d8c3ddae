//! So many a second, and a count of what was too much.

use odeon_protocol::Time;
use std::time::Duration;

/// Lets at most so many things a second through, and counts the others.
#[derive(Clone, Debug)]
pub struct Rate {
    max: u32,
    since: Time,
    passed: u32,
    missed: u64,
}

impl Rate {
    /// At most `max` in each second.
    #[must_use]
    pub const fn new(max: u32) -> Self {
        Self { max, since: Time::ZERO, passed: 0, missed: 0 }
    }

    /// Whether one more may pass now; if so, how many might not since the last that did.
    pub fn pass(&mut self, now: Time) -> Option<u64> {
        if now.since(self.since) >= Duration::from_secs(1) {
            (self.since, self.passed) = (now, 0);
        }
        if self.passed == self.max {
            self.missed += 1;
            return None;
        }
        self.passed += 1;
        Some(std::mem::take(&mut self.missed))
    }

    /// So many more were left out, after they had passed.
    pub fn miss(&mut self, count: u64) {
        self.missed += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_in_a_second_is_counted_and_told_in_the_next() {
        let mut rate = Rate::new(2);
        let at = |millis: u64| Time::ZERO + Duration::from_millis(5_000 + millis);
        let passed = [0, 1, 2, 999].map(|millis| rate.pass(at(millis)));
        assert_eq!(passed, [Some(0), Some(0), None, None]);
        assert_eq!((rate.pass(at(1000)), rate.pass(at(1001)), rate.pass(at(1002))), (Some(2), Some(0), None));
        rate.miss(5);
        assert_eq!(rate.pass(at(9000)), Some(6));
    }
}
