//! Whatever arrives, it harms nobody else.

use crate::{
    common::{Agent, authority, soon, stranger, stranger_config, until},
    lanes::{Pair, frame},
};
use odeon_protocol::limits::{CONTROL_BYTES_MAX, FRAME_BYTES_MAX, JOIN_REQUEST_BYTES_MAX, LARGE_LANE};
use odeon_transport::{
    quic::{Code, Connection, Kind},
    tls::NodeKey,
};
use std::{sync::Arc, time::SystemTime};

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn random_datagrams_on_the_port_harm_nothing() {
    let mut pair = Pair::new();
    pair.connect().await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for seed in 1..2000 {
        let mut bytes = noise(seed, 1 + (seed as usize * 7) % 1400);
        if seed % 3 == 0 {
            // The look of a first QUIC packet.
            bytes[0] |= 0xc0;
            if let Some(version) = bytes.get_mut(1..5) {
                version.copy_from_slice(&[0, 0, 0, 1]);
            }
        }
        let _ = socket.send_to(&bytes, pair.b.address);
    }
    pair.to_b.send(0, frame(0, 0, 10)).unwrap();
    until("the frame", || pair.at_b.count() == 1).await;
    pair.connect().await;
}

/// A member that speaks raw QUIC: certified, and up to no good.
pub(crate) struct Rogue {
    pub(crate) connection: quinn::Connection,
    /// Kept open: a stream that ends is a fault of its own.
    pub(crate) streams: Vec<quinn::SendStream>,
    _endpoint: quinn::Endpoint,
}

