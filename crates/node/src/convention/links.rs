//! Data links: frames to and from the other agents, one set of lanes for each boot of each peer, and two connections: one
//! of large frames, from when there are any, and one of all others.
//!
//! - **LI-1.** A connection that is down is dialled until it is up or the other agent's start is over. From [`DOWN_MAX`]
//!   on the router is told at every look, and takes the messages back; answers wait on.
//! - **LI-2.** A new boot of a peer gets new lanes; what waited for the old one goes back.
//! - **LI-3.** Frames that arrive before the router is there wait for it.

use super::{clock::wall, peers::Peers, service::Service};
use bytes::{Bytes, BytesMut};
use odeon_protocol::{
    Boot, NodeId,
    frame::order_of,
    planted::{self, Fault},
};
use odeon_transport::{
    frame_io::Gate,
    quic::{Closed, Code, Connection, Kind, Lanes, Receive, Undelivered, stays},
};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// How long frames wait for a link that is down.
pub(crate) const DOWN_MAX: Duration = Duration::from_secs(10);
/// Between two looks at the links.
const TICK: Duration = Duration::from_millis(250);

/// Why a frame was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Unsent {
    /// Too much is queued: wait for room.
    #[error("too much is queued towards the host")]
    Full(Bytes),
    /// Nothing is known of such a host.
    #[error("no such host is known")]
    NoSuchHost(Bytes),
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Links {
    links: Mutex<BTreeMap<NodeId, Link>>,
    early: Mutex<Vec<(NodeId, Vec<BytesMut>)>>,
    peers: Weak<Peers>,
}

/// The data link to one host, as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// The host.
    pub node: NodeId,
    /// Its boot.
    pub boot: Boot,
    /// Whether frames flow.
    pub connected: bool,
    /// Bytes that the host has not acknowledged.
    pub queued: usize,
}

#[derive(Debug)]
struct Link {
    lanes: Lanes,
    data: Absence,
    large: Absence,
}

/// How one of a link's connections is missed.
#[derive(Debug, Default)]
struct Absence {
    /// Since when it is missed, if it is.
    since: Option<Instant>,
    dialling: bool,
}

impl Link {
    fn new(lanes: Lanes) -> Self {
        Self { lanes, data: Absence { since: Some(Instant::now()), dialling: false }, large: Absence::default() }
    }

    fn absence(&mut self, kind: Kind) -> &mut Absence {
        if kind == Kind::Large { &mut self.large } else { &mut self.data }
    }

    /// The open connections.
    fn connections(&self) -> impl Iterator<Item = Connection> {
        [Kind::Data, Kind::Large].into_iter().filter_map(|kind| self.lanes.connection(kind))
    }
}

impl Links {
    pub(super) fn new(peers: Weak<Peers>) -> Self {
        Self { links: Mutex::default(), early: Mutex::default(), peers }
    }

    /// Queues a frame on the lane of its flow.
    pub(crate) fn send(&self, node: NodeId, frame: Bytes) -> Result<(), Unsent> {
        let order = order_of(&frame);
        let Some(lanes) = self.lanes(node) else { return Err(Unsent::NoSuchHost(frame)) };
        lanes.send(order, frame).map_err(|full| Unsent::Full(full.0))?;
        if !lanes.is_connected() {
            self.want(node, Kind::Data);
        }
        if lanes.wants_large() {
            self.want(node, Kind::Large);
        }
        Ok(())
    }

    /// Waits until a frame like this one may be taken.
    pub(crate) async fn room(&self, node: NodeId, like: &[u8]) {
        if let Some(lanes) = self.lanes(node) {
            lanes.room(order_of(like), like).await;
        }
    }

    /// Bytes that other agents have not acknowledged.
    pub(crate) fn queued(&self) -> usize {
        self.links.lock().values().map(|link| link.lanes.queued()).sum()
    }

    /// Takes back the frames that fit, of those that the other agent has not acknowledged.
    pub(crate) fn take_back(&self, node: NodeId, fits: &dyn Fn(&[u8]) -> bool) -> Undelivered {
        let lanes = self.links.lock().get(&node).map(|link| link.lanes.clone());
        lanes.map(|lanes| lanes.take_back(fits)).unwrap_or_default()
    }

