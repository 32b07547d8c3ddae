//! Loss of processes and hosts: what they had fails, what they had not goes back or elsewhere.

use super::{Router, ask_key, name_of};
use crate::{
    event::Event,
    router::{asks::Towards, back::Why},
};
use bytes::BytesMut;
use odeon_protocol::{
    Boot, Direct, NodeId, Reason, WorkerId,
    control::FromAgent,
    frame::{Header, Kind},
};
use tracing::warn;

impl Router {
    /// A process is gone: what was queued for it goes back or waits for its name, what it had in hand fails.
    pub(in crate::router) fn lost(&mut self, id: WorkerId, unsent: Vec<BytesMut>) {
        let Some(process) = self.processes.remove(&id) else { return };
        let blocks = self.table.lose(id);
        let me = self.me;
        let is_lost =
            |place: Direct| place.node == me.node && place.boot == me.boot && blocks.contains(&place.serial.block());
        self.troupes.lose(is_lost);
        for frame in unsent {
            if let Ok((header, _)) = Header::read(&frame) {
                if header.kind == Kind::Ask {
                    let _ = self.asks.remove(&ask_key(&header, &frame));
                }
                self.undeliverable(&header, frame, Reason::WorkerLost);
            }
        }
        for of in self.asks.lose_askers(is_lost) {
            self.troupes.ask_ended(of);
        }
        let why = Why {
            reason: Reason::WorkerLost,
            text: format!("{} ({id}) ended before it answered", process.name),
            may_have_run: true,
        };
        for (key, of) in self.asks.lose(Towards::Process(id)) {
            self.fail(key, of, &why);
        }
        self.told.values_mut().for_each(|(_, processes)| processes.retain(|told| *told != id));
        if !blocks.is_empty() {
            self.events.push(Event::Lost { process: id, blocks });
        }
    }

    /// Frames that could not be brought to another agent.
    pub(in crate::router) fn undelivered(&mut self, frames: Vec<BytesMut>, why: &Why) {
        for frame in frames {
            if let Ok((header, _)) = Header::read(&frame) {
                if header.kind == Kind::Ask {
                    let _ = self.asks.remove(&ask_key(&header, &frame));
                }
                if why.may_have_run || name_of(&frame).is_none() {
                    self.give_back(&frame, why);
                } else {
                    self.undeliverable(&header, frame, why.reason);
                }
            }
        }
    }

    /// Whatever lived there lives there no more: asks of it fail, and senders wait for it no longer.
    pub(in crate::router) fn place_lost(&mut self, place: Direct, why: &Why) {
        self.control_all(&FromAgent::PlaceLost { place, reason: why.reason });
        for key in self.asks.lose_of(place) {
            self.fail(key, place, why);
        }
    }

    /// Processes of another agent are gone.
    pub(in crate::router) fn blocks_lost(&mut self, node: NodeId, boot: Boot, blocks: Vec<u64>) {
        let is_lost =
            |place: Direct| place.node == node && place.boot == boot && blocks.contains(&place.serial.block());
        self.troupes.lose(is_lost);
        let gone: Vec<_> = self
            .table
            .names()
            .filter(|(_, known)| is_lost(known.place))
            .map(|(name, known)| (name.clone(), known.epoch))
            .collect();
        gone.iter().for_each(|(name, epoch)| self.unresolved(name, *epoch));
        self.control_all(&FromAgent::Lost { node, boot, blocks, reason: Reason::WorkerLost });
    }

    /// Another agent cannot be reached, or is gone for good: asks there fail.
    pub(in crate::router) fn peer_lost(&mut self, node: NodeId, why: &Why) {
        for (key, of) in self.asks.lose(Towards::Peer(node)) {
            self.fail(key, of, why);
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
