//! What becomes of an agent that meets one which goes by a later recovery of the directory.
//!
//! - **RC-1.** A host that has a log from before never votes, leads or follows again: it says so, remembers it, and ends.
//! - **RC-2.** Every other agent follows at once, and keeps its start, its links to other hosts and its nameless actors;
//!   names are the new group's to grant.
//! - **RC-3.** What is said of the log is taken from agents alone that go by the same recovery (see
//!   [`super::peers::Peers::recovery`]); connections are made between such alone.

use super::{handle::Over, shared::Shared, tasks};
use std::sync::{Arc, atomic::Ordering};

/// Follows a later recovery, or ends this agent. Called on any thread; writes the data directory, once.
pub(crate) fn meet(shared: &Arc<Shared>, later: u64) {
    if later <= shared.peers.recovery.load(Ordering::Acquire) || *shared.over.borrow() == Some(Over::Superseded) {
        return;
    }
    let has_log = shared.group.as_ref().is_some_and(|group| !group.log.is_pristine());
    let kept = shared.data.update(|belonging| {
        let Some(belonging) = belonging else { return };
        if has_log {
            belonging.superseded = true;
        } else {
            belonging.recovery = belonging.recovery.max(later);
        }
    });
    let is_kept = kept.is_ok();
    if let Err(error) = kept {
        tracing::error!(%error, "the directory was recovered, which cannot be kept");
    }
    if has_log {
        end(shared);
    } else if is_kept {
        follow(shared, later);
    }
}

fn end(shared: &Shared) {
    tracing::error!("{}", super::error::SUPERSEDED);
    shared.over.send_replace(Some(Over::Superseded));
}

fn follow(shared: &Arc<Shared>, later: u64) {
    if shared.peers.recovery.fetch_max(later, Ordering::AcqRel) >= later {
        return;
    }
    tracing::info!(recovery = later, "the convention's directory was recovered: this host goes on with it");
    if shared.group.is_some() {
        // Over these nothing of the log would be taken any more.
        shared.peers.close_controls("the directory was recovered");
    }
    shared.seek.notify_one();
    // The new group may know only an earlier start of this agent.
    shared.peers.spawn(tasks::be_known_again(shared.clone()));
}
