//! Who an agent is, and how it proves it: the convention's authority, node keys, certificates, verifiers.
//!
//! A convention has one authority (an Ed25519 root, held by its voters). A node has one key for life; its id is the
//! hash of it. A leaf certificate binds the two for a day: the DNS name `<node>.node.<convention>.internal`, which
//! rustls checks when dialling, and the URI `spiffe://odeon/<convention>/node/<node>`, which the acceptor reads.
//!
//! - **T-1.** Of a certificate request only the public key is ever signed; names and rights are the signer's.
//! - **T-2.** TLS 1.3 only; no resumption, no early data: a resumed session would outlive a rotated certificate.
//! - **T-3.** A peer's ip address is never its identity.

mod authority;
mod certificate;
mod config;
mod identity;
mod key;
mod verify;

pub use authority::{Authority, LEAF_LIFE};
pub(crate) use certificate::dns_name;
pub use certificate::{PeerCertificate, Pin};
pub(crate) use config::{client, joiner, server};
pub use identity::Identity;
pub use key::{NodeKey, PublicKey};
pub(crate) use verify::{Judge, PinJudge};

use rustls::crypto::CryptoProvider;
use std::sync::{Arc, LazyLock};

/// A certificate in DER form.
pub type Certificate = rustls::pki_types::CertificateDer<'static>;

/// The one place that names the cryptography in use.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    // One shared table of function pointers without state: not a singleton that agents could disturb each other by.
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    PROVIDER.clone()
}

/// Why keys or certificates are not usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A key, certificate or request does not parse, or its signature is wrong.
    #[error("the {what} is malformed: {why}")]
    Malformed {
        /// Which thing.
        what: &'static str,
        /// What the parser said.
        why: String,
    },
    /// A leaf certificate of another key.
    #[error("the certificate belongs to node {has}, the key to node {wants}")]
    OtherKey {
        /// The certificate's node.
        has: odeon_protocol::NodeId,
        /// The key's node.
        wants: odeon_protocol::NodeId,
    },
    /// A certificate of another convention.
    #[error("the certificate belongs to convention {has}, this agent to convention {wants}")]
    OtherConvention {
        /// The certificate's convention.
        has: odeon_protocol::ConventionId,
        /// The agent's convention.
        wants: odeon_protocol::ConventionId,
    },
    /// No certificate authority was given.
    #[error("there is no certificate of a certificate authority")]
    NoRoots,
    /// The cryptography refused.
    #[error("{doing}: {why}")]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// What the library said.
        why: String,
    },
}

impl TlsError {
    fn malformed(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Self {
        move |why| Self::Malformed { what, why: why.to_string() }
    }

    fn failed(doing: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Self {
        move |why| Self::Failed { doing, why: why.to_string() }
    }
}
