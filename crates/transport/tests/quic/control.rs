//! Requests, subscriptions, datagrams.

use crate::common::{Agent, authority, soon};
use bytes::Bytes;
use odeon_protocol::limits::{CONTROL_BYTES_MAX, REQUESTS_MAX};
use odeon_transport::{
    BoxFuture,
    quic::{
        Control, DatagramError, Kind, Peer, Publisher, RequestError, Serve,
        Urgency::{Ordinary, Urgent},
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, mpsc};

struct Service {
    datagrams: mpsc::Sender<Bytes>,
    release: Arc<Notify>,
    running: Arc<AtomicUsize>,
    dropped: Arc<AtomicBool>,
}

impl Serve for Service {
    fn request(&self, from: &Peer, body: Bytes) -> BoxFuture<'static, Bytes> {
        let (from, release, running) = (from.node, self.release.clone(), self.running.clone());
        Box::pin(async move {
            running.fetch_add(1, Ordering::SeqCst);
            match &body[..] {
                b"hang" => release.notified().await,
                b"who" => return from.to_string().into(),
                b"huge" => return vec![0; CONTROL_BYTES_MAX + 1].into(),
                _ => {}
            }
            body
        })
    }

    fn subscribe(&self, _: &Peer, body: Bytes, mut publisher: Publisher) -> BoxFuture<'static, ()> {
        let on_drop = SetOnDrop(self.dropped.clone());
        Box::pin(async move {
            let _on_drop = on_drop;
            let count = if &body[..] == b"endless" { u32::MAX } else { 1000 };
            for number in 0..count {
                if publisher.send(number.to_le_bytes().to_vec().into()).await.is_err() {
                    return;
                }
            }
        })
    }

    fn datagram(&self, _: &Peer, body: Bytes) {
        let _ = self.datagrams.try_send(body);
    }
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Pair {
    client: Control,
    server: Control,
    datagrams: mpsc::Receiver<Bytes>,
    release: Arc<Notify>,
    running: Arc<AtomicUsize>,
    dropped: Arc<AtomicBool>,
    agents: (Agent, Agent),
}

async fn pair() -> Pair {
    let authority = authority(7);
    let (a, mut b) = (Agent::start(&authority), Agent::start(&authority));
    let (dialled, accepted) = a.dial(&mut b, Kind::Control).await;
    let (sender, datagrams) = mpsc::channel(16);
    let (release, running, dropped) = (Arc::<Notify>::default(), Arc::default(), Arc::<AtomicBool>::default());
    let service = Arc::new(Service {
        datagrams: sender,
        release: release.clone(),
        running: Arc::clone(&running),
        dropped: dropped.clone(),
    });
    let (client, server) = (Control::start(dialled, service.clone()), Control::start(accepted, service));
    Pair { client, server, datagrams, release, running, dropped, agents: (a, b) }
}

const WITHIN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn both_ends_ask_and_are_answered() {
    let pair = pair().await;
    let big = Bytes::from(vec![7; 3 << 20]);
    for (control, body) in [(&pair.client, Bytes::from_static(b"")), (&pair.client, big.clone()), (&pair.server, big)] {
        assert_eq!(control.request(body.clone(), WITHIN, Ordinary).await.unwrap(), body);
    }
    let who = pair.client.request(Bytes::from_static(b"who"), WITHIN, Ordinary).await.unwrap();
    assert_eq!(who, pair.agents.0.node().to_string());
    assert_eq!(pair.server.connection().peer().node, pair.agents.0.node());
}

#[tokio::test]
async fn requests_do_not_wait_for_each_other_and_time_out_alone() {
    let pair = pair().await;
    let hanging = pair.client.request(Bytes::from_static(b"hang"), Duration::from_millis(50), Ordinary).await;
    assert_eq!(hanging, Err(RequestError::Timeout(Duration::from_millis(50))));
    assert!(hanging.unwrap_err().may_have_run());
    let answers = (0..500u32).map(|number| pair.client.request(number.to_string().into(), WITHIN, Ordinary));
    for (number, answer) in answers.enumerate() {
        assert_eq!(answer.await.unwrap(), number.to_string());
    }
}

#[tokio::test]
async fn too_many_requests_wait_at_the_asker() {
    let pair = pair().await;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..REQUESTS_MAX + 50 {
        let client = pair.client.clone();
        asked.spawn(async move { client.request(Bytes::from_static(b"hang"), WITHIN * 2, Ordinary).await });
    }
    crate::common::until("as many requests as may run", || pair.running.load(Ordering::SeqCst) == REQUESTS_MAX).await;
    // All that were taken are let go; then the others come in.
    while !asked.is_empty() {
        pair.release.notify_waiters();
        if let Ok(Some(answer)) = tokio::time::timeout(Duration::from_millis(5), asked.join_next()).await {
            answer.unwrap().unwrap();
        }
    }
    assert_eq!(pair.running.load(Ordering::SeqCst), REQUESTS_MAX + 50);
}

