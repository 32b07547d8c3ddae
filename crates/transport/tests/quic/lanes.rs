//! Frames over lanes: order, fullness, broken connections, giving up.

use crate::common::{Agent, authority, identity, soon, until};
use bytes::{Bytes, BytesMut};
use odeon_protocol::{
    Boot, NodeId,
    frame::{Class, Frame, Header, Kind as FrameKind},
    limits::{LANE_KEPT_BYTES, LANES, LARGE_LANE},
};
use odeon_transport::{
    quic::{Closed, Code, Kind, Lanes, Receive, Settings},
    tls::NodeKey,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::SystemTime,
};

/// Checks the order of each flow as frames come in.
#[derive(Default)]
pub(crate) struct Sink {
    next: Mutex<HashMap<u32, u32>>,
    pub(crate) frames: AtomicU64,
    batches: AtomicU64,
    bytes: AtomicUsize,
    wrong: AtomicBool,
    pub(crate) detached: Mutex<Vec<Closed>>,
}

impl Receive for Sink {
    fn frames(&self, _: NodeId, frames: Vec<BytesMut>) {
        let mut next = self.next.lock().unwrap();
        self.batches.fetch_add(1, Ordering::SeqCst);
        for bytes in frames {
            self.bytes.fetch_add(bytes.len(), Ordering::SeqCst);
            let header = Frame::read(bytes.freeze()).unwrap().header;
            let next = next.entry(header.flow).or_default();
            if *next != header.sequence {
                self.wrong.store(true, Ordering::SeqCst);
            }
            *next = header.sequence + 1;
            self.frames.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn detached(&self, _: NodeId, _: Kind, why: Closed) {
        self.detached.lock().unwrap().push(why);
    }
}

impl Sink {
    pub(crate) fn count(&self) -> u64 {
        self.frames.load(Ordering::SeqCst)
    }

    fn in_order(&self) -> bool {
        !self.wrong.load(Ordering::SeqCst)
    }
}

pub(crate) fn frame(flow: u32, sequence: u32, size: usize) -> Bytes {
    let header = Header { flow, sequence, ..Header::new(FrameKind::Tell) };
    Frame::new(header, &[], &vec![0; size]).bytes().clone()
}

async fn send(lanes: &Lanes, flow: u32, sequence: u32, size: usize) {
    let mut frame = frame(flow, sequence, size);
    while let Err(full) = lanes.send(flow.into(), frame) {
        frame = full.0;
        soon(lanes.room(flow.into(), &frame)).await;
    }
}

pub(crate) struct Pair {
    pub(crate) a: Agent,
    pub(crate) b: Agent,
    pub(crate) to_b: Lanes,
    pub(crate) to_a: Lanes,
    pub(crate) at_a: Arc<Sink>,
    pub(crate) at_b: Arc<Sink>,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let authority = authority(7);
        let (a, b) = (Agent::start(&authority), Agent::start(&authority));
        let (at_a, at_b) = (Arc::<Sink>::default(), Arc::<Sink>::default());
        let to_b = Lanes::new(b.node(), Boot(1), at_a.clone());
        let to_a = Lanes::new(a.node(), Boot(1), at_b.clone());
        Self { a, b, to_b, to_a, at_a, at_b }
    }

    pub(crate) async fn connect(&mut self) {
        let (dialled, accepted) = self.a.dial(&mut self.b, Kind::Data).await;
        self.to_b.attach(dialled);
        self.to_a.attach(accepted);
        until("the connection of the lanes", || self.to_a.is_connected() && self.to_b.is_connected()).await;
    }

    /// The connection of large frames.
    pub(crate) async fn connect_large(&mut self) {
        let (dialled, accepted) = self.a.dial(&mut self.b, Kind::Large).await;
        self.to_b.attach(dialled);
        self.to_a.attach(accepted);
    }

    fn breaks(&self) {
        self.to_b.connection(Kind::Data).unwrap().close(Code::Done, "broken by the test");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_frames_arrive_in_order() {
    const FLOWS: u32 = 16;
    const EACH: u32 = 100_000 / FLOWS;
    let mut pair = Pair::new();
    pair.connect().await;
    let back = {
        let to_a = pair.to_a.clone();
        tokio::spawn(async move {
            for sequence in 0..1000 {
                send(&to_a, 3, sequence, 64).await;
            }
        })
    };
    for sequence in 0..EACH {
        for flow in 0..FLOWS {
            send(&pair.to_b, flow, sequence, 64).await;
        }
    }
    soon(back).await.unwrap();
    until("every frame", || pair.at_b.count() == u64::from(FLOWS * EACH) && pair.at_a.count() == 1000).await;
    assert!(pair.at_b.in_order() && pair.at_a.in_order());
    let batches = pair.at_b.batches.load(Ordering::SeqCst);
    assert!(batches < u64::from(FLOWS * EACH) / 4, "{batches} batches: frames travel one by one");
    soon(pair.to_b.drained()).await;
    assert_eq!(pair.to_b.queued(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_lose_double_and_reorder_nothing() {
    const FRAMES: u32 = 20_000;
    let mut pair = Pair::new();
    pair.connect().await;
    let sending = {
        let to_b = pair.to_b.clone();
        tokio::spawn(async move {
            for sequence in 0..FRAMES {
                for flow in 0..LANES as u32 {
                    send(&to_b, flow, sequence, 100).await;
                }
            }
        })
    };
    for round in 1..=5 {
        let enough = u64::from(FRAMES) * LANES as u64 * round / 8;
        until("a part of the frames", || pair.at_b.count() >= enough).await;
        pair.breaks();
        until("the break", || !pair.to_b.is_connected() && !pair.to_a.is_connected()).await;
        pair.connect().await;
    }
    soon(sending).await.unwrap();
    until("every frame", || pair.at_b.count() == u64::from(FRAMES) * LANES as u64).await;
    assert!(pair.at_b.in_order());
    soon(pair.to_b.drained()).await;
    assert_eq!(pair.at_b.detached.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn a_new_connection_replaces_one_that_seems_to_live() {
    let mut pair = Pair::new();
    pair.connect().await;
    for sequence in 0..100 {
        send(&pair.to_b, 0, sequence, 10).await;
        if sequence == 50 {
            pair.connect().await;
        }
    }
    until("every frame", || pair.at_b.count() == 100).await;
    assert!(pair.at_b.in_order());
    assert!(pair.at_b.detached.lock().unwrap().is_empty(), "a replaced connection is no loss");
}

#[tokio::test]
async fn frames_wait_for_the_first_connection_up_to_a_limit() {
    let mut pair = Pair::new();
    let mut sequence = 0;
    while pair.to_b.send(0, frame(0, sequence, 50_000)).is_ok() {
        sequence += 1;
    }
    assert!(pair.to_b.queued() < LANE_KEPT_BYTES);
    let header = Header { flow: 0, sequence, class: Class::Urgent, ..Header::new(FrameKind::Settled) };
    pair.to_b.send(0, Frame::new(header, &[], b"").bytes().clone()).unwrap();
    assert!(pair.to_b.send(1, frame(1, 0, 10)).is_ok(), "another lane has room");
    pair.connect().await;
    until("every frame", || pair.at_b.count() == u64::from(sequence) + 2).await;
    assert!(pair.at_b.in_order());
    soon(pair.to_b.room(0, &frame(0, 0, 10))).await;
}

#[tokio::test]
async fn large_frames_travel_whole() {
    let mut pair = Pair::new();
    pair.connect().await;
    assert!(!pair.to_b.wants_large());
    pair.connect_large().await;
    for (sequence, size) in [(0, 10), (1, 8 << 20), (2, 100_000), (3, 10)] {
        send(&pair.to_b, 0, sequence, size).await;
    }
    until("every frame", || pair.at_b.count() == 4).await;
    assert!(pair.at_b.in_order());
    assert!(pair.at_b.bytes.load(Ordering::SeqCst) > (8 << 20) + 100_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_frames_pass_a_large_one_and_its_own_flow_does_not() {
    let mut pair = Pair::new();
    for (sequence, size) in [(0, 10), (1, 60 << 20), (2, 10)] {
        send(&pair.to_b, 0, sequence, size).await;
    }
    pair.connect().await;
    pair.connect_large().await;
    // Of the same lane.
    let flow = LARGE_LANE as u32;
    for sequence in 0..3 {
        send(&pair.to_b, flow, sequence, 10).await;
        until("a small frame", || pair.at_b.next.lock().unwrap().get(&flow) == Some(&(sequence + 1))).await;
    }
    assert_eq!(pair.at_b.next.lock().unwrap().get(&0), Some(&1), "the large frame came at once");
    until("every frame", || pair.at_b.count() == 6).await;
    soon(pair.to_b.drained()).await;
    send(&pair.to_b, 0, 3, 10).await;
    until("the last frame", || pair.at_b.count() == 7).await;
    assert!(pair.at_b.in_order());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_frames_keep_their_place_over_broken_connections() {
    const FRAMES: u32 = 400;
    let mut pair = Pair::new();
    pair.connect().await;
    pair.connect_large().await;
    let sending = {
        let to_b = pair.to_b.clone();
        tokio::spawn(async move {
            for sequence in 0..FRAMES {
                for flow in 0..6 {
                    let size = if (sequence + flow).is_multiple_of(7) { 200_000 } else { 3_000 };
                    send(&to_b, flow, sequence, size).await;
                }
            }
        })
    };
    for round in 1..=5 {
        let enough = u64::from(FRAMES) * 6 * round / 8;
        until("a part of the frames", || pair.at_b.count() >= enough).await;
        if round != 2 {
            pair.to_b.connection(Kind::Large).unwrap().close(Code::Done, "broken by the test");
        }
        if round != 3 {
            pair.breaks();
            until("the break", || !pair.to_b.is_connected() && !pair.to_a.is_connected()).await;
            pair.connect().await;
        }
        if round != 2 {
            pair.connect_large().await;
        }
    }
    soon(sending).await.unwrap();
    until("every frame", || pair.at_b.count() == u64::from(FRAMES) * 6).await;
    assert!(pair.at_b.in_order());
}

#[tokio::test]
async fn a_large_frame_waits_for_its_connection_and_holds_nobody_else() {
    let mut pair = Pair::new();
    pair.connect().await;
    for (flow, sequence, size) in [(0, 0, 1 << 20), (0, 1, 10), (1, 0, 10)] {
        send(&pair.to_b, flow, sequence, size).await;
    }
    until("the other flow's frame", || pair.at_b.count() == 1).await;
    assert!(pair.to_b.wants_large() && pair.at_b.next.lock().unwrap().get(&1) == Some(&1));
    pair.connect_large().await;
    until("every frame", || pair.at_b.count() == 3).await;
    soon(pair.to_b.drained()).await;
    assert!(!pair.to_b.wants_large() && pair.at_b.in_order());
}

#[tokio::test]
async fn new_lanes_of_a_peer_number_large_frames_anew() {
    let mut pair = Pair::new();
    pair.connect().await;
    pair.connect_large().await;
    for sequence in 0..3 {
        send(&pair.to_b, 0, sequence, 1 << 20).await;
    }
    soon(pair.to_b.drained()).await;
    pair.at_a = Arc::default();
    pair.to_b = Lanes::new(pair.b.node(), Boot(1), pair.at_a.clone());
    // The connection of the others is there first: what it says must not count for large frames.
    pair.connect().await;
    for sequence in 3..6 {
        send(&pair.to_b, 0, sequence, 1 << 20).await;
    }
    pair.connect_large().await;
    until("every frame", || pair.at_b.count() == 6).await;
    soon(pair.to_b.drained()).await;
    assert!(pair.at_b.in_order());
}

#[tokio::test]
async fn connections_of_large_frames_are_carried_by_a_runtime_of_their_own() {
    let large = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let alive = || large.metrics().num_alive_tasks();
    let authority = authority(7);
    let start = || {
        let identity = identity(&authority, &NodeKey::create().unwrap(), SystemTime::now());
        let settings = Settings { large: Some(large.handle().clone()), ..Settings::new(Boot(1)) };
        Agent::with_settings(identity, settings, None)
    };
    let (a, mut b) = (start(), start());
    let _frames = a.dial(&mut b, Kind::Data).await;
    assert_eq!(alive(), 0, "others are carried where they always were");
    let (dialled, accepted) = a.dial(&mut b, Kind::Large).await;
    assert_eq!(dialled.kind(), accepted.kind());
    until("the handshake's end", || alive() == 1).await;
    large.shutdown_background();
}

#[tokio::test]
async fn what_is_given_up_is_told_apart_and_later_frames_arrive() {
    let mut pair = Pair::new();
    pair.connect().await;
    send(&pair.to_b, 0, 0, 10).await;
    soon(pair.to_b.drained()).await;
    pair.breaks();
    until("the break", || !pair.to_b.is_connected() && !pair.to_a.is_connected()).await;
    for sequence in 90..93 {
        send(&pair.to_b, 0, sequence, 10).await;
    }
    let given = pair.to_b.give_up();
    assert_eq!((given.unsent.len(), given.unknown.len(), pair.to_b.queued()), (3, 0, 0));
    assert_eq!(given.unsent[1], frame(0, 91, 10));
    pair.connect().await;
    send(&pair.to_b, 0, 1, 10).await;
    until("the later frame", || pair.at_b.count() == 2).await;
    assert!(pair.at_b.in_order());
}

#[tokio::test]
async fn a_peer_that_forgot_its_counts_is_understood() {
    let mut pair = Pair::new();
    pair.connect().await;
    for sequence in 0..10 {
        send(&pair.to_b, 0, sequence, 10).await;
        send(&pair.to_a, 0, sequence, 10).await;
    }
    soon(pair.to_b.drained()).await;
    soon(pair.to_a.drained()).await;
    // The same boot, new lanes: nothing that was acknowledged comes again, and the new numbering is taken.
    pair.at_a = Arc::default();
    pair.to_b = Lanes::new(pair.b.node(), Boot(1), pair.at_a.clone());
    pair.connect().await;
    for sequence in 10..20 {
        send(&pair.to_b, 0, sequence, 10).await;
    }
    send(&pair.to_a, 0, 0, 10).await;
    until("the later frames", || pair.at_b.count() == 20 && pair.at_a.count() == 1).await;
    assert!(pair.at_b.in_order() && pair.at_a.in_order());
}

#[tokio::test]
async fn dropped_lanes_end_their_tasks_and_their_connection() {
    let authority = authority(7);
    let metrics = tokio::runtime::Handle::current().metrics();
    let mut b = Agent::with(identity(&authority, &NodeKey::create().unwrap(), SystemTime::now()), 1, None);
    let a = Agent::start(&authority);
    until("quiet", || metrics.num_alive_tasks() > 0).await;
    let idle = metrics.num_alive_tasks();
    let (dialled, accepted) = a.dial(&mut b, Kind::Data).await;
    let lanes = Lanes::new(b.node(), Boot(1), Arc::<Sink>::default());
    lanes.attach(dialled);
    let other = Lanes::new(a.node(), Boot(1), Arc::<Sink>::default());
    other.attach(accepted);
    until("the connection", || lanes.is_connected() && other.is_connected()).await;
    assert!(metrics.num_alive_tasks() > idle);
    drop(lanes);
    until("the other end's notice", || !other.is_connected()).await;
    drop(other);
    until("the end of every task", || metrics.num_alive_tasks() <= idle).await;
}

#[tokio::test]
async fn closed_endpoints_end_the_tasks_of_attached_lanes() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let mut pair = Pair::new();
    pair.connect().await;
    soon(pair.a.endpoint.close("the agent stops")).await;
    until("the notice", || pair.at_b.detached.lock().unwrap().len() == 1).await;
    let why = pair.at_b.detached.lock().unwrap()[0].clone();
    assert_eq!((why.code, why.by_peer, why.text.as_str()), (Some(Code::Done), true, "the agent stops"));
    soon(pair.b.endpoint.close("the agent stops")).await;
    let Pair { a, b, to_a, to_b, .. } = pair;
    drop((a, b));
    until("the end of every task", || metrics.num_alive_tasks() == before).await;
    drop((to_a, to_b));
}
