//! The router without its sockets: frames in, frames out.

mod limits;
mod troupes;

use super::{
    Peers, Why,
    back::{self, BOUNCES_MAX},
    forward::Router,
    table::Known,
};
use crate::{event::Event, metrics::Metrics, queue::Queue};
use bytes::{Bytes, BytesMut};
use odeon_protocol::{
    Boot, Direct, NodeId, Reason, Serial, Time, WorkerId,
    frame::{Class, Extension, Frame, Header, Kind, Splitter, flags},
    limits::{AGENT_BYTES_MAX, AGENT_LOCAL_BYTES, AGENT_WAITING_BYTES, LARGE_UNREAD_FOR},
};
use odeon_transport::{
    frame_io::{Gate, Inlet, Outbox, write_frames},
    quic::Undelivered,
};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Notify, time::timeout};

const ME: NodeId = NodeId(1);
const FAR: NodeId = NodeId(2);
const W1: WorkerId = WorkerId(1);
const W2: WorkerId = WorkerId(2);

#[derive(Default)]
struct Sent {
    frames: Mutex<Vec<(NodeId, Frame)>>,
    full: Mutex<bool>,
}

impl Peers for Sent {
    fn send(&self, node: NodeId, frame: Bytes) -> bool {
        if *self.full.lock() {
            return false;
        }
        self.frames.lock().push((node, Frame::read(frame).unwrap()));
        true
    }

    fn queued(&self) -> usize {
        self.frames.lock().iter().map(|(_, frame)| frame.bytes().len()).sum()
    }

    fn take_back(&self, node: NodeId, fits: &dyn Fn(&[u8]) -> bool) -> Undelivered {
        let all = std::mem::take(&mut *self.frames.lock());
        let (back, kept) = all.into_iter().partition(|(to, frame)| *to == node && fits(frame.bytes()));
        *self.frames.lock() = kept;
        let back: Vec<_> = back;
        Undelivered { unsent: back.into_iter().map(|(_, frame)| frame.bytes().clone()).collect(), unknown: Vec::new() }
    }
}

struct World {
    router: Router,
    peers: Arc<Sent>,
    events: Arc<Queue<Event>>,
    metrics: Arc<Metrics>,
    outboxes: Vec<Outbox>,
}

fn at(node: NodeId, block: u64, number: u64) -> Direct {
    Direct { node, boot: Boot(10), serial: Serial(Serial::first_of(block).0 + number) }
}

impl World {
    /// Two workers: blocks 2 and 3.
    fn new() -> Self {
        let (peers, events) = (Arc::new(Sent::default()), Arc::new(Queue::default()));
        let metrics = Arc::new(Metrics::default());
        let mut router = Router::new(at(ME, 0, 0), peers.clone(), events.clone(), metrics.clone());
        let outboxes: Vec<_> = [(W1, 2), (W2, 3)]
            .map(|(worker, block)| {
                let outbox = Outbox::default();
                router.attach(worker, "test".into(), outbox.clone(), &[block]);
                outbox
            })
            .into();
        Self { router, peers, events, metrics, outboxes }
    }

    fn take(&mut self, from: WorkerId, frame: &Frame) {
        self.router.take(from, vec![BytesMut::from(&frame.bytes()[..])]).unwrap();
    }

    fn take_from_far(&mut self, frame: &Frame) {
        self.router.take_from_peer(FAR, vec![BytesMut::from(&frame.bytes()[..])]);
    }

    /// What a worker was sent.
    async fn out(&self, worker: WorkerId) -> Vec<Frame> {
        let outbox = &self.outboxes[worker.0 as usize - 1];
        outbox.close();
        let mut splitter = Splitter::default();
        let mut bytes = Vec::new();
        write_frames(outbox, &mut bytes).await.unwrap();
        splitter.buffer().extend_from_slice(&bytes);
        std::iter::from_fn(|| splitter.next_frame().unwrap())
            .map(|frame| Frame::read(frame.freeze()).unwrap())
            .filter(|frame| frame.header.kind != Kind::Control)
            .collect()
    }

