//! Flows: who may send how much, and what has become of it.
//!
//! A *flow* is all messages of one sender to one receiver in another process. The sender's side ([`Sending`]) numbers
//! them and lets at most [`FLOW_WINDOW`] be outstanding; the receiver's side ([`Ledger`]) knows which have ended and
//! tells so in ranges. One report is credit and ledger. Both sides forget a flow that has nothing outstanding.
//!
//! Nothing here does I/O or knows the time.
//!
//! - **FL-1.** At most [`FLOW_WINDOW`] numbers lie between the oldest outstanding message and the newest.
//! - **FL-2.** A number is told settled only after [`Ledger::end`]; telling twice changes nothing at the sender.
//! - **FL-3.** Once every message was settled or given back the sender has nothing outstanding, in whichever order and
//!   from however many receivers the reports came.
//! - **FL-4.** A flow changes its route only when it has nothing outstanding, save from *by the agent* to the first place
//!   that the agent named after the flow opened: there the agent has sent what it held.
//! - **FL-5.** Who waits is woken when there is room; when nothing is outstanding all are.

use crate::core::hash::Fast;
use odeon_protocol::{
    address::Direct,
    id::Serial,
    limits::{FLOW_WINDOW, FLOWS_MAX},
};
use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    mem,
    sync::Arc,
    task::Waker,
};

const _: () = assert!(FLOW_WINDOW == Ring::BITS, "a ring has a bit for each number of a window");

/// A set of numbers that lie within [`FLOW_WINDOW`] of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ring([u64; 4]);

impl Ring {
    const BITS: u32 = 256;

    const fn at(number: u32) -> (usize, u64) {
        let bit = number % Self::BITS;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    const fn has(&self, number: u32) -> bool {
        let (word, bit) = Self::at(number);
        self.0[word] & bit != 0
    }

    const fn set(&mut self, number: u32) {
        let (word, bit) = Self::at(number);
        self.0[word] |= bit;
    }

    const fn clear(&mut self, number: u32) {
        let (word, bit) = Self::at(number);
        self.0[word] &= !bit;
    }

    fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    const fn count(&self) -> u32 {
        self.0[0].count_ones() + self.0[1].count_ones() + self.0[2].count_ones() + self.0[3].count_ones()
    }
}

/// Who is sent to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// An actor by its place.
    Direct(Direct),
    /// An actor by its global name.
    Name(Arc<str>),
    /// A troupe.
    Troupe(Direct),
}

/// Where a flow's messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To the agent, which resolves the name or picks the member.
    Agent,
    /// To that place, under that epoch.
    Place(Direct, u64),
}

/// A target's present route, as the names cache sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) route: Route,
    /// The cache's version.
    pub(crate) version: u64,
    /// The versions in which the target got this route, and the one before.
    pub(crate) since: u64,
    pub(crate) before: u64,
}

impl Now {
    /// A route that never changes.
    pub(crate) const fn fixed(route: Route) -> Self {
        Self { route, version: 0, since: 0, before: 0 }
    }
}

/// The numbers to write into a message's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) flow: u32,
    pub(crate) sequence: u32,
    pub(crate) opens: bool,
    pub(crate) route: Route,
    /// Whether half of the window is used up by it, or all, so that a report is wanted as soon as it has ended.
    pub(crate) report: bool,
}

/// Whether a message may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Now, with these numbers.
    Go(Numbers),
    /// Not yet: the window is used up, or the route is about to change.
    Wait,
    /// Not at all: as many flows are open as may be.
    TooMany,
}

/// The sender's side of one flow.
#[derive(Debug)]
struct Flow<K> {
    key: K,
    /// Everything below is settled or came back.
    base: u32,
    next: u32,
    done: Ring,
    route: Route,
    opened: u64,
    /// The epoch of the receiver that reported last.
    epoch: u64,
    waiting: VecDeque<Waker>,
}

impl<K> Flow<K> {
    const fn span(&self) -> u32 {
        self.next.wrapping_sub(self.base)
    }

    const fn outstanding(&self) -> u32 {
        self.span() - self.done.count()
    }

