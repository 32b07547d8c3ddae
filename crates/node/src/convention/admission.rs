//! Letting hosts in: who may connect, and who may join.
//!
//! Any agent takes a joiner's request; the leader alone checks the proof, has the member logged and signs its key.

use super::{
    clock::{unix_now, wall},
    shared::Shared,
    wire::{Reply, Request},
};
use odeon_cluster::directory::{Answer, Command, Denied, Directory, Joiner, Member, Role, Standing, TokenId};
use odeon_transport::{
    BoxFuture,
    join::{Admit, Attempt, Grant, JoinHost, Refused, StoredSecret},
    tls::{Authority, PublicKey, TlsError},
};
use std::{net::SocketAddr, sync::Weak, time::Duration};

/// For the leader to answer an agent that hands a joiner on.
const ADMIT_WAIT: Duration = Duration::from_secs(8);

/// Takes joiners' requests; see the module's head.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) shared: Weak<Shared>,
    /// The convention's runtime, on which proposals are made.
    pub(crate) runtime: tokio::runtime::Handle,
}

impl Admit for Admission {
    fn join(&self, attempt: Attempt) -> BoxFuture<'static, Result<Grant, Refused>> {
        let stopping = || Refused::Other("the agent is stopping: try another".into());
        let shared = self.shared.clone();
        let admitted = self.runtime.spawn(async move {
            let shared = shared.upgrade().ok_or_else(stopping)?;
            if shared.leads() { admit(&shared, attempt).await } else { hand_on(&shared, attempt).await }
        });
        Box::pin(async move { admitted.await.unwrap_or_else(|_| Err(stopping())) })
    }
}

async fn hand_on(shared: &Shared, attempt: Attempt) -> Result<Grant, Refused> {
    let leader = shared.leader().ok_or(Refused::NoQuorum)?;
    match shared.peers.ask(leader, Request::Join(Box::new(attempt)), ADMIT_WAIT).await {
        Ok(Reply::Joined(outcome)) => *outcome,
        Ok(_) | Err(_) => Err(Refused::NoQuorum),
    }
}

/// Admits a joiner, as the leader.
pub(crate) async fn admit(shared: &Shared, attempt: Attempt) -> Result<Grant, Refused> {
    let group = shared.group.as_ref().filter(|_| shared.leads()).ok_or(Refused::NoQuorum)?;
    let (key, joiner) = attempt.joiner()?;
    let joiner = Joiner { address: seen_address(&joiner.address, attempt.from), ..joiner };
    let (boot, address, level) = (joiner.boot, joiner.address.clone(), joiner.level);
    let command = match attempt.token() {
        Some(token) => {
            check_token(&group.machine.read().directory, token, &attempt)?;
            Command::Admit { token, joiner, now: unix_now() }
        }
        None => {
            check_member(&group.machine.read().directory, &attempt)?;
            Command::BootStarted { node: key.node(), boot, address, level }
        }
    };
    match shared.proposals.propose(command).await {
        Ok(Answer::Admitted(_) | Answer::Booted { .. }) => {}
        Ok(other) => return Err(Refused::Other(format!("an unexpected answer of the directory: {other:?}"))),
        Err(super::ProposeError::Denied(denied)) => return Err(denied.into()),
        Err(_) => return Err(Refused::NoQuorum),
    }
    grant(shared, &group.machine.read().directory, &key)
}

fn check_token(directory: &Directory, token: TokenId, attempt: &Attempt) -> Result<(), Refused> {
    let secret = directory.token_secret(token).ok_or(Denied::TokenUnknown(token))?;
    let stored = secret.0.as_slice().try_into().map_err(|_| Refused::NotProven)?;
    attempt.check_token(&StoredSecret(stored))
}

/// Expiry of a certificate keeps nobody out: the key is what a member is known by.
fn check_member(directory: &Directory, attempt: &Attempt) -> Result<(), Refused> {
    let key = attempt.check_key()?;
    let node = key.node();
    let member =
        directory.member(node).filter(|member| member.key_hash == key.hash()).ok_or(Denied::NotMember(node))?;
    match member.standing {
        Standing::In => Ok(()),
        Standing::Left => Err(Denied::NotMember(node).into()),
        Standing::Evicted => Err(Denied::Evicted { name: member.name.clone(), node }.into()),
    }
}

pub(super) fn grant(shared: &Shared, directory: &Directory, key: &PublicKey) -> Result<Grant, Refused> {
    let failed = |error: TlsError| Refused::Other(error.to_string());
    let leaf = authority(directory)
        .ok_or_else(|| Refused::Other("the leader has no certificate authority yet: try again".into()))?
        .issue(key, wall())
        .map_err(failed)?;
    // Voters first: they know the rest.
    let mut hosts: Vec<&Member> = directory.hosts().filter(|host| !host.dead).collect();
    hosts.sort_by_key(|host| (host.role != Role::Voter, host.node));
    let hosts = hosts.into_iter().take(64);
    Ok(Grant {
        convention: shared.convention,
        leaf: leaf.to_vec(),
        roots: shared.identity.roots().iter().map(|root| root.to_vec()).collect(),
        hosts: hosts
            .map(|host| JoinHost { node: host.node, name: host.name.clone(), address: host.address.clone() })
            .collect(),
        details: Vec::new(),
    })
}

/// The certificate authority, if this agent's copy of the directory has its key.
pub(crate) fn authority(directory: &Directory) -> Option<Authority> {
    let pem = std::str::from_utf8(&directory.ca_key()?.0).ok()?;
    Authority::from_pem(pem).inspect_err(|error| tracing::error!(%error, "the certificate authority")).ok()
}

/// An agent that listens on every interface does not know how others see it; whoever it dialled does.
pub(crate) fn seen_address(says: &str, from: SocketAddr) -> String {
    match says.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => SocketAddr::new(from.ip(), address.port()).to_string(),
        _ => says.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::seen_address;

    #[test]
    fn only_an_unspecified_address_is_filled_in() {
        let from = "10.1.2.3:55555".parse().unwrap();
        assert_eq!(seen_address("0.0.0.0:7400", from), "10.1.2.3:7400");
        assert_eq!(seen_address("[::]:7400", from), "10.1.2.3:7400");
        assert_eq!(seen_address("10.9.9.9:7400", from), "10.9.9.9:7400");
        assert_eq!(seen_address("eu-1.example:7400", from), "eu-1.example:7400");
    }
}