/// Others may be waiting for what an urgent request brings about: the directory's log for the places that names ask for.
#[tokio::test]
async fn an_urgent_request_does_not_wait_for_others_even_if_nobody_waits_for_those() {
    let pair = pair().await;
    let given_up = Duration::from_millis(50);
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..3 * REQUESTS_MAX {
        let client = pair.client.clone();
        asked.spawn(async move { client.request(Bytes::from_static(b"hang"), given_up, Ordinary).await });
    }
    let outcomes = asked.join_all().await;
    let not_sent = outcomes.iter().filter(|outcome| **outcome == Err(RequestError::Busy(given_up))).count();
    assert_eq!(not_sent, 2 * REQUESTS_MAX, "the peer is still at the others");
    crate::common::until("all that may run", || pair.running.load(Ordering::SeqCst) == REQUESTS_MAX).await;
    let late = pair.client.request(Bytes::from_static(b"late"), given_up, Ordinary).await.unwrap_err();
    assert!(late == RequestError::Busy(given_up) && !late.may_have_run());
    assert_eq!(pair.client.request(Bytes::from_static(b"now"), WITHIN, Urgent).await.unwrap(), "now");
    pair.release.notify_waiters();
    assert_eq!(pair.client.request(Bytes::from_static(b"again"), WITHIN, Ordinary).await.unwrap(), "again");
}

#[tokio::test]
async fn what_is_too_big_is_refused_on_either_side() {
    let pair = pair().await;
    let body = Bytes::from(vec![0; CONTROL_BYTES_MAX + 1]);
    let error = pair.client.request(body, WITHIN, Ordinary).await.unwrap_err();
    assert!(matches!(error, RequestError::TooBig { .. }) && !error.may_have_run());
    let error = pair.client.request(Bytes::from_static(b"huge"), WITHIN, Ordinary).await.unwrap_err();
    assert!(matches!(error, RequestError::Lost { may_have_run: true, .. }), "{error}");
    assert_eq!(pair.client.request(Bytes::from_static(b"still"), WITHIN, Ordinary).await.unwrap(), "still");
}

#[tokio::test]
async fn a_subscription_comes_in_order_and_ends() {
    let pair = pair().await;
    let mut subscription = pair.client.subscribe(Bytes::from_static(b"")).await.unwrap();
    for number in 0..1000u32 {
        assert_eq!(soon(subscription.next()).await.unwrap().unwrap()[..], number.to_le_bytes());
    }
    assert_eq!(soon(subscription.next()).await.unwrap(), None);
}

#[tokio::test]
async fn a_subscriber_that_goes_ends_the_publisher() {
    let pair = pair().await;
    let mut subscription = pair.client.subscribe(Bytes::from_static(b"endless")).await.unwrap();
    soon(subscription.next()).await.unwrap();
    assert!(!pair.dropped.load(Ordering::SeqCst));
    drop(subscription);
    crate::common::until("the publisher's end", || pair.dropped.load(Ordering::SeqCst)).await;
    assert_eq!(pair.client.request(Bytes::from_static(b"on"), WITHIN, Ordinary).await.unwrap(), "on");
}

#[tokio::test]
async fn datagrams_go_both_ways_up_to_the_limit() {
    let mut pair = pair().await;
    assert!(pair.client.datagram_max() >= 1150, "{}", pair.client.datagram_max());
    let full = Bytes::from(vec![3; 1150]);
    for control in [&pair.client, &pair.server] {
        control.datagram(full.clone()).unwrap();
        assert_eq!(soon(pair.datagrams.recv()).await.unwrap(), full);
    }
    let error = pair.client.datagram(vec![0; 60_000].into()).unwrap_err();
    assert!(matches!(error, DatagramError::TooBig { bytes: 60_000, .. }), "{error}");
}

#[tokio::test]
async fn a_lost_connection_fails_what_is_under_way() {
    let pair = pair().await;
    let client = pair.client.clone();
    let asked = tokio::spawn(async move { client.request(Bytes::from_static(b"hang"), WITHIN, Ordinary).await });
    crate::common::until("the request's arrival", || pair.running.load(Ordering::SeqCst) == 1).await;
    pair.agents.1.endpoint.close("the agent stops").await;
    let error = soon(asked).await.unwrap().unwrap_err();
    assert!(error.may_have_run() && error.to_string().contains("stops"), "{error}");
    let error = pair.client.request(Bytes::new(), WITHIN, Ordinary).await.unwrap_err();
    assert!(!error.may_have_run(), "{error}");
    assert_eq!(pair.client.datagram(Bytes::new()), Err(DatagramError::Lost));
}
