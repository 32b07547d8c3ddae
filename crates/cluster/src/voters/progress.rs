//! How far the others' logs are, as their leader sees it time and again.

use odeon_protocol::{NodeId, Time};
use std::{collections::BTreeMap, time::Duration};

/// A host lacks little if it lacks at most so many entries of the log: two messages' worth.
const LAG_MAX: u64 = 128;

/// Of each host that follows the log, what it had at the last look and since when it has that.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    last: u64,
    known: BTreeMap<NodeId, (Option<u64>, Time)>,
}

impl Progress {
    /// The last entry of the leader's log, and that of each host's that follows it; nothing if a host has not said it yet.
    pub fn look(&mut self, last: u64, hosts: impl IntoIterator<Item = (NodeId, Option<u64>)>, now: Time) {
        let before = std::mem::take(&mut self.known);
        self.last = last;
        self.known = hosts
            .into_iter()
            .map(|(node, has)| {
                let stands = before.get(&node).filter(|(had, _)| *had == has && has < Some(last));
                (node, (has, stands.map_or(now, |(_, since)| *since)))
            })
            .collect();
    }

    /// Whether it lacks little of the log.
    #[must_use]
    pub fn caught_up(&self, node: NodeId) -> bool {
        let has = self.known.get(&node).and_then(|(has, _)| *has);
        has.is_some_and(|has| has.saturating_add(LAG_MAX) >= self.last)
    }

    /// For how long its log stands still, though it lacks something of the leader's.
    #[must_use]
    pub fn stuck(&self, node: NodeId, now: Time) -> Duration {
        self.known.get(&node).map_or(Duration::ZERO, |(_, since)| now.since(*since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::node;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_log_that_lacks_something_and_does_not_move_is_stuck() {
        let at = |seconds: u32| Time::ZERO + SECOND * seconds;
        let mut progress = Progress::default();
        let mut stuck = |now: u32, last: u64, has: Option<u64>| {
            progress.look(last, [(node(2), has)], at(now));
            progress.stuck(node(2), at(now))
        };
        assert_eq!(stuck(0, 7, None), Duration::ZERO);
        assert_eq!(stuck(3, 7, None), SECOND * 3, "it has not said yet what it has");
        assert_eq!(stuck(4, 7, Some(7)), Duration::ZERO);
        assert_eq!(stuck(60, 7, Some(7)), Duration::ZERO, "there is nothing that it lacks");
        assert_eq!(stuck(61, 9, Some(7)), SECOND, "since the look before");
        assert_eq!(stuck(66, 9, Some(7)), SECOND * 6);
        assert_eq!(stuck(67, 20, Some(8)), Duration::ZERO, "it goes on");
        assert_eq!(progress.stuck(node(3), at(99)), Duration::ZERO, "it does not follow");
    }

    #[test]
    fn whoever_lacks_little_is_caught_up() {
        let mut progress = Progress::default();
        progress.look(
            1000,
            [(node(2), Some(1000 - LAG_MAX)), (node(3), Some(999 - LAG_MAX)), (node(4), None)],
            Time::ZERO,
        );
        assert_eq!([2, 3, 4, 5].map(|number| progress.caught_up(node(number))), [true, false, false, false]);
    }
}
