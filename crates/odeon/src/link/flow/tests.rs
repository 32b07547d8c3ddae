use super::{receiver::Overrun, *};
use odeon_protocol::{
    Counts, Reason,
    id::{Boot, NodeId},
    limits::{FLOW_LARGE_BYTES, FLOW_WINDOW},
};
use proptest::prelude::*;
use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::{AtomicUsize, Ordering},
    task::{Wake, Waker},
};

const AGENT: Now = Now::fixed(Route::Agent);

fn at_place(serial: u64) -> Direct {
    Direct { node: NodeId(1), boot: Boot(1), serial: Serial(serial) }
}

fn at(serial: u64, version: u64, since: u64, before: u64) -> Now {
    Now { route: Route::Place(at_place(serial), 1), version, since, before }
}

fn go(step: Step) -> Numbers {
    match step {
        Step::Go(numbers) => numbers,
        other => panic!("{other:?}"),
    }
}

impl<K: Lane> Sending<K> {
    fn settled(&mut self, id: u32, first: u32, count: u32) -> News<K> {
        self.end(id, (first, count), End::Settled)
    }

    fn returned(&mut self, id: u32, number: u32) -> News<K> {
        self.end(id, (number, 1), End::Returned { reason: Reason::Full, doubtful: false })
    }
}

/// How a message may end at its receiver.
const HOW: [Ended; 3] = [Ended::Handled, Ended::Answered, Ended::GivenBack];

