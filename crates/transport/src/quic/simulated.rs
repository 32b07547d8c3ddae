//! Connections of a simulation: the same dials, requests, subscriptions and datagrams, carried by whoever simulates.
//!
//! What is sent lies in the [`Network`] until it is taken, and arrives when it is delivered: how long that takes, and
//! whether it happens at all, is decided outside. Control connections only: frames between agents have a simulation of
//! their own, [`super::lanes::simulation`].
//!
//! - **SQ-1.** Nothing here waits for time to pass, and nothing runs but what is delivered or asked for.
//! - **SQ-2.** [`Network::deliver`] has to be called on the runtime of the agent that the packet is for.

use super::{
    connection::{Closed, Code, Connection, Kind, Peer},
    control::{RequestError, Serve},
    endpoint::{DialError, Door},
};
use crate::tls::Identity;
use bytes::Bytes;
use odeon_protocol::{Boot, NodeId, simulated::wall_time};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::SystemTime,
};
use tokio::sync::{Notify, oneshot, watch};

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
    pub const fn stream(&self) -> Option<(u64, u64)> {
        match &self.body {
            Body::Request { id, .. } | Body::Answer { id, .. } | Body::Published { id, .. } => Some((self.line, *id)),
            Body::Finished { id } | Body::Gone { id } => Some((self.line, *id)),
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

    fn send(&self, packet: Packet) {
        self.0.lock().sent.push_back(packet);
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
    dials: Mutex<BTreeMap<u64, oneshot::Sender<Result<Peer, Closed>>>>,
    this: Weak<Self>,
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
        port.dials.lock().insert(line, done);
        port.send(address, line, Body::Dial { kind, wants: node, peer: port.me() });
        let answer = answer.await;
        port.dials.lock().remove(&line);
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
        Ok(Connection::simulated(port.begin(line, peer), kind, true))
    }
}

impl Inner {
    fn me(&self) -> Peer {
        Peer {
            node: self.identity.node(),
            convention: self.identity.convention(),
            boot: self.boot,
            address: self.address,
            not_after: self.identity.not_after(),
        }
    }

    fn send(&self, to: SocketAddr, line: u64, body: Body) {
        self.network.send(Packet { from: self.address, to, line, body });
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
        });
        self.ends.lock().insert(line, end.clone());
        end
    }

    fn take(&self, Packet { from, line, body, .. }: Packet) {
        match body {
            Body::Dial { kind, wants, peer } => self.accept(line, kind, wants, peer),
            Body::Accepted { peer } => {
                let (dial, to) = (self.dials.lock().remove(&line), peer.address);
                if dial.is_none_or(|dial| dial.send(Ok(peer)).is_err()) {
                    // The dial was given up.
                    self.send(to, line, Body::Close { code: Code::Done, text: "nobody waits for it".into() });
                }
            }
            Body::Close { code, text } => {
                let closed = Closed { code: Some(code), by_peer: true, text };
                let dial = self.dials.lock().remove(&line);
                if let Some(dial) = dial {
                    drop(dial.send(Err(closed)));
                    return;
                }
                let end = self.ends.lock().get(&line).cloned();
                if let Some(end) = end {
                    end.end(closed);
                }
            }
            // A line that is not known here was the port's before.
            body => {
                let end = self.ends.lock().get(&line).filter(|end| end.peer.address == from).cloned();
                if let Some(end) = end {
                    end.take(body);
                }
            }
        }
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

/// One end of a connection.
pub(super) struct End {
    line: u64,
    port: Weak<Inner>,
    peer: Peer,
    closed: watch::Sender<Option<Closed>>,
    streams: Mutex<BTreeMap<u64, Stream>>,
    next: Mutex<u64>,
    serve: Mutex<Option<Arc<dyn Serve>>>,
    early: Mutex<Vec<Body>>,
}

/// What this end waits for, or serves.
enum Stream {
    Answer(oneshot::Sender<Bytes>),
    Subscription(Arc<Inbox>),
    Served(Arc<Notify>),
}

#[derive(Default)]
struct Inbox {
    came: Notify,
    bodies: Mutex<(VecDeque<Bytes>, bool)>,
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "End({} to {})", self.line, self.peer.node)
    }
}

/// A connection that was not taken into use closes with its last handle.
#[derive(Debug)]
pub(super) struct Held(pub(super) Arc<End>);

impl Drop for Held {
    fn drop(&mut self) {
        if self.0.serve.lock().is_none() {
            self.0.close(Code::Done, "not taken into use");
        }
    }
}

impl End {
    pub(super) const fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn is_open(&self) -> bool {
        self.closed.borrow().is_none()
    }

    pub(super) async fn closed(&self) -> Closed {
        let mut closed = self.closed.subscribe();
        let ended = closed.wait_for(Option::is_some).await.ok().and_then(|closed| closed.clone());
        ended.unwrap_or_else(|| Closed { code: None, by_peer: false, text: "the agent is stopping".into() })
    }

    pub(super) fn close(&self, code: Code, text: &str) {
        if self.is_open() {
            self.send(Body::Close { code, text: text.into() });
            self.end(Closed { code: Some(code), by_peer: false, text: text.into() });
        }
    }

    fn send(&self, body: Body) {
        if let Some(port) = self.port.upgrade().filter(|_| self.is_open()) {
            port.send(self.peer.address, self.line, body);
        }
    }

