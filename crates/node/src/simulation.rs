//! An agent of a simulation: the shipped router, without threads and sockets. Whoever simulates plays the controller and
//! carries what the lanes and the links to processes hold.

use crate::{
    convention,
    event::Event,
    metrics::Metrics,
    queue::Queue,
    router::{Known, Peers, Router, Why},
};
use bytes::{Bytes, BytesMut};
use odeon_protocol::{
    Boot, Direct, NodeId, Reason, Serial, Time, WorkerId,
    control::{self, FromAgent, Signal, ToAgent, decode},
    frame::{self, Class, Header, Kind, order_of},
    limits::HELD_BYTES,
};
use odeon_transport::{
    frame_io::{Inlet, Outbox},
    quic::{Lanes, Undelivered},
};
use parking_lot::Mutex;
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

/// After so long without a connection [`Agent::unreachable`] is due.
pub const DOWN_MAX: Duration = convention::DOWN_MAX;

/// What the router wants of its controller.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// A process says something.
    Said(WorkerId, ToAgent),
    /// Frames wait for a name: to be answered by [`Agent::resolved`] or [`Agent::missing`]. The second says whether it is
    /// to be started if nobody bears it.
    Name(Arc<str>, bool),
    /// Blocks of serials are gone with their process.
    Lost(Vec<u64>),
}

#[derive(Default)]
struct Links(Mutex<BTreeMap<NodeId, Lanes>>);

impl Peers for Links {
    fn send(&self, node: NodeId, frame: Bytes) -> bool {
        let lanes = self.0.lock().get(&node).cloned();
        lanes.is_some_and(|lanes| lanes.send(order_of(&frame), frame).is_ok())
    }

    fn queued(&self) -> usize {
        self.0.lock().values().map(Lanes::queued).sum()
    }

    fn take_back(&self, node: NodeId, fits: &dyn Fn(&[u8]) -> bool) -> Undelivered {
        let lanes = self.0.lock().get(&node).cloned();
        lanes.map(|lanes| lanes.take_back(fits)).unwrap_or_default()
    }
}

/// See the module's head.
pub struct Agent {
    router: Router,
    events: Arc<Queue<Event>>,
    links: Arc<Links>,
    outboxes: BTreeMap<WorkerId, (Outbox, Inlet)>,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("processes", &self.outboxes.keys()).finish_non_exhaustive()
    }
}

impl Agent {
    /// An agent without processes.
    #[must_use]
    pub fn new(node: NodeId, boot: Boot) -> Self {
        let (events, links) = (Arc::new(Queue::default()), Arc::new(Links::default()));
        let me = Direct { node, boot, serial: Serial(0) };
        let router = Router::new(me, links.clone(), events.clone(), Arc::new(Metrics::default()));
        Self { router, events, links, outboxes: BTreeMap::new() }
    }

    /// What time it is.
    pub fn at(&mut self, now: Time) {
        self.router.now = now;
    }

    /// The lanes to another agent from now on; what waited for its older start goes back.
    pub fn link(&mut self, lanes: Lanes) {
        let node = lanes.node();
        let older = self.links.0.lock().insert(node, lanes.clone());
        if let Some(older) = older {
            let back = convention::replaced(&older, &lanes);
            self.router.undelivered(back, &unreachable(Reason::Unreachable));
        }
    }

    /// A process was admitted.
    pub fn attach(&mut self, id: WorkerId, blocks: &[u64]) {
        let outbox = Outbox::new(HELD_BYTES);
        let inlet = Inlet::new(outbox.clone(), self.router.budget.processes.clone());
        self.outboxes.insert(id, (outbox.clone(), inlet));
        self.router.attach(id, id.to_string(), outbox, blocks);
    }

    /// Frames from a process.
    ///
    /// # Errors
    /// Why its link is to be closed.
    pub fn take(&mut self, from: WorkerId, mut frames: Vec<BytesMut>) -> Result<(), String> {
        if let Some((_, inlet)) = self.outboxes.get_mut(&from) {
            inlet.take(&mut frames).map_err(|error| error.to_string())?;
        }
        self.router.take(from, frames)
    }

    /// Frames from another agent.
    pub fn take_from_peer(&mut self, peer: NodeId, frames: Vec<BytesMut>) {
        self.router.take_from_peer(peer, frames);
    }