macro_rules! alone {
    ($($kind:ty),*) => {
        $(impl Lane for $kind {
            fn lane(&self) -> u32 { 0 }
            fn first(&self) -> Self { *self }
        })*
    };
}
alone!(&'static str, i32, u8);

/// Flows beside one another.
impl Lane for (char, u32) {
    fn lane(&self) -> u32 {
        self.1
    }

    fn first(&self) -> Self {
        (self.0, 0)
    }
}

#[derive(Default)]
struct Count(AtomicUsize);
impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_window_is_credit() {
    let mut sending = Sending::new(1, 1);
    for sequence in 0..FLOW_WINDOW {
        let numbers = go(sending.send(&"k", AGENT));
        assert_eq!((numbers.sequence, numbers.opens), (sequence, sequence == 0));
        assert_eq!(numbers.report, [FLOW_WINDOW / 2, FLOW_WINDOW].contains(&(sequence + 1)));
    }
    assert_eq!(sending.send(&"k", AGENT), Step::Wait);
    go(sending.send(&"other", AGENT));
    let count = Arc::new(Count::default());
    assert!(sending.wait(&"k", &Waker::from(count.clone())));
    sending.settled(1, 1, 10).woken.into_iter().for_each(Waker::wake);
    assert_eq!((sending.send(&"k", AGENT), count.0.load(Ordering::Relaxed)), (Step::Wait, 0));
    sending.settled(1, 0, 1).woken.into_iter().for_each(Waker::wake);
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert_eq!(go(sending.send(&"k", AGENT)).sequence, FLOW_WINDOW);
}

#[test]
fn flows_beside_one_another_have_one_order_as_long_as_any_of_them_is_open() {
    const ORDER: u32 = (1 << FLOW_ORDER_BITS) - 1;
    let mut sending = Sending::new(3, 16);
    let mut open = |key| go(sending.send(&key, AGENT)).flow;
    let (first, other) = (open(('a', 0)), open(('b', 0)));
    let beside = [open(('a', 1)), open(('a', LANES_MAX))];
    assert!(beside.iter().all(|flow| *flow != first && flow & ORDER == first && flow % 16 == 3));
    assert_ne!(other & ORDER, first);
    let _ = sending.settled(first, 0, 1);
    assert_eq!(go(sending.send(&('a', 0), AGENT)).flow, first, "its order is still in use");
    for flow in [first, beside[0], beside[1]] {
        let _ = sending.settled(flow, 0, 1);
    }
    let again = go(sending.send(&('a', 1), AGENT)).flow;
    assert_ne!(again & ORDER, first);
    assert_eq!(go(sending.send(&('a', 0), AGENT)).flow, again & ORDER);
}

#[test]
fn large_messages_wait_for_one_another_within_their_flow() {
    let mut sending = Sending::new(1, 1);
    let large = |sending: &mut Sending<_>, key, bytes| {
        let numbers = go(sending.send(&key, AGENT));
        let takes = sending.takes_large(numbers.flow, numbers.sequence, bytes);
        if !takes {
            let _ = sending.settled(numbers.flow, numbers.sequence, 1);
        }
        takes
    };
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    assert!(large(&mut sending, "k", FLOW_LARGE_BYTES / 2));
    assert!(large(&mut sending, "k", FLOW_LARGE_BYTES / 2));
    assert!(!large(&mut sending, "k", 1));
    assert!(large(&mut sending, "other", 2 * FLOW_LARGE_BYTES), "one goes however large it is");
    go(sending.send(&"k", AGENT));
    assert!(sending.wait_large(&"k", &waker));
    // Small ones free nothing; the first large one does.
    sending.settled(1, 3, 1).woken.into_iter().for_each(Waker::wake);
    assert_eq!(count.0.load(Ordering::Relaxed), 0);
    sending.settled(1, 0, 1).woken.into_iter().for_each(Waker::wake);
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert!(large(&mut sending, "k", FLOW_LARGE_BYTES / 2));
    assert!(!sending.wait_large(&"unknown", &waker));
    assert!(sending.wait_large(&"k", &waker));
    assert_eq!(sending.lose().len(), 1);
}

#[test]
fn a_settled_flow_is_forgotten_and_opens_anew() {
    let mut sending = Sending::new(2, 16);
    let first = go(sending.send(&1, AGENT));
    sending.settled(first.flow, 0, 1);
    assert_eq!((sending.outstanding(), sending.flows.len(), sending.ids.len()), (0, 0, 0));
    let second = go(sending.send(&1, AGENT));
    assert_eq!((second.sequence, second.opens, second.flow), (0, true, first.flow + 16));
    // A late report of the first changes nothing.
    sending.settled(first.flow, 0, 1);
    assert_eq!(sending.outstanding(), 1);
}

#[test]
fn a_route_changes_only_with_nothing_outstanding() {
    let mut sending = Sending::new(1, 1);
    let old = go(sending.send(&1, at(7, 3, 2, 0)));
    assert_eq!(sending.send(&1, at(8, 5, 5, 4)), Step::Wait);
    assert_eq!(sending.send(&1, AGENT), Step::Wait);
    sending.settled(old.flow, 0, 1);
    assert_eq!(go(sending.send(&1, at(8, 5, 5, 4))).route, at(8, 0, 0, 0).route);
}

#[test]
fn the_first_place_an_agent_names_is_taken_at_once_a_later_one_is_not() {
    let mut sending = Sending::new(1, 1);
    let unresolved = Now { version: 4, ..AGENT };
    assert_eq!(go(sending.send(&1, unresolved)).route, Route::Agent);
    assert_eq!(go(sending.send(&1, at(7, 5, 5, 3))).route, at(7, 0, 0, 0).route);
    assert_eq!(go(sending.send(&2, unresolved)).route, Route::Agent);
    assert_eq!(sending.send(&2, at(8, 7, 7, 6)), Step::Wait, "what went to the first may be on its way back");
    assert_eq!(sending.send(&2, Now { version: 6, since: 6, before: 5, ..AGENT }), Step::Wait);
}

fn fence_all(sending: &mut Sending<i32>, ways: &[Via]) -> Vec<Fence<i32>> {
    sending.fence_where(|_, _| ways.to_vec())
}

const GONE: Via = Via::Place(Direct { node: NodeId(1), boot: Boot(1), serial: Serial(7) });

#[test]
fn what_is_outstanding_behind_a_fence_is_lost() {
    let mut sending = Sending::new(1, 1);
    (0..4).for_each(|_| _ = go(sending.send(&1, at(7, 0, 0, 0))));
    let fences = fence_all(&mut sending, &[GONE]);
    assert_eq!((fences.len(), fences[0].numbers.sequence, sending.outstanding()), (1, 4, 4));
    assert_eq!(sending.send(&1, at(7, 0, 0, 0)), Step::Wait, "until it is known what is lost");
    assert_eq!(sending.settled(1, 2, 1).ended, 1, "came back before the fence");
    let news = sending.settled(1, 4, 1);
    assert_eq!((news.lost, sending.outstanding()), (Some((1, 3)), 0));
    assert_eq!(sending.settled(1, 0, 1).ended, 0, "it has had its end");
    assert!(go(sending.send(&1, AGENT)).opens);
}

#[test]
fn fences_go_one_way_after_the_other() {
    let mut sending = Sending::new(1, 1);
    (0..2).for_each(|_| _ = go(sending.send(&1, AGENT)));
    assert_eq!(fence_all(&mut sending, &[Via::Agent, GONE])[0].numbers.route, Route::Place(at_place(7), 0));
    let news = sending.settled(1, 2, 1);
    let fence = news.fence.expect("what waits for the name at this agent is behind it");
    assert_eq!((fence.numbers.sequence, fence.numbers.route, news.lost), (3, Route::Agent, None));
    sending.settled(1, 1, 1);
    assert_eq!(sending.settled(1, 3, 1).lost, Some((1, 1)));
}

#[test]
fn a_fence_that_is_lost_is_followed_by_another() {
    let mut sending = Sending::new(1, 1);
    (0..FLOW_WINDOW).for_each(|_| _ = go(sending.send(&1, AGENT)));
    let numbers: Vec<_> = (0..12).map(|_| fence_all(&mut sending, &[Via::Agent])[0].numbers.sequence).collect();
    assert_eq!(numbers[0], FLOW_WINDOW);
    assert_eq!(numbers[7..], [255; 5], "the last number there is serves again");
    assert_eq!(sending.settled(1, FLOW_WINDOW, 1).lost, None, "an earlier fence counts no more");
    assert_eq!(sending.outstanding(), u64::from(FLOW_WINDOW));
    assert_eq!(sending.settled(1, 255, 1).lost, Some((1, FLOW_WINDOW)));
}

#[test]
fn a_flow_whose_messages_all_ended_waits_for_no_fence() {
    let mut sending = Sending::new(1, 1);
    go(sending.send(&1, AGENT));
    fence_all(&mut sending, &[GONE]);
    assert_eq!(sending.settled(1, 0, 1).lost, None);
    assert_eq!((sending.len(), sending.settled(1, 1, 1).lost), (0, None));
}

#[test]
fn a_lost_link_loses_everything() {
    let mut sending = Sending::new(1, 1);
    go(sending.send(&1, AGENT));
    let _ = sending.lose();
    assert_eq!((sending.counts().unsettled, sending.outstanding()), (1, 0));
}

#[test]
fn a_sender_beyond_its_window_is_noticed() {
    let mut ledger = Ledger::default();
    for sequence in 40..40 + 256 {
        ledger.receive(sequence, false).unwrap();
    }
    assert_eq!(ledger.receive(40 + 256, false), Err(Overrun));
    assert_eq!(ledger.receive(45, false), Err(Overrun));
    ledger.end(40, Ended::Handled);
    assert_eq!(ledger.receive(40 + 256, false), Err(Overrun), "ended, not yet told");
    assert_eq!(ledger.take_report(), [(40, 1)]);
    ledger.receive(40 + 256, false).unwrap();
}

#[test]
fn reports_are_ranges_and_say_each_number_once() {
    let mut ledger = Ledger::default();
    (0..10).for_each(|sequence| ledger.receive(sequence, false).unwrap());
    for sequence in [1, 2, 5] {
        assert_eq!(ledger.end(sequence, Ended::Handled), Report::Soon);
    }
    assert_eq!(ledger.end(3, Ended::Answered), Report::Soon);
    assert_eq!(ledger.take_report(), [(1, 2), (5, 1)]);
    assert_eq!(ledger.end(0, Ended::Answered), Report::None { idle: false });
    for sequence in [4, 6, 7, 8, 9] {
        ledger.end(sequence, Ended::Answered);
    }
    assert!(ledger.is_idle() && ledger.take_report().is_empty());
}

#[test]
fn a_message_counts_once_under_its_first_end() {
    let mut sending = Sending::new(1, 1);
    (0..9).for_each(|_| _ = go(sending.send(&1, AGENT)));
    assert_eq!(sending.settled(1, 0, 3).ended, 3);
    assert_eq!(sending.settled(1, 1, 3).ended, 1, "a report that overlaps the one before");
    assert_eq!(sending.returned(1, 2).ended, 0, "back after it was settled");
    assert_eq!(sending.returned(1, 4).ended, 1);
    assert_eq!(sending.returned(1, 4).ended, 0, "back twice");
    assert_eq!(sending.settled(1, 4, 1).ended, 0, "settled after it came back");
    let lost = End::Returned { reason: Reason::Unreachable, doubtful: true };
    assert_eq!(sending.end(1, (5, 1), lost).ended, 1);
    assert_eq!(sending.end(1, (6, 1), End::Undone).ended, 1);
    assert_eq!(sending.settled(1, 20, 3).ended, 0, "numbers that were never given");
    assert_eq!(sending.settled(77, 0, 1).ended, 0, "a flow that is not known");
    let counts = sending.counts();
    assert_eq!(counts.check(), Ok(()));
    assert_eq!((counts.accepted, counts.settled, counts.outstanding, counts.doubtful), (8, 4, 2, 1));
    assert_eq!(counts.returned, [(Reason::Full, 1), (Reason::Unreachable, 1)]);
    sending.lose();
    let counts = sending.counts();
    assert_eq!((counts.check(), counts.unsettled, counts.outstanding), (Ok(()), 2, 0));
}

#[test]
fn fences_are_counted_nowhere() {
    let (mut sending, mut ledger) = (Sending::new(1, 1), Ledger::default());
    (0..4).for_each(|sequence| {
        let _ = go(sending.send(&1, at(7, 0, 0, 0)));
        ledger.receive(sequence, false).unwrap();
    });
    // The first fence is lost; the second one takes its place, and is reported with messages.
    let first = fence_all(&mut sending, &[GONE])[0].numbers.sequence;
    let second = fence_all(&mut sending, &[GONE])[0].numbers.sequence;
    assert_eq!((first, second), (4, 5));
    assert_eq!(sending.settled(1, first, 1).ended, 0);
    ledger.receive_fence(second, true).unwrap();
    assert_eq!(ledger.counts().waiting, 4);
    ledger.end(3, Ended::Handled);
    ledger.end(2, Ended::GivenBack);
    ledger.end(second, Ended::Handled);
    let received = ledger.counts();
    assert_eq!((received.check(), received.taken, received.waiting), (Ok(()), 4, 2));
    assert_eq!((received.handled, received.given_back), (1, 1));
    assert_eq!(sending.returned(1, 2).ended, 1);
    assert_eq!(ledger.take_report(), [(3, 1), (5, 1)]);
    assert_eq!(sending.settled(1, 3, 1).ended, 1);
    let news = sending.settled(1, 5, 1);
    assert_eq!((news.ended, news.lost), (0, Some((1, 2))), "what is behind the fence is lost");
    let sent = sending.counts();
    assert_eq!((sent.check(), sent.accepted, sent.outstanding), (Ok(()), 4, 0));
    assert_eq!((sent.settled, sent.all_returned(), sent.unsettled), (1, 1, 2));
}

#[test]
fn what_ends_twice_at_its_receiver_counts_once() {
    let mut ledger = Ledger::default();
    ledger.receive(0, false).unwrap();
    ledger.end(0, Ended::Handled);
    ledger.end(0, Ended::Answered);
    ledger.end(0, Ended::GivenBack);
    assert_eq!(ledger.take_report(), [(0, 1)]);
    // An answer that comes when its number's bit stands for another message.
    (1..=256).for_each(|sequence| ledger.receive(sequence, false).unwrap());
    assert_eq!(ledger.end(0, Ended::Answered), Report::None { idle: false });
    assert_eq!(ledger.counts().waiting, 256);
    let counts = ledger.take_counts();
    assert_eq!((counts.check(), counts.taken, counts.handled), (Ok(()), 257, 1));
}

#[test]
fn numbers_wrap_around() {
    let mut sending = Sending::new(1, 1);
    let id = go(sending.send(&1, AGENT)).flow;
    let flow = sending.flows.get_mut(&id).unwrap();
    (flow.base, flow.next) = (u32::MAX - 1, u32::MAX);
    let mut ledger = Ledger::default();
    ledger.receive(u32::MAX - 1, false).unwrap();
    for _ in 0..100 {
        ledger.receive(go(sending.send(&1, AGENT)).sequence, false).unwrap();
    }
    (0..101).for_each(|offset| _ = ledger.end((u32::MAX - 1).wrapping_add(offset), Ended::Handled));
    for (first, count) in ledger.take_report() {
        sending.settled(id, first, count);
    }
    assert_eq!((sending.outstanding(), ledger.is_idle()), (0, true));
}

/// What may happen to a flow: sent to one of two receivers (a troupe, or a name that moved), ended there with or
/// without the sender being told otherwise, given back by an agent before it arrived, reported.
#[derive(Clone, Debug)]
enum Event {
    Send { to: usize },
    Deliver { to: usize },
    GiveBack { to: usize },
    End { at: usize, pick: usize, ended: Ended },
    Report { at: usize },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        8 => (0..2usize).prop_map(|to| Event::Send { to }),
        6 => (0..2usize).prop_map(|to| Event::Deliver { to }),
        1 => (0..2usize).prop_map(|to| Event::GiveBack { to }),
        6 => (0..2usize, any::<usize>(), 0..3usize).prop_map(|(at, pick, how)| Event::End { at, pick, ended: HOW[how] }),
        3 => (0..2usize).prop_map(|at| Event::Report { at }),
    ];
    proptest::collection::vec(event, 0..3000)
}

