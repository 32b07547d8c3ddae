//! The UDP socket of an endpoint, and what the operating system gave for it.

use super::settings::Settings;
use odeon_protocol::Boot;
use quinn::{AsyncUdpSocket, EndpointConfig};
use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};
use socket2::SockRef;
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Weak},
};

/// What the operating system gave for a UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketFacts {
    /// Bytes that may wait to be sent.
    pub send_bytes: usize,
    /// Bytes that may wait to be read.
    pub receive_bytes: usize,
    /// What was asked for, each way.
    pub wanted_bytes: usize,
    /// Datagrams that one system call may send; 1 without segmentation offload.
    pub segments: usize,
}

/// An endpoint's socket, looked at from beside it.
#[derive(Debug)]
pub(crate) struct SocketView {
    granted: SocketFacts,
    socket: Weak<dyn AsyncUdpSocket>,
}

impl SocketView {
    /// Nothing once the endpoint is gone.
    pub(crate) fn facts(&self) -> Option<SocketFacts> {
        // Segmentation offload may end while the socket is in use.
        let segments = self.socket.upgrade()?.max_transmit_segments();
        Some(SocketFacts { segments, ..self.granted })
    }
}

/// What an agent's socket at that address would be given. Has to be called within a tokio runtime.
///
/// # Errors
/// The address is taken or not this host's.
pub fn try_socket(address: SocketAddr) -> io::Result<SocketFacts> {
    open(UdpSocket::bind(address)?, &Settings::new(Boot(0))).map(|(_, granted)| granted)
}

/// An endpoint on that UDP socket, whose buffers are made large. Has to be called within a tokio runtime.
pub(crate) fn endpoint_on(
    socket: UdpSocket,
    settings: &Settings,
    server: Option<quinn::ServerConfig>,
) -> io::Result<(quinn::Endpoint, SocketView)> {
    let (socket, granted) = open(socket, settings)?;
    log_buffers(granted);
    let mut config = EndpointConfig::default();
    if let Some(mtu) = settings.mtu_max {
        config.max_udp_payload_size(mtu).map_err(io::Error::other)?;
    }
    let view = SocketView { granted, socket: Arc::downgrade(&socket) };
    let endpoint = quinn::Endpoint::new_with_abstract_socket(config, server, socket, runtime()?)?;
    Ok((endpoint, view))
}

fn runtime() -> io::Result<Arc<dyn quinn::Runtime>> {
    quinn::default_runtime().ok_or_else(|| io::Error::other("not within a tokio runtime"))
}

fn open(socket: UdpSocket, settings: &Settings) -> io::Result<(Arc<dyn AsyncUdpSocket>, SocketFacts)> {
    socket.set_nonblocking(true)?;
    let wanted_bytes = settings.socket_buffer_bytes;
    ask_for_buffers(&socket, wanted_bytes);
    // Linux says twice what it grants, for its bookkeeping.
    let about = SockRef::from(&socket);
    let (send_bytes, receive_bytes) = (about.send_buffer_size()? / 2, about.recv_buffer_size()? / 2);
    let socket = runtime()?.wrap_udp_socket(socket)?;
    let segments = socket.max_transmit_segments();
    Ok((socket, SocketFacts { send_bytes, receive_bytes, wanted_bytes, segments }))
}

/// A refusal is no failure: the operating system grants what its limits allow, and more only to the privileged.
fn ask_for_buffers(socket: &UdpSocket, bytes: usize) {
    if set_socket_send_buffer_size_force(socket, bytes).is_err() {
        let _ = SockRef::from(socket).set_send_buffer_size(bytes);
    }
    if set_socket_recv_buffer_size_force(socket, bytes).is_err() {
        let _ = SockRef::from(socket).set_recv_buffer_size(bytes);
    }
}

fn log_buffers(granted: SocketFacts) {
    let SocketFacts { send_bytes: send, receive_bytes: receive, wanted_bytes: wanted, .. } = granted;
    if send.min(receive) < wanted {
        tracing::info!(
            wanted,
            send,
            receive,
            "the UDP socket's buffers are smaller than wanted: raise net.core.rmem_max and wmem_max for speed"
        );
    } else {
        tracing::debug!(send, receive, "the UDP socket's buffers");
    }
}
