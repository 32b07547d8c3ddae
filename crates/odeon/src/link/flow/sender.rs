//! The sender's side of flows.

use super::{Lane, Now, Numbers, Route, Step};
use crate::core::hash::Fast;
use odeon_protocol::{
    Counts, Direct, Reason,
    frame::FLOW_ORDER_BITS,
    limits::{FLOW_LARGE_BYTES, FLOW_WINDOW, FLOWS_MAX},
    ring::Ring,
};
use std::{
    collections::{HashMap, VecDeque},
    mem,
    task::Waker,
};

/// Which way a fence takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// To the place that is lost: its agent sends on or back what still comes for it.
    Place(Direct),
    /// By the name alone: this agent has taken back what was on its way to that place.
    Agent,
}

/// A fence to be sent: see the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fence<K> {
    pub(crate) key: K,
    pub(crate) numbers: Numbers,
}

/// How messages ended for their sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Their receiver says so, or has answered.
    Settled,
    /// They came back.
    Returned {
        /// Why.
        reason: Reason,
        /// Whether it is unknown if they were handled: no receiver gave them back.
        doubtful: bool,
    },
    /// Nobody will say what became of them.
    Unsettled,
    /// They were not queued: they were never accepted.
    Undone,
}

/// What a report has changed.
#[derive(Debug)]
pub(crate) struct News<K> {
    /// How many of its messages were outstanding.
    pub(crate) ended: u32,
    /// To be woken, outside any lock.
    pub(crate) woken: Vec<Waker>,
    /// So many messages of that flow are lost: nobody will ever tell what became of them.
    pub(crate) lost: Option<(K, u32)>,
    /// To be sent now.
    pub(crate) fence: Option<Fence<K>>,
}

impl<K> Default for News<K> {
    fn default() -> Self {
        Self { ended: 0, woken: Vec::new(), lost: None, fence: None }
    }
}

/// The fence that a flow waits for.
#[derive(Debug)]
struct Fencing {
    number: u32,
    /// Which ways others go once this one has ended, the last first.
    then: Vec<Via>,
}

/// The sender's side of one flow.
#[derive(Debug)]
pub(super) struct Flow<K> {
    key: K,
    /// Everything below is settled or came back.
    pub(super) base: u32,
    pub(super) next: u32,
    done: Ring,
    route: Route,
    opened: u64,
    fencing: Option<Fencing>,
    waiting: VecDeque<Waker>,
    /// The numbers and bytes of large messages that are outstanding.
    large: Vec<(u32, usize)>,
    /// Who wants to send one.
    waiting_large: Vec<Waker>,
}

impl<K> Flow<K> {
    const fn span(&self) -> u32 {
        self.next.wrapping_sub(self.base)
    }

    /// Messages outstanding; the fence is none.
    const fn outstanding(&self) -> u32 {
        self.span() - self.done.count() - self.fencing.is_some() as u32
    }

    const fn is_outstanding(&self, number: u32) -> bool {
        number.wrapping_sub(self.base) < self.span() && !self.done.has(number)
    }

    /// The fence, if it has ended.
    fn take_ended_fence(&mut self) -> Option<Fencing> {
        let number = self.fencing.as_ref()?.number;
        if self.is_outstanding(number) { None } else { self.fencing.take() }
    }

    /// So many messages of these have ended now.
    fn settle(&mut self, first: u32, count: u32) -> u32 {
        let fence = self.fencing.as_ref().map(|fencing| fencing.number);
        let mut ended = 0;
        for number in 0..count.min(Ring::BITS) {
            let number = first.wrapping_add(number);
            if self.is_outstanding(number) {
                self.done.set(number);
                ended += u32::from(fence != Some(number));
            }
        }
        if !self.large.is_empty() {
            let large = mem::take(&mut self.large);
            self.large = large.into_iter().filter(|(number, _)| self.is_outstanding(*number)).collect();
        }
        while self.base != self.next && self.done.has(self.base) {
            self.done.clear(self.base);
            self.base = self.base.wrapping_add(1);
        }
        ended
    }

    /// The next number for a fence; an earlier one counts no more.
    fn fence(&mut self, then: Vec<Via>) -> u32 {
        let before = self.fencing.as_ref().map(|fencing| fencing.number);
        let number = match before {
            Some(before) if self.span() == Ring::BITS => {
                self.done.clear(before);
                before
            }
            _ => {
                before.inspect(|before| self.done.set(*before));
                self.next = self.next.wrapping_add(1);
                self.next.wrapping_sub(1)
            }
        };
        self.fencing = Some(Fencing { number, then });
        number
    }