#[derive(Default)]
struct World {
    on_the_way: [VecDeque<Numbers>; 2],
    running: [Vec<Numbers>; 2],
    ledgers: [HashMap<u32, Ledger>; 2],
    /// Of the flows that are forgotten.
    received: Counts,
}

impl World {
    fn apply(&mut self, event: &Event, sending: &mut Sending<u8>) {
        match *event {
            Event::Send { to } => match sending.send(&1, AGENT) {
                Step::Go(numbers) => self.on_the_way[to].push_back(numbers),
                Step::Wait => assert!(sending.outstanding() > 0, "who waits waits for something"),
                Step::TooMany => panic!("there is one flow"),
            },
            Event::Deliver { to } => {
                let Some(numbers) = self.on_the_way[to].pop_front() else { return };
                let ledger = self.ledgers[to].entry(numbers.flow).or_default();
                ledger.receive(numbers.sequence, numbers.report).expect("the sender keeps to its window");
                self.running[to].push(numbers);
            }
            Event::GiveBack { to } => {
                let Some(numbers) = self.on_the_way[to].pop_front() else { return };
                sending.returned(numbers.flow, numbers.sequence);
            }
            Event::End { at, pick, ended } => {
                if self.running[at].is_empty() {
                    return;
                }
                let index = pick % self.running[at].len();
                let numbers = self.running[at].remove(index);
                match ended {
                    Ended::Handled => {}
                    Ended::Answered => _ = sending.settled(numbers.flow, numbers.sequence, 1),
                    Ended::GivenBack => _ = sending.returned(numbers.flow, numbers.sequence),
                }
                let report = self.ledgers[at].get_mut(&numbers.flow).unwrap().end(numbers.sequence, ended);
                if report == Report::Now {
                    self.report(at, sending);
                }
            }
            Event::Report { at } => self.report(at, sending),
        }
        let running = self.running.iter().map(Vec::len).sum::<usize>();
        let sent = running + self.on_the_way.iter().map(VecDeque::len).sum::<usize>();
        assert!(sending.outstanding() as usize >= sent, "settled only what has ended");
        assert!(sending.outstanding() <= u64::from(FLOW_WINDOW));
        let (sent, received) = (sending.counts(), self.counts());
        assert_eq!((sent.check(), received.check()), (Ok(()), Ok(())));
        assert!(sent.settled <= received.handled && sent.all_returned() >= received.given_back);
    }

