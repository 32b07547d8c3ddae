//! Join tokens: minted by the agent that was asked for one; the directory gets only what follows from the secret.

use super::{clock::unix_now, error::ProposeError, shared::Shared};
use odeon_cluster::directory::{Command, Denied, Role, Secret, Token};
use odeon_transport::{
    join::JoinToken,
    tls::{Certificate, Pin},
};
use std::time::Duration;

pub(crate) async fn create(
    shared: &Shared,
    role: Role,
    life: Duration,
    uses: Option<u32>,
) -> Result<String, ProposeError> {
    // The denied texts are for people, and so is this one.
    let failed = |why: String| ProposeError::Denied(Denied::BadName(why));
    let root: Certificate = shared.identity.roots().into_iter().next().ok_or(ProposeError::Stopping)?;
    let minted = JoinToken::create(role, Pin::of(&root)).map_err(|error| failed(error.to_string()))?;
    let now = unix_now();
    let token = Token { id: minted.id, role, admin: false, expires: now.saturating_add(life.as_secs().max(1)), uses };
    let secret = Secret(minted.stored().0.to_vec());
    shared.proposals.propose(Command::CreateToken { token, secret, now }).await?;
    Ok(minted.to_string())
}
