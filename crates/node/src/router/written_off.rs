//! Messages that were given back, or asks that failed, as perhaps run, since nobody knew what another agent would do with
//! them. If it sends them back or on, that comes too late: their senders have gone on.
//!
//! Others come back when later ones of their flow were sent on already: messages that had not left, or the fence after which
//! their sender's process writes them off. They go back to it, since sent on they would be handled after the later ones.
//!
//! And of what came back to go elsewhere, the copy that waits until the other agent says that it has it counts no more: if that
//! one is lost first, the message has not run there.
//!
//! - **W-1.** That a sender's process is gone changes nothing: what it has sent may still be handled.
//! - **W-2.** Each is remembered for [`COMES_BACK_FOR`], beyond the end of the start of an agent that had it: that one's next
//!   start may send it back. At most [`WRITTEN_OFF_KEPT`] messages are remembered, as many that came back, and as many flows;
//!   beyond it the oldest are forgotten.

use super::hash::Fast;
use odeon_protocol::{
    Direct, Time,
    frame::Header,
    limits::{COMES_BACK_FOR, WRITTEN_OFF_KEPT},
    ring::Ring,
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::Hash,
};

/// Sender, flow, number.
pub(super) type Message = (Direct, u32, u32);

/// What tells a message from others; flow 0 is none.
pub(super) const fn message_of(header: &Header) -> Message {
    (header.from, header.flow, header.sequence)
}

/// The same of one that comes back.
const fn message_back(returned: &Header) -> Message {
    (returned.to, returned.flow, returned.sequence)
}

/// A flow as its sender numbers it.
type Flow = (Direct, u32);

/// What was sent on of a flow.
#[derive(Clone, Copy, Debug)]
struct SentOn {
    /// Where the latest message that was sent on went, and its number.
    message: Option<(Direct, u32)>,
    /// The same of the fence that went by the name, behind all that did.
    fence: Option<(Direct, u32)>,
    at: Time,
}

/// What was seen for the last while.
#[derive(Debug)]
struct Recent<T> {
    all: HashSet<T, Fast>,
    oldest: VecDeque<(Time, T)>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { all: HashSet::default(), oldest: VecDeque::new() }
    }
}

impl<T: Copy + Eq + Hash> Recent<T> {
    fn add(&mut self, one: T, now: Time) {
        if !self.all.insert(one) {
            return;
        }
        self.oldest.push_back((now, one));
        if self.oldest.len() > WRITTEN_OFF_KEPT
            && let Some((_, oldest)) = self.oldest.pop_front()
        {
            self.all.remove(&oldest);
        }
    }

    fn has(&self, one: &T) -> bool {
        !self.all.is_empty() && self.all.contains(one)
    }

