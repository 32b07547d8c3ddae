//! Who sends what to whom.

use super::{
    Action, Address, Context, Direct, Duration, FAULTS, Go, Host, MESSAGES, NAMED, Name, NodeId, PHASE_COMES, PHASES,
    Place, RECEIVERS, Sink, Source, TROUBLE, Waker, WorkerId, World, stage,
};
use std::{future::Future, pin::pin, sync::Arc};

/// What a sender is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) count: u64,
    gap_us: u64,
    rest_every: u64,
    ask_every: u64,
    large_every: u64,
}

impl World {
    /// Receivers, and senders with their tasks.
    pub(super) fn cast(&mut self) {
        let nodes = self.nodes();
        for receiver in 0..RECEIVERS {
            if receiver < NAMED {
                let key: Arc<str> = format!("sim.sink/{receiver}").into();
                let name = Name { receiver, place: Place::Dormant, epoch: 0 };
                self.directory.names.insert(key.clone(), name);
                let address = Address::named(&*key, true).to_string();
                stage::with(|stage| stage.log.receivers.insert(address, receiver));
            } else {
                let (node, worker) = self.any_worker(&nodes);
                let place = self.host(node).start(worker, "sim.sink", None).expect("it lives");
                self.directory.anonymous.insert(place, receiver);
                stage::with(|stage| stage.log.receivers.insert(Address::Direct(place).to_string(), receiver));
            }
        }
        let span = TROUBLE.as_micros() as u64;
        let (start_takes, stop_takes) = (self.random.below(150), self.random.below(150));
        stage::with(|stage| {
            (stage.start_takes, stage.stop_takes) =
                (Duration::from_millis(start_takes), Duration::from_millis(stop_takes));
        });
        let (mut left, senders) = (MESSAGES + self.random.below(2_000), 5 + self.random.below(4));
        for from in 0..senders {
            let count = (left / (senders - from)).max(1);
            left = left.saturating_sub(count);
            let to = self.random.below(u64::from(RECEIVERS)) as u32;
            // In bursts, each as fast as may be, or one by one over the whole time.
            let gap_us = if self.random.chance(60) { span / count } else { self.random.below(2_000) };
            let rest_every = if self.random.chance(50) { 100 + self.random.below(400) } else { 0 };
            let ask_every = if self.random.chance(30) { 2 + self.random.below(9) } else { 0 };
            let large_every = if self.random.chance(40) { 10 + self.random.below(60) } else { 0 };
            let (node, worker) = self.any_worker(&nodes);
            let order = Order { from: from as u32, to, count, gap_us, rest_every, ask_every, large_every };
            self.hire(node, worker, order);
        }
        for receiver in 0..RECEIVERS {
            if self.random.chance(60) {
                let slowness = Duration::from_micros(self.random.below(30_000));
                stage::with(|stage| stage.slowness.insert(receiver, slowness));
            }
        }
        let faults = 5 + self.random.below(8);
        for _ in 0..faults {
            let at = Duration::from_micros(self.random.below(span));
            let fault = self.random.one(&FAULTS).expect("there are some");
            let phase = self.random.one(&PHASES).expect("there are some");
            self.later(at, Action::Inject(fault, phase, self.now + at + PHASE_COMES));
        }
        self.later(Duration::from_millis(500), Action::Tick);
    }

    /// Starts a sender, who begins once it lives.
    fn hire(&mut self, node: NodeId, worker: WorkerId, order: Order) {
        stage::with(|stage| stage.log.begin((order.from, order.to)));
        self.orders.insert(order.from, order);
        let source = self.host(node).start(worker, "sim.source", None).expect("it lives");
        self.host(node).workers.get_mut(&worker).expect("it lives").sources.push(order.from);
        self.later(Duration::from_millis(3), Action::Begin(node, worker, source, order));
    }

    /// Has a new worker go on with what the senders of a lost one had to do.
    pub(super) fn hire_for_orphans(&mut self, node: NodeId, worker: WorkerId) {
        for order in std::mem::take(&mut self.orphans) {
            let from = self.orders.len() as u32;
            self.hire(node, worker, Order { from, ..order });
        }
    }

    /// These senders are gone.
    pub(super) fn orphan(&mut self, sources: &[u32]) {
        stage::with(|stage| stage.log.over(sources));
        let orders = sources.iter().filter_map(|source| self.orders.get(source).copied()).collect::<Vec<_>>();
        for order in orders {
            let left = order.count - stage::with(|stage| stage.log.sent((order.from, order.to)));
            if left > 0 {
                self.orphans.push(Order { count: left, ..order });
            }
        }
    }

    fn any_worker(&mut self, nodes: &[NodeId]) -> (NodeId, WorkerId) {
        let node = self.random.one(nodes).expect("there are hosts");
        let workers: Vec<_> = self.host(node).workers.keys().copied().collect();
        (node, self.random.one(&workers).expect("there are workers"))
    }

    pub(super) fn host(&mut self, node: NodeId) -> &mut Host {
        self.hosts.get_mut(&node).expect("hosts stay")
    }

    pub(super) fn go(&mut self, (node, id): (NodeId, WorkerId), place: Direct, order: Order) {
        let receiver = match self.directory.anonymous.iter().find(|(_, receiver)| **receiver == order.to) {
            Some((place, _)) => Address::Direct(*place),
            None => Address::named(format!("sim.sink/{}", order.to), true),
        };
        let workers = &self.host(node).workers;
        let Some(worker) = workers.get(&id).filter(|worker| !worker.dead) else { return };
        let system = worker.process.system().clone();
        let Order { from, to, count, gap_us, rest_every, ask_every, large_every } = order;
        let receiver = system.reference::<Sink>(receiver);
        let go = Go { from, to, receiver, count, gap_us, rest_every, ask_every, large_every };
        let source = system.reference::<Source>(Address::Direct(place));
        let mut told = pin!(source.tell(go).into_future());
        let told = told.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if !matches!(told, std::task::Poll::Ready(Ok(()))) {
            // Its process pauses: it has not started yet.
            self.later(Duration::from_millis(3), Action::Begin(node, id, place, order));
        }
    }
}
