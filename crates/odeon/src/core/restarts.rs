//! Whether an actor that failed may start again, and after which rest.

use odeon_protocol::control::Restart;
use std::collections::VecDeque;

/// The rest before the first restart; each later one within the policy's span doubles it, up to 128 times.
const REST_FIRST_NANOS: u64 = 10_000_000;

/// When an actor was started again.
#[derive(Debug, Default)]
pub(crate) struct Restarts(VecDeque<u64>);

impl Restarts {
    /// Counts a restart at `now`, if the policy allows one more; answers the rest before it, in nanoseconds.
    pub(crate) fn allow(&mut self, policy: Restart, now: u64) -> Option<u64> {
        let Restart::UpTo { max, within_ms } = policy else { return None };
        let from = now.saturating_sub(u64::from(within_ms) * 1_000_000);
        while self.0.front().is_some_and(|at| *at < from) {
            self.0.pop_front();
        }
        if self.0.len() >= max as usize {
            return None;
        }
        let rest = REST_FIRST_NANOS << self.0.len().min(7);
        self.0.push_back(now);
        Some(rest)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_ends_where_it_says() {
        let policy = Restart::UpTo { max: 2, within_ms: 1000 };
        let mut restarts = Restarts::default();
        assert_eq!(restarts.allow(policy, 5_000_000_000), Some(10_000_000));
        assert_eq!(restarts.allow(policy, 5_100_000_000), Some(20_000_000));
        assert_eq!(restarts.allow(policy, 5_200_000_000), None);
        assert_eq!(restarts.allow(policy, 6_050_000_000), Some(20_000_000), "the first one is long ago");
        assert_eq!(restarts.allow(Restart::Never, 0), None);
    }
}
