//! Loss of processes and hosts: what they had fails, what they had not goes back or elsewhere.

use super::{Router, Turn, ask_key, name_of};
use crate::{
    event::Event,
    router::{
        asks::{Lost, Towards},
        back::Why,
        written_off::message_of,
    },
};
use bytes::BytesMut;
use odeon_protocol::{
    Boot, Direct, NodeId, Reason, WorkerId,
    control::FromAgent,
    frame::{Header, Kind, flags, kind_of, to_of},
    planted::{self, Fault},
};
use odeon_transport::quic::Undelivered;
use tracing::warn;

impl Router {
    /// A process is gone: what was queued for it goes back or waits for its name, what it had in hand fails.
    pub(crate) fn lost(&mut self, id: WorkerId, unsent: Vec<BytesMut>) {
        let Some(process) = self.processes.remove(&id) else { return };
        let blocks = self.table.lose(id);
        let me = self.me;
        let is_lost =
            |place: Direct| place.node == me.node && place.boot == me.boot && blocks.contains(&place.serial.block());
        self.troupes.lose(is_lost);
        self.troupes.handed.forget_senders(is_lost);
        for frame in unsent {
            if let Ok((header, _)) = Header::read(&frame) {
                if header.kind == Kind::Ask {
                    let _ = self.asks.remove(&ask_key(&header, &frame));
                }
                self.undeliverable(&header, frame, Reason::WorkerLost, Turn::First);
            }
        }
        self.members_lost(is_lost, true);
        for of in self.asks.lose_askers(is_lost) {
            self.troupes.ask_ended(of);
        }
        let why = Why {
            reason: Reason::WorkerLost,
            text: format!("{} ({id}) ended before it answered", process.name),
            may_have_run: true,
        };
        for Lost { key, of, .. } in self.asks.lose(Towards::Process(id)) {
            self.fail(key, of, &why);
        }
        self.told.values_mut().for_each(|(_, processes)| processes.retain(|told| *told != id));
        if !blocks.is_empty() {
            self.events.push(Event::Lost { process: id, blocks });
        }
    }

    /// Frames that could not be brought to another agent: those that it may have seen go back, others may also go to
    /// the next instance of their name. The former were sent first. Their senders must not send there any more, or they
    /// would overtake what waits for the name.
    pub(crate) fn undelivered(&mut self, frames: Undelivered, why: &Why) {
        self.brought_back(frames, why, true);
    }

    fn brought_back(&mut self, frames: Undelivered, why: &Why, may_go_again: bool) {
        for (frames, may_have_run) in [(frames.unknown, true), (frames.unsent, false)] {
            let why = Why { may_have_run, ..why.clone() };
            for frame in frames {
                let Ok((header, _)) = Header::read(&frame) else { continue };
                if may_have_run && self.written_off.has_come_back(&header) {
                    continue;
                }
                if header.kind == Kind::Ask {
                    let _ = self.asks.remove(&ask_key(&header, &frame));
                }
                // On its way back, it came to nobody.
                self.note_letter(&header, &frame);
                if may_have_run {
                    self.written_off.add(message_of(&header), self.now);
                }
                if may_have_run || !may_go_again || name_of(&frame).is_none() {
                    self.give_back(&frame, &why);
                } else {
                    self.undeliverable(&header, BytesMut::from(&frame[..]), why.reason, Turn::First);
                }
            }
        }
    }

    /// Whatever lived there lives there no more: what is on its way there comes back, asks of it fail, and senders wait
    /// for it no longer.
    pub(crate) fn place_lost(&mut self, place: Direct, why: &Why) {
        self.table.place_lost(place);
        if place.serial.is_troupe() {
            return self.troupe_missing(place, &Why { may_have_run: false, ..why.clone() });
        }
        let back = self.peers.take_back(place.node, &|frame| is_message(frame) && to_of(frame) == Some(place));
        self.undelivered(back, why);
        let lost = self.asks.lose_of(place);
        self.fail_elsewhere(lost, why);
        self.control_all(&FromAgent::PlaceLost { place, reason: why.reason });
    }

