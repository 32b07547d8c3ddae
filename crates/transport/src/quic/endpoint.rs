//! The agent's UDP port: dials and accepts connections, certified and greeted.

use super::{
    connection::{Closed, Code, Connection, Kind, Peer},
    greeting::{self, Greeting},
    settings::{EndpointError, RECEIVE_WINDOW, Settings, no_common_protocol},
    simulated,
    socket::{SocketFacts, SocketView, endpoint_on},
};
use crate::{
    join::{self, Admit},
    tls::{self, Identity, Judge, PeerCertificate, TlsError},
};
use odeon_protocol::{
    Boot, ConventionId, NodeId, PROTOCOL_VERSION,
    limits::{HANDSHAKES_MAX, JOINS_MAX},
};
use parking_lot::Mutex;
use quinn::ConnectionId;
use rustls::pki_types::CertificateDer;
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};
use tokio::{runtime, sync::Semaphore, task::JoinHandle, time::timeout};

/// From an incoming connection's first packet to its greeting.
const ACCEPT_WITHIN: Duration = Duration::from_secs(5);
/// How long a closing endpoint waits for the peers to have heard of it; a refused dialler, to have closed.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// How ids of connections of large frames begin, until the peer has chosen another.
const LARGE_ID: [u8; 8] = *b"od-large";

/// Whoever decides about incoming connections and takes them.
pub trait Door: Send + Sync + 'static {
    /// Whether the peer may come in, its certificate being good; a refusal's text travels to it.
    ///
    /// # Errors
    /// The reason: what, why, what to do.
    fn admits(&self, peer: &Peer, kind: Kind) -> Result<(), String>;

    /// A peer goes by a later recovery of the directory than this agent: whoever can follow it raises
    /// [`Settings::recovery`] before this returns, and the connection is taken; else it is refused. Must not block.
    fn recovered(&self, recovery: u64);

    /// Takes a connection. Must not block.
    fn accepted(&self, connection: Connection);

    /// Whoever decides about joiners; nothing if this agent admits none.
    fn join(&self) -> Option<Arc<dyn Admit>>;
}

/// An agent's end of all its connections. Clones are the same endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    inner: Inner,
}

#[derive(Clone, Debug)]
enum Inner {
    Quic(quinn::Endpoint, Arc<Shared>),
    Simulated(simulated::Port),
}

#[derive(Debug)]
struct Shared {
    identity: Arc<Identity>,
    settings: Settings,
    socket: SocketView,
    accepting: Mutex<Option<JoinHandle<()>>>,
    joins: Semaphore,
}

/// Why a dial failed: what, why, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nobody answers, or the greeting broke off.
    #[error("the agent at {address} cannot be reached: {why}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// What happened.
        why: String,
    },
    /// An agent of another convention answers there.
    #[error("the agent at {address} belongs to convention {has}, this one to convention {wants}")]
    OtherConvention {
        /// Where.
        address: SocketAddr,
        /// The convention met.
        has: ConventionId,
        /// This agent's.
        wants: ConventionId,
    },
    /// Another agent of the convention answers there.
    #[error("the agent at {address} is node {has}, not node {wants}: the address was given to another host")]
    OtherNode {
        /// Where.
        address: SocketAddr,
        /// The node met.
        has: NodeId,
        /// The node dialled.
        wants: NodeId,
    },
    /// No protocol version in common.
    #[error("the agent at {address} speaks another protocol version: run the same Odeon version on both sides")]
    OtherVersion {
        /// Where.
        address: SocketAddr,
    },
    /// One of the two agents goes by what the directory was before it was recovered.
    #[error("{}", other_recovery(*address, *has, *wants))]
    OtherRecovery {
        /// Where.
        address: SocketAddr,
        /// The recovery that the agent met goes by.
        has: u64,
        /// This agent's.
        wants: u64,
    },
    /// The agent there does not let this one in.
    #[error("the agent at {address} refuses: {why}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// Its code, if it speaks Odeon.
        code: Option<Code>,
        /// Its words.
        why: String,
    },
    /// This process cannot even dial.
    #[error("cannot dial {address}: {why}")]
    Local {
        /// Where.
        address: SocketAddr,
        /// What is wrong.
        why: String,
    },
}

fn other_recovery(address: SocketAddr, has: u64, wants: u64) -> String {
    if has > wants {
        return format!(
            "the agent at {address} goes by recovery {has} of the directory, which this one does not know yet"
        );
    }
    format!("the agent at {address} goes by what the directory was before its recovery {wants}")
}

