//! The agent's half: reads one request, asks whoever admits, answers.

use super::{EXPORTER_LABEL, JoinAnswer, JoinRequest, Proof, Refused, StoredSecret, wire::read_request};
use crate::{BoxFuture, join::Grant, tls::PublicKey};
use odeon_protocol::{
    control::encode,
    directory::{Joiner, TokenId},
    level::JoinDetails,
    limits::JOIN_REQUEST_BYTES_MAX,
};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// From a joiner's connection to its answer having arrived.
const JOIN_WAIT: Duration = Duration::from_secs(15);

/// Whoever decides about joiners.
pub trait Admit: Send + Sync + 'static {
    /// Checks the proof and admits the joiner, or says why not. Idempotent by the joiner's key.
    fn join(&self, attempt: Attempt) -> BoxFuture<'static, Result<Grant, Refused>>;
}

/// A request to join as it arrived; serialisable, so that an agent without the tokens can hand it to one that has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What is asked.
    pub request: JoinRequest,
    /// The exporter of the connection on which it came.
    pub binding: [u8; 32],
    /// Where it came from.
    pub from: SocketAddr,
}

impl Attempt {
    /// Who wants to join: its public key, and what the directory is to know of it.
    ///
    /// # Errors
    /// The certificate request is malformed or not signed by its own key.
    pub fn joiner(&self) -> Result<(PublicKey, Joiner), Refused> {
        let request = &self.request;
        let key = PublicKey::from_request(&request.request).map_err(|error| Refused::Malformed(error.to_string()))?;
        let joiner = Joiner {
            node: key.node(),
            key_hash: key.hash(),
            name: request.name.clone(),
            address: request.address.clone(),
            boot: request.boot,
            role: request.role,
            witness: request.witness,
            level: JoinDetails::read(&request.details).level,
        };
        Ok((key, joiner))
    }

    /// The token that it proves; nothing if it proves a known key.
    #[must_use]
    pub fn token(&self) -> Option<TokenId> {
        match self.request.proof {
            Proof::Token { id, .. } => Some(id),
            Proof::Key { .. } => None,
        }
    }

    /// Whether the joiner has the secret of the token stored as `stored`.
    ///
    /// # Errors
    /// [`Refused::NotProven`].
    pub fn check_token(&self, stored: &StoredSecret) -> Result<(), Refused> {
        // Comparing two blake3 hashes takes the same time whatever they are.
        match &self.request.proof {
            Proof::Token { tag, .. } if stored.tag(&self.request.said(&self.binding)) == *tag => Ok(()),
            _ => Err(Refused::NotProven),
        }
    }

    /// Whether the joiner has the key that it asks a certificate for; the key is then to be compared with the member's.
    ///
    /// # Errors
    /// [`Refused::NotProven`], or as [`Self::joiner`].
    pub fn check_key(&self) -> Result<PublicKey, Refused> {
        let (key, _) = self.joiner()?;
        match &self.request.proof {
            Proof::Key { signature } if key.verify(&self.request.said(&self.binding), signature) => Ok(key),
            _ => Err(Refused::NotProven),
        }
    }
}

/// Answers one joiner and waits until it has the answer.
pub(crate) async fn answer(connection: &quinn::Connection, admit: Option<Arc<dyn Admit>>) {
    match tokio::time::timeout(JOIN_WAIT, converse(connection, admit)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(from = %connection.remote_address(), %error, "a joiner broke off"),
        Err(_) => tracing::debug!(from = %connection.remote_address(), "a joiner took too long"),
    }
}

async fn converse(connection: &quinn::Connection, admit: Option<Arc<dyn Admit>>) -> Result<(), crate::BoxError> {
    let (mut send, mut receive) = connection.accept_bi().await?;
    let bytes = receive.read_to_end(JOIN_REQUEST_BYTES_MAX).await?;
    let answer = match decide(connection, &bytes, admit).await {
        Ok(grant) => JoinAnswer::Granted(grant),
        Err(refused) => JoinAnswer::Refused(refused),
    };
    send.write_all(&encode(&answer)).await?;
    send.finish()?;
    // Not before the joiner has it all: closing discards what is under way.
    send.stopped().await?;
    Ok(())
}

async fn decide(connection: &quinn::Connection, bytes: &[u8], admit: Option<Arc<dyn Admit>>) -> Result<Grant, Refused> {
    let request = read_request(bytes)?;
    let binding = binding(connection).ok_or_else(|| Refused::Other("the TLS session has no exporter".into()))?;
    let admit = admit.ok_or_else(|| Refused::Other("this agent admits nobody: ask another".into()))?;
    let from = connection.remote_address();
    let (id, name, role) = (request.proof.clone(), request.name.clone(), request.role);
    let outcome = admit.join(Attempt { request, binding, from }).await;
    let by = match id {
        Proof::Token { id, .. } => format!("token {id}"),
        Proof::Key { .. } => "its key".to_owned(),
    };
    match &outcome {
        Ok(_) => tracing::info!(%name, %role, %from, %by, "a host joined"),
        Err(why) => tracing::warn!(%name, %role, %from, %by, %why, "a host was not let in"),
    }
    outcome
}

/// What ties a proof to this one TLS session.
pub(super) fn binding(connection: &quinn::Connection) -> Option<[u8; 32]> {
    let mut binding = [0; 32];
    connection.export_keying_material(&mut binding, EXPORTER_LABEL, b"").ok()?;
    Some(binding)
}