    fn lanes(&self, node: NodeId) -> Option<Lanes> {
        if let Some(link) = self.links.lock().get(&node) {
            return Some(link.lanes.clone());
        }
        let (_, boot) = self.peers.upgrade()?.home()?.way_to(node)?;
        Some(self.lanes_of(node, boot))
    }

    /// The lanes to that boot; those to an older one are given up.
    fn lanes_of(&self, node: NodeId, boot: Boot) -> Lanes {
        let mut links = self.links.lock();
        if let Some(link) = links.get(&node).filter(|link| link.lanes.boot() >= boot) {
            return link.lanes.clone();
        }
        let receiver = Arc::new(Receiver { peers: self.peers.clone() });
        let lanes = Lanes::new(node, boot, receiver);
        let old = links.insert(node, Link::new(lanes.clone()));
        drop(links);
        if let Some(old) = old {
            self.give_back(node, replaced(&old.lanes, &lanes));
        }
        lanes
    }

    /// Dials the peer unless that is under way.
    fn want(&self, node: NodeId, kind: Kind) {
        {
            let mut links = self.links.lock();
            let Some(link) = links.get_mut(&node).filter(|link| link.lanes.connection(kind).is_none()) else { return };
            let absence = link.absence(kind);
            absence.since.get_or_insert_with(Instant::now);
            if std::mem::replace(&mut absence.dialling, true) {
                return;
            }
        }
        let Some(peers) = self.peers.upgrade() else { return };
        peers.runtime_of(kind).clone().spawn(async move {
            match peers.dial(node, kind).await {
                Ok(connection) => peers.links.take(connection),
                Err(error) => {
                    tracing::debug!(%kind, %error, "dialling for a link");
                    sleep(TICK).await;
                }
            }
            if let Some(link) = peers.links.links.lock().get_mut(&node) {
                link.absence(kind).dialling = false;
            }
        });
    }

    /// Takes a new connection of a link into use. Has to be called on the runtime that carries it.
    pub(super) fn take(&self, connection: Connection) {
        let Some(peers) = self.peers.upgrade() else { return };
        let (node, boot, kind) = (connection.peer().node, connection.peer().boot, connection.kind());
        let lanes = self.lanes_of(node, boot);
        if lanes.boot() > boot {
            return connection.close(Code::Refused, "a newer boot of this agent is known");
        }
        if let Some(held) = lanes.connection(kind)
            && stays(peers.me, node, held.seen(), connection.seen())
        {
            return connection.close(Code::Duplicate, "another connection stays instead");
        }
        lanes.attach(connection);
        if let Some(link) = self.links.lock().get_mut(&node) {
            link.absence(kind).since = None;
        }
        if kind == Kind::Data
            && let Some(service) = peers.service()
        {
            service.reachable(node, true);
        }
    }

    fn detached(&self, node: NodeId, kind: Kind, why: &Closed) {
        tracing::debug!(%node, %kind, %why, "a link's connection has ended");
        if kind == Kind::Large {
            // Missed from now on, or as soon as there is something for it.
            let lanes = self.links.lock().get(&node).map(|link| link.lanes.clone());
            if lanes.is_some_and(|lanes| lanes.wants_large()) {
                self.want(node, kind);
            }
            return;
        }
        if let Some(service) = self.peers.upgrade().and_then(|peers| peers.service()) {
            service.reachable(node, false);
        }
        self.want(node, kind);
    }

    fn give_back(&self, node: NodeId, frames: Undelivered) {
        let Some(service) = self.peers.upgrade().and_then(|peers| peers.service()) else { return };
        if frames != Undelivered::default() {
            service.undelivered(node, frames);
        }
    }

    fn received(&self, from: NodeId, frames: Vec<BytesMut>) {
        let Some(peers) = self.peers.upgrade() else { return };
        match peers.service() {
            Some(service) => service.frames(from, frames),
            None => {
                self.early.lock().push((from, frames));
                // It may have come in between.
                if let Some(service) = peers.service() {
                    self.flush_early(&*service);
                }
            }
        }
    }

    pub(super) fn flush_early(&self, service: &dyn Service) {
        let early = std::mem::take(&mut *self.early.lock());
        early.into_iter().for_each(|(from, frames)| service.frames(from, frames));
    }

