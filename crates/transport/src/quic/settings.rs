//! The transport's settings.

use super::greeting::Greeting;
use odeon_protocol::{Boot, limits::JOIN_REQUEST_BYTES_MAX};
use quinn::{AckFrequencyConfig, ConnectionError, MtuDiscoveryConfig, TransportConfig, VarInt};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::runtime;

/// TLS's alert for "no protocol in common", as a QUIC error code.
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// Bytes of one connection that wait to be read, of a member.
pub(crate) const RECEIVE_WINDOW: VarInt = VarInt::from_u32(32 << 20);
/// The same of a peer without certificate, who can send no more than a join request.
const STRANGERS_WINDOW: VarInt = VarInt::from_u32(2 * JOIN_REQUEST_BYTES_MAX as u32);

/// How an endpoint behaves. The defaults suit a data centre.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This start of the agent; the peer learns it in the greeting.
    pub boot: Boot,
    /// A connection without a sign of life for this long is broken.
    pub idle: Duration,
    /// How often an idle connection gives one.
    pub keep_alive: Duration,
    /// How long a dial, its greeting included, may take.
    pub dial_within: Duration,
    /// What is asked of the operating system for the socket, each way.
    pub socket_buffer_bytes: usize,
    /// The largest UDP payload to try; for networks with jumbo frames.
    pub mtu_max: Option<u16>,
    /// The runtime that carries connections of large frames; the one that dials or accepts if there is none.
    pub large: Option<runtime::Handle>,
    /// Which recovery of the directory this agent goes by; 0 for none. It may rise while the agent runs. Connections exist
    /// between agents that go by the same one only.
    pub recovery: Arc<AtomicU64>,
}

impl Settings {
    /// The defaults.
    #[must_use]
    pub fn new(boot: Boot) -> Self {
        Self {
            boot,
            idle: Duration::from_secs(3),
            keep_alive: Duration::from_secs(1),
            dial_within: Duration::from_secs(5),
            socket_buffer_bytes: 4 << 20,
            mtu_max: None,
            large: None,
            recovery: Arc::default(),
        }
    }

    /// What this end says first on a connection.
    pub(super) fn greeting(&self) -> Greeting {
        Greeting::new(self.boot, self.recovery.load(Ordering::Relaxed))
    }

    /// For connections that this process dials.
    pub(crate) fn transport(&self) -> Arc<TransportConfig> {
        Arc::new(self.transport_receiving(RECEIVE_WINDOW))
    }

    /// For connections that it accepts: little room until the peer has shown a certificate.
    pub(crate) fn transport_of_strangers(&self) -> Arc<TransportConfig> {
        Arc::new(self.transport_receiving(STRANGERS_WINDOW))
    }

    fn transport_receiving(&self, window: VarInt) -> TransportConfig {
        let mut acks = AckFrequencyConfig::default();
        // The tail-loss timer includes the peer's delay: 25 ms by default.
        acks.max_ack_delay(Some(Duration::from_millis(5)));
        let mut discovery = MtuDiscoveryConfig::default();
        if let Some(mtu) = self.mtu_max {
            discovery.upper_bound(mtu);
        }
        let mut transport = TransportConfig::default();
        transport
            // A lost first packet costs three times this.
            .initial_rtt(Duration::from_millis(20))
            .keep_alive_interval(Some(self.keep_alive))
            .max_idle_timeout(self.idle.try_into().ok())
            .max_concurrent_bidi_streams(VarInt::from_u32(1024))
            .max_concurrent_uni_streams(VarInt::from_u32(1024))
            .stream_receive_window(VarInt::from_u32(4 << 20))
            .receive_window(window)
            .datagram_receive_buffer_size(Some(256 << 10))
            .send_window(16 << 20)
            // Fewer, fuller packets for many small messages.
            .send_fairness(false)
            .ack_frequency_config(Some(acks))
            .mtu_discovery_config(Some(discovery))
            .congestion_controller_factory(Arc::new(quinn::congestion::CubicConfig::default()))
            .enable_segmentation_offload(true);
        transport
    }
}

/// Why a socket does not become an endpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The operating system refuses something.
    #[error("the UDP socket cannot be used: {0}")]
    Socket(#[from] io::Error),
    /// The certificate does not work.
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
}

/// Whether a handshake failed because the peer speaks no protocol that this process does.
pub(crate) fn no_common_protocol(error: &ConnectionError) -> bool {
    let code = match error {
        ConnectionError::TransportError(error) => error.code,
        ConnectionError::ConnectionClosed(close) => close.error_code,
        ConnectionError::VersionMismatch => return true,
        _ => return false,
    };
    code == quinn::TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL)
}
