//! One host of a run: an agent's router, its lanes to others, and processes with actors.

use super::actors::{Sink, Source};
use bytes::{Buf, BytesMut};
use odeon::simulation::Process;
use odeon_node::simulation::Agent;
use odeon_protocol::{
    Boot, Direct, NodeId, Serial, Time, WorkerId,
    control::{FromAgent, Policy, Start, WireCodec},
    frame::Splitter,
};
use odeon_transport::quic::{Closed, Kind, Lanes, Receive};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// What a socket between an agent and a process holds.
const SOCKET_BYTES: usize = 64 << 10;
/// How long a report may wait for company.
const LAZY: Duration = Duration::from_millis(2);

/// A process and its socket.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) process: Process,
    pub(super) blocks: [u64; 2],
    next_placed: u64,
    to_agent: VecDeque<(Time, BytesMut)>,
    to_process: VecDeque<(Time, BytesMut)>,
    report_at: Option<Time>,
    pub(super) paused_until: Time,
    /// Killed; what it said before is still being read.
    pub(super) dead: bool,
    /// Its senders.
    pub(super) sources: Vec<u32>,
}

impl Worker {
    /// A number for an actor that the agent places there.
    pub(super) fn next_serial(&mut self) -> Serial {
        self.next_placed += 1;
        Serial(self.next_placed)
    }
}

/// Takes what the lanes deliver.
#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<Vec<(NodeId, Vec<BytesMut>)>>);

impl Receive for Inbox {
    fn frames(&self, from: NodeId, frames: Vec<BytesMut>) {
        self.0.lock().push((from, frames));
    }

    fn detached(&self, _: NodeId, _: Kind, _: Closed) {}
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) node: NodeId,
    pub(super) boot: Boot,
    pub(super) agent: Agent,
    pub(super) lanes: BTreeMap<NodeId, Lanes>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    next_worker: u32,
    next_block: u64,
    pub(super) up: bool,
    pub(super) paused_until: Time,
}

impl Host {
    pub(super) fn new(node: NodeId, boot: Boot) -> Self {
        Self {
            node,
            boot,
            agent: Agent::new(node, boot),
            lanes: BTreeMap::new(),
            inbox: Arc::default(),
            workers: BTreeMap::new(),
            next_worker: 0,
            next_block: 1,
            up: true,
            paused_until: Time::ZERO,
        }
    }

    /// Lanes to a start of another host's agent.
    pub(super) fn link(&mut self, node: NodeId, boot: Boot) {
        let lanes = Lanes::new(node, boot, self.inbox.clone());
        self.agent.link(lanes.clone());
        self.lanes.insert(node, lanes);
    }

    pub(super) fn add_worker(&mut self, tokio: &tokio::runtime::Handle) -> WorkerId {
        self.next_worker += 1;
        let id = WorkerId(self.next_worker);
        let blocks = [self.next_block + 1, self.next_block + 2];
        self.next_block += 2;
        let kinds = odeon::Worker::new().register::<Source>().register::<Sink>();
        let process = Process::new((self.node, self.boot), (blocks[0], blocks[1]), &kinds, tokio.clone());
        self.agent.attach(id, &blocks);
        let worker = Worker {
            process,
            blocks,
            next_placed: Serial::first_of(blocks[1]).0,
            to_agent: VecDeque::new(),
            to_process: VecDeque::new(),
            report_at: None,
            paused_until: Time::ZERO,
            dead: false,
            sources: Vec::new(),
        };
        self.workers.insert(id, worker);
        id
    }

    /// Has a worker start an actor; answers its place.
    pub(super) fn start(&mut self, id: WorkerId, kind: &str, name: Option<(&Arc<str>, u64)>) -> Option<Direct> {
        let worker = self.workers.get_mut(&id).filter(|worker| !worker.dead)?;
        let serial = worker.next_serial();
        let key = name.and_then(|(name, _)| name.split_once('/')).map_or("", |(_, key)| key);
        let start = Start {
            serial,
            type_name: kind.into(),
            args: key.as_bytes().to_vec(),
            codec: WireCodec::Key,
            global_name: name.map(|(name, _)| name.clone()),
            epoch: name.map_or(0, |(_, epoch)| epoch),
            parent: Direct::NONE,
            policy: Policy::default(),
            troupe: None,
        };
        self.agent.say(id, &FromAgent::Start(start));
        Some(Direct { node: self.node, boot: self.boot, serial })
    }