impl Rogue {
    /// Dials, shows its certificate, greets as it should.
    pub(crate) async fn dial(
        authority: &odeon_transport::tls::Authority,
        agent: &mut Agent,
        protocol: &str,
    ) -> (Self, Connection) {
        let key = NodeKey::create().unwrap();
        let leaf = authority.issue(key.public(), SystemTime::now()).unwrap();
        let mut tls = rustls::ClientConfig::builder_with_provider(odeon_transport::tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(crate::common::credulous())
            .with_client_auth_cert(vec![leaf], crate::common::private(&key))
            .unwrap();
        tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let endpoint = stranger();
        let config = quinn::ClientConfig::new(Arc::new(tls));
        let connection = soon(endpoint.connect_with(config, agent.address, "any.internal").unwrap()).await.unwrap();
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        let greeting = [1u8, 5, b'0', b'.', b'1', b'.', b'0', 1];
        let mut bytes = vec![0, greeting.len() as u8, 0, 0, 0];
        bytes.extend(greeting);
        send.write_all(&bytes).await.unwrap();
        send.finish().unwrap();
        let accepted = soon(agent.accepted.recv()).await.unwrap();
        (Self { connection, streams: Vec::new(), _endpoint: endpoint }, accepted)
    }

    pub(crate) async fn uni(&mut self, bytes: &[u8]) {
        let Ok(mut stream) = self.connection.open_uni().await else { return };
        // The agent may have closed the connection already.
        let _ = stream.write_all(bytes).await;
        self.streams.push(stream);
    }

    /// The code and text with which the agent closed.
    async fn closed(&self) -> (u32, String) {
        match soon(self.connection.closed()).await {
            quinn::ConnectionError::ApplicationClosed(close) => (
                u32::try_from(close.error_code.into_inner()).unwrap(),
                String::from_utf8_lossy(&close.reason).into_owned(),
            ),
            other => panic!("not closed by the agent: {other}"),
        }
    }
}

pub(crate) fn resume() -> Vec<u8> {
    let mut bytes = vec![0u8];
    bytes.extend(9u64.to_le_bytes());
    bytes.extend([0; 8 + odeon_protocol::limits::LANES * 8]);
    bytes
}

pub(crate) fn lane_head(lane: u8) -> Vec<u8> {
    let mut bytes = vec![1, lane];
    bytes.extend(0u64.to_le_bytes());
    bytes
}

#[tokio::test]
async fn garbage_on_a_data_connection_closes_only_that_one() {
    let authority = authority(7);
    let mut agent = Agent::start(&authority);
    let mut oversized = lane_head(0);
    oversized.extend((FRAME_BYTES_MAX as u32).to_le_bytes());
    oversized.extend([1; 100]);
    let mut good_then_bad = lane_head(0);
    good_then_bad.extend(frame(0, 0, 10));
    good_then_bad.extend([0xff; 200]);
    let mut overstated = resume();
    overstated.extend([0]);
    overstated.extend(77u64.to_le_bytes());
    let cases: [(&str, Vec<Vec<u8>>); 10] = [
        ("unknown kind 9", vec![vec![9, 9, 9]]),
        ("a data connection has no lane 200", vec![resume(), lane_head(200)]),
        ("a data connection has no lane 4", vec![resume(), lane_head(LARGE_LANE as u8)]),
        ("a large connection has no lane 0", vec![resume(), lane_head(0)]),
        ("opened twice", vec![resume(), lane_head(1), lane_head(1)]),
        ("over the limit", vec![resume(), oversized]),
        ("protocol version 255", vec![resume(), good_then_bad]),
        ("acknowledges frame 77", vec![overstated]),
        ("protocol version", vec![resume(), [lane_head(2), noise(5, 5000)].concat()]),
        ("unknown kind 7", vec![resume(), vec![7; 100]]),
    ];
    let mut other = Pair::new();
    other.connect().await;
    for (words, streams) in cases {
        let protocol = if words.starts_with("a large") { "odeon-large/1" } else { "odeon-data/1" };
        let (mut rogue, accepted) = Rogue::dial(&authority, &mut agent, protocol).await;
        let sink = Arc::<crate::lanes::Sink>::default();
        let lanes = odeon_transport::quic::Lanes::new(accepted.peer().node, accepted.peer().boot, sink.clone());
        lanes.attach(accepted);
        for bytes in &streams {
            rogue.uni(bytes).await;
        }
        let (code, text) = rogue.closed().await;
        assert!(code == Code::Garbage as u32 && text.contains(words), "{words}: {code} {text}");
        until("the notice", || sink.detached.lock().unwrap().len() == 1).await;
        let whole = u64::from(words == "protocol version 255");
        assert_eq!(sink.count(), whole, "{words}: the frames before the fault, and no others");
    }
    other.to_b.send(0, frame(0, 0, 10)).unwrap();
    until("the frame", || other.at_b.count() == 1).await;
}

#[tokio::test]
async fn garbage_on_a_control_connection_closes_only_that_one() {
    struct Nobody;
    impl odeon_transport::quic::Serve for Nobody {
        fn request(
            &self,
            _: &odeon_transport::quic::Peer,
            body: bytes::Bytes,
        ) -> odeon_transport::BoxFuture<'static, bytes::Bytes> {
            Box::pin(std::future::ready(body))
        }
        fn subscribe(
            &self,
            _: &odeon_transport::quic::Peer,
            _: bytes::Bytes,
            _: odeon_transport::quic::Publisher,
        ) -> odeon_transport::BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }
        fn datagram(&self, _: &odeon_transport::quic::Peer, _: bytes::Bytes) {}
    }
    let authority = authority(7);
    let mut agent = Agent::start(&authority);
    let mut oversized = vec![1];
    oversized.extend((CONTROL_BYTES_MAX as u32 + 1).to_le_bytes());
    for (words, bytes) in [("over the limit", oversized), ("unknown kind 9", vec![9, 0, 0, 0, 0])] {
        let (rogue, accepted) = Rogue::dial(&authority, &mut agent, "odeon/1").await;
        let _control = odeon_transport::quic::Control::start(accepted, Arc::new(Nobody));
        let (mut send, _receive) = rogue.connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        let (code, text) = rogue.closed().await;
        assert!(code == Code::Garbage as u32 && text.contains(words), "{words}: {code} {text}");
    }
    let honest = Agent::start(&authority);
    honest.dial(&mut agent, Kind::Control).await;
}

