//! How an agent comes into its convention: it forms one, joins one, or goes on with the one that it belongs to.

use super::{
    admission::Admission,
    clock::{random, wall},
    confirm::Confirmations,
    copies::Copies,
    door::Entrance,
    error::StartError,
    gossip::Seen,
    handle::Handle,
    joining,
    leader::Leading,
    lease::Lease,
    peers::Peers,
    proposals::{Proposal, Proposals},
    raft,
    server::Server,
    shared::Shared,
    store::Medium,
    tasks,
};
use crate::{
    config::Config,
    identity::{Belonging, DataDir},
};
use odeon_protocol::{ConventionId, NodeId, limits::DIAL_BACKS_MAX};
use odeon_transport::{
    join::JoinToken,
    quic::{DialError, Endpoint, Kind, Settings},
    tls::{Authority, Certificate, Identity, NodeKey},
};
use parking_lot::Mutex;
use std::{
    io,
    net::UdpSocket,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::lookup_host,
    runtime,
    sync::{Notify, Semaphore, mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// For a first look at each way in.
const WAY_IN: Duration = Duration::from_millis(1500);

/// Comes into the convention as `config` says and starts its part of the agent.
///
/// Data connections run on the calling runtime, those of large frames on `large`, everything else on a thread of its own.
/// Returns as soon as requests can be made; [`Handle::ready`] says when this agent has its place.
///
/// # Errors
/// See [`StartError`].
pub async fn start(config: &Config, large: runtime::Handle) -> Result<Handle, StartError> {
    let data = open_data(config)?;
    let (config, socket) = open_port(config.clone())?;
    let config = &config;
    let key = NodeKey::from_pem(&data.key()).map_err(|error| other(&error))?;
    let known = data.belonging().is_some();
    let belonging = match data.belonging() {
        Some(belonging) if config.bootstrap && !belonging.formed => {
            return Err(StartError::NotFounder(belonging.convention));
        }
        Some(belonging) if belonging.superseded => return Err(StartError::Superseded(config.data.clone())),
        Some(belonging) => belonging,
        None if config.bootstrap => {
            no_convention_yet(config)?;
            form(&data, &key)?
        }
        None if config.join.is_empty() => return Err(StartError::NoConvention(config.name.clone())),
        None => joining::enter(config, &data, &key, &joins_as(config)).await?,
    };
    let identity = identity(key, &belonging)?;
    let recovery = Arc::new(AtomicU64::new(belonging.recovery));
    let settings = Settings { large: Some(large.clone()), recovery: recovery.clone(), ..Settings::new(data.boot()) };
    let endpoint = Endpoint::on(socket, identity, settings).map_err(|error| other(&error))?;
    if known {
        check_ways_in(config, &endpoint).await?;
    }
    let runtimes = [runtime::Handle::current(), large];
    let medium = Medium::File(data.directory_file());
    spawn(Start { config: config.clone(), data, belonging, endpoint, recovery, medium, runtimes }).await
}

/// Who this agent is in its convention.
pub(super) fn identity(key: NodeKey, belonging: &Belonging) -> Result<Arc<Identity>, StartError> {
    let certificate = Certificate::from(belonging.certificate.clone());
    let roots = belonging.roots.iter().cloned().map(Certificate::from).collect();
    Identity::new(key, certificate, roots).map_err(|error| other(&error))
}

pub(super) fn other(error: &dyn std::fmt::Display) -> StartError {
    StartError::Other(error.to_string())
}

/// Refuses a way in that leads to another convention. One that leads nowhere now is tried again later.
async fn check_ways_in(config: &Config, endpoint: &Endpoint) -> Result<(), StartError> {
    for way_in in &config.join {
        let looked = timeout(WAY_IN, async {
            let address = lookup_host(way_in).await.ok()?.next()?;
            // Whoever answers shows its certificate first, whichever node was meant.
            endpoint.dial(address, NodeId(0), Kind::Control).await.err()
        });
        if let Ok(Some(DialError::OtherConvention { has, wants, .. })) = looked.await {
            return Err(StartError::OtherConvention { address: way_in.clone(), has, wants });
        }
    }
    Ok(())
}

/// The address to be known by while joining.
fn joins_as(config: &Config) -> String {
    config.advertise.clone().unwrap_or_else(|| config.listen.address.to_string())
}

/// Opens the UDP port before anything else, and keeps it while the host joins: a host whose port is taken must not become
/// a member. A default port that is taken moves to a free one.
fn open_port(mut config: Config) -> Result<(Config, UdpSocket), StartError> {
    let address = config.listen.address;
    let failed = |address, error: io::Error| StartError::Listen { address, why: error.to_string() };
    let socket = match (UdpSocket::bind(address), config.listen.fallback()) {
        (Ok(socket), _) => socket,
        (Err(error), None) => return Err(failed(address, error)),
        (Err(error), Some(other)) => {
            tracing::info!(taken = %address, %error, "the default port is taken, another one is used");
            UdpSocket::bind(other).map_err(|error| failed(other, error))?
        }
    };
    config.listen.address = socket.local_addr().map_err(|error| failed(address, error))?;
    Ok((config, socket))
}

fn open_data(config: &Config) -> Result<DataDir, StartError> {
    let new_key = || NodeKey::create().map(|key| key.to_pem()).map_err(|error| error.to_string());
    Ok(DataDir::open(&config.data, &config.name, new_key)?)
}

/// Refuses to form a convention where tokens of one are kept: whoever lost the data directory of the host that formed it
/// must not split it.
fn no_convention_yet(config: &Config) -> Result<(), StartError> {
    for (_, file) in &config.token_out {
        match kept_in(file) {
            Ok(text) if text.trim().parse::<JoinToken>().is_ok() => {
                return Err(StartError::TokenOfAnother { file: file.clone(), data: config.data.clone() });
            }
            Ok(text) if text.trim().is_empty() => {}
            Ok(_) => return Err(StartError::NoTokenFile { file: file.clone(), why: "it holds something else".into() }),
            Err(error) => return Err(StartError::NoTokenFile { file: file.clone(), why: error.to_string() }),
        }
    }
    Ok(())
}

/// What a file holds; nothing if there is none, or it is no regular file.
fn kept_in(file: &Path) -> io::Result<String> {
    match std::fs::metadata(file) {
        Ok(about) if about.is_file() => std::fs::read_to_string(file),
        Ok(_) => Ok(String::new()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// Mints a convention. Its directory is founded once the Raft group runs.
pub(super) fn form(data: &DataDir, key: &NodeKey) -> Result<Belonging, StartError> {
    let other = |error: &dyn std::fmt::Display| StartError::Other(error.to_string());
    let convention = ConventionId(random().max(1));
    let now = wall();
    let authority = Authority::create(convention, now).map_err(|error| other(&error))?;
    let certificate = authority.issue(key.public(), now).map_err(|error| other(&error))?;
    let belonging = Belonging {
        convention,
        voter: true,
        roots: vec![authority.certificate().to_vec()],
        certificate: certificate.to_vec(),
        authority: Some(authority.to_pem()),
        formed: true,
        peers: Vec::new(),
        raft: false,
        recovery: 0,
        superseded: false,
    };
    data.update(|kept| *kept = Some(belonging.clone()))?;
    tracing::info!(%convention, "a new convention is formed");
    Ok(belonging)
}

/// What the convention's thread starts with.
pub(super) struct Start {
    pub(super) config: Config,
    pub(super) data: DataDir,
    pub(super) belonging: Belonging,
    pub(super) endpoint: Endpoint,
    /// What the endpoint says that this agent goes by.
    pub(super) recovery: Arc<AtomicU64>,
    /// Where the directory is kept.
    pub(super) medium: Medium,
    /// The router's, and that of large frames.
    pub(super) runtimes: [runtime::Handle; 2],
}

async fn spawn(start: Start) -> Result<Handle, StartError> {
    let (report, started) = oneshot::channel();
    std::thread::Builder::new()
        .name("odeon-convention".into())
        .spawn(move || live(start, report))
        .map_err(|error| other(&error))?;
    started.await.map_err(|_| StartError::Other("the convention's thread ended".into()))?
}

/// The convention's thread.
fn live(start: Start, report: oneshot::Sender<Result<Handle, StartError>>) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(report.send(Err(other(&error)))),
    };
    let guard = runtime.block_on(async {
        let config = start.config.clone();
        match build(start).await {
            Ok((shared, proposals)) => {
                let guard = shared.stopped.clone().drop_guard();
                drop(report.send(Ok(Handle { shared: shared.clone() })));
                tasks::run(shared, config, proposals).await;
                Some(guard)
            }
            Err(error) => {
                drop(report.send(Err(error)));
                None
            }
        }
    });
    // What still holds the storage ends with the runtime's tasks.
    drop(runtime);
    drop(guard);
}

pub(super) async fn build(start: Start) -> Result<(Arc<Shared>, mpsc::Receiver<Proposal>), StartError> {
    let Start { config, data, belonging, endpoint, recovery, medium, runtimes } = start;
    let router = runtimes[0].clone();
    let (identity, boot) = (endpoint.identity().clone(), data.boot());
    let me = identity.node();
    let listens_on = endpoint.local_address().map_err(|error| other(&error))?;
    let peers = Peers::new(endpoint.clone(), boot, listens_on, runtimes, recovery.clone());
    let version = Arc::new(watch::Sender::new(0));
    let group = match belonging.voter {
        true => {
            let started = raft::start(me, &medium, peers.clone(), version.clone()).await;
            let group = started.map_err(|error| other(&error))?;
            recovery.fetch_max(group.log.recovery(), Ordering::AcqRel);
            Some(group)
        }
        false => None,
    };
    let (proposals, queue) = Proposals::new();
    let shared = Arc::new(Shared {
        me,
        boot,
        convention: belonging.convention,
        copies: Arc::new(Copies::new(group.as_ref().map(|group| group.machine.clone()), version)),
        confirmations: group.as_ref().map(Confirmations::start),
        group,
        leader_hint: AtomicU64::new(0),
        heard: Mutex::default(),
        fed: Mutex::default(),
        data,
        identity,
        advertise: config.advertise,
        witness: config.witness,
        feature_level: config.feature_level,
        proposals,
        peers: peers.clone(),
        seen: Seen::new(me, boot),
        leading: Leading::default(),
        lease: watch::Sender::new(Lease::default()),
        over: watch::Sender::new(None),
        ready: watch::Sender::new(false),
        seek: Notify::new(),
        rested: Notify::new(),
        stop: CancellationToken::new(),
        stopped: CancellationToken::new(),
        requests: AtomicU64::new(1),
        dial_backs: Arc::new(Semaphore::new(DIAL_BACKS_MAX)),
    });
    let server = Arc::new(Server { shared: Arc::downgrade(&shared), pieces: Mutex::default() });
    peers.live_in(server.clone());
    let admission = Arc::new(Admission { shared: Arc::downgrade(&shared), runtime: runtime::Handle::current() });
    let door = Arc::new(Entrance { peers: Arc::downgrade(&peers), server, admission });
    let _router = router.enter();
    endpoint.listen(door);
    Ok((shared, queue))
}