    /// Takes at most about so many bytes of whole frames for a process.
    #[must_use]
    pub fn outgoing(&self, to: WorkerId, limit: usize) -> BytesMut {
        self.outboxes.get(&to).map(|(outbox, _)| outbox.take_queued(limit)).unwrap_or_default()
    }

    /// Whether a part of a large frame has come from a process.
    pub fn has_begun(&mut self) -> bool {
        self.outboxes.values_mut().any(|(_, inlet)| inlet.begun() > 0)
    }

    /// Says something to a process.
    pub fn say(&self, to: WorkerId, message: &FromAgent) {
        self.router.control(to, message);
    }

    /// What the router wants.
    #[must_use]
    pub fn wants(&self) -> Vec<Wanted> {
        let wanted = |event| match event {
            Event::Control { process, body, .. } => Some(Wanted::Said(process, decode(&body).ok()?)),
            Event::Missed { name, starts, .. } => Some(Wanted::Name(name, starts)),
            Event::Lost { blocks, .. } => Some(Wanted::Lost(blocks)),
            _ => None,
        };
        self.events.take_now().into_iter().filter_map(wanted).collect()
    }

    /// A name is there.
    pub fn resolved(&mut self, name: &Arc<str>, place: Direct, epoch: u64) {
        self.router.resolved(name, Known { place, epoch });
    }

    /// That grant of a name is over.
    pub fn unresolved(&mut self, name: &Arc<str>, epoch: u64) {
        self.router.unresolved(name, epoch);
    }

    /// A name is nobody's.
    pub fn missing(&mut self, name: &str, was_start: bool) {
        self.router.missing(name, was_start, &Why::not_run(Reason::NoSuchActor, name));
    }

    /// An actor of this host is stopping.
    pub fn stopping(&mut self, name: &Arc<str>, epoch: u64, serial: Serial) {
        self.router.table.stop(serial);
        self.router.unresolved(name, epoch);
    }

    /// It has stopped.
    pub fn stopped(&mut self, serial: Serial) {
        self.router.table.stopped(serial);
    }

    /// Has an actor of this host stop.
    pub fn stop(&mut self, (node, boot): (NodeId, Boot), to: Direct) {
        let from = Direct { node, boot, serial: Serial(0) };
        let header = Header { to, from, class: Class::Bulk, ..Header::new(Kind::Signal) };
        let mut frame = BytesMut::new();
        frame::write(&mut frame, &header, &[], &control::encode(&Signal::Stop));
        self.router.send(frame);
    }

    /// A process is gone: everything that it said was taken.
    pub fn lost(&mut self, id: WorkerId) {
        if let Some((outbox, _)) = self.outboxes.remove(&id) {
            outbox.abandon();
            self.router.lost(id, outbox.take_unsent());
        }
    }

    /// Says to all processes that these blocks of this very agent are gone.
    pub fn say_lost(&self, (node, boot): (NodeId, Boot), blocks: &[u64]) {
        let message = FromAgent::Lost { node, boot, blocks: blocks.to_vec(), reason: Reason::WorkerLost };
        self.router.control_all(&message);
    }

    /// Processes of another agent are gone.
    pub fn blocks_lost(&mut self, node: NodeId, boot: Boot, blocks: Vec<u64>) {
        self.router.blocks_lost(node, boot, blocks);
    }

    /// Whatever lived there lives there no more.
    pub fn place_lost(&mut self, place: Direct) {
        self.router.place_lost(place, &unreachable(Reason::Unreachable));
    }

    /// That start of another agent is over.
    pub fn host_dead(&mut self, node: NodeId, boot: Boot) {
        self.router.host_dead(node, boot, &unreachable(Reason::HostLost));
    }

    /// The link to another agent has been down for [`DOWN_MAX`].
    pub fn unreachable(&mut self, node: NodeId) {
        self.router.peer_unreachable(node, &unreachable(Reason::Unreachable));
    }

    /// Looks through what waits.
    pub fn tick(&mut self) {
        self.router.tick();
    }

    /// Bytes that wait for names.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.router.held_bytes()
    }
}

fn unreachable(reason: Reason) -> Why {
    Why::not_run(reason, "simulated")
}
