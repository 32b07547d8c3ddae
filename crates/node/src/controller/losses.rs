//! Processes of this host that are gone, as other hosts learn it: senders there may have messages with them.
//!
//! - **LO-1.** Each other start of an agent that may live is told, again and again until it has taken it: also one that cannot
//!   be reached now, since what was sent from there stays outstanding until then.

use super::{AGAIN, CALL_WAIT, Controller, untold::Untold};
use odeon_protocol::{
    Boot, NodeId,
    peer::{PeerReply, PeerRequest},
};
use std::collections::BTreeMap;

/// Blocks in one request.
const BLOCKS_AT_ONCE: usize = 4096;

/// By the start of an agent that is to be told.
#[derive(Debug, Default)]
pub(super) struct Losses(BTreeMap<(NodeId, Boot), Untold<u64>>);

impl Controller {
    /// Tells all other hosts that these blocks have no process any more.
    pub(super) fn tell_lost(&mut self, blocks: &[u64]) {
        let me = self.me();
        let others = self.parts.convention.hosts().into_iter().filter(|host| host.node != me);
        for to in others.map(|host| (host.node, host.boot)) {
            let untold = self.losses.0.entry(to).or_default();
            blocks.iter().for_each(|block| untold.push(*block));
            self.send_lost(to);
        }
    }

    /// Unless that is under way, or nobody is left to be told.
    fn send_lost(&mut self, to: (NodeId, Boot)) {
        if self.is_dead(to.0, to.1) {
            self.losses.0.remove(&to);
        }
        let batch = self.losses.0.get_mut(&to).and_then(|untold| untold.begin(BLOCKS_AT_ONCE));
        let Some((_, blocks)) = batch else { return };
        let (convention, boot, count) = (self.parts.convention.clone(), self.parts.convention.boot(), blocks.len());
        self.begin(
            async move { convention.call(to.0, PeerRequest::Lost { boot, blocks }, CALL_WAIT).await },
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
