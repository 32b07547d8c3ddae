//! The convention's part of an agent in a simulation: no thread, no port, no file but the data directory's record.

use super::{
    admission,
    handle::Handle,
    start::{Start, build, form, identity, other},
    store::{Disk, Medium},
    tasks,
};
use crate::{
    config::Config,
    convention::StartError,
    identity::{Belonging, DataDir, Peer},
};
use odeon_cluster::directory::{Answer, Command, Directory, Joiner, Role, Secret, Token, TokenId};
use odeon_transport::{
    quic::{
        Endpoint,
        simulated::{Network, Port},
    },
    tls::{NodeKey, PublicKey},
};
use std::sync::Arc;
use tokio::runtime;

/// The token that everybody joins with.
const TOKEN: TokenId = TokenId(1);

/// What a simulated agent has in place of a machine.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// What its packets pass through, at the address that it listens on.
    pub network: Network,
    /// Where the directory is kept.
    pub disk: Disk,
    /// Its key, PEM, when its data directory is new.
    pub key: String,
}

/// As [`super::start()`], in a simulation: everything runs on the current runtime. Whoever joins is admitted, and its data
/// directory prepared, before.
///
/// # Errors
/// See [`StartError`].
pub async fn start_simulated(config: &Config, simulated: Simulated) -> Result<Handle, StartError> {
    let Simulated { network, disk, key } = simulated;
    let data = DataDir::open(&config.data, &config.name, || Ok(key))?;
    let key = NodeKey::from_pem(&data.key()).map_err(|error| other(&error))?;
    let belonging = match data.belonging() {
        Some(belonging) => belonging,
        None if config.bootstrap => form(&data, &key)?,
        None => return Err(StartError::NoConvention(config.name.clone())),
    };
    let identity = identity(key, &belonging)?;
    let port = Port::open(&network, config.listen.address, identity, data.boot());
    let (endpoint, medium) = (Endpoint::simulated(port), Medium::Simulated(disk));
    let runtimes = [runtime::Handle::current(), runtime::Handle::current()];
    let (shared, proposals) =
        build(Start { config: config.clone(), data, belonging, endpoint, recovery: Arc::default(), medium, runtimes })
            .await?;
    let (handle, guard) = (Handle { shared: shared.clone() }, shared.stopped.clone().drop_guard());
    let config = config.clone();
    tokio::spawn(async move {
        tasks::run(shared, config, proposals).await;
        drop(guard);
    });
    Ok(handle)
}

impl Handle {
    /// Reads the directory as this agent's log has it, whatever its readers are shown; its copy where it has no log.
    pub fn logged<T>(&self, read: impl FnOnce(&Directory) -> T) -> T {
        match &self.shared.group {
            Some(group) => read(&group.machine.read().directory),
            None => self.directory(read),
        }
    }

    /// Lets go of what its process holds, as the kernel does when that ends without a word: the lock on the data directory,
    /// and the rest of the agent, which holds this part in turn.
    pub fn abandon(&self) {
        self.shared.data.close();
        self.shared.peers.forget_service();
    }
}

/// Admits a host as joining does, except that nobody proves anything: what its data directory has to hold.
///
/// # Errors
/// In words.
pub async fn admit_simulated(handle: &Handle, key: &PublicKey, joiner: Joiner) -> Result<Belonging, String> {
    let token = Token { id: TOKEN, role: Role::Voter, admin: false, expires: u64::MAX, uses: None };
    if handle.directory(|directory| directory.token(TOKEN).is_none()) {
        let create = Command::CreateToken { token, secret: Secret(vec![1]), now: 0 };
        handle.propose(create).await.map_err(|error| error.to_string())?;
    }
    match handle.propose(Command::Admit { token: TOKEN, joiner, now: 0 }).await {
        Ok(Answer::Admitted(_)) => {}
        outcome => return Err(format!("{outcome:?}")),
    }
    let shared = &handle.shared;
    let group = shared.group.as_ref().ok_or("only a voter admits")?;
    let grant = admission::grant(shared, &group.machine.read().directory, key).map_err(|error| error.to_string())?;
    let peer = |host: odeon_transport::join::JoinHost| Peer { node: host.node, address: host.address };
    Ok(Belonging {
        convention: grant.convention,
        voter: true,
        roots: grant.roots,
        certificate: grant.leaf,
        authority: None,
        formed: false,
        peers: grant.hosts.into_iter().map(peer).collect(),
        raft: false,
        recovery: 0,
        superseded: false,
    })
}