    fn settle(&mut self, first: u32, count: u32) {
        for number in 0..count.min(FLOW_WINDOW) {
            let number = first.wrapping_add(number);
            if number.wrapping_sub(self.base) < self.span() {
                self.done.set(number);
            }
        }
        while self.base != self.next && self.done.has(self.base) {
            self.done.clear(self.base);
            self.base = self.base.wrapping_add(1);
        }
    }
}

/// The sender's side of many flows. `K` says who sends to whom.
#[derive(Debug)]
pub(crate) struct Sending<K> {
    ids: HashMap<K, u32>,
    flows: HashMap<u32, Flow<K>, Fast>,
    next_id: u32,
    /// Added to get the next flow's id, so that several tables share the numbers.
    stride: u32,
    limit: usize,
}

impl<K: Clone + Eq + Hash> Sending<K> {
    /// A table that gives out the ids `first`, `first + stride`, …; 0 is never given.
    pub(crate) fn new(first: u32, stride: u32) -> Self {
        Self {
            ids: HashMap::new(),
            flows: HashMap::default(),
            next_id: first,
            stride,
            limit: FLOWS_MAX / stride.max(1) as usize,
        }
    }

    /// Asks to send one message.
    pub(crate) fn send(&mut self, key: &K, now: Now) -> Step {
        let id = match self.ids.get(key) {
            Some(id) => *id,
            None => match self.open(key, now) {
                Some(id) => id,
                None => return Step::TooMany,
            },
        };
        let Some(flow) = self.flows.get_mut(&id) else { return Step::TooMany };
        if flow.route != now.route {
            match flow.route {
                Route::Agent if flow.opened < now.since && now.before <= flow.opened => flow.route = now.route,
                Route::Agent => {}
                Route::Place(..) => return Step::Wait,
            }
        }
        if flow.span() >= FLOW_WINDOW {
            return Step::Wait;
        }
        let sequence = flow.next;
        flow.next = flow.next.wrapping_add(1);
        Step::Go(Numbers {
            flow: id,
            sequence,
            opens: sequence == 0,
            route: flow.route,
            report: flow.span() == FLOW_WINDOW / 2 || flow.span() == FLOW_WINDOW,
        })
    }

    fn open(&mut self, key: &K, now: Now) -> Option<u32> {
        if self.flows.len() >= self.limit {
            return None;
        }
        let mut id = self.next_id;
        while id == 0 || self.flows.contains_key(&id) {
            id = id.wrapping_add(self.stride);
        }
        self.next_id = id.wrapping_add(self.stride);
        let flow = Flow {
            key: key.clone(),
            base: 0,
            next: 0,
            done: Ring::default(),
            route: now.route,
            opened: now.version,
            epoch: 0,
            waiting: VecDeque::new(),
        };
        self.flows.insert(id, flow);
        self.ids.insert(key.clone(), id);
        Some(id)
    }

