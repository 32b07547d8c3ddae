//! Capabilities, types and load: each host the only writer of its own, spread by anti-entropy.
//!
//! Each second a digest goes to a random peer, whose answer is what this agent lacks; a change of the own facts is
//! announced to everybody at once (one of load only where hosts are few), and whoever is behind asks.

use super::{clock::random, now, shared::Shared};
use odeon_cluster::{
    anti_entropy::{Delta, Digest, Facts as Sheets, Hint},
    gossip::Datagram,
    host::HostView,
};
use odeon_protocol::{
    Boot, NodeId,
    control::{decode, encode},
    peer::{PeerReply, PeerRequest},
};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

/// Between two exchanges with a random peer.
const EVERY: Duration = Duration::from_secs(1);
/// For one exchange.
const EXCHANGE: Duration = Duration::from_secs(2);
/// How long a newcomer waits for its first exchanges.
const CATCH_UP: Duration = Duration::from_secs(1);
/// So many are asked first: each may answer with all that is known.
const CATCH_UP_PEERS: usize = 8;
/// Changes that come close together are announced together.
const GATHER: Duration = Duration::from_millis(20);

/// What is known of every host.
#[derive(Debug)]
pub(crate) struct Facts {
    sheets: Mutex<Sheets>,
    changed: Notify,
    /// Counts changes of anything but load, of any host.
    changes: watch::Sender<u64>,
}

impl Facts {
    pub(crate) fn new(me: NodeId, boot: Boot) -> Self {
        Self { sheets: Mutex::new(Sheets::new(me, boot)), changed: Notify::new(), changes: watch::Sender::new(0) }
    }

    /// Changes what this host says of itself; `change` answers whether others are to be told.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Sheets) -> bool) {
        let changed = change(&mut self.sheets.lock());
        if changed {
            self.changed.notify_one();
            self.tell();
        }
    }

    /// Counts changes of what hosts can do, run and say of themselves; not of their load.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn take(&self, delta: Delta) {
        self.sheets.lock().take(delta);
        self.tell();
    }

    fn tell(&self) {
        let now = self.sheets.lock().changes();
        self.changes.send_if_modified(|known| {
            let newer = now > *known;
            *known = now.max(*known);
            newer
        });
    }

    /// Writes what is known of a host into its view.
    pub(crate) fn fill(&self, host: &mut HostView) {
        self.sheets.lock().fill(host);
    }

    /// What the sender of a digest lacks, as it travels.
    pub(crate) fn answer(&self, digest: &[u8]) -> PeerReply {
        let lacks = decode::<Digest>(digest).map(|digest| self.sheets.lock().answer(&digest)).unwrap_or_default();
        PeerReply::Facts(encode(&lacks))
    }
}

/// Announces changes and asks around, until the agent stops.
pub(crate) async fn spread(shared: Arc<Shared>) {
    let facts = shared.peers.facts();
    loop {
        tokio::select! {
            () = facts.changed.notified() => {
                sleep(GATHER).await;
                announce(&shared);
            }
            () = sleep(EVERY) => {
                know_members(&shared);
                let peers = shared.peers.connected();
                if !peers.is_empty() {
                    let (node, _) = peers[random() as usize % peers.len()];
                    tokio::spawn(pull(shared.clone(), node));
                }
            }
        }
    }
}

/// Only members' facts are kept: who has just joined must be known before its facts come.
fn know_members(shared: &Shared) {
    let hosts = shared.copies.read(|directory| directory.hosts().map(|host| host.node).collect::<Vec<_>>());
    shared.peers.facts().sheets.lock().set_members(hosts);
}

fn announce(shared: &Shared) {
    let hint = shared.peers.facts().sheets.lock().hint();
    let body = Datagram::Hint(hint).encode();
    for (_, control) in shared.peers.connected() {
        // A lost announcement only delays: the next exchange brings it.
        drop(control.datagram(body.clone().into()));
    }
}

/// Another agent says that its facts have changed.
pub(crate) fn heard(shared: &Arc<Shared>, from: NodeId, hint: &Hint) {
    know_members(shared);
    if shared.peers.facts().sheets.lock().wants(hint, now()) {
        tokio::spawn(pull(shared.clone(), from));
    }
}

/// Asks connected peers, and has all of them ask: a host that is ready knows what the others can do, and they know it.
pub(crate) async fn catch_up(shared: &Arc<Shared>) {
    know_members(shared);
    let (mut peers, mut pulls) = (shared.peers.connected(), JoinSet::new());
    while peers.len() > CATCH_UP_PEERS {
        peers.swap_remove(random() as usize % peers.len());
    }
    for (node, _) in peers {
        pulls.spawn(pull(shared.clone(), node));
    }
    // A peer that does not answer in time is asked again by the rounds that follow.
    let _ = timeout(CATCH_UP, pulls.join_all()).await;
    announce(shared);
}

/// Asks a peer for what this agent lacks.
pub(crate) async fn pull(shared: Arc<Shared>, from: NodeId) {
    let facts = shared.peers.facts();
    let digest = encode(&facts.sheets.lock().digest());
    if let Ok(PeerReply::Facts(delta)) = shared.peers.call(from, PeerRequest::Facts(digest), EXCHANGE).await
        && let Ok(delta) = decode::<Delta>(&delta)
    {
        facts.take(delta);
    }
}