#[tokio::test]
async fn a_request_that_was_cut_off_is_never_answered() {
    let authority = authority(7);
    let mut agent = Agent::start(&authority);
    let (rogue, accepted) = Rogue::dial(&authority, &mut agent, "odeon/1").await;
    struct Counting(std::sync::atomic::AtomicUsize);
    impl odeon_transport::quic::Serve for Counting {
        fn request(
            &self,
            _: &odeon_transport::quic::Peer,
            body: bytes::Bytes,
        ) -> odeon_transport::BoxFuture<'static, bytes::Bytes> {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Box::pin(std::future::ready(body))
        }
        fn subscribe(
            &self,
            _: &odeon_transport::quic::Peer,
            _: bytes::Bytes,
            _: odeon_transport::quic::Publisher,
        ) -> odeon_transport::BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }
        fn datagram(&self, _: &odeon_transport::quic::Peer, _: bytes::Bytes) {}
    }
    let counting = Arc::new(Counting(0.into()));
    let _control = odeon_transport::quic::Control::start(accepted, counting.clone());
    let (mut send, mut receive) = rogue.connection.open_bi().await.unwrap();
    send.write_all(&[1, 10, 0, 0, 0, 1, 2, 3]).await.unwrap();
    send.finish().unwrap();
    assert_eq!(soon(receive.read_to_end(100)).await.unwrap(), []);
    let (mut send, mut receive) = rogue.connection.open_bi().await.unwrap();
    send.write_all(&[1, 3, 0, 0, 0, 1, 2, 3]).await.unwrap();
    assert_eq!(soon(receive.read_to_end(100)).await.unwrap(), [3, 3, 0, 0, 0, 1, 2, 3]);
    assert_eq!(counting.0.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_oversized_or_random_join_request_is_refused() {
    let mut agent = Agent::start(&authority(7));
    let stranger = stranger();
    for bytes in [noise(1, JOIN_REQUEST_BYTES_MAX + 1), noise(3, 900), vec![1; 900], vec![]] {
        let config = stranger_config("odeon-join/1");
        let connection = soon(stranger.connect_with(config, agent.address, "any.internal").unwrap()).await.unwrap();
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        let _ = send.write_all(&bytes).await;
        let _ = send.finish();
        if let Ok(answer) = soon(receive.read_to_end(10_000)).await {
            let answer: odeon_transport::join::JoinAnswer = odeon_protocol::control::decode(&answer).unwrap();
            assert!(matches!(answer, odeon_transport::join::JoinAnswer::Refused(_)), "{answer:?}");
        }
    }
    let honest = Agent::start(&authority(7));
    assert!(soon(honest.endpoint.dial(agent.address, agent.node(), Kind::Control)).await.is_err());
    assert!(agent.accepted.try_recv().is_err());
}

#[tokio::test]
async fn a_stranger_can_fill_no_memory() {
    let agent = Agent::start(&authority(7));
    let stranger = stranger();
    let connecting = stranger.connect_with(stranger_config("odeon-join/1"), agent.address, "any.internal").unwrap();
    let connection = soon(connecting).await.unwrap();
    let mut written = 0;
    let mut streams = Vec::new();
    // Streams that nobody reads: together they hold no more than the window.
    while streams.len() < 64 {
        let mut stream = soon(connection.open_uni()).await.unwrap();
        let more = tokio::time::timeout(std::time::Duration::from_millis(100), stream.write(&[0; 64 << 10])).await;
        streams.push(stream);
        match more {
            Ok(bytes) => written += bytes.unwrap(),
            Err(_) => break,
        }
    }
    assert!(written <= 2 * JOIN_REQUEST_BYTES_MAX, "{written} bytes were taken");
}
