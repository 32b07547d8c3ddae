//! Processes of this host that are gone, as other hosts learn it: senders there may have messages with them.
//!
//! - **LO-1.** Every other host is told, again and again until a living start of its agent has taken it: also one that cannot
//!   be reached now, since what was sent from there stays outstanding until then, and one whose agent has started anew. Such
//!   a start may have sent something here before this host has heard of it.
//! - **LO-2.** While the last known start of a host is dead, it is told of the last [`LOSSES_KEPT`] blocks once there is another.

use super::{AGAIN, CALL_WAIT, Controller, untold::Untold};
use odeon_cluster::directory::Standing;
use odeon_protocol::{
    NodeId,
    limits::LOSSES_KEPT,
    peer::{PeerReply, PeerRequest},
};
use std::collections::BTreeMap;

/// Blocks in one request.
const BLOCKS_AT_ONCE: usize = 4096;

/// By the host that is to be told.
#[derive(Debug, Default)]
pub(super) struct Losses(BTreeMap<NodeId, Untold<u64>>);

impl Controller {
    /// Tells all other hosts that these blocks have no process any more.
    pub(super) fn tell_lost(&mut self, blocks: &[u64]) {
        let me = self.me();
        let others = self.parts.convention.hosts().into_iter().filter(|host| host.node != me);
        for to in others.map(|host| host.node) {
            let untold = self.losses.0.entry(to).or_default();
            blocks.iter().for_each(|block| untold.push(*block));
            untold.keep_last(LOSSES_KEPT);
            self.send_lost(to);
        }
    }

    /// Unless that is under way, nobody is there to be told, or nobody is left to be.
    pub(super) fn send_lost(&mut self, to: NodeId) {
        let member = self.parts.convention.directory(|directory| {
            directory
                .member(to)
                .filter(|member| member.standing == Standing::In)
                .map(|member| (member.boot, member.dead))
        });
        let Some((boot, dead)) = member else {
            self.losses.0.remove(&to);
            return;
        };
        if dead || self.is_dead(to, boot) {
            return;
        }
        let batch = self.losses.0.get_mut(&to).and_then(|untold| untold.begin(BLOCKS_AT_ONCE));
        let Some((_, blocks)) = batch else { return };
        let (convention, boot, count) = (self.parts.convention.clone(), self.parts.convention.boot(), blocks.len());
        self.begin(
            async move { convention.call(to, PeerRequest::Lost { boot, blocks }, CALL_WAIT).await },
            move |controller, answer| {
                let Some(untold) = controller.losses.0.get_mut(&to) else { return };
                if !matches!(answer, Ok(PeerReply::Done)) {
                    untold.end(0);
                    return controller.later(AGAIN, move |controller| controller.send_lost(to));
                }
                untold.end(count);
                if untold.len() == 0 {
                    controller.losses.0.remove(&to);
                } else {
                    controller.send_lost(to);
                }
            },
        );
    }
}