    fn tick(&mut self, now: Time) {
        while let Some((_, old)) = self.oldest.pop_front_if(|(at, _)| is_old(*at, now)) {
            self.all.remove(&old);
        }
        if self.all.is_empty() {
            self.all.shrink_to(64);
        }
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct WrittenOff {
    given_back: Recent<Message>,
    /// Messages that came back to go elsewhere, each with how often it had before.
    came_back: Recent<(Message, u16)>,
    sent_on: HashMap<Flow, SentOn, Fast>,
    oldest_sent_on: VecDeque<(Time, Flow)>,
}

impl WrittenOff {
    /// That message was given back.
    pub(super) fn add(&mut self, message: Message, now: Time) {
        if message.1 != 0 {
            self.given_back.add(message, now);
        }
    }

    /// Whether what comes back is one of them.
    pub(super) fn has(&self, returned: &Header) -> bool {
        self.given_back.has(&message_back(returned))
    }

    /// That message came back, and goes elsewhere.
    pub(super) fn came_back(&mut self, returned: &Header, now: Time) {
        if returned.flow != 0 {
            self.came_back.add((message_back(returned), returned.bounced()), now);
        }
    }

    /// Whether this very copy of a message came back.
    pub(super) fn has_come_back(&self, message: &Header) -> bool {
        self.came_back.has(&(message_of(message), message.bounced()))
    }

    /// A message that waited for its name goes to that place.
    pub(super) fn sent_on(&mut self, message: &Header, place: Direct, now: Time) {
        let number = message.sequence;
        let Some(flow) = self.flow(message, now) else { return };
        // Several go beside one another to one place only in their order.
        if !flow.message.is_some_and(|(to, latest)| to == place && is_before(number, latest)) {
            flow.message = Some((place, number));
        }
    }

    /// A fence by the name goes there, or back. One that came back only says where it went if it is that one.
    pub(super) fn fence(&mut self, fence: &Header, (place, is_first): (Direct, bool), now: Time) {
        let number = fence.sequence;
        let flow = match is_first {
            true => self.flow(fence, now),
            false => self
                .sent_on
                .get_mut(&(fence.from, fence.flow))
                .filter(|flow| flow.fence.is_some_and(|(_, known)| known == number)),
        };
        if let Some(flow) = flow {
            flow.fence = Some((place, number));
            flow.at = now;
        }
    }

    /// What is known of a message's flow, from now on if nothing was; nothing if it has none.
    fn flow(&mut self, of: &Header, now: Time) -> Option<&mut SentOn> {
        let key = (of.from, of.flow);
        if of.flow == 0 {
            return None;
        }
        if !self.sent_on.contains_key(&key) {
            self.oldest_sent_on.push_back((now, key));
            if self.oldest_sent_on.len() > WRITTEN_OFF_KEPT
                && let Some((_, oldest)) = self.oldest_sent_on.pop_front()
            {
                self.sent_on.remove(&oldest);
            }
        }
        let flow = self.sent_on.entry(key).or_insert(SentOn { message: None, fence: None, at: now });
        flow.at = now;
        Some(flow)
    }

    /// Whether a later message of its flow has gone where what comes back now has not been.
    pub(super) fn is_overtaken(&self, returned: &Header) -> bool {
        let Some(flow) = self.sent_on.get(&(returned.to, returned.flow)) else { return false };
        let overtakes = |(place, number): (Direct, u32)| place != returned.from && is_before(returned.sequence, number);
        flow.message.is_some_and(overtakes) || flow.fence.is_some_and(overtakes)
    }

    /// Forgets what is long ago.
    pub(super) fn tick(&mut self, now: Time) {
        self.given_back.tick(now);
        self.came_back.tick(now);
        while let Some((_, flow)) = self.oldest_sent_on.pop_front_if(|(at, _)| is_old(*at, now)) {
            let used = self.sent_on.get(&flow).map(|flow| flow.at).filter(|at| !is_old(*at, now));
            match used {
                Some(at) => self.oldest_sent_on.push_back((at, flow)),
                None => drop(self.sent_on.remove(&flow)),
            }
        }
        if self.sent_on.is_empty() {
            self.sent_on.shrink_to(64);
        }
    }
}

fn is_old(at: Time, now: Time) -> bool {
    now.since(at) >= COMES_BACK_FOR
}

/// Of two numbers of one flow.
const fn is_before(one: u32, other: u32) -> bool {
    one != other && other.wrapping_sub(one) <= Ring::BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::{Boot, NodeId, Serial, frame::Kind};

    fn at(serial: u64) -> Direct {
        Direct { node: NodeId(1), boot: Boot(2), serial: Serial(serial) }
    }

    fn sent(sequence: u32) -> Header {
        Header { from: at(1), flow: 3, sequence, ..Header::new(Kind::Tell) }
    }

    fn back(sequence: u32, from: u64) -> Header {
        Header { from: at(from), to: at(1), flow: 3, sequence, ..Header::new(Kind::Returned) }
    }

    #[test]
    fn what_was_written_off_is_known_for_a_while() {
        let mut all = WrittenOff::default();
        all.add(message_of(&sent(4)), Time::ZERO);
        assert!(all.has(&back(4, 2)) && !all.has(&back(5, 2)));
        all.tick(Time::ZERO);
        assert!(all.has(&back(4, 2)));
        all.tick(Time::ZERO + COMES_BACK_FOR);
        assert!(!all.has(&back(4, 2)) && all.given_back.oldest.is_empty());
    }

    #[test]
    fn what_comes_back_from_elsewhere_after_a_later_one_was_sent_on_is_overtaken() {
        let mut all = WrittenOff::default();
        (1..=2).for_each(|sequence| all.sent_on(&sent(sequence), at(8), Time::ZERO));
        assert!(all.is_overtaken(&back(1, 7)) && all.is_overtaken(&back(u32::MAX, 7)));
        assert!(!all.is_overtaken(&back(2, 7)) && !all.is_overtaken(&back(3, 7)), "itself, and what came after");
        assert!(!all.is_overtaken(&back(1, 8)), "it was ahead there");
        assert!(!all.is_overtaken(&Header { flow: 4, ..back(1, 7) }));
        all.sent_on(&sent(1), at(9), Time::ZERO);
        assert!(!all.is_overtaken(&back(2, 8)) && all.is_overtaken(&back(0, 8)));
    }

    #[test]
    fn a_fence_counts_until_it_is_forgotten_though_earlier_ones_are_sent_on_after_it() {
        let mut all = WrittenOff::default();
        all.sent_on(&sent(1), at(8), Time::ZERO);
        all.fence(&sent(6), (at(8), true), Time::ZERO);
        // Both come back from there, and go on to another place.
        assert!(!all.is_overtaken(&back(1, 8)));
        all.sent_on(&sent(1), at(9), Time::ZERO);
        all.fence(&sent(6), (at(9), false), Time::ZERO);
        assert!(all.is_overtaken(&back(2, 7)) && !all.is_overtaken(&back(1, 9)));
        all.fence(&sent(5), (at(7), false), Time::ZERO + COMES_BACK_FOR / 2);
        assert!(all.is_overtaken(&back(2, 7)), "one that was sent to a place says nothing");
        all.fence(&sent(6), (at(9), false), Time::ZERO + COMES_BACK_FOR / 2);
        all.tick(Time::ZERO + COMES_BACK_FOR);
        assert!(all.is_overtaken(&back(2, 7)), "it was used since");
        all.tick(Time::ZERO + 2 * COMES_BACK_FOR);
        assert!(!all.is_overtaken(&back(2, 7)) && all.oldest_sent_on.is_empty());
    }
}
