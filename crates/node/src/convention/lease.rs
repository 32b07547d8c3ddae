//! The holder's side of the lease: until when this host's named actors may run.
//!
//! A renewal goes out every 250 ms whether or not the one before was answered, each in a task of its own; what the
//! answers mean is decided in [`odeon_cluster::lease`].

use super::{
    handle::Over,
    now,
    shared::Shared,
    wire::{Reply, Request},
};
use odeon_cluster::lease::{Answered, Holder, TIMING};
use odeon_protocol::{
    Time,
    peer::{PeerReply, PeerRequest, Renewal, Renewed},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::sleep};

/// For one renewal: a later answer would extend nothing.
const RENEWAL: Duration = Duration::from_millis(1800);
/// Without a confirmed renewal for this long, another leader is looked for.
const SEEK_AFTER: Duration = Duration::from_millis(500);

/// See the module's head. Times are those of [`super::now`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The generation that claims have to name; 0 before the first lease.
    pub generation: u64,
    /// From here on no handler of a named actor may start, and nothing to or from one is passed on.
    pub pause_at: Time,
    /// From here on workers that have not put their named actors to rest are killed.
    pub kill_at: Time,
    /// The names are lost to other hosts: put every named actor to rest, then call [`super::Handle::rested`].
    pub lost: bool,
}

/// Renews until the agent stops or its boot is over.
pub(crate) async fn hold(shared: Arc<Shared>, generation: u64) {
    let mut holder = Holder::new(TIMING, shared.me, shared.boot, generation);
    let (answers, mut answered) = mpsc::channel(64);
    let mut changes = shared.copies.changes();
    let mut lost = false;
    loop {
        publish(&shared, &holder, lost);
        let pause = match holder.renew_at() {
            Some(at) => at.since(now()),
            None => Duration::from_secs(3600),
        };
        tokio::select! {
            Some(answer) = answered.recv() => {
                match holder.answered(answer, now()) {
                    Answered::Extended | Answered::Nothing => {}
                    Answered::Lost => lost = true,
                    Answered::BootOver => return over(&shared, Over::BootOver),
                    Answered::NotMember => return over(&shared, Over::NotMember),
                }
            }
            changed = changes.changed() => {
                if changed.is_err() { return }
                let generation = shared.copies.read(|directory| {
                    directory.member(shared.me).filter(|member| member.boot == shared.boot).map(|member| member.generation)
                });
                if generation.is_some_and(|generation| generation > holder.generation()) {
                    holder.lose(generation.unwrap_or_default(), now());
                    lost = true;
                }
            }
            () = shared.rested.notified() => {
                holder.rested();
                lost = false;
            }
            () = sleep(pause) => {
                let held = holder.pause_at().since(now());
                if held + SEEK_AFTER < TIMING.pause {
                    shared.seek.notify_one();
                }
                tokio::spawn(renew(shared.clone(), holder.renew(now()), answers.clone()));
            }
        }
    }
}

fn publish(shared: &Shared, holder: &Holder, lost: bool) {
    let (generation, pause_at, kill_at) = (holder.generation(), holder.pause_at(), holder.kill_at());
    let lease = Lease { generation, pause_at, kill_at, lost };
    shared.lease.send_if_modified(|now| std::mem::replace(now, lease) != lease);
}

fn over(shared: &Shared, over: Over) {
    tracing::error!(?over, "the convention has given this boot up");
    shared.over.send_replace(Some(over));
    shared.lease.send_replace(Lease::default());
}

async fn renew(shared: Arc<Shared>, renewal: Renewal, answers: mpsc::Sender<Renewed>) {
    let Some(leader) = shared.leader() else { return };
    let request = Request::Peer(PeerRequest::Renew(renewal));
    match shared.peers.ask(leader, request, RENEWAL).await {
        Ok(Reply::Peer(PeerReply::Renewed(answer))) => drop(answers.send(answer).await),
        Ok(Reply::Peer(PeerReply::NotLeader(hint))) => shared.hint_leader(hint),
        Ok(_) | Err(_) => {}
    }
}