    fn report(&mut self, at: usize, sending: &mut Sending<u8>) {
        let received = &mut self.received;
        self.ledgers[at].retain(|flow, ledger| {
            for (first, count) in ledger.take_report() {
                sending.settled(*flow, first, count);
            }
            if ledger.is_idle() {
                received.add(&ledger.take_counts());
            }
            !ledger.is_idle()
        });
    }

    /// What both receivers took.
    fn counts(&self) -> Counts {
        let mut counts = self.received.clone();
        self.ledgers.iter().flat_map(HashMap::values).for_each(|ledger| counts.add(&ledger.counts()));
        counts
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn everything_is_settled_once_in_any_order(events in events()) {
        let (mut sending, mut world) = (Sending::new(1, 1), World::default());
        for event in &events {
            world.apply(event, &mut sending);
        }
        for at in 0..2 {
            while !world.on_the_way[at].is_empty() {
                world.apply(&Event::Deliver { to: at }, &mut sending);
            }
            while !world.running[at].is_empty() {
                world.apply(&Event::End { at, pick: 0, ended: Ended::Handled }, &mut sending);
            }
            world.report(at, &mut sending);
        }
        let (sent, received) = (sending.counts(), world.counts());
        prop_assert_eq!((sent.outstanding, received.waiting), (0, 0));
        prop_assert_eq!((sent.settled, sent.accepted), (received.handled, received.handled + sent.all_returned()));
        prop_assert!(sending.flows.is_empty() && sending.ids.is_empty());
        prop_assert!(world.ledgers.iter().all(HashMap::is_empty));
    }
}
