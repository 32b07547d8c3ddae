//! The joiner's half.

use super::{JoinAnswer, JoinHost, JoinRequest, JoinToken, PROTOCOL, Proof, Refused, server::binding};
use crate::{
    quic::{Closed, Settings, endpoint_on, no_common_protocol},
    tls::{self, Certificate, Identity, NodeKey, Pin, PinJudge, TlsError},
};
use odeon_protocol::{
    Boot, ConventionId, PROTOCOL_VERSION,
    control::{decode, encode},
    directory::Role,
    limits::JOIN_ANSWER_BYTES_MAX,
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

/// What a host asks when it joins.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// Why it may.
    pub credentials: Credentials<'a>,
    /// Its key.
    pub key: &'a NodeKey,
    /// Its name.
    pub name: String,
    /// What other agents are to dial.
    pub address: String,
    /// Its agent's start.
    pub boot: Boot,
    /// Votes, hosts no actors.
    pub witness: bool,
    /// Whatever else the two agents agree on.
    pub details: Vec<u8>,
    /// How long the whole may take.
    pub within: Duration,
}

/// Why a host may join.
#[derive(Clone, Debug)]
pub enum Credentials<'a> {
    /// It has a token.
    Token(&'a JoinToken),
    /// It is a member whose certificate ran out.
    Key {
        /// The roots that it trusts.
        pins: Vec<Pin>,
        /// Its part.
        role: Role,
    },
}

impl Credentials<'_> {
    fn pins(&self) -> Vec<Pin> {
        match self {
            Self::Token(token) => vec![token.pin],
            Self::Key { pins, .. } => pins.clone(),
        }
    }

    fn role(&self) -> Role {
        match self {
            Self::Token(token) => token.role,
            Self::Key { role, .. } => *role,
        }
    }
}

/// What a host that joined has.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The convention.
    pub convention: ConventionId,
    /// Its certificate.
    pub leaf: Certificate,
    /// The roots to trust, the newest first.
    pub roots: Vec<Certificate>,
    /// Hosts to talk to.
    pub hosts: Vec<JoinHost>,
    /// Whatever else the two agents agree on.
    pub details: Vec<u8>,
}

impl Joined {
    /// The identity to listen and dial with.
    ///
    /// # Errors
    /// The certificate was issued to another key.
    pub fn identity(&self, key: NodeKey) -> Result<Arc<Identity>, TlsError> {
        Identity::new(key, self.leaf.clone(), self.roots.clone())
    }
}

/// Why a host did not join: what, why, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Nobody answers there.
    #[error("the agent at {address} cannot be reached: {why}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// What happened.
        why: String,
    },
    /// Somebody else answers there.
    #[error("the agent at {address} belongs to another convention than the token (pin {pin}, the agent's is {has})")]
    WrongPin {
        /// Where.
        address: SocketAddr,
        /// What the token or the trusted root says.
        pin: Pin,
        /// What the agent showed.
        has: Pin,
    },
    /// No common version of the join protocol.
    #[error(
        "the agent at {address} speaks another version of the join protocol: run the same Odeon version on both sides"
    )]
    OtherVersion {
        /// Where.
        address: SocketAddr,
    },
    /// The convention said no.
    #[error("the agent at {address} refuses: {refused}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// Why.
        refused: Refused,
    },
    /// The answer makes no sense.
    #[error("the agent at {address} gave an answer that cannot be used: {why}")]
    BadAnswer {
        /// Where.
        address: SocketAddr,
        /// What is wrong with it.
        why: String,
    },
    /// This process could not even ask.
    #[error("cannot ask to join: {0}")]
    Local(String),
}

impl JoinError {
    /// Whether trying again, there or elsewhere, may help.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { refused, .. } => refused.may_pass(),
            _ => false,
        }
    }
}