    /// The numbers of the first of several fences; the last way goes first.
    fn fence_numbers(&mut self, id: u32, mut ways: Vec<Via>) -> Option<Numbers> {
        let route = match ways.pop()? {
            Via::Place(place) => Route::Place(place, 0),
            Via::Agent => Route::Agent,
        };
        Some(Numbers { flow: id, sequence: self.fence(ways), opens: false, route, report: true })
    }
}

/// The sender's side of many flows. `K` says who sends to whom.
#[derive(Debug)]
pub(crate) struct Sending<K> {
    pub(super) ids: HashMap<K, u32>,
    pub(super) flows: HashMap<u32, Flow<K>, Fast>,
    /// The order of flows beside one another, and how many they are besides the first; seldom any.
    orders: HashMap<K, (u32, u32)>,
    next_id: u32,
    /// Added to get the next flow's id, so that several tables share the numbers.
    stride: u32,
    limit: usize,
    /// All but `outstanding`, which the flows know.
    counts: Counts,
}

impl<K: Lane> Sending<K> {
    /// A table that gives out the ids `first`, `first + stride`, …; 0 is never given.
    pub(crate) fn new(first: u32, stride: u32) -> Self {
        Self {
            ids: HashMap::new(),
            flows: HashMap::default(),
            orders: HashMap::new(),
            next_id: first,
            stride,
            limit: FLOWS_MAX / stride.max(1) as usize,
            counts: Counts::default(),
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
        if flow.fencing.is_some() {
            return Step::Wait;
        }
        match flow.route {
            // The agent has sent what it held to the first place that it named since.
            Route::Agent if now.since <= flow.opened => {}
            Route::Agent if now.before <= flow.opened && now.route != Route::Agent => flow.route = now.route,
            // There was a second one since, or none: what went to the first may be on its way back.
            Route::Agent => return Step::Wait,
            Route::Place(..) if flow.route != now.route => return Step::Wait,
            Route::Place(..) => {}
        }
        if flow.span() >= FLOW_WINDOW {
            return Step::Wait;
        }
        let sequence = flow.next;
        flow.next = flow.next.wrapping_add(1);
        self.counts.accepted += 1;
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
        let id = self.order(key) | key.lane() << FLOW_ORDER_BITS;
        let flow = Flow {
            key: key.clone(),
            base: 0,
            next: 0,
            done: Ring::default(),
            route: now.route,
            opened: now.version,
            fencing: None,
            waiting: VecDeque::new(),
            large: Vec::new(),
            waiting_large: Vec::new(),
        };
        self.flows.insert(id, flow);
        self.ids.insert(key.clone(), id);
        Some(id)
    }

    /// The order of a flow to be opened: that of those beside it, or a new one.
    fn order(&mut self, key: &K) -> u32 {
        if key.lane() > 0 || !self.orders.is_empty() {
            let first = key.first();
            let known = self.orders.get(&first).map(|(order, _)| *order).or_else(|| self.ids.get(&first).copied());
            let order = known.unwrap_or_else(|| self.new_order());
            if key.lane() > 0 {
                self.orders.entry(first).or_insert((order, 0)).1 += 1;
            }
            return order;
        }
        self.new_order()
    }

    fn new_order(&mut self) -> u32 {
        const MASK: u32 = (1 << FLOW_ORDER_BITS) - 1;
        let mut order = self.next_id;
        while order == 0 || self.flows.contains_key(&order) || self.orders.values().any(|(used, _)| *used == order) {
            order = order.wrapping_add(self.stride) & MASK;
        }
        self.next_id = order.wrapping_add(self.stride) & MASK;
        order
    }

    /// Registers who wants to send after [`Step::Wait`]. False if there is room by now: try again.
    pub(crate) fn wait(&mut self, key: &K, waker: &Waker) -> bool {
        let Some(flow) = self.ids.get(key).and_then(|id| self.flows.get_mut(id)) else { return false };
        if !flow.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
            flow.waiting.push_back(waker.clone());
        }
        true
    }

    /// Whether a large message with a number of the flow may go. At most [`FLOW_LARGE_BYTES`] of them, or one, are
    /// outstanding.
    pub(crate) fn takes_large(&mut self, id: u32, number: u32, bytes: usize) -> bool {
        let Some(flow) = self.flows.get_mut(&id) else { return false };
        let outstanding: usize = flow.large.iter().map(|(_, bytes)| bytes).sum();
        let takes = flow.large.is_empty() || outstanding + bytes <= FLOW_LARGE_BYTES;
        if takes {
            flow.large.push((number, bytes));
        }
        takes
    }

    /// Registers who wants to send a large message after [`Sending::takes_large`] refused one. False if there is room by
    /// now: try again.
    pub(crate) fn wait_large(&mut self, key: &K, waker: &Waker) -> bool {
        let flow = self.ids.get(key).and_then(|id| self.flows.get_mut(id)).filter(|flow| !flow.large.is_empty());
        let Some(flow) = flow else { return false };
        if !flow.waiting_large.iter().any(|waiting| waiting.will_wake(waker)) {
            flow.waiting_large.push(waker.clone());
        }
        true
    }