impl Endpoint {
    /// Takes a bound UDP socket. Has to be called within the tokio runtime that is to carry the traffic.
    ///
    /// # Errors
    /// The socket or the certificate does not work; the socket is closed.
    pub fn on(socket: UdpSocket, identity: Arc<Identity>, settings: Settings) -> Result<Self, EndpointError> {
        let [control, data, large] = Kind::PROTOCOLS;
        let protocols = [control, data, large, join::PROTOCOL];
        let crypto = tls::server(&identity, &protocols)?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        server.transport_config(settings.transport_of_strangers()).max_incoming(4 * HANDSHAKES_MAX);
        let (endpoint, socket) = endpoint_on(socket, &settings, Some(server))?;
        let (accepting, joins) = (Mutex::default(), Semaphore::new(JOINS_MAX));
        let shared = Shared { identity, settings, socket, accepting, joins };
        Ok(Self { inner: Inner::Quic(endpoint, Arc::new(shared)) })
    }

    /// A port of a simulation.
    #[must_use]
    pub const fn simulated(port: simulated::Port) -> Self {
        Self { inner: Inner::Simulated(port) }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        match &self.inner {
            Inner::Quic(endpoint, _) => endpoint.local_addr(),
            Inner::Simulated(port) => Ok(port.address()),
        }
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        match &self.inner {
            Inner::Quic(_, shared) => &shared.identity,
            Inner::Simulated(port) => port.identity(),
        }
    }

    /// What the operating system gave for its socket; nothing in a simulation.
    #[must_use]
    pub fn socket(&self) -> Option<SocketFacts> {
        match &self.inner {
            Inner::Quic(_, shared) => shared.socket.facts(),
            Inner::Simulated(_) => None,
        }
    }

    /// Connections open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        match &self.inner {
            Inner::Quic(endpoint, _) => endpoint.open_connections(),
            Inner::Simulated(port) => port.connections(),
        }
    }

    /// Begins to accept, in a task on the current runtime, until the endpoint is closed.
    pub fn listen(&self, door: Arc<dyn Door>) {
        let (endpoint, shared) = match &self.inner {
            Inner::Quic(endpoint, shared) => (endpoint, shared),
            Inner::Simulated(port) => return port.listen(door),
        };
        let task = tokio::spawn(accept_all(endpoint.clone(), shared.clone(), door));
        if let Some(before) = shared.accepting.lock().replace(task) {
            before.abort();
        }
    }

    /// Dials a node and greets it.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(&self, address: SocketAddr, node: NodeId, kind: Kind) -> Result<Connection, DialError> {
        let (within, outcome) = match &self.inner {
            Inner::Quic(endpoint, shared) => {
                let within = shared.settings.dial_within;
                (within, timeout(within, connect(endpoint, shared, address, node, kind)).await)
            }
            Inner::Simulated(port) => {
                let within = Settings::new(Boot(0)).dial_within;
                (within, timeout(within, port.dial(address, node, kind)).await)
            }
        };
        outcome.unwrap_or_else(|_| Err(unanswered(address, within)))
    }

    /// Tries whether a node is reached at an address by somebody whom it never spoke to: from a port of its own, since
    /// firewalls and NAT let through what seems to be an answer. The handshake is broken off before the greeting, so
    /// that the node's connections stay as they are.
    ///
    /// # Errors
    /// No port could be opened for it; there is none in a simulation.
    pub async fn knock(
        &self,
        address: SocketAddr,
        node: NodeId,
        within: Duration,
    ) -> io::Result<Result<(), DialError>> {
        let Inner::Quic(endpoint, shared) = &self.inner else { return Err(io::ErrorKind::Unsupported.into()) };
        let stranger = quinn::Endpoint::client((endpoint.local_addr()?.ip(), 0).into())?;
        let reached = timeout(within, handshake(&stranger, shared, (address, node), Kind::Control)).await;
        let reached = reached.unwrap_or_else(|_| Err(unanswered(address, within)));
        Ok(reached.map(|connection| connection.close(Code::Done.into(), b"only knocked")))
    }

    /// Closes every connection, stops accepting, and waits until the peers have heard of it, a second at most.
    pub async fn close(&self, text: &str) {
        let (endpoint, shared) = match &self.inner {
            Inner::Quic(endpoint, shared) => (endpoint, shared),
            Inner::Simulated(port) => return port.close(text),
        };
        endpoint.close(Code::Done.into(), text.as_bytes());
        let accepting = shared.accepting.lock().take();
        if let Some(task) = accepting {
            let _ = task.await;
        }
        let _ = timeout(CLOSE_WITHIN, endpoint.wait_idle()).await;
    }
}

fn unanswered(address: SocketAddr, within: Duration) -> DialError {
    DialError::Unreachable { address, why: format!("no answer within {within:?}") }
}

