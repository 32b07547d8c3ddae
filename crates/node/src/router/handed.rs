//! Which messages each member of a troupe was handed and has not ended, so that their senders learn of a member's loss:
//! they do not know which member had what.
//!
//! - **HA-1.** A message is here from its way to the member until a report of it, or itself, has passed on the way back.
//! - **HA-2.** Numbers of one flow lie within 256, as its window bounds them; so do the flows of a sender.

use super::hash::Fast;
use odeon_protocol::{Direct, frame::Header};
use std::collections::HashMap;

/// A flow as its sender numbers it.
pub(super) type Flow = (Direct, u32);

#[derive(Debug, Default)]
struct Numbers {
    latest: u32,
    /// A bit for each of the last 256.
    bits: [u64; 4],
}

impl Numbers {
    const SPAN: u32 = 256;

    fn bit(number: u32) -> (usize, u64) {
        let bit = number % Self::SPAN;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    fn add(&mut self, number: u32) {
        if self.bits == [0; 4] || number.wrapping_sub(self.latest) < u32::MAX / 2 {
            self.latest = number;
        }
        let (word, bit) = Self::bit(number);
        self.bits[word] |= bit;
    }

    fn remove(&mut self, number: u32) {
        if self.latest.wrapping_sub(number) < Self::SPAN {
            let (word, bit) = Self::bit(number);
            self.bits[word] &= !bit;
        }
    }

    fn all(&self) -> impl Iterator<Item = u32> + '_ {
        let oldest = self.latest.wrapping_sub(Self::SPAN - 1);
        (0..Self::SPAN).map(move |offset| oldest.wrapping_add(offset)).filter(|number| {
            let (word, bit) = Self::bit(*number);
            self.bits[word] & bit != 0
        })
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Handed {
    members: HashMap<Direct, HashMap<Flow, Numbers, Fast>, Fast>,
}

impl Handed {
    /// A message goes to that member.
    pub(super) fn add(&mut self, member: Direct, message: &Header) {
        if message.flow != 0 {
            let flows = self.members.entry(member).or_default();
            flows.entry((message.from, message.flow)).or_default().add(message.sequence);
        }
    }

    /// So many messages of a flow, from that number on, have ended at the member, or come back from it.
    pub(super) fn remove(&mut self, member: Direct, flow: Flow, first: u32, count: u32) {
        let Some(flows) = self.members.get_mut(&member) else { return };
        let Some(numbers) = flows.get_mut(&flow) else { return };
        (0..count.min(Numbers::SPAN)).for_each(|offset| numbers.remove(first.wrapping_add(offset)));
        if numbers.bits == [0; 4] {
            flows.remove(&flow);
            if flows.is_empty() {
                self.members.remove(&member);
            }
        }
    }

    /// The flows of which members that fit have something.
    pub(super) fn flows(&self, fits: impl Fn(Direct) -> bool) -> Vec<(Direct, Flow)> {
        let members = self.members.iter().filter(|(member, _)| fits(**member));
        let mut all: Vec<_> = members.flat_map(|(member, flows)| flows.keys().map(|flow| (*member, *flow))).collect();
        all.sort_unstable();
        all
    }

    /// Takes out what that member has of a flow: nobody will report it.
    pub(super) fn take(&mut self, member: Direct, flow: Flow) -> Vec<u32> {
        let Some(flows) = self.members.get_mut(&member) else { return Vec::new() };
        let taken = flows.remove(&flow).map(|numbers| numbers.all().collect()).unwrap_or_default();
        if flows.is_empty() {
            self.members.remove(&member);
        }
        taken
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
            handed.add(at(9), &message(number));
        }
        handed.add(at(9), &message(0));
        handed.add(at(8), &message(1));
        handed.remove(at(9), (at(1), 5), u32::MAX - 1, 1);
        assert_eq!(handed.flows(|member| member == at(9)), [(at(9), (at(1), 5))]);
        assert_eq!(handed.take(at(9), (at(1), 5)), [u32::MAX - 2, u32::MAX, 0]);
        handed.remove(at(8), (at(1), 5), 1, 1);
        assert!(handed.members.is_empty());
    }

    #[test]
    fn nobody_is_told_of_a_sender_that_is_gone() {
        let mut handed = Handed::default();
        handed.add(at(9), &message(3));
        handed.forget_senders(|from| from == at(1));
        assert!(handed.flows(|_| true).is_empty());
    }
}
