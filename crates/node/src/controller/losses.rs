//! Processes of this host that are gone, as other hosts learn it: senders there may have messages with them.
//!
//! - **LO-1.** Each other start of an agent that may live is told, again and again until it has taken it: also one that cannot
//!   be reached now, since what was sent from there stays outstanding until then.

use super::{AGAIN, CALL_WAIT, Controller};
use odeon_protocol::{
    Boot, NodeId,
    peer::{PeerReply, PeerRequest},
};
use std::{collections::BTreeMap, mem};

/// By the start of an agent that is to be told.
#[derive(Debug, Default)]
pub(super) struct Losses(BTreeMap<(NodeId, Boot), Untold>);

#[derive(Debug, Default)]
struct Untold {
    blocks: Vec<u64>,
    under_way: bool,
}

impl Controller {
    /// Tells all other hosts that these blocks have no process any more.
    pub(super) fn tell_lost(&mut self, blocks: &[u64]) {
        let me = self.me();
        let others = self.parts.convention.hosts().into_iter().filter(|host| host.node != me);
        for to in others.map(|host| (host.node, host.boot)) {
            self.losses.0.entry(to).or_default().blocks.extend(blocks);
            self.send_lost(to);
        }
    }

    /// Unless that is under way, or nobody is left to be told.
    fn send_lost(&mut self, to: (NodeId, Boot)) {
        if self.is_dead(to.0, to.1) {
            self.losses.0.remove(&to);
        }
        let Some(untold) = self.losses.0.get_mut(&to) else { return };
        if mem::replace(&mut untold.under_way, true) {
            return;
        }
        let (convention, blocks) = (self.parts.convention.clone(), untold.blocks.clone());
        let (boot, told) = (self.parts.convention.boot(), blocks.len());
        self.begin(
            async move { convention.call(to.0, PeerRequest::Lost { boot, blocks }, CALL_WAIT).await },
            move |controller, answer| {
                let Some(untold) = controller.losses.0.get_mut(&to) else { return };
                untold.under_way = false;
                if !matches!(answer, Ok(PeerReply::Done)) {
                    return controller.later(AGAIN, move |controller| controller.send_lost(to));
                }
                untold.blocks.drain(..told);
                if untold.blocks.is_empty() {
                    controller.losses.0.remove(&to);
                } else {
                    controller.send_lost(to);
                }
            },
        );
    }
}