    fn far(&self) -> Vec<Frame> {
        self.peers.frames.lock().iter().map(|(_, frame)| frame.clone()).collect()
    }

    async fn missed(&self) -> usize {
        self.events.take().await.iter().filter(|event| matches!(event, Event::Missed { .. })).count()
    }
}

fn message(kind: Kind, from: Direct, to: Direct, name: Option<&str>) -> Frame {
    let correlation = u64::from(kind == Kind::Ask) * 7;
    let header = Header { from, to, correlation, ..Header::new(kind) };
    Frame::new(header, name.map(Extension::To).as_slice(), b"body")
}

#[tokio::test]
async fn a_frame_goes_to_the_process_of_its_block() {
    let mut world = World::new();
    world.take(W1, &message(Kind::Tell, at(ME, 2, 1), at(ME, 3, 9), None));
    assert_eq!(world.out(W2).await.len(), 1);
}

#[tokio::test]
async fn nobody_speaks_for_another() {
    let mut world = World::new();
    world.take(W1, &message(Kind::Tell, at(ME, 3, 1), at(ME, 3, 9), None));
    world.take_from_far(&message(Kind::Tell, at(NodeId(3), 2, 1), at(ME, 3, 9), None));
    world.take_from_far(&message(Kind::Tell, at(FAR, 2, 1), at(ME, 3, 9), None));
    let out = world.out(W2).await;
    assert_eq!(out.iter().map(|frame| frame.header.from).collect::<Vec<_>>(), [at(FAR, 2, 1)]);
}

#[tokio::test]
async fn of_a_named_actor_nothing_is_taken_once_the_lease_was_not_renewed_in_time() {
    let mut world = World::new();
    world.router.names_until = Some(Time::ZERO + Duration::from_secs(2));
    let (named, nameless) = (at(ME, 2, 1), at(ME, 2, 2));
    let of = |from, epoch, kind| {
        let message = message(kind, from, at(ME, 3, 9), None);
        message.with_header(Header { from_epoch: epoch, ..message.header })
    };
    world.take(W1, &of(named, 4, Kind::Tell));
    world.router.now = Time::ZERO + Duration::from_secs(2);
    for kind in [Kind::Tell, Kind::Ask, Kind::Reply] {
        world.take(W1, &of(named, 4, kind));
    }
    world.take(W1, &of(nameless, 0, Kind::Tell));
    let kinds =
        |frames: Vec<Frame>| frames.iter().map(|frame| (frame.header.kind, frame.header.from)).collect::<Vec<_>>();
    let got = kinds(world.out(W2).await);
    assert_eq!(got, [(Kind::Tell, named), (Kind::Failure, named), (Kind::Tell, nameless)]);
    let back = world.out(W1).await;
    assert!(
        back.iter().all(|frame| frame.header.kind == Kind::Returned && frame.reason().unwrap().0 == Reason::Fenced)
    );
    assert_eq!(back.len(), 2);
}

