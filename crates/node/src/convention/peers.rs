//! The other agents: control connections to them, dialled by need, and who answers their requests.
//!
//! - **PE-1.** At most one dial to a peer is under way for each kind of connection; a failed one is not repeated at once.
//! - **PE-2.** Of two control connections the one that does not stay is closed only after what was under way had time
//!   to end.
//! - **PE-3.** Control connections run on the convention's runtime, data connections on the router's, those of large
//!   frames on one of their own.

use super::{
    clock::wall,
    error::CallError,
    facts::Facts,
    links::Links,
    service::{Answering, Service},
    wire::{Reply, Request},
};
use bytes::Bytes;
use odeon_protocol::{
    Boot, NodeId,
    control::encode,
    level::decode_known,
    peer::{PeerReply, PeerRequest},
};
use odeon_transport::quic::{
    Code, Connection, Control, DialError, Endpoint, Kind, Peer, Publisher, RequestError, Serve, stays,
};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::lookup_host,
    runtime,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

/// After a failed dial the next one is made no earlier than this.
const DIAL_PAUSE: Duration = Duration::from_millis(250);
/// A connection that another took the place of still serves what was under way.
const LINGER: Duration = Duration::from_secs(2);

/// So many refusals in a row mean that this host does not belong any more: a single agent may be behind.
const REFUSALS: u32 = 6;

/// What the rest of the convention does for its connections.
pub(crate) trait Home: Send + Sync + 'static {
    /// Answers a request of another agent, or of this one to itself. `address` is where it came from.
    fn answer(&self, from: NodeId, address: SocketAddr, request: Request) -> Answering<Reply>;

    /// Serves a stream of answers.
    fn subscribe(&self, from: NodeId, request: Request, publisher: Publisher) -> Answering<()>;

    /// Takes a datagram.
    fn datagram(&self, from: NodeId, body: &[u8]);

    /// An agent goes by a later recovery of the directory than this one.
    fn recovered(&self, later: u64);

    /// Several agents in a row did not let this one in.
    fn kept_out(&self, why: &str);

    /// What to dial, and the newest boot that is known; nothing for a stranger.
    fn way_to(&self, node: NodeId) -> Option<(String, Boot)>;
}

/// See the module's head.
pub(crate) struct Peers {
    pub(super) me: NodeId,
    pub(super) endpoint: Endpoint,
    listens_on: SocketAddr,
    /// Which recovery of the directory this agent goes by; 0 for none.
    pub(super) recovery: Arc<AtomicU64>,
    /// Dials refused since the last one that was not.
    refusals: AtomicU32,
    home: OnceLock<Arc<dyn Home>>,
    service: RwLock<Option<Arc<dyn Service>>>,
    facts: Facts,
    controls: Mutex<BTreeMap<NodeId, Arc<Way>>>,
    pub(super) links: Links,
    /// The convention's runtime.
    runtime: runtime::Handle,
    /// The router's runtime, and that of large frames.
    router: runtime::Handle,
    large: runtime::Handle,
    this: Weak<Self>,
}

/// Why a dial failed.
enum Failed {
    Unreached(String),
    Refused(String),
    Recovered(u64, String),
}

/// The control connection to one peer.
#[derive(Default)]
struct Way {
    control: Mutex<Option<Control>>,
    /// When the last dial failed.
    dialling: tokio::sync::Mutex<Option<Instant>>,
    failing: Mutex<Option<Failing>>,
}

/// Dials to a peer that came to nothing, since it was connected last.
#[derive(Clone, Debug)]
pub(crate) struct Failing {
    /// When the first of them had failed.
    pub(crate) since: Instant,
    pub(crate) dials: u32,
    /// Why the last one failed.
    pub(crate) why: String,
}

impl Way {
    fn fails(&self, error: &CallError) {
        let why = error.why();
        let mut failing = self.failing.lock();
        match &mut *failing {
            Some(failing) => (failing.dials, failing.why) = (failing.dials.saturating_add(1), why),
            None => *failing = Some(Failing { since: Instant::now(), dials: 1, why }),
        }
    }

    fn open(&self) -> Option<Control> {
        self.control.lock().clone().filter(|control| control.connection().is_open())
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("me", &self.me).field("listens_on", &self.listens_on).finish_non_exhaustive()
    }
}

