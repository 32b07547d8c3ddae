//! Which messages each member of a troupe was handed and has not ended, so that their senders learn of a member's loss:
//! they do not know which member had what.
//!
//! - **HA-1.** A message is here from its way to the member until a report of it, or itself, has passed on the way back.
//! - **HA-2.** Numbers of one flow lie within 256, as its window bounds them; so do the flows of a sender.

use super::hash::Fast;
use odeon_protocol::{Direct, frame::Header, ring::Ring};
use std::collections::HashMap;

/// A flow as its sender numbers it.
pub(super) type Flow = (Direct, u32);

/// What a member has of one flow.
#[derive(Debug)]
struct Numbers {
    /// Through which it came.
    troupe: Direct,
    latest: u32,
    open: Ring,
}

impl Numbers {
    fn add(&mut self, number: u32) {
        if self.open.is_empty() || number.wrapping_sub(self.latest) < u32::MAX / 2 {
            self.latest = number;
        }
        self.open.set(number);
    }

    fn remove(&mut self, number: u32) {
        if self.latest.wrapping_sub(number) < Ring::BITS {
            self.open.clear(number);
        }
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Handed {
    members: HashMap<Direct, HashMap<Flow, Numbers, Fast>, Fast>,
}

impl Handed {
    /// A message of that troupe goes to that member.
    pub(super) fn add(&mut self, (troupe, member): (Direct, Direct), message: &Header) {
        if message.flow != 0 {
            let flows = self.members.entry(member).or_default();
            let begin = || Numbers { troupe, latest: message.sequence, open: Ring::default() };
            flows.entry((message.from, message.flow)).or_insert_with(begin).add(message.sequence);
        }
    }

    /// So many messages of a flow, from that number on, have ended at the member, or come back from it.
    pub(super) fn remove(&mut self, member: Direct, flow: Flow, first: u32, count: u32) {
        let Some(flows) = self.members.get_mut(&member) else { return };
        let Some(numbers) = flows.get_mut(&flow) else { return };
        (0..count.min(Ring::BITS)).for_each(|offset| numbers.remove(first.wrapping_add(offset)));
        if numbers.open.is_empty() {
            self.forget(member, flow);
        }
    }

    /// A message has come back, and it is not said from which member.
    pub(super) fn remove_from_any(&mut self, flow: Flow, number: u32) {
        let has_some =
            |(member, flows): (&Direct, &HashMap<Flow, Numbers, Fast>)| flows.contains_key(&flow).then_some(*member);
        let members: Vec<_> = self.members.iter().filter_map(has_some).collect();
        members.into_iter().for_each(|member| self.remove(member, flow, number, 1));
    }

    fn forget(&mut self, member: Direct, flow: Flow) -> Option<Numbers> {
        let flows = self.members.get_mut(&member)?;
        let numbers = flows.remove(&flow);
        if flows.is_empty() {
            self.members.remove(&member);
        }
        numbers
    }

    /// The flows of which members that fit have something: the member, its troupe, the flow.
    pub(super) fn flows(&self, fits: impl Fn(Direct) -> bool) -> Vec<(Direct, Direct, Flow)> {
        let members = self.members.iter().filter(|(member, _)| fits(**member));
        let of = |(member, flows): (&Direct, &HashMap<Flow, Numbers, Fast>)| {
            let member = *member;
            flows.iter().map(move |(flow, numbers)| (member, numbers.troupe, *flow)).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = members.flat_map(of).collect();
        all.sort_unstable();
        all
    }

    /// Takes out what that member has of a flow, as ranges: nobody will report it.
    pub(super) fn take(&mut self, member: Direct, flow: Flow) -> Vec<(u32, u32)> {
        self.forget(member, flow).map(|numbers| numbers.open.ranges(numbers.latest)).unwrap_or_default()
    }

    /// The senders that fit are gone: nobody is to be told.
    pub(super) fn forget_senders(&mut self, fits: impl Fn(Direct) -> bool) {
        self.members.retain(|_, flows| {
            flows.retain(|(from, _), _| !fits(*from));
            !flows.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::{Boot, NodeId, Serial, frame::Kind};

    fn at(serial: u64) -> Direct {
        Direct { node: NodeId(1), boot: Boot(1), serial: Serial(serial) }
    }

    fn message(sequence: u32) -> Header {
        Header { from: at(1), flow: 5, sequence, ..Header::new(Kind::Tell) }
    }

    #[test]
    fn what_has_not_ended_is_told_with_its_numbers() {
        let mut handed = Handed::default();
        for number in u32::MAX - 2..=u32::MAX {
            handed.add((at(4), at(9)), &message(number));
        }
        handed.add((at(4), at(9)), &message(0));
        handed.add((at(4), at(8)), &message(1));
        handed.remove(at(9), (at(1), 5), u32::MAX - 1, 1);
        assert_eq!(handed.flows(|member| member == at(9)), [(at(9), at(4), (at(1), 5))]);
        assert_eq!(handed.take(at(9), (at(1), 5)), [(u32::MAX - 2, 1), (u32::MAX, 2)]);
        handed.remove(at(8), (at(1), 5), 1, 1);
        assert!(handed.members.is_empty());
    }

    #[test]
    fn what_came_back_from_nobody_knows_whom_is_told_of_nobody() {
        let mut handed = Handed::default();
        handed.add((at(4), at(8)), &message(3));
        handed.add((at(4), at(9)), &message(4));
        handed.remove_from_any((at(1), 5), 4);
        assert_eq!(handed.flows(|_| true), [(at(8), at(4), (at(1), 5))]);
    }

    #[test]
    fn nobody_is_told_of_a_sender_that_is_gone() {
        let mut handed = Handed::default();
        handed.add((at(4), at(9)), &message(3));
        handed.forget_senders(|from| from == at(1));
        assert!(handed.flows(|_| true).is_empty());
    }
}
