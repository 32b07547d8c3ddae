//! The verifiers: rustls's own, with a look at the convention first so that a refusal says whose certificate it was.

use super::{
    Certificate, Identity, PeerCertificate, Pin, TlsError, certificate::authority_convention, identity::store, provider,
};
use odeon_protocol::NodeId;
use parking_lot::Mutex;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor},
    crypto::verify_tls13_signature,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use std::sync::Arc;
use time::OffsetDateTime;

/// Judges peers by an agent's identity, on both sides of a handshake.
///
/// As the server's verifier it admits a peer without certificate, for the join protocol; the accept path closes such a
/// connection on any other protocol.
#[derive(Debug)]
pub(crate) struct Judge {
    identity: Arc<Identity>,
    /// The node that is dialled, where this is the judge of a dial.
    wants: Option<NodeId>,
    /// Why a dial failed, where it was the convention or the node.
    other: Mutex<Option<TlsError>>,
}

impl Judge {
    /// For all that is accepted.
    pub(crate) fn of_incoming(identity: Arc<Identity>) -> Arc<Self> {
        Arc::new(Self { identity, wants: None, other: Mutex::new(None) })
    }

    /// For one dial of `node`.
    pub(crate) fn of_dial(identity: Arc<Identity>, node: NodeId) -> Arc<Self> {
        Arc::new(Self { identity, wants: Some(node), other: Mutex::new(None) })
    }

    /// Whom the dial met instead, if that is why the handshake failed.
    pub(crate) fn found(&self) -> Option<TlsError> {
        self.other.lock().take()
    }

    /// Names conventions and nodes before the chain is verified: "unknown issuer" helps nobody. The error's text
    /// travels to the peer as the connection's closing reason.
    fn expected(&self, end_entity: &CertificateDer<'_>) -> Result<(), Error> {
        let convention = self.identity.convention();
        let Ok(peer) = PeerCertificate::read(end_entity) else { return Err(CertificateError::BadEncoding.into()) };
        let error = match self.wants {
            _ if peer.convention != convention => TlsError::OtherConvention { has: peer.convention, wants: convention },
            Some(node) if node != peer.node => TlsError::OtherKey { has: peer.node, wants: node },
            _ => return Ok(()),
        };
        let text = error.to_string();
        if self.wants.is_some() {
            *self.other.lock() = Some(error);
        }
        Err(Error::General(text))
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.expected(end_entity)?;
        let verifier: Arc<WebPkiServerVerifier> = self.identity.current().server_verifier.clone();
        // A leaf is signed by a root directly; what else was sent is for joiners.
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now).map_err(in_words)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Judge {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.expected(end_entity)?;
        let verifier = self.identity.current().client_verifier.clone();
        verifier.verify_client_cert(end_entity, &[], now).map_err(in_words)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Judges the agent that a joiner dials: its root must be a pinned one, its leaf signed by that root.
#[derive(Debug)]
pub(crate) struct PinJudge {
    pins: Vec<Pin>,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    wrong: Option<Pin>,
    root: Option<Certificate>,
}

impl PinJudge {
    pub(crate) fn new(pins: Vec<Pin>) -> Arc<Self> {
        Arc::new(Self { pins, found: Mutex::default() })
    }

    /// The pin that the agent showed instead, if that is why the handshake failed.
    pub(crate) fn wrong(&self) -> Option<Pin> {
        self.found.lock().wrong
    }

    /// The pinned root, once the agent proved that it belongs to it.
    pub(crate) fn root(&self) -> Option<Certificate> {
        self.found.lock().root.clone()
    }
}

impl ServerCertVerifier for PinJudge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let root = intermediates.last().ok_or(CertificateError::UnknownIssuer)?.clone().into_owned();
        let pin = Pin::of(&root);
        if !self.pins.contains(&pin) {
            self.found.lock().wrong = Some(pin);
            return Err(CertificateError::UnknownIssuer.into());
        }
        let bad = |_| Error::from(CertificateError::BadEncoding);
        let roots = store(std::slice::from_ref(&root)).map_err(bad)?;
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let algorithms = provider().signature_verification_algorithms;
        verify_server_cert_signed_by_trust_anchor(&leaf, &roots, &[], now, algorithms.all).map_err(in_words)?;
        let convention = authority_convention(&root).map_err(bad)?;
        if PeerCertificate::read(end_entity).map_err(bad)?.convention != convention {
            return Err(CertificateError::NotValidForName.into());
        }
        self.found.lock().root = Some(root);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Where a clock is wrong, what it says and what it should. The error's text is read on both hosts.
fn in_words(error: Error) -> Error {
    let (bound, limit, now, or) = match error {
        Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => {
            ("not valid before", not_before, time, "")
        }
        Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => {
            ("expired, valid until", not_after, time, ", or the certificate was not renewed")
        }
        other => return other,
    };
    let (limit, now) = (moment(limit), moment(now));
    Error::General(format!(
        "its certificate is {bound} {limit}, and it is {now} by the clock of the host that looks at it: the clock of one of \
         the two is wrong{or}; have both set by NTP"
    ))
}

fn moment(at: UnixTime) -> String {
    let at = i64::try_from(at.as_secs()).ok().and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok());
    at.map_or_else(
        || "after the year 9999".into(),
        |at| format!("{} {:02}:{:02}:{:02} UTC", at.date(), at.hour(), at.minute(), at.second()),
    )
}

fn only_13() -> Error {
    Error::PeerIncompatible(rustls::PeerIncompatible::Tls13RequiredForQuic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_wrong_clock_is_said_with_both_times() {
        let at = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
        let early = CertificateError::NotValidYetContext { time: at(1_795_603_606), not_before: at(1_795_862_494) };
        let late = CertificateError::ExpiredContext { time: at(1_796_122_018), not_after: at(1_795_949_194) };
        let (early, late) = (in_words(early.into()).to_string(), in_words(late.into()).to_string());
        assert!(
            early.contains("not valid before 2026-11-28 10:41:34 UTC, and it is 2026-11-25 10:46:46 UTC"),
            "{early}"
        );
        assert!(late.contains("valid until 2026-11-29 10:46:34 UTC") && late.contains("not renewed"), "{late}");
        let other = Error::from(CertificateError::UnknownIssuer);
        assert_eq!(in_words(other.clone()), other);
        assert_eq!(moment(at(u64::MAX)), "after the year 9999");
    }
}
