//! What runs on the convention's thread from its start to its end.

use super::{
    handle::{Over, Shared},
    proposals::{self, Proposal},
};
use odeon_cluster::directory::{Answer, Command, Convention, Denied, Joiner, Role, Secret};
use odeon_transport::tls::PublicKey;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};

/// Between two attempts to be known by the directory.
const RETRY: Duration = Duration::from_millis(200);

/// Runs everything until the agent stops, then ends it in order.
pub(crate) async fn run(shared: Arc<Shared>, queue: mpsc::Receiver<Proposal>) {
    let mut tasks = JoinSet::new();
    tasks.spawn(proposals::run(shared.clone(), queue));
    tasks.spawn(arrive(shared.clone()));
    shared.stop.cancelled().await;
    tasks.shutdown().await;
    if let Some(group) = &shared.group {
        drop(group.raft.shutdown().await);
    }
}

/// Has this boot known to the directory.
async fn arrive(shared: Arc<Shared>) {
    if let Err(error) = found(&shared).await {
        tracing::error!(%error, "the convention's directory cannot be founded");
        return;
    }
    if let Some(group) = &shared.group {
        let mut metrics = group.raft.metrics();
        let me = shared.me.0;
        let fed = metrics.wait_for(|now| now.membership_config.membership().get_node(&me).is_some());
        if fed.await.is_ok() {
            shared.copies.log_feeds();
        }
    }
    let address = shared.peers.listens_on().to_string();
    loop {
        let command = Command::BootStarted { node: shared.me, boot: shared.boot, address: address.clone() };
        match shared.proposals.propose(command).await {
            Ok(Answer::Booted { generation }) => {
                shared.lease.send_modify(|lease| lease.generation = generation);
                break;
            }
            Ok(answer) => tracing::warn!(?answer, "an unexpected answer to this agent's start"),
            Err(super::ProposeError::Denied(denied)) => {
                tracing::error!(%denied, "the convention does not know this agent");
                let over = match denied {
                    Denied::BootOver { .. } => Over::BootOver,
                    _ => Over::NotMember,
                };
                shared.over.send_replace(Some(over));
                return;
            }
            Err(error) => tracing::warn!(%error, "waiting for the convention's leader"),
        }
        sleep(RETRY).await;
    }
    shared.ready.send_replace(true);
}

/// Makes the first entry of a convention that this agent has just formed.
async fn found(shared: &Shared) -> Result<(), String> {
    let Some((group, belonging)) = shared.group.as_ref().zip(shared.data.belonging()) else { return Ok(()) };
    let Some(authority) = belonging.authority.filter(|_| belonging.formed) else { return Ok(()) };
    if group.log.is_pristine() {
        group.raft.initialize(BTreeSet::from([shared.me.0])).await.map_err(|error| error.to_string())?;
    }
    shared
        .data
        .update(|kept| kept.as_mut().into_iter().for_each(|kept| kept.raft = true))
        .map_err(|e| e.to_string())?;
    let convention =
        Convention { id: shared.convention, ca_cert: belonging.roots.first().cloned().unwrap_or_default() };
    let key: &PublicKey = shared.identity.key().public();
    let founder = Joiner {
        node: shared.me,
        key_hash: key.hash(),
        name: shared.data.host().to_owned(),
        address: shared.peers.listens_on().to_string(),
        boot: shared.boot,
        role: Role::Voter,
        witness: false,
    };
    let ca_key = Secret(authority.into_bytes());
    let command = Command::Found { convention, ca_key, founder };
    loop {
        match proposals::log_here(group, vec![command.clone()]).await {
            Ok(answers) => match answers.into_iter().next() {
                Some(Answer::Admitted(_)) => break,
                other => return Err(format!("{other:?}")),
            },
            // Several voters by now: whoever leads was founded long ago.
            Err(Some(leader)) if leader != shared.me => break,
            Err(_) => sleep(RETRY).await,
        }
    }
    // The directory has the authority's key from now on.
    shared
        .data
        .update(|kept| kept.as_mut().into_iter().for_each(|kept| kept.authority = None))
        .map_err(|error| error.to_string())
}