async fn connect(
    endpoint: &quinn::Endpoint,
    shared: &Shared,
    address: SocketAddr,
    node: NodeId,
    kind: Kind,
) -> Result<Connection, DialError> {
    let own = shared.settings.greeting();
    let connection = handshake(endpoint, shared, (address, node), kind).await?;
    let greeting = match greeting::greet(&connection, &own).await {
        Ok(greeting) => greeting,
        // A refusal closes the connection; the stream's error alone does not say why.
        Err(error) => {
            return Err(match timeout(Duration::from_millis(200), connection.closed()).await {
                Ok(closed) => dial_error(address, closed),
                Err(_) => DialError::Unreachable { address, why: error.to_string() },
            });
        }
    };
    if greeting.protocol != PROTOCOL_VERSION {
        connection.close(Code::Version.into(), b"another protocol version");
        return Err(DialError::OtherVersion { address });
    }
    if greeting.recovery != own.recovery {
        let error = DialError::OtherRecovery { address, has: greeting.recovery, wants: own.recovery };
        connection.close(Code::OtherRecovery.into(), b"another recovery of the directory");
        return Err(error);
    }
    let certificate = certificate(&connection).map_err(|why| DialError::Unreachable { address, why })?;
    Ok(Connection::new(connection, peer(certificate, &greeting, address), kind, true))
}

/// A connection whose other end is the node, as its certificate says. It has not greeted yet.
async fn handshake(
    endpoint: &quinn::Endpoint,
    shared: &Shared,
    (address, node): (SocketAddr, NodeId),
    kind: Kind,
) -> Result<quinn::Connection, DialError> {
    let local = |why: &dyn std::fmt::Display| DialError::Local { address, why: why.to_string() };
    let Shared { identity, settings, .. } = shared;
    let judge = Judge::of_dial(identity.clone(), node);
    let crypto = tls::client(identity, judge.clone(), kind.protocol()).map_err(|error| local(&error))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(settings.transport());
    if kind == Kind::Large {
        config.initial_dst_cid_provider(Arc::new(large_id));
    }
    let name = tls::dns_name(identity.convention(), node);
    let connecting = endpoint.connect_with(config, address, &name).map_err(|error| local(&error))?;
    connecting.await.map_err(|error| match judge.found() {
        Some(TlsError::OtherConvention { has, wants }) => DialError::OtherConvention { address, has, wants },
        Some(TlsError::OtherKey { has, wants }) => DialError::OtherNode { address, has, wants },
        _ => dial_error(address, error),
    })
}

fn dial_error(address: SocketAddr, error: quinn::ConnectionError) -> DialError {
    if no_common_protocol(&error) {
        return DialError::OtherVersion { address };
    }
    match Closed::from(error) {
        Closed { code: Some(Code::Version), by_peer: true, .. } => DialError::OtherVersion { address },
        Closed { code, by_peer: true, text } => DialError::Refused { address, code, why: text },
        Closed { text, .. } => DialError::Unreachable { address, why: text },
    }
}

/// The id with which a connection of large frames begins; the other end has it carried where those are. Whoever else
/// begins so gains nothing: its kind is what its handshake says.
fn large_id() -> ConnectionId {
    let mut id = [0; LARGE_ID.len() + 8];
    let (mark, random) = id.split_at_mut(LARGE_ID.len());
    mark.copy_from_slice(&LARGE_ID);
    random.copy_from_slice(&rand::random::<[u8; 8]>());
    ConnectionId::new(&id)
}

fn is_large_id(id: &[u8]) -> bool {
    id.len() == LARGE_ID.len() + 8 && id.starts_with(&LARGE_ID)
}

/// Accepts until the endpoint closes. Handshakes run beside each other, so that a slow peer delays nobody.
async fn accept_all(endpoint: quinn::Endpoint, shared: Arc<Shared>, door: Arc<dyn Door>) {
    let permits = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Some(incoming) = endpoint.accept().await {
        let busy = permits.available_permits() < HANDSHAKES_MAX / 2;
        if busy && !incoming.remote_address_validated() && incoming.may_retry() {
            // Under load a sender first has to show that its address is its own.
            let _ = incoming.retry();
            continue;
        }
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        // What carries a connection is settled with its first packet, before its kind is known for sure.
        let large = shared.settings.large.as_ref().filter(|_| is_large_id(&incoming.orig_dst_cid()));
        let runtime = large.cloned().unwrap_or_else(runtime::Handle::current);
        let (shared, door) = (shared.clone(), door.clone());
        runtime.spawn(async move {
            let from = incoming.remote_address();
            if let Err(why) = accept_one(&shared, incoming, &*door).await {
                tracing::debug!(%from, why, "an incoming connection was refused");
            }
            drop(permit);
        });
    }
}

