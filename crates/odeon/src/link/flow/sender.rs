//! The sender's side of flows.

use super::{Now, Numbers, Route, Step, ring::Ring};
use crate::core::hash::Fast;
use odeon_protocol::limits::{FLOW_WINDOW, FLOWS_MAX};
use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    mem,
    task::Waker,
};

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
    pub(super) ids: HashMap<K, u32>,
    pub(super) flows: HashMap<u32, Flow<K>, Fast>,
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
    pub(super) fn outstanding_of(&self, key: &K) -> u32 {
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
