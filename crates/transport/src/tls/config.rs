//! The three TLS configurations: an agent that listens, an agent that dials, a joiner.

use super::{Identity, Judge, PinJudge, TlsError, provider};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{client::Resumption, version::TLS13};
use std::sync::Arc;

/// For incoming connections; follows the identity's rotations by itself.
pub(crate) fn server(identity: &Arc<Identity>, protocols: &[&[u8]]) -> Result<QuicServerConfig, TlsError> {
    let failed = TlsError::failed("preparing TLS");
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|why| failed(&why))?
        .with_client_cert_verifier(Judge::of_incoming(identity.clone()))
        .with_cert_resolver(identity.clone());
    tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    tls.send_tls13_tickets = 0;
    tls.max_early_data_size = 0;
    QuicServerConfig::try_from(tls).map_err(|why| failed(&why))
}

/// For one dial by an agent; the judge can say afterwards whose convention was met.
pub(crate) fn client(
    identity: &Arc<Identity>,
    judge: Arc<Judge>,
    protocol: &[u8],
) -> Result<QuicClientConfig, TlsError> {
    let failed = TlsError::failed("preparing TLS");
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|why| failed(&why))?
        .dangerous()
        .with_custom_certificate_verifier(judge)
        .with_client_cert_resolver(identity.clone());
    tls.alpn_protocols = vec![protocol.to_vec()];
    tls.resumption = Resumption::disabled();
    QuicClientConfig::try_from(tls).map_err(|why| failed(&why))
}

/// For one dial by a joiner, who has no certificate yet.
pub(crate) fn joiner(judge: Arc<PinJudge>, protocol: &[u8]) -> Result<QuicClientConfig, TlsError> {
    let failed = TlsError::failed("preparing TLS");
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|why| failed(&why))?
        .dangerous()
        .with_custom_certificate_verifier(judge)
        .with_no_client_auth();
    tls.alpn_protocols = vec![protocol.to_vec()];
    tls.resumption = Resumption::disabled();
    QuicClientConfig::try_from(tls).map_err(|why| failed(&why))
}
