//! Messages that were given back, or asks that failed, as perhaps run, since nobody knew what another agent would do with
//! them. If it sends them back or on, that comes too late: their senders have gone on.
//!
//! - **W-1.** At most [`WRITTEN_OFF_KEPT`] are remembered; beyond it the oldest are forgotten.

use super::hash::Fast;
use odeon_protocol::{Direct, NodeId, frame::Header, limits::WRITTEN_OFF_KEPT};
use std::collections::{HashSet, VecDeque};

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
    oldest: VecDeque<(NodeId, Message)>,
}

impl WrittenOff {
    /// That message went to that agent and was given back.
    pub(super) fn add(&mut self, to: NodeId, message: Message) {
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

    /// Nothing comes from that agent any more.
    pub(super) fn forget(&mut self, node: NodeId) {
        let messages = &mut self.messages;
        self.oldest.retain(|(to, message)| *to != node || !messages.remove(message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::{Boot, Serial, frame::Kind};

    #[test]
    fn what_was_written_off_is_known_until_its_host_is_gone() {
        let mut all = WrittenOff::default();
        let at = |serial| Direct { node: NodeId(1), boot: Boot(1), serial: Serial(serial) };
        let sent = Header { from: at(1), to: at(2), flow: 3, sequence: 4, ..Header::new(Kind::Tell) };
        all.add(NodeId(7), message_of(&sent));
        let back = Header { from: at(2), to: at(1), flow: 3, sequence: 4, ..Header::new(Kind::Returned) };
        assert!(all.has(&back) && !all.has(&Header { sequence: 5, ..back }));
        all.forget(NodeId(6));
        assert!(all.has(&back));
        all.forget(NodeId(7));
        assert!(!all.has(&back) && all.oldest.is_empty());
    }
}
