//! What a certificate says, read back out of it.

use super::{Certificate, PublicKey, TlsError};
use odeon_protocol::{ConventionId, NodeId};
use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

const URI_PREFIX: &str = "spiffe://odeon/";

/// The DNS name in a node's leaf certificate, checked by whoever dials it.
pub(crate) fn dns_name(convention: ConventionId, node: NodeId) -> String {
    format!("{node}.node.{convention}.internal")
}

pub(super) fn node_uri(convention: ConventionId, node: NodeId) -> String {
    format!("{URI_PREFIX}{convention}/node/{node}")
}

pub(super) fn authority_uri(convention: ConventionId) -> String {
    format!("{URI_PREFIX}{convention}/authority")
}

/// Who a leaf certificate says its holder is. Worth something only after the certificate was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The node.
    pub node: NodeId,
    /// Its convention.
    pub convention: ConventionId,
    /// The node's public key.
    pub key: PublicKey,
    /// From when the certificate is valid.
    pub not_before: SystemTime,
    /// Until when; the holder of a connection closes it then.
    pub not_after: SystemTime,
}

impl PeerCertificate {
    /// Reads a leaf certificate.
    ///
    /// # Errors
    /// It does not parse, names no node, or names another node than its key makes it.
    pub fn read(certificate: &[u8]) -> Result<Self, TlsError> {
        let malformed = TlsError::malformed("certificate");
        let (_, parsed) = parse_x509_certificate(certificate).map_err(|why| malformed(&why))?;
        let uri = uri_of(&parsed).ok_or_else(|| malformed(&"it names no node"))?;
        let (convention, node) = parse_node(uri).ok_or_else(|| malformed(&format!("\"{uri}\" names no node")))?;
        let key = PublicKey::from_spki(parsed.public_key().raw)?;
        if key.node() != node {
            return Err(TlsError::OtherKey { has: node, wants: key.node() });
        }
        let moment = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let validity = parsed.validity();
        Ok(Self {
            node,
            convention,
            key,
            not_before: moment(validity.not_before.timestamp()),
            not_after: moment(validity.not_after.timestamp()),
        })
    }
}

/// The convention that an authority's certificate names.
pub(super) fn authority_convention(certificate: &[u8]) -> Result<ConventionId, TlsError> {
    let malformed = TlsError::malformed("authority's certificate");
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|why| malformed(&why))?;
    let convention =
        uri_of(&parsed).and_then(|uri| uri.strip_prefix(URI_PREFIX)?.strip_suffix("/authority")?.parse().ok());
    convention.ok_or_else(|| malformed(&"it names no convention"))
}

fn uri_of<'a>(certificate: &'a x509_parser::certificate::X509Certificate<'a>) -> Option<&'a str> {
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    })
}

fn parse_node(uri: &str) -> Option<(ConventionId, NodeId)> {
    let (convention, node) = uri.strip_prefix(URI_PREFIX)?.split_once("/node/")?;
    Some((convention.parse().ok()?, node.parse().ok()?))
}

/// The hash of an authority's certificate: what a token pins.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

impl Pin {
    /// The pin of an authority's certificate.
    #[must_use]
    pub fn of(authority: &Certificate) -> Self {
        Self(*blake3::hash(authority).as_bytes())
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::base32::encode(&self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

impl FromStr for Pin {
    type Err = crate::base32::Base32Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        crate::base32::decode::<32>(text).map(Self)
    }
}
