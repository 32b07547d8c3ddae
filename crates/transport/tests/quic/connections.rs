//! Who is let in, who is not, and what each end is told.

use crate::common::{Agent, authority, identity, server, soon, stranger, stranger_config, until};
use odeon_protocol::{Boot, ConventionId, NodeId, directory::Role};
use odeon_transport::{
    join::{Ask, Credentials, JoinError, JoinToken, join},
    quic::{Code, DialError, Endpoint, Kind, Settings},
    tls::NodeKey,
};
use std::{
    net::UdpSocket,
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

#[tokio::test]
async fn two_agents_know_each_other_by_certificate() {
    let authority = authority(7);
    let a = Agent::start(&authority);
    let mut b = Agent::with(identity(&authority, &NodeKey::create().unwrap(), SystemTime::now()), 42, None);
    for kind in [Kind::Control, Kind::Data] {
        let (dialled, accepted) = a.dial(&mut b, kind).await;
        assert_eq!((dialled.peer().node, dialled.peer().boot), (b.node(), Boot(42)));
        assert_eq!((accepted.peer().node, accepted.peer().boot), (a.node(), Boot(1)));
        assert_eq!(accepted.peer().convention, ConventionId(7));
        assert_eq!((dialled.kind(), accepted.kind()), (kind, kind));
        assert!(dialled.dialled() && !accepted.dialled());
        dialled.close(Code::Duplicate, "enough");
        let closed = soon(accepted.closed()).await;
        assert_eq!((closed.code, closed.by_peer, closed.text.as_str()), (Some(Code::Duplicate), true, "enough"));
    }
}

#[tokio::test]
async fn another_convention_is_refused_by_name() {
    let (ours, theirs) = (authority(0xaaaa), authority(0xbbbb));
    let (a, b) = (Agent::start(&ours), Agent::start(&theirs));
    let error = soon(a.endpoint.dial(b.address, b.node(), Kind::Control)).await.unwrap_err();
    let wanted =
        DialError::OtherConvention { address: b.address, has: ConventionId(0xbbbb), wants: ConventionId(0xaaaa) };
    assert_eq!(error, wanted);
    assert!(error.to_string().contains("aaaa") && error.to_string().contains("bbbb"));
}

#[tokio::test]
async fn a_certificate_of_another_convention_is_refused_by_name_by_the_acceptor_too() {
    let (ours, theirs) = (authority(0xaaaa), authority(0xbbbb));
    let (key, a) = (NodeKey::create().unwrap(), Agent::start(&ours));
    // A dialler that does not mind whom it meets still shows its certificate.
    let leaf = theirs.issue(key.public(), SystemTime::now()).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(odeon_transport::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(crate::common::credulous())
        .with_client_auth_cert(vec![leaf], crate::common::private(&key))
        .unwrap();
    tls.alpn_protocols = vec![b"odeon/1".to_vec()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let config = quinn::ClientConfig::new(std::sync::Arc::new(tls));
    let stranger = stranger();
    let connection = soon(stranger.connect_with(config, a.address, "any.internal").unwrap()).await.unwrap();
    let closed = soon(connection.closed()).await.to_string();
    assert!(closed.contains("bbbb") && closed.contains("aaaa"), "{closed}");
}

#[tokio::test]
async fn without_certificate_there_is_only_joining() {
    let mut a = Agent::start(&authority(7));
    let stranger = stranger();
    for protocol in ["odeon/1", "odeon-data/1"] {
        let connecting = stranger.connect_with(stranger_config(protocol), a.address, "any.internal").unwrap();
        let connection = soon(connecting).await.unwrap();
        let quinn::ConnectionError::ApplicationClosed(close) = soon(connection.closed()).await else {
            panic!("not closed by the agent")
        };
        assert_eq!(close.error_code, (Code::NoCertificate as u32).into());
        assert!(String::from_utf8_lossy(&close.reason).contains("join the convention first"));
    }
    assert!(a.accepted.try_recv().is_err());
}

#[tokio::test]
async fn an_address_that_was_given_to_another_host_is_said() {
    let authority = authority(7);
    let (a, b) = (Agent::start(&authority), Agent::start(&authority));
    let error = soon(a.endpoint.dial(b.address, NodeId(1), Kind::Data)).await.unwrap_err();
    assert_eq!(error, DialError::OtherNode { address: b.address, has: b.node(), wants: NodeId(1) });
}

#[tokio::test]
async fn an_expired_certificate_is_refused_at_both_ends() {
    let authority = authority(7);
    let long_ago = SystemTime::now() - Duration::from_secs(3 * 24 * 3600);
    let old = Agent::with(identity(&authority, &NodeKey::create().unwrap(), long_ago), 1, None);
    let fresh = Agent::start(&authority);
    let error = soon(fresh.endpoint.dial(old.address, old.node(), Kind::Control)).await.unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
    let error = soon(old.endpoint.dial(fresh.address, fresh.node(), Kind::Control)).await.unwrap_err();
    assert!(matches!(&error, DialError::Refused { why, .. } if why.contains("expired")), "{error:?}");
}

#[tokio::test]
async fn the_doors_refusal_reaches_the_dialler() {
    let authority = authority(7);
    let (a, mut b) = (Agent::start(&authority), Agent::start(&authority));
    *b.door.refusal.lock().unwrap() = Some("the host was evicted".into());
    let error = soon(a.endpoint.dial(b.address, b.node(), Kind::Control)).await.unwrap_err();
    let (address, why) = (b.address, "the host was evicted".to_owned());
    assert_eq!(error, DialError::Refused { address, code: Some(Code::Refused), why });
    *b.door.refusal.lock().unwrap() = None;
    a.dial(&mut b, Kind::Control).await;
}

#[tokio::test]
async fn another_protocol_version_is_said() {
    let authority = authority(7);
    let a = Agent::start(&authority);
    // Dialled by a later version.
    let stranger = stranger();
    let connecting = stranger.connect_with(stranger_config("odeon/2"), a.address, "any.internal").unwrap();
    assert!(soon(connecting).await.unwrap_err().to_string().contains("error 120"));
    // Dialling a later version.
    let key = NodeKey::create().unwrap();
    let chain = vec![authority.issue(key.public(), SystemTime::now()).unwrap(), authority.certificate().clone()];
    let (server, address) = server(chain, &key, b"odeon/2");
    let serving = tokio::spawn(async move {
        while let Some(incoming) = server.accept().await {
            let _ = incoming.await;
        }
    });
    let error = soon(a.endpoint.dial(address, key.node(), Kind::Control)).await.unwrap_err();
    assert_eq!(error, DialError::OtherVersion { address });
    let token = JoinToken::create(Role::Member, authority.pin()).unwrap();
    let ask = Ask {
        credentials: Credentials::Token(&token),
        key: &key,
        name: "eu-1".into(),
        address: String::new(),
        boot: Boot(1),
        witness: false,
        details: Vec::new(),
        within: crate::common::PATIENCE,
    };
    assert_eq!(soon(join(address, ask)).await.unwrap_err(), JoinError::OtherVersion { address });
    serving.abort();
}

#[tokio::test]
async fn what_is_from_before_a_recovery_does_not_meet_what_is_from_after_it() {
    let authority = authority(7);
    let (mut old, mut new) = (Agent::start(&authority), Agent::start(&authority));
    new.door.recovery.store(5, Ordering::Relaxed);
    let (back, on) = (old.address, new.address);
    let ahead = soon(old.endpoint.dial(on, new.node(), Kind::Control)).await.unwrap_err();
    assert_eq!(ahead, DialError::OtherRecovery { address: on, has: 5, wants: 0 });
    let behind = soon(new.endpoint.dial(back, old.node(), Kind::Data)).await.unwrap_err();
    assert_eq!(behind, DialError::OtherRecovery { address: back, has: 0, wants: 5 });
    assert!(old.accepted.try_recv().is_err() && new.accepted.try_recv().is_err(), "no door let anything in");
    // Who is not let in has nobody follow.
    old.door.follows.store(true, Ordering::Relaxed);
    *old.door.refusal.lock().unwrap() = Some("this host was evicted".into());
    soon(new.endpoint.dial(back, old.node(), Kind::Control)).await.unwrap_err();
    assert_eq!(old.door.recovery.load(Ordering::Relaxed), 0);
    // Whoever can follow is let in as soon as it does.
    *old.door.refusal.lock().unwrap() = None;
    let (dialled, accepted) = new.dial(&mut old, Kind::Control).await;
    assert_eq!((dialled.peer().recovery, accepted.peer().recovery), (5, 5));
    old.dial(&mut new, Kind::Data).await;
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let authority = authority(7);
    let key = NodeKey::create().unwrap();
    let mut settings = Settings::new(Boot(1));
    settings.dial_within = Duration::from_millis(200);
    let own = identity(&authority, &key, SystemTime::now());
    let any = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let (endpoint, free) = (Endpoint::on(any(), own, settings).unwrap(), any());
    let error = soon(endpoint.dial(free.local_addr().unwrap(), NodeId(1), Kind::Control)).await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_rotated_certificate_is_used_and_connections_stay() {
    let authority = authority(7);
    let (a, mut b) = (Agent::start(&authority), Agent::start(&authority));
    let (before, _held) = a.dial(&mut b, Kind::Control).await;
    let identity = b.endpoint.identity().clone();
    let later = SystemTime::now() + Duration::from_secs(120);
    let leaf = authority.issue(identity.key().public(), later).unwrap();
    identity.rotate(leaf, identity.roots()).unwrap();
    let (after, _) = a.dial(&mut b, Kind::Control).await;
    assert!(after.peer().not_after > before.peer().not_after);
    assert!(before.is_open());
}

#[tokio::test]
async fn a_new_root_takes_over_step_by_step() {
    let (old, new) = (authority(7), authority(7));
    let (a, mut b) = (Agent::start(&old), Agent::start(&old));
    let both = vec![new.certificate().clone(), old.certificate().clone()];
    for agent in [&a, &b] {
        let identity = agent.endpoint.identity();
        identity.rotate(identity.certificate(), both.clone()).unwrap();
    }
    // One has a leaf of the new root, the other still one of the old root.
    let identity = b.endpoint.identity().clone();
    identity.rotate(new.issue(identity.key().public(), SystemTime::now()).unwrap(), both).unwrap();
    a.dial(&mut b, Kind::Control).await;
    let identity = a.endpoint.identity().clone();
    let only_new = vec![new.certificate().clone()];
    identity.rotate(new.issue(identity.key().public(), SystemTime::now()).unwrap(), only_new).unwrap();
    a.dial(&mut b, Kind::Data).await;
    let stale = Agent::start(&old);
    assert!(soon(stale.endpoint.dial(a.address, a.node(), Kind::Control)).await.is_err());
}

#[tokio::test]
async fn a_closed_endpoint_leaves_no_tasks() {
    let authority = authority(7);
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    {
        let (a, mut b) = (Agent::start(&authority), Agent::start(&authority));
        let (_held, _other) = a.dial(&mut b, Kind::Control).await;
        assert!(metrics.num_alive_tasks() > before);
        soon(a.endpoint.close("the agent stops")).await;
        soon(b.endpoint.close("the agent stops")).await;
    }
    until("the end of every task", || metrics.num_alive_tasks() == before).await;
}

#[tokio::test]
async fn a_knock_tells_whether_a_node_is_reached_and_leaves_its_connections_alone() {
    let authority = authority(7);
    let (a, mut b) = (Agent::start(&authority), Agent::start(&authority));
    let (dialled, _accepted) = a.dial(&mut b, Kind::Control).await;
    let knock = |node| a.endpoint.knock(b.address, node, Duration::from_secs(5));
    soon(knock(b.node())).await.unwrap().unwrap();
    let error = soon(knock(NodeId(1))).await.unwrap().unwrap_err();
    assert_eq!(error, DialError::OtherNode { address: b.address, has: b.node(), wants: NodeId(1) });
    // Whatever the door is handed after the knocks is this.
    let (_later, accepted) = a.dial(&mut b, Kind::Data).await;
    assert_eq!(accepted.kind(), Kind::Data);
    assert!(dialled.is_open());
}

#[tokio::test]
async fn a_knock_comes_from_a_new_port_and_says_so_where_nobody_answers() {
    let a = Agent::start(&authority(7));
    // Bound, so that nobody else takes it, and silent.
    let nobody = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let within = Duration::from_millis(300);
    let knocked = soon(a.endpoint.knock(nobody.local_addr().unwrap(), NodeId(1), within)).await.unwrap();
    let error = knocked.unwrap_err();
    assert!(matches!(&error, DialError::Unreachable { why, .. } if why == "no answer within 300ms"), "{error:?}");
    let (_, from) = soon(nobody.recv_from(&mut [0; 1500])).await.unwrap();
    assert!(from.ip() == a.address.ip() && from.port() != a.address.port(), "{from}");
}

#[tokio::test]
async fn an_endpoint_knows_what_its_socket_was_granted() {
    let a = Agent::start(&authority(7));
    let has = a.endpoint.socket().unwrap();
    assert_eq!(has.wanted_bytes, Settings::new(Boot(1)).socket_buffer_bytes);
    assert!((1..=has.wanted_bytes).contains(&has.send_bytes), "{has:?}");
    assert!((1..=has.wanted_bytes).contains(&has.receive_bytes) && has.segments >= 1, "{has:?}");
    assert_eq!(odeon_transport::quic::try_socket("127.0.0.1:0".parse().unwrap()).unwrap(), has);
    assert!(odeon_transport::quic::try_socket(a.address).is_err(), "its port is taken");
}
