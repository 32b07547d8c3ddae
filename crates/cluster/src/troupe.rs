//! Troupes: which member takes a message, when one more is started, when idle ones retire.

use crate::placement::mix;
use odeon_protocol::{Direct, NodeId, Time, control::Troupe};
use std::time::Duration;

/// How long a member above the idle number stays without work before it retires.
pub const RETIRE_AFTER: Duration = Duration::from_secs(5);

/// A member of a troupe, as the host that picks sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TroupeMember {
    /// Its place.
    pub place: Direct,
    /// Messages given to it and not settled.
    pub queue: u64,
    /// Since when it has none.
    pub idle_since: Option<Time>,
}

/// Picks the member for a message: one of the own host unless its queue is twice another's. `random` is any number.
#[must_use]
pub fn pick(members: &[TroupeMember], own: NodeId, random: u64) -> Option<Direct> {
    let better = |at_home: bool| {
        let (mut best, mut ties) = (None::<&TroupeMember>, 0);
        for member in members.iter().filter(|member| (member.place.node == own) == at_home) {
            ties = if best.is_some_and(|best| best.queue == member.queue) { ties + 1 } else { 1 };
            // Among equals each one with the same chance, so that agents that see the same do not all pick the same.
            if best.is_none_or(|best| member.queue < best.queue) {
                (best, ties) = (Some(member), 1);
            } else if ties > 1 && mix(random.wrapping_add(ties)).is_multiple_of(ties) {
                best = Some(member);
            }
        }
        best
    };
    match (better(true), better(false)) {
        (Some(home), Some(other)) if home.queue > other.queue.saturating_mul(2) => Some(other.place),
        (home, other) => home.or(other).map(|member| member.place),
    }
}

/// Picks the member for a key, the same one as long as it stays: the highest hash of key and member (rendezvous hashing,
/// Thaler and Ravishankar 1998), so that a member's coming or going moves only its own keys.
#[must_use]
pub fn pick_by_key(members: &[TroupeMember], key: u64) -> Option<Direct> {
    let weight = |place: &Direct| mix(mix(mix(key ^ place.node.0) ^ place.boot.0) ^ place.serial.0);
    members.iter().map(|member| member.place).max_by_key(|place| (weight(place), *place))
}

/// How many members to start now: one for each message that no member is free for, at most as many as there are, never
/// more than the troupe's maximum.
///
/// `starting` are members on their way; `waiting` are messages that no member has.
#[must_use]
pub fn grow(size: Troupe, members: &[TroupeMember], starting: u32, waiting: u64) -> u32 {
    let have = u32::try_from(members.len()).unwrap_or(u32::MAX).saturating_add(starting);
    let work = members.iter().fold(waiting, |sum, member| sum.saturating_add(member.queue));
    let wanted = u32::try_from(work).unwrap_or(u32::MAX).max(size.idle).max(1).min(size.max.max(1));
    wanted.saturating_sub(have).min(have.max(1))
}

/// The members that retire now: those idle long enough, above the number of idle ones that stay. The longest idle go
/// first.
#[must_use]
pub fn retire(size: Troupe, members: &[TroupeMember], now: Time) -> Vec<Direct> {
    let mut idle: Vec<(Time, Direct)> =
        members.iter().filter(|member| member.queue == 0).filter_map(|m| Some((m.idle_since?, m.place))).collect();
    idle.sort_unstable();
    let spare = idle.len().saturating_sub(size.idle as usize);
    // The last member stays, or the next message would have to wait for a start.
    let spare = spare.min(members.len().saturating_sub(1));
    let long_idle = |(since, _): &(Time, Direct)| now.since(*since) >= RETIRE_AFTER;
    idle.into_iter().take(spare).filter(long_idle).map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::{Boot, Serial};
    use std::collections::BTreeSet;

    const SIZE: Troupe = Troupe { max: 8, idle: 2 };

    fn member(host: u64, serial: u64, queue: u64) -> TroupeMember {
        let place = Direct { node: NodeId(host), boot: Boot(1), serial: Serial(serial) };
        TroupeMember { place, queue, idle_since: (queue == 0).then_some(Time::ZERO) }
    }

    fn picked(members: &[TroupeMember], random: u64) -> u64 {
        pick(members, NodeId(1), random).unwrap().serial.0
    }

    #[test]
    fn the_shortest_queue_takes_the_message() {
        let members = [member(1, 1, 3), member(1, 2, 1), member(1, 3, 2)];
        assert!((0..20).all(|random| picked(&members, random) == 2));
        assert_eq!(pick(&[], NodeId(1), 0), None);
    }

    #[test]
    fn equals_share() {
        let members: Vec<_> = (1..=4).map(|serial| member(1, serial, 0)).collect();
        let seen: BTreeSet<u64> = (0..200).map(|random| picked(&members, random)).collect();
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn home_comes_first_until_its_queue_is_twice_the_others() {
        assert_eq!(picked(&[member(1, 1, 4), member(2, 2, 2)], 0), 1);
        assert_eq!(picked(&[member(1, 1, 5), member(2, 2, 2)], 0), 2);
        assert_eq!(picked(&[member(2, 2, 9)], 0), 2, "nobody at home");
    }

    #[test]
    fn a_key_stays_with_its_member() {
        let mut members: Vec<_> = (1..=5).map(|serial| member(1, serial, 0)).collect();
        let before: Vec<_> = (0..200).map(|key| pick_by_key(&members, key).unwrap()).collect();
        let gone = members.remove(2).place;
        for (key, place) in before.iter().enumerate().filter(|(_, place)| **place != gone) {
            assert_eq!(pick_by_key(&members, key as u64), Some(*place));
        }
        assert!(before.contains(&gone));
    }

    #[test]
    fn it_grows_with_the_work_and_not_beyond_its_maximum() {
        assert_eq!(grow(SIZE, &[], 0, 0), 1, "at first one");
        assert_eq!(grow(SIZE, &[member(1, 1, 0)], 0, 0), 1, "up to the idle number");
        let busy = [member(1, 1, 1), member(1, 2, 1)];
        assert_eq!(grow(SIZE, &busy, 0, 0), 0, "one message each");
        assert_eq!(grow(SIZE, &busy, 0, 1), 1);
        assert_eq!(grow(SIZE, &busy, 1, 1), 0, "one is on its way");
        assert_eq!(grow(SIZE, &busy, 0, 100), 2, "at most doubled");
        let many: Vec<_> = (1..=7).map(|serial| member(1, serial, 50)).collect();
        assert_eq!(grow(SIZE, &many, 0, 0), 1);
        assert_eq!(grow(SIZE, &many, 1, 0), 0);
    }

    #[test]
    fn the_longest_idle_retire_and_the_idle_number_stays() {
        let idle = |serial, since: u64| TroupeMember {
            idle_since: Some(Time::ZERO + Duration::from_secs(since)),
            ..member(1, serial, 0)
        };
        let members = [member(1, 1, 3), idle(2, 4), idle(3, 1), idle(4, 3), idle(5, 2)];
        let at = |seconds| {
            let retired = retire(SIZE, &members, Time::ZERO + Duration::from_secs(seconds));
            retired.iter().map(|place| place.serial.0).collect::<Vec<_>>()
        };
        assert_eq!(at(5), [0u64; 0]);
        assert_eq!(at(6), [3]);
        assert_eq!(at(100), [3, 5]);
        let none = Troupe { max: 8, idle: 0 };
        assert_eq!(retire(none, &[idle(1, 0)], Time::ZERO + RETIRE_AFTER), [], "the last stays");
    }
}