    /// Registers who wants to send after [`Step::Wait`]. False if there is room by now: try again.
    pub(crate) fn wait(&mut self, key: &K, waker: &Waker) -> bool {
        let Some(flow) = self.ids.get(key).and_then(|id| self.flows.get_mut(id)) else { return false };
        if !flow.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
            flow.waiting.push_back(waker.clone());
        }
        true
    }

    /// Messages of a flow have ended or came back; `epoch` is the receiver's, 0 without one. Returns whom to wake,
    /// outside any lock.
    pub(crate) fn settled(&mut self, id: u32, first: u32, count: u32, epoch: u64) -> Vec<Waker> {
        let Some(flow) = self.flows.get_mut(&id) else { return Vec::new() };
        if epoch > flow.epoch {
            if flow.epoch > 0 {
                // A newer instance has begun at `first`: what the older one had before that went down with it.
                flow.settle(flow.base, first.wrapping_sub(flow.base).min(flow.span()));
            }
            flow.epoch = epoch;
        }
        flow.settle(first, count);
        if flow.outstanding() > 0 {
            let room = (FLOW_WINDOW - flow.span()) as usize;
            return flow.waiting.drain(..room.min(flow.waiting.len())).collect();
        }
        self.forget(id)
    }

    fn forget(&mut self, id: u32) -> Vec<Waker> {
        let Some(flow) = self.flows.remove(&id) else { return Vec::new() };
        self.ids.remove(&flow.key);
        if self.flows.is_empty() {
            // A burst of flows leaves no memory behind.
            self.flows.shrink_to(64);
            self.ids.shrink_to(64);
        }
        flow.waiting.into()
    }

    /// How many flows are open.
    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Messages outstanding in all flows.
    pub(crate) fn outstanding(&self) -> u64 {
        self.flows.values().map(|flow| u64::from(flow.outstanding())).sum()
    }

    /// Forgets the flows that fit: their receivers are gone. Returns which, what was outstanding, and whom to wake.
    pub(crate) fn lose_where(&mut self, fits: impl Fn(&K, Route) -> bool) -> (Vec<u32>, u64, Vec<Waker>) {
        let gone: Vec<_> =
            self.flows.iter().filter(|(_, flow)| fits(&flow.key, flow.route)).map(|(id, _)| *id).collect();
        let outstanding =
            gone.iter().filter_map(|id| self.flows.get(id)).map(|flow| u64::from(flow.outstanding())).sum();
        let woken = gone.iter().flat_map(|id| self.forget(*id)).collect();
        (gone, outstanding, woken)
    }

    #[cfg(test)]
    fn outstanding_of(&self, key: &K) -> u32 {
        self.ids.get(key).and_then(|id| self.flows.get(id)).map_or(0, Flow::outstanding)
    }

    /// Registers who waits until a flow that fits has nothing outstanding. False if there is none.
    pub(crate) fn wait_where(&mut self, fits: impl Fn(&K) -> bool, waker: Option<&Waker>) -> bool {
        let Some(flow) = self.flows.values_mut().find(|flow| fits(&flow.key)) else { return false };
        if let Some(waker) = waker
            && !flow.waiting.iter().any(|waiting| waiting.will_wake(waker))
        {
            flow.waiting.push_back(waker.clone());
        }
        true
    }

    /// Forgets everything: the link is lost. Returns what was outstanding and whom to wake.
    pub(crate) fn lose(&mut self) -> (u64, Vec<Waker>) {
        let outstanding = self.outstanding();
        self.ids.clear();
        let waiting = mem::take(&mut self.flows).into_values().flat_map(|flow| flow.waiting).collect();
        (outstanding, waiting)
    }
}

/// The receiver's side of one flow.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    latest: u32,
    pending: Ring,
    untold: Ring,
    hurry: bool,
}

/// A sender sent beyond its window, or one number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overrun;

/// What is to be done after a message has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// Nothing: the sender knows already. Set if the flow is to be forgotten.
    None {
        /// Nothing is pending or untold.
        idle: bool,
    },
    /// Within a few milliseconds.
    Soon,
    /// At once.
    Now,
}

impl Ledger {
    /// A message has come; `hurry` if the sender wants a report as soon as it has ended.
    pub(crate) fn receive(&mut self, sequence: u32, hurry: bool) -> Result<(), Overrun> {
        let ahead = sequence.wrapping_sub(self.latest) < u32::MAX / 2;
        let first = self.is_idle();
        let fits = first || ahead || self.latest.wrapping_sub(sequence) < FLOW_WINDOW;
        // Whatever shares its bit must be settled and told, or the sender went beyond its window.
        if !fits || self.pending.has(sequence) || self.untold.has(sequence) {
            return Err(Overrun);
        }
        if first || ahead {
            self.latest = sequence;
        }
        self.pending.set(sequence);
        self.hurry |= hurry;
        Ok(())
    }

    /// A message has ended. `told` if its sender learns so by the reply or by its return.
    pub(crate) fn end(&mut self, sequence: u32, told: bool) -> Report {
        if self.pending.has(sequence) {
            self.pending.clear(sequence);
            if !told {
                self.untold.set(sequence);
            }
        }
        if self.untold.is_empty() {
            return Report::None { idle: self.pending.is_empty() };
        }
        // Half a window of them, or the last that a waiting sender hopes for.
        if self.untold.count() >= FLOW_WINDOW / 2 || (self.hurry && self.pending.is_empty()) {
            return Report::Now;
        }
        Report::Soon
    }