    /// Messages of a flow, from the first number on so many, have ended; those that had before have not again.
    pub(crate) fn end(&mut self, id: u32, (first, count): (u32, u32), end: End) -> News<K> {
        let Some(flow) = self.flows.get_mut(&id) else { return News::default() };
        let large = flow.large.len();
        let ended = flow.settle(first, count);
        count_ends(&mut self.counts, end, u64::from(ended));
        let mut news = News { ended, ..News::default() };
        let freed = if flow.large.len() < large { mem::take(&mut flow.waiting_large) } else { Vec::new() };
        if let Some(fencing) = flow.take_ended_fence() {
            if flow.outstanding() > 0 && !fencing.then.is_empty() {
                // Taken up again, so that the next one finds room.
                let then = fencing.then.clone();
                flow.fencing = Some(fencing);
                let key = flow.key.clone();
                news.fence = flow.fence_numbers(id, then).map(|numbers| Fence { key, numbers });
                news.woken = freed;
                return news;
            }
            if flow.outstanding() > 0 {
                news.lost = Some((flow.key.clone(), flow.outstanding()));
                count_ends(&mut self.counts, End::Unsettled, u64::from(flow.outstanding()));
            }
            news.woken = self.forget(id);
            news.woken.extend(freed);
            return news;
        }
        if flow.outstanding() == 0 {
            news.woken = self.forget(id);
        } else if flow.fencing.is_none() {
            let room = FLOW_WINDOW.saturating_sub(flow.span()) as usize;
            news.woken = flow.waiting.drain(..room.min(flow.waiting.len())).collect();
        }
        news.woken.extend(freed);
        news
    }

    fn forget(&mut self, id: u32) -> Vec<Waker> {
        let Some(flow) = self.flows.remove(&id) else { return Vec::new() };
        self.ids.remove(&flow.key);
        if flow.key.lane() > 0 {
            let first = flow.key.first();
            if let Some((_, beside)) = self.orders.get_mut(&first) {
                *beside -= 1;
                if *beside == 0 {
                    self.orders.remove(&first);
                }
            }
        }
        if self.flows.is_empty() {
            // A burst of flows leaves no memory behind.
            self.flows.shrink_to(64);
            self.ids.shrink_to(64);
        }
        flow.waiting.into_iter().chain(flow.waiting_large).collect()
    }

    /// How many flows are open.
    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    /// The open flows, in words.
    pub(crate) fn described(&self) -> Vec<String>
    where
        K: std::fmt::Debug,
    {
        self.flows.values().map(|flow| format!("{flow:?}")).collect()
    }

    /// Messages outstanding in all flows.
    pub(crate) fn outstanding(&self) -> u64 {
        self.flows.values().map(|flow| u64::from(flow.outstanding())).sum()
    }

    /// What was sent, by how it ended.
    pub(crate) fn counts(&self) -> Counts {
        Counts { outstanding: self.outstanding(), ..self.counts.clone() }
    }

    /// Receivers are gone, and what is outstanding in the flows that fit may never be reported: each is fenced, the ways
    /// that the answer says one after the other, the last first.
    pub(crate) fn fence_where(&mut self, fits: impl Fn(&K, Route) -> Vec<Via>) -> Vec<Fence<K>> {
        let fence = |(id, flow): (&u32, &mut Flow<K>)| {
            let numbers = flow.fence_numbers(*id, fits(&flow.key, flow.route))?;
            Some(Fence { key: flow.key.clone(), numbers })
        };
        self.flows.iter_mut().filter_map(fence).collect()
    }

    /// Whether any flow waits for a fence.
    pub(crate) fn is_fencing(&self) -> bool {
        self.flows.values().any(|flow| flow.fencing.is_some())
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

    /// Forgets everything: the link is lost, and nobody will say what became of what is outstanding. Returns whom to wake.
    pub(crate) fn lose(&mut self) -> Vec<Waker> {
        let outstanding = self.outstanding();
        count_ends(&mut self.counts, End::Unsettled, outstanding);
        self.ids.clear();
        self.orders.clear();
        let flows = mem::take(&mut self.flows).into_values();
        flows.flat_map(|flow| flow.waiting.into_iter().chain(flow.waiting_large)).collect()
    }
}

fn count_ends(counts: &mut Counts, end: End, ended: u64) {
    match end {
        End::Settled => counts.settled += ended,
        End::Unsettled => counts.unsettled += ended,
        End::Undone => counts.accepted -= ended,
        End::Returned { reason, doubtful } if ended > 0 => {
            counts.add_returned(reason, ended);
            counts.doubtful += if doubtful { ended } else { 0 };
        }
        End::Returned { .. } => {}
    }
}