    /// That boot of another agent is over for good.
    pub(crate) fn host_dead(&mut self, node: NodeId, boot: Boot, why: &Why) {
        self.table.host_dead(node, boot);
        // Before the senders hear of it: what comes back now is not lost.
        let back =
            self.peers.take_back(node, &|frame| is_message(frame) && to_of(frame).is_some_and(|to| to.boot <= boot));
        self.undelivered(back, why);
        self.overfull.remove(&node);
        self.members_lost(|member| member.node == node && member.boot <= boot, true);
        self.peer_lost(node, why);
        self.control_all(&FromAgent::Lost { node, boot, blocks: Vec::new(), reason: why.reason });
    }

    /// Another agent was not reached for long: messages come back, asks fail. Answers wait until it is reached or dead;
    /// and so do fences, for what was brought there before them may yet come back.
    pub(crate) fn peer_unreachable(&mut self, node: NodeId, why: &Why) {
        let given_up = |frame: &[u8]| is_message(frame) && !is_fence(frame) || planted::is(Fault::AnswersGivenUp);
        let back = self.peers.take_back(node, &given_up);
        self.brought_back(back, why, false);
        self.peer_lost(node, why);
    }

    /// Processes of another agent are gone.
    pub(crate) fn blocks_lost(&mut self, node: NodeId, boot: Boot, blocks: Vec<u64>) {
        let is_lost =
            |place: Direct| place.node == node && place.boot == boot && blocks.contains(&place.serial.block());
        self.members_lost(is_lost, false);
        let gone: Vec<_> = self
            .table
            .names()
            .filter(|(_, known)| is_lost(known.place))
            .map(|(name, known)| (name.clone(), known.epoch))
            .collect();
        gone.iter().for_each(|(name, epoch)| self.unresolved(name, *epoch));
        self.control_all(&FromAgent::Lost { node, boot, blocks, reason: Reason::WorkerLost });
    }

    /// Another agent cannot be reached, or is gone for good: asks there fail, whether or not it has begun with them.
    fn peer_lost(&mut self, node: NodeId, why: &Why) {
        let lost = self.asks.lose(Towards::Peer(node));
        self.fail_elsewhere(lost, why);
    }

    /// Fails asks that went to another agent. It may have them and give them back later: they go nowhere then, as their
    /// askers have gone on.
    fn fail_elsewhere(&mut self, lost: Vec<Lost>, why: &Why) {
        for Lost { key, of, message } in lost {
            self.written_off.add(message, self.now);
            self.fail(key, of, &Why { may_have_run: true, ..why.clone() });
        }
    }

    /// Who waits for that answer waits until it gives up, or its host or ours is gone.
    pub(super) fn answer_dropped(&mut self, node: NodeId) {
        self.metrics.answers_dropped.add(1);
        if self.overfull.insert(node) {
            self.events.push(Event::AnswersDropped { node });
        }
    }

    pub(super) fn warn_peer(&mut self, peer: NodeId, why: &str) {
        self.metrics.refused.add(1);
        if self.warned.insert(peer) {
            warn!(%peer, "frame refused, as later ones of this peer are without a word: {why}");
        }
    }

    pub(super) fn warn_disguise(&mut self, from: WorkerId, header: &Header) {
        self.metrics.refused.add(1);
        if let Some(process) = self.processes.get_mut(&from)
            && !std::mem::replace(&mut process.warned, true)
        {
            warn!(process = %from, name = process.name, sender = %header.from, "frame refused: its sender is not of that process");
        }
    }
}

/// Whether a frame is a message, or what keeps its place among messages.
fn is_message(frame: &[u8]) -> bool {
    matches!(kind_of(frame), Some(Kind::Tell | Kind::Ask))
}

fn is_fence(frame: &[u8]) -> bool {
    Header::read(frame).is_ok_and(|(header, _)| header.has(flags::FENCE))
}