/// Joins the convention that the agent at `address` belongs to.
///
/// # Errors
/// See [`JoinError`]; nothing has been said to an agent that does not belong to the pinned root.
pub async fn join(address: SocketAddr, ask: Ask<'_>) -> Result<Joined, JoinError> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let settings = Settings::new(ask.boot);
    let opened = UdpSocket::bind((any, 0)).and_then(|socket| endpoint_on(socket, &settings, None));
    let (endpoint, _) = opened.map_err(|error| JoinError::Local(error.to_string()))?;
    let within = ask.within;
    let outcome = tokio::time::timeout(within, converse(&endpoint, &settings, address, ask)).await;
    endpoint.close(0u32.into(), b"done");
    endpoint.wait_idle().await;
    outcome.unwrap_or_else(|_| Err(JoinError::Unreachable { address, why: format!("no answer within {within:?}") }))
}

async fn converse(
    endpoint: &quinn::Endpoint,
    settings: &Settings,
    address: SocketAddr,
    ask: Ask<'_>,
) -> Result<Joined, JoinError> {
    let local = |error: &dyn std::fmt::Display| JoinError::Local(error.to_string());
    let pins = ask.credentials.pins();
    let judge = PinJudge::new(pins.clone());
    let crypto = tls::joiner(judge.clone(), PROTOCOL).map_err(|error| local(&error))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(settings.transport());
    // The verifier looks at the pinned root instead of the name.
    let connecting = endpoint.connect_with(config, address, "join.internal").map_err(|error| local(&error))?;
    let connection = connecting.await.map_err(|error| match (judge.wrong(), pins.first()) {
        (Some(has), Some(&pin)) => JoinError::WrongPin { address, pin, has },
        _ if no_common_protocol(&error) => JoinError::OtherVersion { address },
        _ => JoinError::Unreachable { address, why: Closed::from(error).text },
    })?;
    let root = judge.root().ok_or_else(|| local(&"the agent's root was not checked"))?;
    let binding = binding(&connection).ok_or_else(|| local(&"the TLS session has no exporter"))?;
    let request = request(&ask, &binding).map_err(|error| local(&error))?;
    let bytes = exchange(&connection, &encode(&request))
        .await
        .map_err(|why| JoinError::Unreachable { address, why: why.to_string() })?;
    match decode(&bytes) {
        Ok(JoinAnswer::Granted(grant)) => {
            accept(grant, ask.key, &root).map_err(|why| JoinError::BadAnswer { address, why })
        }
        Ok(JoinAnswer::Refused(refused)) => Err(JoinError::Refused { address, refused }),
        Err(error) => Err(JoinError::BadAnswer { address, why: error.to_string() }),
    }
}

fn request(ask: &Ask<'_>, binding: &[u8; 32]) -> Result<JoinRequest, TlsError> {
    let mut request = JoinRequest {
        protocol: PROTOCOL_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        request: ask.key.request()?,
        name: ask.name.clone(),
        address: ask.address.clone(),
        boot: ask.boot,
        role: ask.credentials.role(),
        witness: ask.witness,
        details: ask.details.clone(),
        proof: Proof::Key { signature: Vec::new() },
    };
    let said = request.said(binding);
    request.proof = match &ask.credentials {
        Credentials::Token(token) => Proof::Token { id: token.id, tag: *token.stored().tag(&said).as_bytes() },
        Credentials::Key { .. } => Proof::Key { signature: ask.key.sign(&said)? },
    };
    Ok(request)
}

async fn exchange(connection: &quinn::Connection, request: &[u8]) -> Result<Vec<u8>, crate::BoxError> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(request).await?;
    send.finish()?;
    Ok(receive.read_to_end(JOIN_ANSWER_BYTES_MAX).await?)
}

/// Believes a grant only as far as it can be checked.
fn accept(grant: super::Grant, key: &NodeKey, root: &Certificate) -> Result<Joined, String> {
    let leaf = Certificate::from(grant.leaf);
    let roots: Vec<Certificate> = grant.roots.into_iter().map(Certificate::from).collect();
    if !roots.contains(root) {
        return Err("its roots are not the one that it proved".into());
    }
    let identity = Identity::new(key.clone(), leaf.clone(), roots.clone()).map_err(|error| error.to_string())?;
    if identity.convention() != grant.convention {
        return Err(format!("it names convention {}, its certificate {}", grant.convention, identity.convention()));
    }
    Ok(Joined { convention: grant.convention, leaf, roots, hosts: grant.hosts, details: grant.details })
}
