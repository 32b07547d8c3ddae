//! Messages that were given back, or asks that failed, as perhaps run, since nobody knew what another agent would do with
//! them. If it sends them back or on, that comes too late: their senders have gone on.
//!
//! Others come back when later ones of their flow were sent on already: messages that had not left, or the fence after which
//! their sender's process writes them off. They go back to it, since sent on they would be handled after the later ones.
//!
//! - **W-1.** That a sender's process is gone changes nothing: what it has sent may still be handled.
//! - **W-2.** At most [`WRITTEN_OFF_KEPT`] are remembered, and as many flows; beyond it the oldest are forgotten.
//! - **W-3.** Those for a start of an agent that is over are remembered for a while: they may have come to its next start,
//!   which sends them back.

use super::hash::Fast;
use odeon_protocol::{
    Boot, Direct, NodeId, Time,
    frame::Header,
    limits::{COMES_BACK_FOR, WRITTEN_OFF_KEPT},
    ring::Ring,
};
use std::collections::{HashMap, HashSet, VecDeque};

/// Sender, flow, number.
pub(super) type Message = (Direct, u32, u32);

/// What tells a message from others; flow 0 is none.
pub(super) const fn message_of(header: &Header) -> Message {
    (header.from, header.flow, header.sequence)
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct WrittenOff {
    messages: HashSet<Message, Fast>,
    oldest: VecDeque<(Direct, Message)>,
    /// Starts of agents that are over, with the time of their end.
    over: VecDeque<(Time, NodeId, Boot)>,
    /// Where the latest message that was sent on went, and its number, by sender and flow.
    sent_on: HashMap<(Direct, u32), (Direct, u32), Fast>,
    oldest_sent_on: VecDeque<(Direct, u32)>,
}

impl WrittenOff {
    /// That message went to that place and was given back.
    pub(super) fn add(&mut self, to: Direct, message: Message) {
        if message.1 == 0 || !self.messages.insert(message) {
            return;
        }
        self.oldest.push_back((to, message));
        if self.oldest.len() > WRITTEN_OFF_KEPT
            && let Some((_, oldest)) = self.oldest.pop_front()
        {
            self.messages.remove(&oldest);
        }
    }

    /// Whether what comes back is one of them.
    pub(super) fn has(&self, returned: &Header) -> bool {
        !self.messages.is_empty() && self.messages.contains(&(returned.to, returned.flow, returned.sequence))
    }

    /// A message that had come back goes to that place; or a fence does, behind all that did.
    pub(super) fn sent_on(&mut self, message: &Header, place: Direct) {
        if message.flow == 0 {
            return;
        }
        let (flow, number) = ((message.from, message.flow), message.sequence);
        match self.sent_on.get_mut(&flow) {
            // Several go beside one another to one place only in their order.
            Some((to, latest)) if *to == place && is_before(number, *latest) => {}
            Some(before) => *before = (place, number),
            None => {
                self.sent_on.insert(flow, (place, number));
                self.oldest_sent_on.push_back(flow);
            }
        }
        if self.oldest_sent_on.len() > WRITTEN_OFF_KEPT
            && let Some(oldest) = self.oldest_sent_on.pop_front()
        {
            self.sent_on.remove(&oldest);
        }
    }

    /// Whether a later message of its flow has gone where what comes back now has not been.
    pub(super) fn is_overtaken(&self, returned: &Header) -> bool {
        let sent_on = self.sent_on.get(&(returned.to, returned.flow));
        sent_on.is_some_and(|(place, number)| *place != returned.from && is_before(returned.sequence, *number))
    }

    /// That start of an agent is over.
    pub(super) fn host_dead(&mut self, node: NodeId, boot: Boot, now: Time) {
        self.over.push_back((now, node, boot));
    }

    /// Forgets what can come back no more.
    pub(super) fn tick(&mut self, now: Time) {
        while let Some((_, node, boot)) = self.over.pop_front_if(|(at, ..)| now.since(*at) >= COMES_BACK_FOR) {
            let messages = &mut self.messages;
            self.oldest.retain(|(to, message)| (to.node != node || to.boot > boot) || !messages.remove(message));
        }
    }
}

/// Of two numbers of one flow.
const fn is_before(one: u32, other: u32) -> bool {
    one != other && other.wrapping_sub(one) <= Ring::BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::{Boot, Serial, frame::Kind};

    #[test]
    fn what_was_written_off_is_known_until_it_can_come_back_no_more() {
        let mut all = WrittenOff::default();
        let at = |serial| Direct { node: NodeId(1), boot: Boot(2), serial: Serial(serial) };
        let sent = Header { from: at(1), to: at(2), flow: 3, sequence: 4, ..Header::new(Kind::Tell) };
        all.add(at(2), message_of(&sent));
        let back = Header { from: at(2), to: at(1), flow: 3, sequence: 4, ..Header::new(Kind::Returned) };
        assert!(all.has(&back) && !all.has(&Header { sequence: 5, ..back }));
        let (died, long_after) = (Time::ZERO + COMES_BACK_FOR, Time::ZERO + 2 * COMES_BACK_FOR);
        all.host_dead(NodeId(1), Boot(1), Time::ZERO);
        all.host_dead(NodeId(1), Boot(2), died);
        all.tick(died);
        assert!(all.has(&back), "its next start may have it");
        all.tick(long_after);
        assert!(!all.has(&back) && all.oldest.is_empty() && all.over.is_empty());
    }

    #[test]
    fn what_comes_back_from_elsewhere_after_a_later_one_was_sent_on_is_overtaken() {
        let mut all = WrittenOff::default();
        let at = |serial| Direct { node: NodeId(1), boot: Boot(2), serial: Serial(serial) };
        let sent = |sequence| Header { from: at(1), flow: 3, sequence, ..Header::new(Kind::Tell) };
        let back =
            |sequence, from| Header { from: at(from), to: at(1), flow: 3, sequence, ..Header::new(Kind::Returned) };
        (1..=2).for_each(|sequence| all.sent_on(&sent(sequence), at(8)));
        assert!(all.is_overtaken(&back(1, 7)) && all.is_overtaken(&back(u32::MAX, 7)));
        assert!(!all.is_overtaken(&back(2, 7)) && !all.is_overtaken(&back(3, 7)), "itself, and what came after");
        assert!(!all.is_overtaken(&back(1, 8)), "it was ahead there");
        assert!(!all.is_overtaken(&Header { flow: 4, ..back(1, 7) }));
        all.sent_on(&sent(1), at(9));
        assert!(!all.is_overtaken(&back(2, 8)) && all.is_overtaken(&back(0, 8)));
    }
}
