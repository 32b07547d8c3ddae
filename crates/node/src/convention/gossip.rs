//! Drives the failure detector: its datagrams travel on the control connections, its timers run here.

use super::{clock::random, facts, now, shared::Shared};
use bytes::Bytes;
use odeon_cluster::{
    gossip::{Datagram, Gossip},
    host::Liveness,
};
use odeon_protocol::{Boot, NodeId};
use parking_lot::{Mutex, RwLock};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// Between two looks where nothing is due.
const IDLE: Duration = Duration::from_millis(500);
/// A voter that has seen no majority for this long stands for no election.
const ALONE_MAX: Duration = Duration::from_secs(5);
/// How long what is known of the hosts is good for readers.
const FRESH: Duration = Duration::from_millis(100);

/// Who seems alive.
#[derive(Debug)]
pub(crate) struct Seen {
    gossip: Mutex<Gossip>,
    states: RwLock<(Option<Instant>, BTreeMap<NodeId, Liveness>)>,
    came: Notify,
}

impl Seen {
    pub(crate) fn new(me: NodeId, boot: Boot) -> Self {
        Self { gossip: Mutex::new(Gossip::new(me, boot, random())), states: RwLock::default(), came: Notify::new() }
    }

    /// How often a host was suspected.
    pub(crate) fn suspicions(&self) -> u64 {
        self.gossip.lock().suspicions()
    }

    /// How a host seems to be.
    pub(crate) fn liveness(&self, node: NodeId) -> Liveness {
        {
            let (when, states) = &*self.states.read();
            if when.is_some_and(|when| when.elapsed() < FRESH) {
                return states.get(&node).copied().unwrap_or_default();
            }
        }
        let states = self.gossip.lock().states();
        let seen = states.get(&node).copied().unwrap_or_default();
        *self.states.write() = (Some(Instant::now()), states);
        seen
    }
}

/// Runs the failure detector until the agent stops.
///
/// A voter that sees no majority, or was dropped, stands for no election: it could not win, and would only disturb the
/// others when it comes back.
pub(crate) async fn run(shared: Arc<Shared>) {
    let (mut changes, mut alone) = (shared.copies.changes(), None::<Instant>);
    loop {
        let pause = shared.seen.gossip.lock().due().map_or(IDLE, |due| due.since(now()).min(IDLE));
        tokio::select! {
            () = sleep(pause) => {}
            () = shared.seen.came.notified() => {}
            _ = changes.changed() => {}
        }
        let members: Vec<(NodeId, Boot)> =
            shared.copies.read(|directory| directory.hosts().map(|host| (host.node, host.boot)).collect());
        let datagrams = {
            let mut gossip = shared.seen.gossip.lock();
            gossip.set_members(members, now());
            gossip.tick(now());
            gossip.take_datagrams()
        };
        for (node, body) in datagrams {
            send(&shared, node, body);
        }
        if let Some(group) = &shared.group {
            let voters: Vec<NodeId> = shared.voters().into_iter().collect();
            let cut_off = shared.seen.gossip.lock().seems_cut_off(&voters);
            alone = if cut_off { alone.or_else(|| Some(Instant::now())) } else { None };
            let hopeless = alone.is_some_and(|since| since.elapsed() > ALONE_MAX);
            let stops = shared.stop.is_cancelled();
            group.raft.runtime_config().elect(!hopeless && !stops && !shared.is_dropped());
        }
    }
}

/// Tells the others that this agent goes.
pub(crate) fn leave(shared: &Shared) {
    let datagrams = {
        let mut gossip = shared.seen.gossip.lock();
        gossip.leave(now());
        gossip.take_datagrams()
    };
    for (node, body) in datagrams {
        if let Some(control) = shared.peers.connected_to(node) {
            drop(control.datagram(Datagram::Swim(body).encode().into()));
        }
    }
}

fn send(shared: &Shared, node: NodeId, body: Vec<u8>) {
    let body = Bytes::from(Datagram::Swim(body).encode());
    match shared.peers.connected_to(node) {
        // Gossip is made for datagrams that are lost.
        Some(control) => drop(control.datagram(body)),
        // But for few: where there are many hosts, most are spoken to for the first time.
        None => shared.peers.want_to_tell(node, body),
    }
}

/// Takes a datagram of another agent.
pub(crate) fn received(shared: &Arc<Shared>, from: NodeId, body: &[u8]) {
    match Datagram::decode(body) {
        Some(Datagram::Swim(body)) => {
            if let Err(error) = shared.seen.gossip.lock().received(&body, now()) {
                tracing::debug!(%from, %error, "a gossip datagram was dropped");
            }
            shared.seen.came.notify_one();
        }
        Some(Datagram::Hint(hint)) => facts::heard(shared, from, &hint),
        None => tracing::debug!(%from, "a datagram is no gossip"),
    }
}