    /// Everything that waits fails.
    fn end(&self, why: Closed) {
        self.closed.send_if_modified(|closed| {
            let first = closed.is_none();
            closed.get_or_insert(why);
            first
        });
        for stream in std::mem::take(&mut *self.streams.lock()).into_values() {
            match stream {
                Stream::Answer(_) => {}
                Stream::Subscription(inbox) => inbox.came.notify_one(),
                Stream::Served(gone) => gone.notify_one(),
            }
        }
        *self.serve.lock() = None;
        if let Some(port) = self.port.upgrade() {
            port.ends.lock().remove(&self.line);
        }
    }

    /// Begins to answer the peer; what came before is answered now.
    pub(super) fn serve(self: &Arc<Self>, serve: Arc<dyn Serve>) {
        if self.is_open() {
            *self.serve.lock() = Some(serve);
            let early = std::mem::take(&mut *self.early.lock());
            early.into_iter().for_each(|body| self.take(body));
        }
    }

    fn take(self: &Arc<Self>, body: Body) {
        match body {
            Body::Request { .. } | Body::Datagram(_) => {
                let serve = self.serve.lock().clone();
                match serve {
                    Some(serve) => self.answer(&serve, body),
                    None => self.early.lock().push(body),
                }
            }
            Body::Answer { id, body } => {
                if let Some(Stream::Answer(wait)) = self.streams.lock().remove(&id) {
                    // It may have been given up.
                    drop(wait.send(body));
                }
            }
            Body::Published { id, body } => self.published(id, Some(body)),
            Body::Finished { id } => self.published(id, None),
            Body::Gone { id } => {
                if let Some(Stream::Served(gone)) = self.streams.lock().remove(&id) {
                    gone.notify_one();
                }
            }
            Body::Dial { .. } | Body::Accepted { .. } | Body::Close { .. } => {}
        }
    }

    fn published(&self, id: u64, body: Option<Bytes>) {
        if let Some(Stream::Subscription(inbox)) = self.streams.lock().get(&id) {
            {
                let mut bodies = inbox.bodies.lock();
                bodies.1 |= body.is_none();
                bodies.0.extend(body);
            }
            inbox.came.notify_one();
        }
    }

    fn answer(self: &Arc<Self>, serve: &Arc<dyn Serve>, body: Body) {
        let end = self.clone();
        match body {
            Body::Datagram(body) => serve.datagram(&self.peer, body),
            Body::Request { id, subscribes: false, body } => {
                let answering = serve.request(&self.peer, body);
                tokio::spawn(async move {
                    let body = answering.await;
                    end.send(Body::Answer { id, body });
                });
            }
            Body::Request { id, body, .. } => {
                let gone = Arc::new(Notify::new());
                // The asker's numbers are its own: those of what is served here are told apart.
                self.streams.lock().insert(id, Stream::Served(gone.clone()));
                let serving = serve.subscribe(&self.peer, body, super::Publisher::simulated(end.clone(), id));
                tokio::spawn(async move {
                    tokio::select! {
                        () = serving => {}
                        () = gone.notified() => {}
                    }
                    end.streams.lock().remove(&id);
                    end.send(Body::Finished { id });
                });
            }
            _ => {}
        }
    }

    fn ask(&self, subscribes: bool, body: Bytes, stream: Stream) -> u64 {
        let id = {
            let mut next = self.next.lock();
            *next += 1;
            // Both ends number streams, the lower node's are odd.
            let me = self.port.upgrade().map_or(NodeId(0), |port| port.identity.node());
            *next * 2 + u64::from(me < self.peer.node)
        };
        self.streams.lock().insert(id, stream);
        self.send(Body::Request { id, subscribes, body });
        id
    }

    fn lost(&self, may_have_run: bool) -> RequestError {
        let why = self.closed.borrow().as_ref().map_or_else(|| "it broke off".into(), ToString::to_string);
        RequestError::Lost { why, may_have_run }
    }

    pub(super) async fn request(&self, body: Bytes) -> Result<Bytes, RequestError> {
        if !self.is_open() {
            return Err(self.lost(false));
        }
        let (answer, wait) = oneshot::channel();
        self.ask(false, body, Stream::Answer(answer));
        wait.await.map_err(|_| self.lost(true))
    }

    pub(super) fn subscribe(self: &Arc<Self>, body: Bytes) -> Result<Subscribed, RequestError> {
        if !self.is_open() {
            return Err(self.lost(false));
        }
        let inbox = Arc::<Inbox>::default();
        let id = self.ask(true, body, Stream::Subscription(inbox.clone()));
        Ok(Subscribed { end: self.clone(), id, inbox })
    }

    pub(super) fn publish(&self, id: u64, body: Bytes) -> io::Result<()> {
        if !self.is_open() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.send(Body::Published { id, body });
        Ok(())
    }

    pub(super) fn datagram(&self, body: Bytes) -> bool {
        self.send(Body::Datagram(body));
        self.is_open()
    }
}

/// The receiving end of a subscription.
pub(super) struct Subscribed {
    end: Arc<End>,
    id: u64,
    inbox: Arc<Inbox>,
}

impl fmt::Debug for Subscribed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscribed({})", self.id)
    }
}

impl Subscribed {
    pub(super) async fn next(&self) -> io::Result<Option<Bytes>> {
        loop {
            {
                let mut bodies = self.inbox.bodies.lock();
                if let Some(body) = bodies.0.pop_front() {
                    return Ok(Some(body));
                }
                if bodies.1 {
                    return Ok(None);
                }
            }
            if !self.end.is_open() {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection is lost"));
            }
            self.inbox.came.notified().await;
        }
    }
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.end.streams.lock().remove(&self.id);
        self.end.send(Body::Gone { id: self.id });
    }
}
