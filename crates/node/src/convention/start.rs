//! How an agent comes into its convention: it forms one, joins one, or goes on with the one that it belongs to.

use super::{
    confirm::Confirmations,
    copies::Copies,
    error::StartError,
    handle::{Handle, Shared},
    lease::Lease,
    peers::Peers,
    proposals::{Proposal, Proposals},
    raft,
    server::Server,
    tasks,
};
use crate::{
    config::Config,
    identity::{Belonging, DataDir},
};
use odeon_protocol::ConventionId;
use odeon_transport::tls::{Authority, Certificate, Identity, NodeKey};
use parking_lot::Mutex;
use rand::{TryRng as _, rngs::SysRng};
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::SystemTime,
};
use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
};
use tokio_util::sync::CancellationToken;

/// Comes into the convention as `config` says and starts its part of the agent.
///
/// Data connections run on the calling runtime, everything else on a thread of its own. Returns as soon as requests can
/// be made; [`Handle::ready`] says when this agent has its place.
///
/// # Errors
/// See [`StartError`].
pub async fn start(config: &Config) -> Result<Handle, StartError> {
    let data = open_data(config)?;
    let key = NodeKey::from_pem(&data.key()).map_err(|error| StartError::Other(error.to_string()))?;
    let belonging = match data.belonging() {
        Some(belonging) if config.bootstrap && !belonging.formed => {
            return Err(StartError::NotFounder(belonging.convention));
        }
        Some(belonging) => belonging,
        None if config.bootstrap => form(&data, &key)?,
        None => return Err(StartError::NoConvention(config.name.clone())),
    };
    let certificate = Certificate::from(belonging.certificate.clone());
    let roots = belonging.roots.iter().cloned().map(Certificate::from).collect();
    let identity = Identity::new(key, certificate, roots).map_err(|error| StartError::Other(error.to_string()))?;
    spawn(config, data, belonging, identity).await
}

fn open_data(config: &Config) -> Result<DataDir, StartError> {
    let new_key = || NodeKey::create().map(|key| key.to_pem()).map_err(|error| error.to_string());
    Ok(DataDir::open(&config.data, &config.name, new_key)?)
}

/// Mints a convention. Its directory is founded once the Raft group runs.
fn form(data: &DataDir, key: &NodeKey) -> Result<Belonging, StartError> {
    let other = |error: &dyn std::fmt::Display| StartError::Other(error.to_string());
    let mut random = [0; 8];
    SysRng.try_fill_bytes(&mut random).map_err(|error| other(&error))?;
    let convention = ConventionId(u64::from_le_bytes(random).max(1));
    let now = SystemTime::now();
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
    };
    data.update(|kept| *kept = Some(belonging.clone()))?;
    tracing::info!(%convention, "a new convention is formed");
    Ok(belonging)
}

async fn spawn(
    config: &Config,
    data: DataDir,
    belonging: Belonging,
    identity: Arc<Identity>,
) -> Result<Handle, StartError> {
    let (report, started) = oneshot::channel();
    let config = config.clone();
    std::thread::Builder::new()
        .name("odeon-convention".into())
        .spawn(move || {
            let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(report.send(Err(StartError::Other(error.to_string())))),
            };
            let stopped = runtime.block_on(async {
                match build(&config, data, belonging, identity).await {
                    Ok((shared, proposals)) => {
                        let stopped = shared.stopped.clone();
                        drop(report.send(Ok(Handle { shared: shared.clone() })));
                        tasks::run(shared, proposals).await;
                        Some(stopped)
                    }
                    Err(error) => {
                        drop(report.send(Err(error)));
                        None
                    }
                }
            });
            // What still holds the storage and the data directory ends with the runtime's tasks.
            drop(runtime);
            if let Some(stopped) = stopped {
                stopped.cancel();
            }
        })
        .map_err(|error| StartError::Other(error.to_string()))?;
    started.await.map_err(|_| StartError::Other("the convention's thread ended".into()))?
}

async fn build(
    config: &Config,
    data: DataDir,
    belonging: Belonging,
    identity: Arc<Identity>,
) -> Result<(Arc<Shared>, mpsc::Receiver<Proposal>), StartError> {
    let me = identity.node();
    let peers = Arc::new(Peers::new(me, config.listen.address));
    let version = Arc::new(watch::Sender::new(0));
    let group = match belonging.voter {
        true => {
            let started = raft::start(me, &data.directory_file(), peers.clone(), version.clone()).await;
            Some(started.map_err(|error| StartError::Other(error.to_string()))?)
        }
        false => None,
    };
    let (proposals, queue) = Proposals::new();
    let shared = Arc::new(Shared {
        me,
        boot: data.boot(),
        convention: belonging.convention,
        copies: Arc::new(Copies::new(group.as_ref().map(|group| group.machine.clone()), version)),
        confirmations: group.as_ref().map(Confirmations::start),
        group,
        leader_hint: AtomicU64::new(0),
        heard_voters: Mutex::default(),
        data,
        identity,
        proposals,
        peers: peers.clone(),
        lease: watch::Sender::new(Lease::default()),
        over: watch::Sender::new(None),
        ready: watch::Sender::new(false),
        stop: CancellationToken::new(),
        stopped: CancellationToken::new(),
        requests: AtomicU64::new(0),
    });
    peers.answer_by(Arc::new(Server { shared: Arc::downgrade(&shared) }));
    Ok((shared, queue))
}
