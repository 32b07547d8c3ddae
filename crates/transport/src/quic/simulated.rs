//! Connections of a simulation: the same dials, requests, subscriptions, datagrams and frames, carried by whoever
//! simulates.
//!
//! What is sent lies in the [`Network`] until it is taken, and arrives when it is delivered: how long that takes, and
//! whether it happens at all, is decided outside.
//!
//! - **SQ-1.** Nothing here waits for time to pass, and nothing runs but what is delivered or asked for.
//! - **SQ-2.** [`Network::deliver`] has to be called on the runtime of the agent that the packet is for.

mod end;

use super::{
    connection::{Closed, Code, Connection, Kind, Peer},
    endpoint::{DialError, Door},
};
use crate::tls::Identity;
use bytes::Bytes;
use end::Inbox;
pub(super) use end::{End, Held, Subscribed};
use odeon_protocol::{Boot, NodeId, simulated::wall_time};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::SystemTime,
};
use tokio::sync::{oneshot, watch};

/// No datagram is larger.
pub(super) const DATAGRAM_MAX: usize = 1160;

/// What the packets of all agents pass through. Clones are the same network.
#[derive(Clone, Default)]
pub struct Network(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    ports: BTreeMap<SocketAddr, Weak<Inner>>,
    sent: VecDeque<Packet>,
    lines: u64,
}

/// Something on its way.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The sender's address.
    pub from: SocketAddr,
    /// The receiver's.
    pub to: SocketAddr,
    line: u64,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Dial { kind: Kind, wants: NodeId, peer: Peer },
    Accepted { peer: Peer },
    Request { id: u64, subscribes: bool, body: Bytes },
    Answer { id: u64, body: Bytes },
    Published { id: u64, body: Bytes },
    Finished { id: u64 },
    Gone { id: u64 },
    Datagram(Bytes),
    Carried { stream: u64, body: Bytes },
    Close { code: Code, text: String },
}

impl Packet {
    /// Whether it is sent again until it arrives.
    #[must_use]
    pub const fn is_reliable(&self) -> bool {
        !matches!(self.body, Body::Datagram(_))
    }

