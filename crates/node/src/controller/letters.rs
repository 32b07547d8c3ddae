//! Messages that came back, for whoever listens: processes of this host, and other hosts where somebody does.
//!
//! ```text
//! router, processes ──▶ deliver ──┬──▶ listening processes of this host
//!                                 └──▶ hosts where somebody listens ──▶ their listening processes
//! ```
//!
//! - **L-1.** Where somebody listens is a fact of that host, spread like its capabilities.
//! - **L-2.** Where nobody listens anywhere, nothing is said and nothing is kept.
//! - **L-3.** What is left out is counted in the next letter to the same listener.

use super::{CALL_WAIT, Controller};
use odeon_cluster::Liveness;
use odeon_protocol::{
    DeadLetter, NodeId, WorkerId,
    control::FromAgent,
    frame::Frame,
    limits::DEAD_LETTERS_KEPT,
    peer::{PeerReply, PeerRequest},
};
use std::collections::{BTreeMap, BTreeSet};

/// Who listens, and what is on its way.
#[derive(Debug, Default)]
pub(super) struct Letters {
    /// Processes of this host that listen, and how many letters each missed since the last.
    here: BTreeMap<WorkerId, u64>,
    /// Hosts where somebody listens.
    there: BTreeMap<NodeId, Outgoing>,
    /// Whether every process was told that somebody listens.
    wanted: bool,
}

/// What waits for another host.
#[derive(Debug, Default)]
struct Outgoing {
    waiting: Vec<DeadLetter>,
    missed: u64,
    /// A request is on its way; what comes meanwhile waits for its answer.
    busy: bool,
}

impl Outgoing {
    fn push(&mut self, letter: &DeadLetter) -> u64 {
        if self.waiting.len() == DEAD_LETTERS_KEPT {
            self.missed = self.missed.saturating_add(letter.stands_for());
            return u64::from(letter.count);
        }
        let missed = std::mem::take(&mut self.missed).saturating_add(letter.missed);
        self.waiting.push(DeadLetter { missed, ..letter.clone() });
        0
    }
}

impl Controller {
    /// A process wants to hear of messages that come back, or does no longer.
    pub(super) fn on_listen(&mut self, process: WorkerId, listen: bool) {
        if listen {
            self.letters.here.entry(process).or_default();
        } else if self.letters.here.remove(&process).is_none() {
            return;
        }
        self.parts.convention.set_hears_dead_letters(!self.letters.here.is_empty());
        self.want_letters();
    }

    /// A process is admitted: it is to tell of what comes back within it, if anybody listens.
    pub(super) fn tell_letters_wanted(&self, process: WorkerId) {
        if self.letters.wanted {
            self.parts.router.control(process, &FromAgent::DeadLettersWanted { wanted: true });
        }
    }

    /// Looks where somebody listens now.
    pub(super) fn look_for_listeners(&mut self) {
        let me = self.me();
        let hosts = self.parts.convention.hosts();
        let listening: BTreeSet<NodeId> = hosts
            .iter()
            .filter(|host| host.node != me && host.hears_dead_letters && host.liveness != Liveness::Down)
            .map(|host| host.node)
            .collect();
        self.letters.there.retain(|node, _| listening.contains(node));
        for node in listening {
            self.letters.there.entry(node).or_default();
        }
        self.want_letters();
    }

    fn want_letters(&mut self) {
        let wanted = !self.letters.here.is_empty() || !self.letters.there.is_empty();
        if std::mem::replace(&mut self.letters.wanted, wanted) != wanted {
            self.parts.router.want_letters(wanted);
        }
    }

    /// A message came back within a process of this host.
    pub(super) fn on_dead_letter(&mut self, letter: DeadLetter) {
        let letter = DeadLetter { host: self.parts.config.name.clone(), ..letter.bounded() };
        self.deliver(letter);
    }

    /// A message came back to this host over the network, or from one of its processes to another.
    pub(super) fn on_came_back(&mut self, frame: &Frame, missed: u64) {
        self.deliver(DeadLetter { missed, ..DeadLetter::of_frame(frame, &self.parts.config.name) });
    }

    /// Messages came back on another host.
    pub(super) fn letters_from_peer(&mut self, letters: Vec<DeadLetter>) {
        letters.into_iter().map(DeadLetter::bounded).for_each(|letter| self.hear(letter));
    }

    fn deliver(&mut self, letter: DeadLetter) {
        let letter = self.with_name(letter);
        let left_out: u64 = self.letters.there.values_mut().map(|outgoing| outgoing.push(&letter)).sum();
        self.parts.metrics.letters_missed.add(left_out);
        let idle: Vec<_> = self.letters.there.iter().filter(|(_, out)| !out.busy).map(|(node, _)| *node).collect();
        idle.into_iter().for_each(|node| self.send_letters(node));
        self.hear(letter);
    }

    /// Tells the listening processes of this host.
    fn hear(&mut self, letter: DeadLetter) {
        let letter = self.with_name(letter);
        for (process, before) in &mut self.letters.here {
            let missed = std::mem::take(before).saturating_add(letter.missed);
            let message = FromAgent::DeadLetter(Box::new(DeadLetter { missed, ..letter.clone() }));
            if !self.parts.router.control_if_room(*process, &message) {
                *before = missed.saturating_add(u64::from(letter.count));
                self.parts.metrics.letters_missed.add(u64::from(letter.count));
            }
        }
    }

    /// Sends what waits for a host, one request at a time.
    fn send_letters(&mut self, node: NodeId) {
        let Some(outgoing) = self.letters.there.get_mut(&node).filter(|outgoing| !outgoing.waiting.is_empty()) else {
            return;
        };
        outgoing.busy = true;
        let letters = std::mem::take(&mut outgoing.waiting);
        let lost = letters.iter().map(DeadLetter::stands_for).fold(0, u64::saturating_add);
        let convention = self.parts.convention.clone();
        let sent = async move { convention.call(node, PeerRequest::DeadLetters(letters), CALL_WAIT).await };
        self.begin(sent, move |controller, sent| {
            let arrived = matches!(sent, Ok(PeerReply::Done));
            if let Some(outgoing) = controller.letters.there.get_mut(&node) {
                outgoing.busy = false;
                outgoing.missed = outgoing.missed.saturating_add(if arrived { 0 } else { lost });
            }
            controller.send_letters(node);
        });
    }

    /// The letter with its message's name, if workers of this host take such messages.
    fn with_name(&self, letter: DeadLetter) -> DeadLetter {
        if !letter.is_unnamed() {
            return letter;
        }
        match self.types.message_name(letter.type_id) {
            Some(name) => DeadLetter { message: name.to_owned(), ..letter },
            None => letter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::frame::{Header, Kind};

    #[test]
    fn what_is_too_much_for_a_host_is_counted_in_the_next_letter() {
        let frame = Frame::new(Header::new(Kind::Returned), &[], b"body");
        let letter = DeadLetter { missed: 2, ..DeadLetter::of_frame(&frame, "h1") };
        let mut outgoing = Outgoing::default();
        let left_out: u64 = (0..DEAD_LETTERS_KEPT + 3).map(|_| outgoing.push(&letter)).sum();
        assert_eq!((outgoing.waiting.len(), left_out, outgoing.missed), (DEAD_LETTERS_KEPT, 3, 9));
        outgoing.waiting.clear();
        assert_eq!(outgoing.push(&letter), 0);
        assert_eq!((outgoing.waiting[0].missed, outgoing.missed), (11, 0));
    }
}