impl Peers {
    /// Has to be called on the convention's runtime.
    pub(crate) fn new(
        endpoint: Endpoint,
        boot: Boot,
        listens_on: SocketAddr,
        [router, large]: [runtime::Handle; 2],
        recovery: Arc<AtomicU64>,
    ) -> Arc<Self> {
        let me = endpoint.identity().node();
        Arc::new_cyclic(|this| Self {
            me,
            endpoint,
            listens_on,
            recovery,
            refusals: AtomicU32::new(0),
            home: OnceLock::new(),
            service: RwLock::default(),
            facts: Facts::new(me, boot),
            controls: Mutex::default(),
            links: Links::new(this.clone()),
            runtime: runtime::Handle::current(),
            router,
            large,
            this: this.clone(),
        })
    }

    pub(crate) fn listens_on(&self) -> SocketAddr {
        self.listens_on
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn serve(&self, service: Arc<dyn Service>) {
        *self.service.write() = Some(service.clone());
        self.links.flush_early(&*service);
    }

    pub(crate) fn service(&self) -> Option<Arc<dyn Service>> {
        self.service.read().clone()
    }

    /// Drops the service: it holds handles of this convention.
    pub(crate) fn forget_service(&self) {
        *self.service.write() = None;
    }

    /// Set once, before anything is asked.
    pub(crate) fn live_in(&self, home: Arc<dyn Home>) {
        drop(self.home.set(home));
    }

    pub(super) fn home(&self) -> Option<&Arc<dyn Home>> {
        self.home.get()
    }

    /// Asks another agent, dialling it first if need be.
    pub(crate) async fn ask(&self, node: NodeId, request: Request, within: Duration) -> Result<Reply, CallError> {
        if node == self.me {
            return self.ask_myself(request, within).await;
        }
        let until = Instant::now() + within;
        let body = Bytes::from(encode(&request));
        loop {
            let control = match timeout_at(until, self.control(node)).await {
                Ok(control) => control?,
                Err(_) => return Err(CallError::Unreachable { node, why: format!("no connection within {within:?}") }),
            };
            let left = until.saturating_duration_since(Instant::now());
            match control.request(body.clone(), left, request.urgency()).await {
                // The connection was lost before the request went out: another may be there already.
                Err(RequestError::Lost { may_have_run: false, .. }) if Instant::now() < until => {
                    self.forget(node, &control);
                }
                answer => return read(node, answer),
            }
        }
    }

    /// Asks another agent over the connection that there is. Where there is none it is dialled for the next time.
    pub(crate) async fn ask_connected(
        &self,
        node: NodeId,
        request: &Request,
        within: Duration,
    ) -> Result<Reply, CallError> {
        let Some(control) = self.way(node).open() else {
            self.want(node);
            return Err(CallError::Unreachable { node, why: "it is not connected".into() });
        };
        read(node, control.request(encode(request).into(), within, request.urgency()).await)
    }

    async fn ask_myself(&self, request: Request, within: Duration) -> Result<Reply, CallError> {
        let node = self.me;
        let unanswered = |why: &str| CallError::Unanswered { node, why: why.into() };
        let home = self.home().ok_or_else(|| unanswered("it is only starting"))?;
        let answer = home.answer(node, self.listens_on, request);
        timeout(within, answer).await.map_err(|_| unanswered("it took too long"))
    }

    pub(crate) async fn call(
        &self,
        node: NodeId,
        request: PeerRequest,
        within: Duration,
    ) -> Result<PeerReply, CallError> {
        match self.ask(node, Request::Peer(request), within).await? {
            Reply::Peer(PeerReply::Refused(refusal)) => Err(CallError::Refused(refusal)),
            Reply::Peer(reply) => Ok(reply),
            other => Err(other.unexpected(node)),
        }
    }

    /// Has the peer dialled in the background, unless it is connected or being dialled.
    pub(crate) fn want(&self, node: NodeId) {
        self.dial_for(node, |_| ());
    }

    /// The same, and sends it a datagram then; one while it is being dialled is dropped.
    pub(crate) fn want_to_tell(&self, node: NodeId, body: Bytes) {
        self.dial_for(node, |control| drop(control.datagram(body)));
    }

    fn dial_for(&self, node: NodeId, then: impl FnOnce(&Control) + Send + 'static) {
        let Some(this) = self.this.upgrade() else { return };
        if self.way(node).dialling.try_lock().is_err() {
            return;
        }
        self.runtime.spawn(async move {
            match this.control(node).await {
                Ok(control) => then(&control),
                Err(error) => tracing::debug!(%error, "dialling"),
            }
        });
    }

    /// The open control connection to a peer.
    pub(crate) fn connected_to(&self, node: NodeId) -> Option<Control> {
        let way = self.controls.lock().get(&node).cloned();
        way?.open()
    }

    /// The peers that a control connection is open to.
    pub(crate) fn connected(&self) -> Vec<(NodeId, Control)> {
        let ways = self.controls.lock();
        ways.iter().filter_map(|(node, way)| Some((*node, way.open()?))).collect()
    }

    /// The dials to a peer that came to nothing, if it is not connected.
    pub(crate) fn failing(&self, node: NodeId) -> Option<Failing> {
        let way = self.controls.lock().get(&node).cloned()?;
        let failing = way.failing.lock().clone();
        failing.filter(|_| way.open().is_none())
    }

    /// The open control connection to a peer, or a new one.
    pub(crate) async fn control(&self, node: NodeId) -> Result<Control, CallError> {
        let way = self.way(node);
        if let Some(control) = way.open() {
            return Ok(control);
        }
        let mut failed = way.dialling.lock().await;
        if let Some(control) = way.open() {
            return Ok(control);
        }
        if let Some(when) = *failed {
            sleep_until(when + DIAL_PAUSE).await;
        }
        match self.dial(node, Kind::Control).await {
            Ok(connection) => {
                *failed = None;
                Ok(self.take_control(connection))
            }
            Err(error) => {
                *failed = Some(Instant::now());
                way.fails(&error);
                Err(error)
            }
        }
    }

    /// Runs something on the convention's runtime.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Closes every control connection; they are dialled again by need.
    pub(super) fn close_controls(&self, why: &str) {
        for (_, control) in self.connected() {
            control.close(Code::Done, why);
        }
    }

    /// The runtime that carries connections of that kind.
    pub(super) fn runtime_of(&self, kind: Kind) -> &runtime::Handle {
        match kind {
            Kind::Control => &self.runtime,
            Kind::Data => &self.router,
            Kind::Large => &self.large,
        }
    }

    /// Dials a peer on the runtime that is to carry the connection.
    pub(super) async fn dial(&self, node: NodeId, kind: Kind) -> Result<Connection, CallError> {
        let unreachable = |why: String| CallError::Unreachable { node, why };
        let way = self.home().and_then(|home| home.way_to(node));
        let (address, _) = way.ok_or_else(|| unreachable("no such host is known".into()))?;
        let endpoint = self.endpoint.clone();
        let dialled = self.runtime_of(kind).spawn(async move {
            let (mut why, mut refused) = (format!("the name {address} does not resolve"), false);
            let found = lookup_host(&address).await.map_err(|error| Failed::Unreached(format!("{why}: {error}")))?;
            for address in found {
                match endpoint.dial(address, node, kind).await {
                    Ok(connection) => return Ok(connection),
                    Err(DialError::OtherRecovery { has, wants, .. }) if has > wants => {
                        let why = format!("{address} goes by a later recovery of the directory");
                        return Err(Failed::Recovered(has, why));
                    }
                    Err(error) => {
                        refused |= matches!(error, DialError::Refused { code: Some(Code::Refused), .. });
                        why = error.to_string();
                    }
                }
            }
            if refused { Err(Failed::Refused(why)) } else { Err(Failed::Unreached(why)) }
        });
        let dialled = dialled.await.unwrap_or_else(|_| Err(Failed::Unreached("the agent is stopping".into())));
        dialled.inspect(|_| self.refusals.store(0, Ordering::Relaxed)).map_err(|failed| match failed {
            Failed::Unreached(why) => unreachable(why),
            Failed::Recovered(later, why) => {
                if let Some(home) = self.home() {
                    home.recovered(later);
                }
                unreachable(why)
            }
            Failed::Refused(why) => {
                let before = self.refusals.fetch_add(1, Ordering::Relaxed);
                if let Some(home) = self.home().filter(|_| before + 1 >= REFUSALS) {
                    home.kept_out(&why);
                }
                unreachable(why)
            }
        })
    }

    /// Takes a new control connection into use; answers the one that is to be used.
    pub(super) fn take_control(&self, connection: Connection) -> Control {
        let node = connection.peer().node;
        let way = self.way(node);
        self.refusals.store(0, Ordering::Relaxed);
        *way.failing.lock() = None;
        let serving = Arc::new(Serving { peers: self.this.clone() });
        let _runtime = self.runtime.enter();
        let (seen, new) = (connection.seen(), Control::start(connection, serving));
        let mut held = way.control.lock();
        let kept = match held.take().filter(|held| held.connection().is_open()) {
            Some(old) if stays(self.me, node, old.connection().seen(), seen) => {
                linger(new);
                old
            }
            Some(old) => {
                linger(old);
                new
            }
            None => new,
        };
        *held = Some(kept.clone());
        kept
    }

    fn forget(&self, node: NodeId, lost: &Control) {
        let way = self.way(node);
        let mut held = way.control.lock();
        if held.as_ref().is_some_and(|held| !held.connection().is_open()) {
            *held = None;
        }
        drop(held);
        lost.close(Code::Done, "lost");
    }

    fn way(&self, node: NodeId) -> Arc<Way> {
        self.controls.lock().entry(node).or_default().clone()
    }

    /// Closes connections to hosts that do not belong any more, and those whose certificate has run out.
    pub(crate) fn weed(&self, belongs: impl Fn(NodeId) -> bool) {
        let now = wall();
        for (node, control) in self.connected() {
            if !belongs(node) {
                control.close(Code::Refused, "this host does not belong to the convention");
            } else if control.connection().peer().not_after < now {
                control.close(Code::Expired, "the certificate has run out");
            }
        }
    }
}

fn linger(control: Control) {
    tokio::spawn(async move {
        tokio::select! {
            () = sleep(LINGER) => control.close(Code::Duplicate, "another connection took its place"),
            _ = control.closed() => {}
        }
    });
}

fn read(node: NodeId, answer: Result<Bytes, RequestError>) -> Result<Reply, CallError> {
    let body = answer.map_err(|error| match error.may_have_run() {
        true => CallError::Unanswered { node, why: error.to_string() },
        false => CallError::Unreachable { node, why: error.to_string() },
    })?;
    decode_known(&body).map_err(|error| CallError::Unanswered { node, why: error.to_string() })
}

/// Answers what comes on a control connection.
struct Serving {
    peers: Weak<Peers>,
}

impl Serving {
    fn home(&self) -> Option<Arc<dyn Home>> {
        self.peers.upgrade()?.home().cloned()
    }
}

impl Serve for Serving {
    fn request(&self, from: &Peer, body: Bytes) -> Answering<Bytes> {
        let (home, node, address) = (self.home(), from.node, from.address);
        let same = self.peers.upgrade().is_some_and(|peers| peers.recovery.load(Ordering::Acquire) == from.recovery);
        Box::pin(async move {
            let reply = match (home, decode_known::<Request>(&body)) {
                (_, Ok(request)) if request.is_of_the_log() && !same => {
                    Reply::Refused("the directory was recovered since this connection was made".into())
                }
                (Some(home), Ok(request)) => home.answer(node, address, request).await,
                (None, _) => Reply::Refused("the agent is only starting, or stopping".into()),
                (_, Err(error)) => Reply::Refused(error.to_string()),
            };
            encode(&reply).into()
        })
    }

    fn subscribe(&self, from: &Peer, body: Bytes, publisher: Publisher) -> Answering<()> {
        let (home, node) = (self.home(), from.node);
        Box::pin(async move {
            if let (Some(home), Ok(request)) = (home, decode_known::<Request>(&body)) {
                home.subscribe(node, request, publisher).await;
            }
        })
    }

    fn datagram(&self, from: &Peer, body: Bytes) {
        if let Some(home) = self.home() {
            home.datagram(from.node, &body);
        }
    }
}