    /// Moves what is due between agent and processes, and lets actors run. Whether anything happened.
    pub(super) fn step(&mut self, now: Time) -> bool {
        let mut moved = false;
        for worker in self.workers.values_mut().filter(|worker| !worker.dead && worker.paused_until <= now) {
            while let Some((_, bytes)) = worker.to_process.pop_front_if(|(at, _)| *at <= now) {
                worker.process.take(cut(bytes));
                moved = true;
            }
            moved |= worker.process.run() > 0;
            if worker.report_at.is_some_and(|at| at <= now) {
                worker.report_at = None;
                worker.process.report();
            }
            if worker.report_at.is_none() && worker.process.has_reports() {
                worker.report_at = Some(now + LAZY);
            }
            let queued: usize = worker.to_agent.iter().map(|(_, bytes)| bytes.len()).sum();
            let bytes = worker.process.outgoing(SOCKET_BYTES.saturating_sub(queued));
            if !bytes.is_empty() {
                worker.to_agent.push_back((now + Duration::from_micros(30), bytes));
                moved = true;
            }
        }
        if self.paused_until > now {
            return moved;
        }
        self.agent.at(now);
        for (id, worker) in &mut self.workers {
            while let Some((_, bytes)) = worker.to_agent.pop_front_if(|(at, _)| *at <= now) {
                self.agent.take(*id, cut(bytes)).expect("a worker keeps to the protocol");
                moved = true;
            }
            let queued: usize = worker.to_process.iter().map(|(_, bytes)| bytes.len()).sum();
            if worker.dead {
                continue;
            }
            let bytes = self.agent.outgoing(*id, SOCKET_BYTES.saturating_sub(queued));
            if !bytes.is_empty() {
                worker.to_process.push_back((now + Duration::from_micros(30), bytes));
                moved = true;
            }
        }
        let arrived = std::mem::take(&mut *self.inbox.0.lock());
        for (from, frames) in arrived {
            self.agent.take_from_peer(from, frames);
            moved = true;
        }
        moved
    }

    /// Workers that were killed and have nothing more to say: their agent notices.
    pub(super) fn bury(&mut self) -> Vec<(WorkerId, Worker)> {
        let over = |worker: &Worker| worker.dead && worker.to_agent.is_empty();
        let ids: Vec<_> = self.workers.iter().filter(|(_, worker)| over(worker)).map(|(id, _)| *id).collect();
        let bury = |id: WorkerId| {
            self.agent.lost(id);
            self.workers.remove(&id).map(|worker| (id, worker))
        };
        ids.into_iter().filter_map(bury).collect()
    }

    /// Whether a large frame is on its way from here or within.
    pub(super) fn has_large(&mut self) -> bool {
        let lanes = self.lanes.values().any(|lanes| lanes.simulated().has_large());
        lanes || self.agent.has_begun() || self.workers.values().any(|worker| worker.process.has_begun())
    }

    /// When something is due here next.
    pub(super) fn next(&self, now: Time) -> Option<Time> {
        let awake = |at: Time, paused: Time| at.max(paused).max(now);
        let of = |worker: &Worker| {
            let to_process = worker.to_process.front().filter(|_| !worker.dead);
            let to_process = to_process.map(|(at, _)| awake(*at, worker.paused_until));
            let to_agent = worker.to_agent.front().map(|(at, _)| awake(*at, self.paused_until));
            let report = worker.report_at.filter(|_| !worker.dead).map(|at| awake(at, worker.paused_until));
            [to_process, to_agent, report].into_iter().flatten().min()
        };
        self.workers.values().filter_map(of).min()
    }

    /// Whether no process pauses, nothing is outstanding in any, and nothing held.
    pub(super) fn is_at_rest(&self, now: Time) -> bool {
        let rests = |worker: &Worker| worker.paused_until <= now && worker.process.system().stats().flows == 0;
        self.agent.held_bytes() == 0 && self.workers.values().all(rests)
    }
}

fn cut(bytes: BytesMut) -> Vec<BytesMut> {
    let mut splitter = Splitter::default();
    *splitter.buffer() = bytes;
    let mut frames = Vec::new();
    while let Some(frame) = splitter.next_frame().expect("whole frames were written") {
        frames.push(frame);
    }
    assert!(!splitter.buffer().has_remaining(), "a frame was cut");
    frames
}
