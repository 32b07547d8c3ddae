//! Certified peers that keep to the protocol and to nothing else: they flood, or stop reading.

use crate::{
    common::{Agent, authority, soon, until},
    garbage::{Rogue, lane_head, resume},
    lanes::{Pair, Sink, frame},
};
use odeon_protocol::{
    frame::{Class, Frame, Header, Kind as FrameKind},
    limits::{
        LANE_BYTES_MAX, LANE_KEPT_BYTES, LANE_QUEUE_BYTES, LANES, LARGE_LANE, LARGE_LANE_BYTES, LARGE_LANE_BYTES_MAX,
    },
};
use odeon_transport::quic::Lanes;
use std::sync::Arc;

/// Two others still reach each other.
async fn is_undisturbed(pair: &Pair, number: u32) {
    pair.to_b.send(0, frame(0, number, 10)).unwrap();
    until("the frame", || pair.at_b.count() == u64::from(number) + 1).await;
}

async fn rogue(authority: &odeon_transport::tls::Authority, agent: &mut Agent) -> (Rogue, Lanes, Arc<Sink>) {
    let (mut rogue, accepted) = Rogue::dial(authority, agent, "odeon-data/1").await;
    let sink = Arc::<Sink>::default();
    let lanes = Lanes::new(accepted.peer().node, accepted.peer().boot, sink.clone());
    lanes.attach(accepted);
    rogue.uni(&resume()).await;
    until("the lanes to be in use", || lanes.is_connected()).await;
    (rogue, lanes, sink)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_stops_reading_fills_its_own_lanes_only() {
    let authority = authority(7);
    let mut agent = Agent::start(&authority);
    let mut pair = Pair::new();
    pair.connect().await;
    let (_rogue, lanes, _sink) = rogue(&authority, &mut agent).await;
    let sized = |class, size| {
        let header = Header { class, ..Header::new(FrameKind::Tell) };
        Frame::new(header, &[], &vec![0; size]).bytes().clone()
    };
    for (number, class) in [(0, Class::Normal), (1, Class::Urgent)] {
        for lane in 0..LANES as u64 {
            let size = if lane == LARGE_LANE as u64 { 4 << 20 } else { 100 << 10 };
            let mut taken = 0;
            while lanes.send(lane, sized(class, size)).is_ok() {
                taken += 1;
                assert!(taken < 4096, "it takes {class:?} frames without end");
            }
        }
        is_undisturbed(&pair, number).await;
        let (small, large) = match class {
            Class::Urgent => (LANE_BYTES_MAX, LARGE_LANE_BYTES_MAX),
            _ => (LANE_KEPT_BYTES + LANE_QUEUE_BYTES, 2 * LARGE_LANE_BYTES),
        };
        // Each of the two limits may be passed by one frame.
        let most = LARGE_LANE * (small + (400 << 10)) + large + (10 << 20);
        assert!(lanes.queued() <= most, "{} bytes wait", lanes.queued());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_from_a_peer_is_taken_and_disturbs_nobody() {
    let authority = authority(7);
    let mut agent = Agent::start(&authority);
    let mut pair = Pair::new();
    pair.connect().await;
    let (mut rogue, _lanes, sink) = rogue(&authority, &mut agent).await;
    rogue.uni(&lane_head(0)).await;
    let mut stream = rogue.streams.pop().unwrap();
    let flooding = tokio::spawn(async move {
        for sequence in 0..100_000 {
            stream.write_all(&frame(0, sequence, 64)).await.unwrap();
        }
        stream
    });
    let mut number = 0;
    while !flooding.is_finished() {
        is_undisturbed(&pair, number).await;
        number += 1;
    }
    let _stream = soon(flooding).await.unwrap();
    until("all of the flood", || sink.count() == 100_000).await;
    is_undisturbed(&pair, number).await;
}