async fn accept_one(endpoint: &Shared, incoming: quinn::Incoming, door: &dyn Door) -> Result<(), String> {
    let late = |_| "the handshake took too long".to_owned();
    let connecting = incoming.accept().map_err(|error| error.to_string())?;
    let connection = timeout(ACCEPT_WITHIN, connecting).await.map_err(late)?.map_err(|error| error.to_string())?;
    let Some(kind) = kind(&connection) else {
        let Ok(_permit) = endpoint.joins.try_acquire() else {
            connection.close(Code::Refused.into(), b"too many hosts join at the same time: try again");
            return Err("too many hosts join at the same time".into());
        };
        join::answer(&connection, door.join()).await;
        return Ok(());
    };
    let certificate = member(&connection)?;
    match timeout(ACCEPT_WITHIN, greet_back(endpoint, &connection, certificate, kind, door)).await {
        Ok(Ok(peer)) => {
            door.accepted(Connection::new(connection, peer, kind, false));
            Ok(())
        }
        Ok(Err((code, why))) => {
            connection.close(code.into(), why.as_bytes());
            Err(why)
        }
        Err(_) => {
            connection.close(Code::Garbage.into(), b"no greeting in time");
            Err("no greeting in time".into())
        }
    }
}

/// The kind of a connection by its protocol; nothing for the join protocol.
fn kind(connection: &quinn::Connection) -> Option<Kind> {
    let data = connection.handshake_data()?.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?;
    Kind::of_protocol(data.protocol.as_deref()?)
}

/// The one gate between "has shown no certificate" and everything but joining: such a connection is closed here.
///
/// TLS lets a peer without certificate in, because joiners have none yet.
fn member(connection: &quinn::Connection) -> Result<PeerCertificate, String> {
    certificate(connection).inspect_err(|why| connection.close(Code::NoCertificate.into(), why.as_bytes()))
}

fn certificate(connection: &quinn::Connection) -> Result<PeerCertificate, String> {
    let chain = connection.peer_identity().and_then(|identity| identity.downcast::<Vec<CertificateDer<'_>>>().ok());
    let leaf = chain.as_ref().and_then(|chain| chain.first());
    let leaf = leaf.ok_or("a member's certificate is needed: join the convention first")?;
    PeerCertificate::read(leaf).map_err(|error| error.to_string())
}

fn peer(certificate: PeerCertificate, greeting: &Greeting, address: SocketAddr) -> Peer {
    let PeerCertificate { node, convention, not_after, .. } = certificate;
    Peer { node, convention, boot: greeting.boot, address, recovery: greeting.recovery, not_after }
}

async fn greet_back(
    endpoint: &Shared,
    connection: &quinn::Connection,
    certificate: PeerCertificate,
    kind: Kind,
    door: &dyn Door,
) -> Result<Peer, (Code, String)> {
    let garbage = |error: io::Error| (Code::Garbage, format!("the greeting failed: {error}"));
    // The verifier has seen to this already; it stands here so that no change there can open this door.
    let wants = endpoint.identity.convention();
    if certificate.convention != wants {
        let has = certificate.convention;
        return Err((Code::OtherConvention, TlsError::OtherConvention { has, wants }.to_string()));
    }
    let (greeting, send) = greeting::await_greeting(connection).await.map_err(garbage)?;
    if greeting.protocol != PROTOCOL_VERSION {
        let has = greeting.protocol;
        return Err((Code::Version, format!("protocol version {has} met version {PROTOCOL_VERSION}")));
    }
    let peer = peer(certificate, &greeting, connection.remote_address());
    // Nobody who was put out has this agent follow.
    if greeting.recovery > endpoint.settings.greeting().recovery && door.admits(&peer, kind).is_ok() {
        door.recovered(greeting.recovery);
    }
    let own = endpoint.settings.greeting();
    if greeting.recovery != own.recovery {
        // The dialler learns by the welcome which one this agent goes by, and closes.
        greeting::welcome(send, &own).await.map_err(garbage)?;
        let _ = timeout(CLOSE_WITHIN, connection.closed()).await;
        let why = format!("recovery {} of the directory met recovery {}", greeting.recovery, own.recovery);
        return Err((Code::OtherRecovery, why));
    }
    door.admits(&peer, kind).map_err(|why| (Code::Refused, why))?;
    connection.set_receive_window(RECEIVE_WINDOW);
    greeting::welcome(send, &own).await.map_err(garbage)?;
    Ok(peer)
}