    /// Takes what is to be told, as ranges of a first number and a count, the oldest first.
    pub(crate) fn take_report(&mut self) -> Vec<(u32, u32)> {
        let untold = mem::take(&mut self.untold);
        self.hurry = false;
        let mut ranges: Vec<(u32, u32)> = Vec::with_capacity(1);
        if untold.is_empty() {
            return ranges;
        }
        let oldest = self.latest.wrapping_sub(FLOW_WINDOW - 1);
        for number in (0..FLOW_WINDOW).map(|offset| oldest.wrapping_add(offset)).filter(|number| untold.has(*number)) {
            match ranges.last_mut() {
                Some((first, count)) if first.wrapping_add(*count) == number => *count += 1,
                _ => ranges.push((number, 1)),
            }
        }
        ranges
    }

    /// Whether there is nothing to remember.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.untold.is_empty()
    }
}

/// Who sends to whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlowKey {
    pub(crate) from: Serial,
    pub(crate) to: Target,
    /// 0, and more for messages that must not wait while the first window is used up.
    pub(crate) lane: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::id::{Boot, NodeId};
    use proptest::prelude::*;
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    const AGENT: Now = Now::fixed(Route::Agent);

    fn at(serial: u64, version: u64, since: u64, before: u64) -> Now {
        let place = Direct { node: NodeId(1), boot: Boot(1), serial: Serial(serial) };
        Now { route: Route::Place(place, 1), version, since, before }
    }

    fn go(step: Step) -> Numbers {
        match step {
            Step::Go(numbers) => numbers,
            other => panic!("{other:?}"),
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
        sending.settled(1, 1, 10, 0).into_iter().for_each(Waker::wake);
        assert_eq!((sending.send(&"k", AGENT), count.0.load(Ordering::Relaxed)), (Step::Wait, 0));
        sending.settled(1, 0, 1, 0).into_iter().for_each(Waker::wake);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(go(sending.send(&"k", AGENT)).sequence, FLOW_WINDOW);
    }

    #[test]
    fn a_settled_flow_is_forgotten_and_opens_anew() {
        let mut sending = Sending::new(2, 16);
        let first = go(sending.send(&1, AGENT));
        sending.settled(first.flow, 0, 1, 0);
        assert_eq!((sending.outstanding(), sending.flows.len(), sending.ids.len()), (0, 0, 0));
        let second = go(sending.send(&1, AGENT));
        assert_eq!((second.sequence, second.opens, second.flow), (0, true, first.flow + 16));
        // A late report of the first changes nothing.
        sending.settled(first.flow, 0, 1, 0);
        assert_eq!(sending.outstanding(), 1);
    }

    #[test]
    fn a_route_changes_only_with_nothing_outstanding() {
        let mut sending = Sending::new(1, 1);
        let old = go(sending.send(&1, at(7, 3, 2, 0)));
        assert_eq!(sending.send(&1, at(8, 5, 5, 4)), Step::Wait);
        assert_eq!(sending.send(&1, AGENT), Step::Wait);
        sending.settled(old.flow, 0, 1, 0);
        assert_eq!(go(sending.send(&1, at(8, 5, 5, 4))).route, at(8, 0, 0, 0).route);
    }

    #[test]
    fn the_first_place_an_agent_names_is_taken_at_once_a_later_one_is_not() {
        let mut sending = Sending::new(1, 1);
        let unresolved = Now { version: 4, ..AGENT };
        assert_eq!(go(sending.send(&1, unresolved)).route, Route::Agent);
        assert_eq!(go(sending.send(&1, at(7, 5, 5, 3))).route, at(7, 0, 0, 0).route);
        assert_eq!(go(sending.send(&2, unresolved)).route, Route::Agent);
        assert_eq!(go(sending.send(&2, at(8, 7, 7, 6))).route, Route::Agent);
    }

    #[test]
    fn a_newer_instance_closes_what_the_older_one_had() {
        let mut sending = Sending::new(1, 1);
        (0..10).for_each(|_| _ = go(sending.send(&1, AGENT)));
        sending.settled(1, 0, 2, 5);
        // The instance of epoch 5 crashed with 2, 3 and 4 in its mailbox; the next one got what was sent from 5 on.
        sending.settled(1, 5, 1, 6);
        assert_eq!(sending.outstanding_of(&1), 4);
        sending.settled(1, 6, 4, 6);
        assert_eq!(sending.outstanding_of(&1), 0);
    }

    #[test]
    fn flows_to_lost_places_are_forgotten() {
        let mut sending = Sending::new(1, 1);
        (0..3).for_each(|_| _ = go(sending.send(&1, at(7, 0, 0, 0))));
        go(sending.send(&2, at(8, 0, 0, 0)));
        let (gone, outstanding, _) = sending.lose_where(|_, route| route == at(7, 0, 0, 0).route);
        assert_eq!((gone, outstanding, sending.outstanding()), (vec![1], 3, 1));
        let (outstanding, _) = sending.lose();
        assert_eq!((outstanding, sending.outstanding()), (1, 0));
    }

    #[test]
    fn a_sender_beyond_its_window_is_noticed() {
        let mut ledger = Ledger::default();
        for sequence in 40..40 + FLOW_WINDOW {
            ledger.receive(sequence, false).unwrap();
        }
        assert_eq!(ledger.receive(40 + FLOW_WINDOW, false), Err(Overrun));
        assert_eq!(ledger.receive(45, false), Err(Overrun));
        ledger.end(40, false);
        assert_eq!(ledger.receive(40 + FLOW_WINDOW, false), Err(Overrun), "ended, not yet told");
        assert_eq!(ledger.take_report(), [(40, 1)]);
        ledger.receive(40 + FLOW_WINDOW, false).unwrap();
    }

    #[test]
    fn reports_are_ranges_and_say_each_number_once() {
        let mut ledger = Ledger::default();
        (0..10).for_each(|sequence| ledger.receive(sequence, false).unwrap());
        for sequence in [1, 2, 5] {
            assert_eq!(ledger.end(sequence, false), Report::Soon);
        }
        assert_eq!(ledger.end(3, true), Report::Soon);
        assert_eq!(ledger.take_report(), [(1, 2), (5, 1)]);
        assert_eq!(ledger.end(0, true), Report::None { idle: false });
        for sequence in [4, 6, 7, 8, 9] {
            ledger.end(sequence, true);
        }
        assert!(ledger.is_idle() && ledger.take_report().is_empty());
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
        (0..101).for_each(|offset| _ = ledger.end((u32::MAX - 1).wrapping_add(offset), false));
        for (first, count) in ledger.take_report() {
            sending.settled(id, first, count, 0);
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
        End { at: usize, pick: usize, told: bool },
        Report { at: usize },
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            8 => (0..2usize).prop_map(|to| Event::Send { to }),
            6 => (0..2usize).prop_map(|to| Event::Deliver { to }),
            1 => (0..2usize).prop_map(|to| Event::GiveBack { to }),
            6 => (0..2usize, any::<usize>(), any::<bool>()).prop_map(|(at, pick, told)| Event::End { at, pick, told }),
            3 => (0..2usize).prop_map(|at| Event::Report { at }),
        ];
        proptest::collection::vec(event, 0..3000)
    }

    #[derive(Default)]
    struct World {
        on_the_way: [VecDeque<Numbers>; 2],
        running: [Vec<Numbers>; 2],
        ledgers: [HashMap<u32, Ledger>; 2],
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
                    sending.settled(numbers.flow, numbers.sequence, 1, 0);
                }
                Event::End { at, pick, told } => {
                    if self.running[at].is_empty() {
                        return;
                    }
                    let index = pick % self.running[at].len();
                    let numbers = self.running[at].remove(index);
                    if told {
                        sending.settled(numbers.flow, numbers.sequence, 1, 0);
                    }
                    let report = self.ledgers[at].get_mut(&numbers.flow).unwrap().end(numbers.sequence, told);
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
        }

        fn report(&mut self, at: usize, sending: &mut Sending<u8>) {
            self.ledgers[at].retain(|flow, ledger| {
                for (first, count) in ledger.take_report() {
                    sending.settled(*flow, first, count, 0);
                }
                !ledger.is_idle()
            });
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
                    world.apply(&Event::End { at, pick: 0, told: false }, &mut sending);
                }
                world.report(at, &mut sending);
            }
            prop_assert_eq!(sending.outstanding(), 0);
            prop_assert!(sending.flows.is_empty() && sending.ids.is_empty());
            prop_assert!(world.ledgers.iter().all(HashMap::is_empty));
        }
    }
}