    /// Looks after the links until the agent stops: redials, gives back, drops those of boots that are over.
    pub(super) async fn tend(&self, lives: impl Fn(NodeId, Boot) -> bool) {
        loop {
            sleep(TICK).await;
            self.look(&lives);
        }
    }

    /// See [`Links::tend`].
    pub(super) fn look(&self, lives: &impl Fn(NodeId, Boot) -> bool) {
        let (mut back, mut wanted, mut unreachable, now) = (Vec::new(), Vec::new(), Vec::new(), wall());
        self.links.lock().retain(|node, link| {
            let expired = |connection: &Connection| connection.peer().not_after < now;
            link.connections().filter(expired).for_each(|connection| {
                connection.close(Code::Expired, "the certificate has run out");
            });
            if !lives(*node, link.lanes.boot()) {
                link.connections().for_each(|connection| {
                    connection.close(Code::Refused, "this boot of the agent is over");
                });
                back.push((*node, link.lanes.give_up()));
                return false;
            }
            if link.lanes.wants_large() {
                wanted.push((*node, Kind::Large));
            } else {
                link.large.since = None;
            }
            if link.data.since.is_some() {
                wanted.push((*node, Kind::Data));
            }
            // Again and again: what was sent since is not to wait either.
            let long = |absence: &Absence| absence.since.is_some_and(|since| since.elapsed() >= DOWN_MAX);
            if long(&link.data) || long(&link.large) {
                unreachable.push(*node);
            }
            true
        });
        wanted.into_iter().for_each(|(node, kind)| self.want(node, kind));
        if let Some(service) = self.peers.upgrade().and_then(|peers| peers.service()) {
            unreachable.into_iter().for_each(|node| service.unreachable(node));
        }
        back.into_iter().for_each(|(node, frames)| self.give_back(node, frames));
    }

    /// Every link that was needed so far.
    pub(super) fn list(&self) -> Vec<LinkStatus> {
        let links = self.links.lock();
        let status = |(node, link): (&NodeId, &Link)| LinkStatus {
            node: *node,
            boot: link.lanes.boot(),
            connected: link.lanes.is_connected(),
            queued: link.lanes.queued(),
        };
        links.iter().map(status).collect()
    }

    /// Closes the connections to a peer; what it did not acknowledge goes over the next ones. Whether there was any.
    pub(super) fn close(&self, node: NodeId) -> bool {
        let open: Vec<_> = self.links.lock().get(&node).into_iter().flat_map(Link::connections).collect();
        open.iter().for_each(|connection| connection.close(Code::Done, "closed by an operator"));
        !open.is_empty()
    }

    /// Waits until every connected peer has received what was sent, but not for long.
    pub(super) async fn drain(&self, at_most: Duration) {
        let lanes: Vec<Lanes> = self.links.lock().values().map(|link| link.lanes.clone()).collect();
        let connected = lanes.iter().filter(|lanes| lanes.is_connected());
        let all = async {
            for lanes in connected {
                lanes.drained().await;
            }
        };
        drop(tokio::time::timeout(at_most, all).await);
    }
}

/// A newer start of a peer has lanes of its own: what waited for the older one goes back.
pub(crate) fn replaced(older: &Lanes, newer: &Lanes) -> Undelivered {
    let back = older.give_up();
    if planted::is(Fault::ResendToNewerBoot) {
        for frame in back.unknown.into_iter().chain(back.unsent) {
            drop(newer.send(order_of(&frame), frame));
        }
        return Undelivered::default();
    }
    back
}

/// Takes the frames of a peer for the router.
struct Receiver {
    peers: Weak<Peers>,
}

impl Receive for Receiver {
    fn frames(&self, from: NodeId, frames: Vec<BytesMut>) {
        if let Some(peers) = self.peers.upgrade() {
            peers.links.received(from, frames);
        }
    }

    fn detached(&self, from: NodeId, kind: Kind, why: Closed) {
        if let Some(peers) = self.peers.upgrade() {
            peers.links.detached(from, kind, &why);
        }
    }

    fn gate(&self) -> Gate {
        self.peers.upgrade().and_then(|peers| peers.service()).map(|service| service.gate()).unwrap_or_default()
    }
}
