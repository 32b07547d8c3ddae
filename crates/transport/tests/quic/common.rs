//! Agents for tests: an authority, endpoints, doors that hand connections out.

use odeon_protocol::{Boot, ConventionId};
use odeon_transport::{
    join::Admit,
    quic::{Connection, Door, Endpoint, Kind, Peer, Settings},
    tls::{Authority, Certificate, Identity, NodeKey},
};
use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::sync::mpsc;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must come.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it did not happen in time")
}

/// Polls until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn authority(convention: u64) -> Authority {
    Authority::create(ConventionId(convention), SystemTime::now()).unwrap()
}

pub(crate) fn identity(authority: &Authority, key: &NodeKey, issued: SystemTime) -> Arc<Identity> {
    let leaf = authority.issue(key.public(), issued).unwrap();
    Identity::new(key.clone(), leaf, vec![authority.certificate().clone()]).unwrap()
}

pub(crate) struct TestDoor {
    sender: mpsc::Sender<Connection>,
    pub(crate) refusal: Mutex<Option<String>>,
    pub(crate) admit: Option<Arc<dyn Admit>>,
    /// Whether this agent follows a later recovery that a peer goes by.
    pub(crate) follows: AtomicBool,
    pub(crate) recovery: Arc<AtomicU64>,
}

impl Door for TestDoor {
    fn admits(&self, _: &Peer, _: Kind) -> Result<(), String> {
        self.refusal.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn recovered(&self, recovery: u64) {
        if self.follows.load(Ordering::Relaxed) {
            self.recovery.store(recovery, Ordering::Relaxed);
        }
    }

    fn accepted(&self, connection: Connection) {
        let _ = self.sender.try_send(connection);
    }

    fn join(&self) -> Option<Arc<dyn Admit>> {
        self.admit.clone()
    }
}

pub(crate) struct Agent {
    pub(crate) endpoint: Endpoint,
    pub(crate) address: SocketAddr,
    pub(crate) door: Arc<TestDoor>,
    pub(crate) accepted: mpsc::Receiver<Connection>,
}

impl Agent {
    pub(crate) fn start(authority: &Authority) -> Self {
        Self::with(identity(authority, &NodeKey::create().unwrap(), SystemTime::now()), 1, None)
    }

    pub(crate) fn with(identity: Arc<Identity>, boot: u64, admit: Option<Arc<dyn Admit>>) -> Self {
        Self::with_settings(identity, Settings::new(Boot(boot)), admit)
    }

    pub(crate) fn with_settings(identity: Arc<Identity>, settings: Settings, admit: Option<Arc<dyn Admit>>) -> Self {
        let recovery = settings.recovery.clone();
        let endpoint = Endpoint::on(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), identity, settings).unwrap();
        let (sender, accepted) = mpsc::channel(16);
        let (refusal, follows) = (Mutex::default(), AtomicBool::default());
        let door = Arc::new(TestDoor { sender, refusal, admit, follows, recovery });
        endpoint.listen(door.clone());
        Self { address: endpoint.local_address().unwrap(), endpoint, door, accepted }
    }

    pub(crate) fn node(&self) -> odeon_protocol::NodeId {
        self.endpoint.identity().node()
    }

    /// A connection as both ends have it.
    pub(crate) async fn dial(&self, other: &mut Self, kind: Kind) -> (Connection, Connection) {
        let dialled = soon(self.endpoint.dial(other.address, other.node(), kind)).await.unwrap();
        (dialled, soon(other.accepted.recv()).await.unwrap())
    }
}

/// A QUIC client without any certificate, that believes everybody: what an attacker has.
pub(crate) fn stranger() -> quinn::Endpoint {
    quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap()
}

pub(crate) fn stranger_config(protocol: &str) -> quinn::ClientConfig {
    let mut tls = rustls::ClientConfig::builder_with_provider(odeon_transport::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(credulous())
        .with_no_client_auth();
    tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    quinn::ClientConfig::new(Arc::new(quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap()))
}

/// A QUIC server with any certificates and any protocol.
pub(crate) fn server(chain: Vec<Certificate>, key: &NodeKey, protocol: &[u8]) -> (quinn::Endpoint, SocketAddr) {
    let mut tls = rustls::ServerConfig::builder_with_provider(odeon_transport::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, private(key))
        .unwrap();
    tls.alpn_protocols = vec![protocol.to_vec()];
    let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    let server = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = server.local_addr().unwrap();
    (server, address)
}

pub(crate) fn credulous() -> Arc<dyn rustls::client::danger::ServerCertVerifier> {
    Arc::new(Credulous)
}

pub(crate) fn private(key: &NodeKey) -> rustls::pki_types::PrivateKeyDer<'static> {
    rustls::pki_types::pem::PemObject::from_pem_slice(key.to_pem().as_bytes()).unwrap()
}

#[derive(Debug)]
struct Credulous;

impl rustls::client::danger::ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ED25519]
    }
}