    /// Packets of the same stream arrive in order; others may overtake each other.
    #[must_use]
    pub fn stream(&self) -> Option<(u64, u64)> {
        match &self.body {
            Body::Request { id, .. } | Body::Answer { id, .. } | Body::Published { id, .. } => Some((self.line, *id)),
            Body::Finished { id } | Body::Gone { id } => Some((self.line, *id)),
            // The highest numbers: the others count requests.
            Body::Carried { stream, .. } => Some((self.line, u64::MAX - stream)),
            _ => None,
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

impl Network {
    /// What was sent since the last time, in order.
    #[must_use]
    pub fn take_sent(&self) -> VecDeque<Packet> {
        std::mem::take(&mut self.0.lock().sent)
    }

    /// Brings a packet to its receiver; nothing happens where there is none any more.
    pub fn deliver(&self, packet: Packet) {
        let port = self.0.lock().ports.get(&packet.to).and_then(Weak::upgrade);
        if let Some(port) = port {
            port.take(packet);
        }
    }

    /// The ends of connections that are open at an address: which connection, to whom, and whether its other end is there.
    #[must_use]
    pub fn ends(&self, at: SocketAddr) -> Vec<(u64, SocketAddr, bool)> {
        let port = |address| self.0.lock().ports.get(&address).and_then(Weak::upgrade);
        let Some(here) = port(at) else { return Vec::new() };
        let ends: Vec<_> = here.ends.lock().iter().map(|(line, end)| (*line, end.peer.address)).collect();
        let other = |line, of| port(of).is_some_and(|there: Arc<Inner>| there.ends.lock().contains_key(&line));
        ends.into_iter().map(|(line, of)| (line, of, other(line, of))).collect()
    }

    /// Nothing was heard over a connection for too long: its end at that address breaks.
    pub fn time_out(&self, at: SocketAddr, line: u64) {
        let port = self.0.lock().ports.get(&at).and_then(Weak::upgrade);
        let end = port.and_then(|port| port.ends.lock().get(&line).cloned());
        if let Some(end) = end {
            end.end(Closed { code: None, by_peer: false, text: "no sign of life".into() });
        }
    }

    /// The process at an address is gone: nothing that its remains say gets out.
    pub fn silence(&self, address: SocketAddr) {
        self.0.lock().ports.remove(&address);
    }

    fn send(&self, by: &Weak<Inner>, packet: Packet) {
        let mut state = self.0.lock();
        if state.ports.get(&packet.from).is_some_and(|port| port.ptr_eq(by)) {
            state.sent.push_back(packet);
        }
    }

    fn new_line(&self) -> u64 {
        let mut state = self.0.lock();
        state.lines += 1;
        state.lines
    }
}

/// An agent's port. Dropping the last clone is the end of its process: nobody answers there any more.
#[derive(Clone)]
pub struct Port(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    network: Network,
    identity: Arc<Identity>,
    boot: Boot,
    door: Mutex<Option<Arc<dyn Door>>>,
    ends: Mutex<BTreeMap<u64, Arc<End>>>,
    dials: Mutex<BTreeMap<u64, Dial>>,
    this: Weak<Self>,
}

/// A dial that is under way.
struct Dial {
    /// Who waits for the answer, until it has come.
    done: Option<oneshot::Sender<Result<Peer, Closed>>>,
    /// What came of the new connection before the dialler had it in hand.
    early: Vec<Body>,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Port({})", self.0.address)
    }
}

impl Port {
    /// Opens a port; one that was at the address before is cut off from the network.
    #[must_use]
    pub fn open(network: &Network, address: SocketAddr, identity: Arc<Identity>, boot: Boot) -> Self {
        let port = Arc::new_cyclic(|this| Inner {
            address,
            network: network.clone(),
            identity,
            boot,
            door: Mutex::default(),
            ends: Mutex::default(),
            dials: Mutex::default(),
            this: this.clone(),
        });
        network.0.lock().ports.insert(address, Arc::downgrade(&port));
        Self(port)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0.address
    }

    pub(super) fn identity(&self) -> &Arc<Identity> {
        &self.0.identity
    }

    pub(super) fn listen(&self, door: Arc<dyn Door>) {
        *self.0.door.lock() = Some(door);
    }

    pub(super) fn connections(&self) -> usize {
        self.0.ends.lock().len()
    }

    pub(super) fn close(&self, text: &str) {
        *self.0.door.lock() = None;
        let ends: Vec<_> = self.0.ends.lock().values().cloned().collect();
        ends.iter().for_each(|end| end.close(Code::Done, text));
    }

    pub(super) async fn dial(&self, address: SocketAddr, node: NodeId, kind: Kind) -> Result<Connection, DialError> {
        let port = &self.0;
        let line = port.network.new_line();
        let (done, answer) = oneshot::channel();
        port.dials.lock().insert(line, Dial { done: Some(done), early: Vec::new() });
        port.send(address, line, Body::Dial { kind, wants: node, peer: port.me() });
        let answer = answer.await;
        let early = port.dials.lock().remove(&line).map(|dial| dial.early);
        let unreachable = |why: String| DialError::Unreachable { address, why };
        let peer = match answer {
            Ok(Ok(peer)) => peer,
            Ok(Err(Closed { code: Some(code), text, .. })) => {
                return Err(DialError::Refused { address, code: Some(code), why: text });
            }
            Ok(Err(Closed { text, .. })) => return Err(unreachable(text)),
            Err(_) => return Err(unreachable("the agent is stopping".into())),
        };
        let (convention, me) = (port.identity.convention(), peer.node);
        if peer.convention != convention {
            return Err(DialError::OtherConvention { address, has: peer.convention, wants: convention });
        }
        if me != node {
            return Err(DialError::OtherNode { address, has: me, wants: node });
        }
        let end = port.begin(line, peer);
        let early = early.into_iter().flatten();
        early.for_each(|body| port.take(Packet { from: address, to: port.address, line, body }));
        Ok(Connection::simulated(end, kind, true))
    }
}

impl Inner {
    fn me(&self) -> Peer {
        Peer {
            node: self.identity.node(),
            convention: self.identity.convention(),
            boot: self.boot,
            address: self.address,
            recovery: 0,
            not_after: self.identity.not_after(),
        }
    }

    fn send(&self, to: SocketAddr, line: u64, body: Body) {
        self.network.send(&self.this, Packet { from: self.address, to, line, body });
    }

    fn begin(&self, line: u64, peer: Peer) -> Arc<End> {
        let end = Arc::new(End {
            line,
            port: self.this.clone(),
            peer,
            closed: watch::Sender::new(None),
            streams: Mutex::default(),
            next: Mutex::new(0),
            serve: Mutex::default(),
            early: Mutex::default(),
            carried: Inbox::default(),
        });
        self.ends.lock().insert(line, end.clone());
        end
    }

    fn take(&self, Packet { from, line, body, .. }: Packet) {
        match body {
            Body::Dial { kind, wants, peer } => self.accept(line, kind, wants, peer),
            Body::Accepted { peer } => {
                let (dial, to) = (self.answered(line), peer.address);
                if dial.is_none_or(|dial| dial.send(Ok(peer)).is_err()) {
                    // The dial was given up.
                    self.send(to, line, Body::Close { code: Code::Done, text: "nobody waits for it".into() });
                }
            }
            Body::Close { code, text } => {
                let closed = Closed { code: Some(code), by_peer: true, text };
                if let Some(dial) = self.answered(line) {
                    drop(dial.send(Err(closed)));
                    return;
                }
                if let Some(dial) = self.dials.lock().get_mut(&line) {
                    return dial.early.push(Body::Close { code, text: closed.text });
                }
                let end = self.ends.lock().get(&line).cloned();
                if let Some(end) = end {
                    end.end(closed);
                }
            }
            // A line that is not known here was the port's before.
            body => {
                if let Some(dial) = self.dials.lock().get_mut(&line) {
                    return dial.early.push(body);
                }
                let end = self.ends.lock().get(&line).filter(|end| end.peer.address == from).cloned();
                if let Some(end) = end {
                    end.take(body);
                }
            }
        }
    }

    /// Whoever waits for the answer to that dial.
    fn answered(&self, line: u64) -> Option<oneshot::Sender<Result<Peer, Closed>>> {
        self.dials.lock().get_mut(&line)?.done.take()
    }

    fn accept(&self, line: u64, kind: Kind, wants: NodeId, peer: Peer) {
        let to = peer.address;
        let refuse = |code, text: String| self.send(to, line, Body::Close { code, text });
        let Some(door) = self.door.lock().clone() else { return };
        let me = self.me();
        if peer.convention != me.convention || wants != me.node {
            // The dialler looks at the certificate and goes.
            return self.send(to, line, Body::Accepted { peer: me });
        }
        if wall_time().is_some_and(|since| SystemTime::UNIX_EPOCH + since > peer.not_after) {
            return refuse(Code::Expired, "the certificate has run out".into());
        }
        if let Err(why) = door.admits(&peer, kind) {
            return refuse(Code::Refused, why);
        }
        self.send(to, line, Body::Accepted { peer: me });
        let end = self.begin(line, peer);
        door.accepted(Connection::simulated(end, kind, false));
    }
}
