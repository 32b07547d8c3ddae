//! What joiner and agent say to each other: postcard, one message each way. Fields and variants are added at the end
//! only; golden vectors hold them in place.

use odeon_protocol::{
    Boot, ConventionId, NodeId, PROTOCOL_VERSION,
    directory::{Denied, Role, TokenId},
};
use serde::{Deserialize, Serialize};

/// What a joiner asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// [`PROTOCOL_VERSION`].
    pub protocol: u8,
    /// The Odeon version, for people.
    pub version: String,
    /// A certificate request in DER; only its public key is used.
    pub request: Vec<u8>,
    /// The host's name.
    pub name: String,
    /// What other agents are to dial.
    pub address: String,
    /// The agent's start.
    pub boot: Boot,
    /// The part that it wants to take.
    pub role: Role,
    /// Votes, hosts no actors.
    pub witness: bool,
    /// Whatever else the two agents agree on: [`JoinDetails`](odeon_protocol::level::JoinDetails).
    pub details: Vec<u8>,
    /// Why it may.
    pub proof: Proof,
}

impl JoinRequest {
    /// What the proof is made over: the connection, and all that is asked for.
    pub(super) fn said(&self, binding: &[u8; 32]) -> Vec<u8> {
        let unproven = (
            (binding, self.protocol, &self.request, &self.name, &self.address),
            (self.boot, self.role, self.witness, &self.details),
        );
        // Serialising these into memory has no failing case.
        postcard::to_stdvec(&unproven).unwrap_or_default()
    }
}

/// Why a joiner may join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Proof {
    /// It has a token.
    Token {
        /// The token's public name.
        id: TokenId,
        /// The keyed hash of what it said.
        tag: [u8; 32],
    },
    /// It is a member already.
    Key {
        /// The node key's signature over what it said.
        signature: Vec<u8>,
    },
}

/// What a joiner is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum JoinAnswer {
    /// It is a member.
    Granted(Grant),
    /// It is not.
    Refused(Refused),
}

/// What a new member gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The convention.
    pub convention: ConventionId,
    /// Its certificate, DER.
    pub leaf: Vec<u8>,
    /// The roots to trust, DER, the newest first.
    pub roots: Vec<Vec<u8>>,
    /// Hosts to talk to.
    pub hosts: Vec<JoinHost>,
    /// Whatever else the two agents agree on.
    pub details: Vec<u8>,
}

/// A host that a new member may talk to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinHost {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// What to dial.
    pub address: String,
}

/// Why a joiner is not let in: what, why, what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The directory said no.
    #[error("{0}")]
    Denied(Denied),
    /// The tag or signature is not over what was said.
    #[error("the proof does not match: the token's secret is another one, or the request was changed on its way")]
    NotProven,
    /// Another version.
    #[error("the agent speaks protocol version {wants}, this one {has}: run the same Odeon version on both sides")]
    Protocol {
        /// The joiner's version.
        has: u8,
        /// The agent's version.
        wants: u8,
    },
    /// The request does not parse, or a part of it is impossible.
    #[error("the join request is malformed: {0}")]
    Malformed(String),
    /// No leader is reached.
    #[error("no majority of the voters is reached: try again once they are")]
    NoQuorum,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Refused {
    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::NoQuorum | Self::Other(_))
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

/// Refuses another protocol version before the rest of a request is read: it may be laid out differently.
pub(super) fn read_request(bytes: &[u8]) -> Result<JoinRequest, Refused> {
    match bytes.first() {
        Some(&has) if has != PROTOCOL_VERSION => return Err(Refused::Protocol { has, wants: PROTOCOL_VERSION }),
        _ => {}
    }
    odeon_protocol::control::decode(bytes).map_err(|error| Refused::Malformed(error.why))
}

/// See [`crate::fuzz`].
pub(crate) fn fuzz_request(bytes: &[u8]) {
    let Ok(request) = read_request(bytes) else { return };
    odeon_protocol::fuzz::again::<JoinRequest>(bytes);
    let from = (std::net::Ipv4Addr::LOCALHOST, 1).into();
    let attempt = super::Attempt { request, binding: [4; 32], from };
    let _ = (attempt.token(), attempt.joiner(), attempt.check_key());
    let stored = super::StoredSecret([7; 32]);
    assert!(attempt.check_token(&stored).is_err(), "nobody guesses a secret");
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::control::{decode, encode};

    fn request() -> JoinRequest {
        JoinRequest {
            protocol: PROTOCOL_VERSION,
            version: "0.1.0".into(),
            request: vec![1, 2, 3],
            name: "eu-1".into(),
            address: "10.0.0.1:7700".into(),
            boot: Boot(5),
            role: Role::Member,
            witness: false,
            details: vec![9],
            proof: Proof::Token { id: TokenId(0xfeed), tag: [7; 32] },
        }
    }

    fn grant() -> Grant {
        let host = JoinHost { node: NodeId(0xabcd), name: "eu-2".into(), address: "10.0.0.2:7700".into() };
        Grant { convention: ConventionId(3), leaf: vec![1], roots: vec![vec![2]], hosts: vec![host], details: vec![] }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn golden_vectors() {
        let by_key = JoinRequest { proof: Proof::Key { signature: vec![8] }, ..request() };
        let lines = [
            hex(&encode(&request())),
            hex(&encode(&by_key)),
            hex(&encode(&JoinAnswer::Granted(grant()))),
            hex(&encode(&JoinAnswer::Refused(Refused::NotProven))),
            hex(&encode(&JoinAnswer::Refused(Refused::Protocol { has: 2, wants: 1 }))),
            hex(&request().said(&[4; 32])),
        ];
        assert_eq!(lines.join("\n"), include_str!("../../golden/join.hex").trim());
        assert_eq!(read_request(&encode(&by_key)).unwrap(), by_key);
        let answer = JoinAnswer::Granted(grant());
        assert_eq!(decode::<JoinAnswer>(&encode(&answer)).unwrap(), answer);
    }

    #[test]
    fn another_version_is_said_whatever_follows() {
        assert_eq!(read_request(&[9, 255, 255]), Err(Refused::Protocol { has: 9, wants: PROTOCOL_VERSION }));
        assert!(matches!(read_request(&[PROTOCOL_VERSION, 255]), Err(Refused::Malformed(_))));
        assert!(matches!(read_request(&[]), Err(Refused::Malformed(_))));
    }

    #[test]
    fn every_part_that_is_asked_for_is_proven() {
        let said = request().said(&[4; 32]);
        assert_ne!(said, request().said(&[5; 32]));
        let changed = [
            JoinRequest { request: vec![1, 2], ..request() },
            JoinRequest { name: "eu-2".into(), ..request() },
            JoinRequest { address: "10.0.0.9:7700".into(), ..request() },
            JoinRequest { boot: Boot(6), ..request() },
            JoinRequest { role: Role::Voter, ..request() },
            JoinRequest { witness: true, ..request() },
            JoinRequest { details: vec![], ..request() },
        ];
        for other in changed {
            assert_ne!(other.said(&[4; 32]), said, "{other:?}");
        }
    }
}
