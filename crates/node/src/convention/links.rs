//! Data links: frames to and from the other agents, one set of lanes for each boot of each peer.
//!
//! - **LI-1.** A link that is down is dialled until it is up or the other agent's start is over. From [`DOWN_MAX`]
//!   on the router is told at every look, and takes the messages back; answers wait on.
//! - **LI-2.** A new boot of a peer gets new lanes; what waited for the old one goes back.
//! - **LI-3.** Frames that arrive before the router is there wait for it.

use super::{peers::Peers, service::Service};
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
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
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
    links: Mutex<HashMap<NodeId, Link>>,
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
    /// Since when it is not connected.
    down: Option<Instant>,
    dialling: bool,
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
            self.want(node);
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
        let link = Link { lanes: lanes.clone(), down: Some(Instant::now()), dialling: false };
        let old = links.insert(node, link);
        drop(links);
        if let Some(old) = old {
            self.give_back(node, replaced(&old.lanes, &lanes));
        }
        lanes
    }

    /// Dials the peer unless that is under way.
    fn want(&self, node: NodeId) {
        {
            let mut links = self.links.lock();
            let Some(link) = links.get_mut(&node).filter(|link| !link.dialling) else { return };
            if link.lanes.connection().is_some() {
                return;
            }
            link.dialling = true;
        }
        let Some(peers) = self.peers.upgrade() else { return };
        peers.router.clone().spawn(async move {
            match peers.dial(node, Kind::Data).await {
                Ok(connection) => peers.links.take(connection),
                Err(error) => {
                    tracing::debug!(%error, "dialling for data");
                    sleep(TICK).await;
                }
            }
            if let Some(link) = peers.links.links.lock().get_mut(&node) {
                link.dialling = false;
            }
        });
    }

    /// Takes a new data connection into use. Has to be called on the router's runtime.
    pub(super) fn take(&self, connection: Connection) {
        let Some(peers) = self.peers.upgrade() else { return };
        let (node, boot) = (connection.peer().node, connection.peer().boot);
        let lanes = self.lanes_of(node, boot);
        if lanes.boot() > boot {
            return connection.close(Code::Refused, "a newer boot of this agent is known");
        }
        if let Some(held) = lanes.connection()
            && stays(peers.me, node, held.seen(), connection.seen())
        {
            return connection.close(Code::Duplicate, "another connection stays instead");
        }
        lanes.attach(connection);
        if let Some(link) = self.links.lock().get_mut(&node) {
            link.down = None;
        }
        if let Some(service) = peers.service() {
            service.reachable(node, true);
        }
    }

    fn detached(&self, node: NodeId, why: &Closed) {
        if let Some(link) = self.links.lock().get_mut(&node) {
            link.down = Some(Instant::now());
        }
        tracing::debug!(%node, %why, "a data link is down");
        if let Some(service) = self.peers.upgrade().and_then(|peers| peers.service()) {
            service.reachable(node, false);
        }
        self.want(node);
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

    fn look(&self, lives: &impl Fn(NodeId, Boot) -> bool) {
        let (mut back, mut wanted, mut unreachable, now) = (Vec::new(), Vec::new(), Vec::new(), SystemTime::now());
        self.links.lock().retain(|node, link| {
            let expired = |connection: &Connection| connection.peer().not_after < now;
            if let Some(connection) = link.lanes.connection().filter(expired) {
                connection.close(Code::Expired, "the certificate has run out");
            }
            if !lives(*node, link.lanes.boot()) {
                if let Some(connection) = link.lanes.connection() {
                    connection.close(Code::Refused, "this boot of the agent is over");
                }
                back.push((*node, link.lanes.give_up()));
                return false;
            }
            if let Some(since) = link.down {
                wanted.push(*node);
                // Again and again: what was sent since is not to wait either.
                if since.elapsed() >= DOWN_MAX {
                    unreachable.push(*node);
                }
            }
            true
        });
        wanted.into_iter().for_each(|node| self.want(node));
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

    /// Closes the connection to a peer; what it did not acknowledge goes over the next one. Whether there was one.
    pub(super) fn close(&self, node: NodeId) -> bool {
        let open = self.links.lock().get(&node).and_then(|link| link.lanes.connection());
        open.inspect(|connection| connection.close(Code::Done, "closed by an operator")).is_some()
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

    fn detached(&self, from: NodeId, why: Closed) {
        if let Some(peers) = self.peers.upgrade() {
            peers.links.detached(from, &why);
        }
    }

    fn gate(&self) -> Gate {
        self.peers.upgrade().and_then(|peers| peers.service()).map(|service| service.gate()).unwrap_or_default()
    }
}