#[tokio::test]
async fn a_name_is_asked_for_once_and_its_frames_go_on_in_order() {
    let mut world = World::new();
    for sequence in 0..3 {
        let frame = message(Kind::Tell, at(ME, 2, 1), Direct::NONE, Some("n"));
        world.take(W1, &frame.with_header(Header { sequence, ..frame.header }));
    }
    assert_eq!(world.missed().await, 1);
    world.router.resolved(&"n".into(), Known { place: at(ME, 3, 9), epoch: 4 });
    let frame = message(Kind::Tell, at(ME, 2, 1), Direct::NONE, Some("n"));
    world.take(W1, &frame.with_header(Header { sequence: 3, ..frame.header }));
    let out = world.out(W2).await;
    assert_eq!(out.iter().map(|frame| frame.header.sequence).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(out.iter().all(|frame| frame.header.to == at(ME, 3, 9) && frame.header.to_epoch == 4));
}

#[tokio::test]
async fn a_name_that_went_elsewhere_is_followed_by_its_senders_agent() {
    let mut world = World::new();
    // Another host believes that the name is here; it is on a third one.
    world.take_from_far(&message(Kind::Tell, at(FAR, 2, 1), at(ME, 9, 9), Some("n")));
    assert_eq!(world.missed().await, 1);
    world.router.resolved(&"n".into(), Known { place: at(NodeId(3), 2, 2), epoch: 4 });
    let far = world.far();
    assert_eq!(far.len(), 1, "it is given back, not passed on");
    assert_eq!((far[0].header.kind, far[0].reason().unwrap().0), (Kind::Returned, Reason::Moved));
    assert_eq!(far[0].header.from.node, ME, "or the other agent would not take it");
    // And the sender's agent asks anew.
    let mut world = World::new();
    let back = back::returned(
        &message(Kind::Tell, at(ME, 2, 1), at(FAR, 9, 9), Some("n")),
        &Why::not_run(Reason::Moved, "elsewhere"),
    );
    world.take_from_far(&Frame::read(back.freeze()).unwrap());
    assert_eq!(world.missed().await, 1);
    assert!(world.out(W1).await.is_empty(), "its sender does not notice");
}

#[tokio::test]
async fn another_agents_message_goes_back_though_the_name_is_borne_here_again() {
    let mut world = World::new();
    world.router.lost(W1, Vec::new());
    world.take_from_far(&message(Kind::Tell, at(FAR, 2, 1), at(ME, 2, 8), Some("n")));
    world.router.resolved(&"n".into(), Known { place: at(ME, 3, 9), epoch: 4 });
    // Or its sender's process would not know where it is, and not hear of that place's loss.
    let far: Vec<_> = world.far().iter().map(|back| (back.header.kind, back.reason().unwrap().0)).collect();
    assert_eq!(far, [(Kind::Returned, Reason::Moved)]);
    assert!(world.out(W2).await.is_empty());
}

#[tokio::test]
async fn a_message_that_a_later_one_has_overtaken_goes_back_to_its_sender() {
    let mut world = World::new();
    let sent = |sequence, flags| {
        let frame = message(Kind::Tell, at(ME, 2, 1), at(FAR, 3, 9), Some("n"));
        frame.with_header(Header { flow: 16, sequence, flags, ..frame.header })
    };
    let back = |frame: &Frame| Frame::read(back::returned(frame, &Why::not_run(Reason::Moved, "")).freeze()).unwrap();
    (0..3).for_each(|sequence| world.take(W1, &sent(sequence, 0)));
    // The first two have reached the other host, which loses the name with the third on the way.
    world.peers.frames.lock().drain(..2);
    world.router.place_lost(at(FAR, 3, 9), &Why::not_run(Reason::Unreachable, "its lease is lost"));
    world.take_from_far(&back(&sent(0, 0)));
    assert_eq!(world.missed().await, 1);
    world.router.resolved(&"n".into(), Known { place: at(NodeId(3), 2, 2), epoch: 4 });
    let numbers: Vec<_> = world.far().iter().map(|frame| frame.header.sequence).collect();
    assert_eq!(numbers, [0, 2], "from whichever place they came back");
    world.take_from_far(&back(&sent(1, 0)));
    assert_eq!(world.far().len(), 2);
    let out = world.out(W1).await;
    assert_eq!(
        out.iter().map(|back| (back.header.kind, back.header.sequence)).collect::<Vec<_>>(),
        [(Kind::Returned, 1)]
    );
}

#[tokio::test]
async fn what_comes_back_for_a_former_start_of_this_agent_is_not_sent_on() {
    let mut world = World::new();
    let former = Direct { boot: Boot(9), ..at(ME, 2, 1) };
    let sent = message(Kind::Tell, former, at(FAR, 3, 9), Some("n"));
    let back = back::returned(&sent, &Why::not_run(Reason::Moved, ""));
    world.take_from_far(&Frame::read(back.freeze()).unwrap());
    assert_eq!(world.router.held_bytes(), 0, "that start may have written it off");
}

#[tokio::test]
async fn what_follows_a_message_that_went_back_goes_back_too_though_the_name_is_here_again() {
    let mut world = World::new();
    let flow = |sequence| {
        let frame = message(Kind::Tell, at(FAR, 2, 1), at(ME, 3, 8), Some("n"));
        frame.with_header(Header { flow: 16, sequence, ..frame.header })
    };
    let reasons = |world: &World| world.far().iter().map(|back| back.reason().unwrap().0).collect::<Vec<_>>();
    // The first one finds its actor gone, and waits until the name is elsewhere.
    let gone = Frame::read(back::returned(&flow(0), &Why::not_run(Reason::ActorStopped, "")).freeze()).unwrap();
    world.take(W2, &gone);
    world.router.resolved(&"n".into(), Known { place: at(NodeId(3), 2, 2), epoch: 4 });
    assert_eq!(reasons(&world), [Reason::Moved]);
    // The name is here again before the others come: they are behind the first one on every way.
    world.router.resolved(&"n".into(), Known { place: at(ME, 3, 9), epoch: 5 });
    world.take_from_far(&flow(1));
    let gone = Frame::read(back::returned(&flow(2), &Why::not_run(Reason::ActorStopped, "")).freeze()).unwrap();
    world.take(W2, &gone);
    assert_eq!(reasons(&world), [Reason::Moved; 3]);
    assert!(world.far().iter().skip(1).all(|back| back.header.to == at(FAR, 2, 1) && back.header.from == at(ME, 3, 8)));
    // The sender's agent sends them where the name is.
    let frame = message(Kind::Tell, at(FAR, 2, 1), at(ME, 3, 9), Some("n"));
    world.take_from_far(&frame.with_header(Header { flow: 16, sequence: 0, ..frame.header }));
    assert_eq!(world.out(W2).await.len(), 1);
}

/// The connection of the lane ended, say, as the other agent has started anew.
#[tokio::test]
async fn what_follows_a_message_that_was_taken_back_on_its_way_waits_with_it() {
    let mut world = World::new();
    let name: Arc<str> = "n".into();
    let place = Known { place: at(FAR, 3, 9), epoch: 4 };
    let tell = |sequence, to| {
        let tell = message(Kind::Tell, at(ME, 2, 1), to, Some("n"));
        tell.with_header(Header { flow: 5, sequence, ..tell.header })
    };
    world.take(W1, &tell(0, Direct::NONE));
    world.router.resolved(&name, place);
    let (_, sent) = world.peers.frames.lock().pop().unwrap();
    let unsent = Undelivered { unsent: vec![sent.bytes().clone()], unknown: Vec::new() };
    world.router.undelivered(unsent, &Why::not_run(Reason::Unreachable, "its link has ended"));
    world.take(W1, &tell(1, place.place));
    assert!(world.far().is_empty(), "it would be handled before the first");
    world.router.resolved(&name, place);
    assert_eq!(world.far().iter().map(|frame| frame.header.sequence).collect::<Vec<_>>(), [0, 1]);
}

/// The other agent has started anew: it sends the message back, but its word that it has it is still on its way.
#[tokio::test]
async fn what_came_back_to_go_elsewhere_is_not_given_back_when_the_host_is_lost() {
    let mut world = World::new();
    let ask = message(Kind::Ask, at(ME, 2, 1), at(FAR, 3, 9), Some("n"));
    let ask = ask.with_header(Header { flow: 5, correlation: 8, ..ask.header });
    world.take(W1, &ask);
    let (_, first) = world.peers.frames.lock().pop().unwrap();
    let moved = back::returned(&first, &Why::not_run(Reason::Moved, "gone with an earlier start of its agent"));
    world.take_from_far(&Frame::read(moved.freeze()).unwrap());
    let lost = |frame: &Frame| Undelivered { unsent: Vec::new(), unknown: vec![frame.bytes().clone()] };
    let why = Why::not_run(Reason::HostLost, "lost");
    world.router.undelivered(lost(&first), &why);
    world.router.resolved(&"n".into(), Known { place: at(NodeId(3), 2, 2), epoch: 4 });
    let (to, second) = world.peers.frames.lock().pop().unwrap();
    assert_eq!((to, second.header.kind, second.header.sequence), (NodeId(3), Kind::Ask, 0));
    // There it may have run.
    world.router.undelivered(lost(&second), &why);
    let out = world.out(W1).await;
    let seen: Vec<_> = out.iter().map(|frame| (frame.header.kind, frame.header.from, frame.header.bounced())).collect();
    assert_eq!(seen, [(Kind::Returned, at(NodeId(3), 2, 2), 1)]);
}

/// Its sender's agent takes nothing of a start that is over.
#[tokio::test]
async fn all_that_goes_back_for_an_earlier_start_of_this_agent_is_from_this_one() {
    let mut world = World::new();
    for sequence in 0..2 {
        let tell = message(Kind::Tell, at(FAR, 2, 1), Direct { boot: Boot(9), ..at(ME, 3, 8) }, Some("n"));
        world.take_from_far(&tell.with_header(Header { flow: 16, sequence, ..tell.header }));
    }
    let seen: Vec<_> = world.far().iter().map(|back| (back.header.kind, back.header.from)).collect();
    assert_eq!(seen, [(Kind::Returned, at(ME, 0, 0)); 2]);
}

#[tokio::test]
async fn a_message_does_not_go_round_for_ever() {
    let mut world = World::new();
    let frame = message(Kind::Tell, at(ME, 2, 1), at(ME, 9, 9), Some("n"));
    let tired = Header { flags: BOUNCES_MAX << 8, ..frame.header };
    world.take(W1, &frame.with_header(tired));
    let out = world.out(W1).await;
    assert_eq!(out[0].reason().unwrap().0, Reason::NoSuchActor);
}

#[tokio::test]
async fn a_lost_process_fails_the_asks_it_had_and_gives_back_what_it_had_not() {
    let mut world = World::new();
    world.take(W1, &message(Kind::Ask, at(ME, 2, 1), at(ME, 3, 9), None));
    let queued = message(Kind::Tell, at(ME, 2, 1), at(ME, 3, 9), None);
    world.router.lost(W2, vec![BytesMut::from(&queued.bytes()[..])]);
    world.take(W1, &message(Kind::Tell, at(ME, 2, 1), at(ME, 3, 9), None));
    let out = world.out(W1).await;
    let seen: Vec<_> = out
        .iter()
        .map(|frame| (frame.header.kind, frame.reason().unwrap().0, frame.header.has(flags::MAY_HAVE_RUN)))
        .collect();
    let lost = Reason::WorkerLost;
    assert_eq!(seen, [(Kind::Returned, lost, false), (Kind::Failure, lost, true), (Kind::Returned, lost, false)]);
}

#[tokio::test]
async fn an_answered_ask_is_not_failed_later() {
    let mut world = World::new();
    world.take(W1, &message(Kind::Ask, at(ME, 2, 1), at(FAR, 3, 9), None));
    let reply = Header { from: at(FAR, 3, 9), to: at(ME, 2, 1), correlation: 7, ..Header::new(Kind::Reply) };
    world.take_from_far(&Frame::new(reply, &[], b"reply"));
    // Whoever answers has received the question.
    world.peers.frames.lock().clear();
    let why = Why { reason: Reason::HostLost, text: "gone".into(), may_have_run: true };
    world.router.peer_unreachable(FAR, &why);
    let kinds: Vec<_> = world.out(W1).await.iter().map(|frame| frame.header.kind).collect();
    assert_eq!(kinds, [Kind::Reply]);
}

#[tokio::test]
async fn what_was_on_its_way_to_a_lost_place_comes_back() {
    let mut world = World::new();
    world.take(W1, &message(Kind::Tell, at(ME, 2, 1), at(FAR, 3, 9), None));
    world.take(W1, &message(Kind::Tell, at(ME, 2, 1), at(FAR, 3, 8), None));
    let why = Why { reason: Reason::Unreachable, text: "gone".into(), may_have_run: true };
    world.router.place_lost(at(FAR, 3, 9), &why);
    let out = world.out(W1).await;
    let seen: Vec<_> = out.iter().map(|frame| (frame.header.kind, frame.header.has(flags::MAY_HAVE_RUN))).collect();
    assert_eq!(seen, [(Kind::Returned, false)]);
    assert_eq!(world.peers.frames.lock().len(), 1, "what is for others goes on");
}

#[tokio::test]
async fn a_fence_waits_for_an_agent_that_is_not_reached() {
    let mut world = World::new();
    let tell = message(Kind::Tell, at(ME, 2, 1), at(FAR, 3, 9), Some("n"));
    let fence = tell.with_header(Header { class: Class::Urgent, flags: flags::FENCE, flow: 5, ..tell.header });
    world.take(W1, &tell);
    world.take(W1, &fence);
    world.router.peer_unreachable(FAR, &Why::not_run(Reason::Unreachable, "cut off"));
    assert_eq!(world.far().len(), 1, "what came there before the fence may yet come back");
    world.router.host_dead(FAR, Boot(10), &Why::not_run(Reason::HostLost, "dead"));
    assert!(world.router.held_bytes() > 0, "it goes after what went to the name's next place");
    world.router.missing("n", false, &Why::not_run(Reason::NoSuchActor, "n"));
    let ends = world.out(W1).await.into_iter().map(|frame| (frame.header.has(flags::FENCE), frame.reason().unwrap().0));
    assert_eq!(ends.collect::<Vec<_>>(), [(false, Reason::Unreachable), (true, Reason::NoSuchActor)]);
}

/// Each way in which an ask fails while another agent may have it.
#[tokio::test]
async fn an_ask_that_failed_as_perhaps_run_is_not_sent_on_when_it_comes_back() {
    let cut_off = |router: &mut Router| {
        router.peer_unreachable(FAR, &Why::not_run(Reason::Unreachable, "cut off"));
    };
    let lost_lease = |router: &mut Router| {
        router.place_lost(at(FAR, 3, 9), &Why::not_run(Reason::Unreachable, "gone"));
    };
    for fails in [cut_off as fn(&mut Router), lost_lease] {
        let mut world = World::new();
        let ask = message(Kind::Ask, at(ME, 2, 1), at(FAR, 3, 9), Some("n"));
        let ask = ask.with_header(Header { flow: 5, correlation: 8, ..ask.header });
        world.take(W1, &ask);
        assert_eq!(world.far().len(), 1);
        // The other agent has it.
        world.peers.frames.lock().clear();
        fails(&mut world.router);
        let moved = back::returned(&ask, &Why::not_run(Reason::Moved, "it lives elsewhere"));
        world.take_from_far(&Frame::read(moved.freeze()).unwrap());
        assert_eq!(world.router.held_bytes(), 0, "whoever asked has gone on: it would come after later messages");
        let out = world.out(W1).await;
        let seen: Vec<_> = out.iter().map(|frame| (frame.header.kind, frame.header.has(flags::MAY_HAVE_RUN))).collect();
        assert_eq!(seen, [(Kind::Failure, true)]);
    }
}

#[tokio::test]
async fn a_peer_speaks_for_its_own_living_boot_only() {
    let mut world = World::new();
    let boot = |boot: u64| Direct { boot: Boot(boot), ..at(FAR, 2, 1) };
    world.router.table.host_dead(FAR, Boot(9));
    for from in [at(NodeId(3), 1, 1), at(ME, 2, 1), boot(9), boot(8), Direct::NONE] {
        world.take_from_far(&message(Kind::Tell, from, at(ME, 2, 1), None));
    }
    world.router.take_from_peer(FAR, vec![BytesMut::from(&[0xff; 300][..]), BytesMut::new()]);
    let control = Header { from: boot(10), to: at(ME, 2, 1), ..Header::new(Kind::Control) };
    world.take_from_far(&Frame::new(control, &[], b"Stop"));
    world.take_from_far(&message(Kind::Tell, boot(10), at(ME, 2, 1), None));
    assert_eq!(world.out(W1).await.len(), 1, "the last one");
}

#[tokio::test]
async fn what_a_peer_sends_to_an_older_boot_comes_back() {
    let mut world = World::new();
    let old = Direct { boot: Boot(9), ..at(ME, 2, 1) };
    world.take_from_far(&message(Kind::Tell, at(FAR, 2, 1), old, None));
    let far = world.far();
    assert_eq!(far.len(), 1);
    assert_eq!((far[0].header.kind, far[0].reason().map(|why| why.0)), (Kind::Returned, Some(Reason::HostLost)));
    assert!(world.out(W1).await.is_empty());
}

#[tokio::test]
async fn a_fence_that_comes_back_is_no_letter_and_counts_as_no_message() {
    let mut world = World::new();
    world.router.want_letters(true);
    let tell = message(Kind::Tell, at(ME, 2, 1), at(ME, 9, 1), None);
    let fence = Frame::new(Header { flags: flags::FENCE, ..tell.header }, &[], &[]);
    world.take(W1, &fence);
    let letters =
        |world: &World| world.events.take_now().iter().filter(|event| matches!(event, Event::CameBack { .. })).count();
    assert_eq!((letters(&world), world.metrics.returned.get()), (0, 0));
    world.take(W1, &tell);
    assert_eq!((letters(&world), world.metrics.returned.get()), (1, 1));
    let back = world.out(W1).await;
    assert_eq!(back.iter().filter(|frame| frame.header.kind == Kind::Returned).count(), 2);
}

#[tokio::test]
async fn what_clients_tell_and_what_is_given_back_is_counted() {
    let mut world = World::new();
    let nowhere = message(Kind::Tell, at(ME, 2, 1), at(ME, 9, 9), None);
    let told = |sequence, header: Header| nowhere.with_header(Header { sequence, ..header });
    // A runtime names a message by number; the command line and HTTP do by text.
    world.take(W1, &told(0, Header { flow: 1, type_id: 7, ..nowhere.header }));
    world.take(W1, &told(1, Header { flow: 1, ..nowhere.header }));
    world.take(W1, &told(2, nowhere.header));
    world.take(W1, &told(3, Header { flow: 1, flags: flags::FENCE, ..nowhere.header }));
    assert_eq!(world.metrics.client_messages.get(), 1);
    let returned: Vec<_> = world.metrics.returned_for.all().collect();
    assert_eq!(returned, [(Reason::NoSuchActor, 3)], "a fence is no message");
    assert_eq!(world.metrics.returned.get(), 3);
}

/// It told the process that had given it back, too, where the same number is that of another ask.
#[tokio::test]
async fn an_ask_that_comes_back_fails_at_its_asker_alone() {
    let mut world = World::new();
    let (asker, target) = (at(ME, 2, 1), at(FAR, 5, 1));
    let ask = message(Kind::Ask, asker, target, None);
    world.take(W1, &ask);
    let forwarder = at(ME, 2, 2);
    let forwarded = Frame::new(
        Header { from: forwarder, to: target, correlation: 8, ..Header::new(Kind::Ask) },
        &[Extension::ReplyTo { to: at(ME, 3, 1), correlation: 9 }],
        b"",
    );
    world.take(W1, &forwarded);
    world.peers.frames.lock().clear();
    let why = Why::not_run(Reason::NoSuchActor, "it has ended");
    for message in [ask, forwarded] {
        world.take_from_far(&Frame::read(back::returned(&message, &why).freeze()).unwrap());
    }
    assert_eq!(world.far().len(), 0);
    let seen = |frames: Vec<Frame>| -> Vec<_> {
        frames.iter().map(|frame| (frame.header.kind, frame.header.to, frame.header.correlation)).collect()
    };
    assert_eq!(seen(world.out(W1).await), [(Kind::Returned, asker, 7), (Kind::Returned, forwarder, 8)]);
    assert_eq!(seen(world.out(W2).await), [(Kind::Failure, at(ME, 3, 1), 9)]);
}
