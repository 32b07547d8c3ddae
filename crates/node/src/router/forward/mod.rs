//! The router itself: takes frames, sends each on, or gives it back. It does no I/O: it appends to queues.
//!
//! - **R-1 (order).** From one sender to one receiver frames of one class keep their order.
//! - **R-2 (closed bodies).** It reads headers, and the name where the place is not known.
//! - **R-3 (no silence).** A message is sent on, held for a bounded time, or given back with its reason.
//! - **R-4 (no waiting).** It never waits: not for the controller, not for a receiver.
//! - **R-5 (no disguise).** A frame is taken only from the process or the agent that owns its sender.
//! - **R-6 (one chooser).** Where a name's message goes is chosen by the agent of its sender alone. Another agent that has
//!   it in hand when its receiver is gone sends it back, even if the name is borne here again: so that the sender's
//!   process knows every place where its messages may be when it hears that a place is lost.
//! - **R-7 (no bearer out of time).** Of an actor that bears a global name no message and no reply is taken once this host's
//!   lease was not renewed in time: another host may bear the name by then.

mod letters;
mod loss;
mod members;
mod names;
mod way_back;

use super::{
    Peers,
    asks::{Asks, Towards},
    back::{self, Why},
    bounced::Bounced,
    budget::Budget,
    hash::Fast,
    holds::Holds,
    pace::Pace,
    table::{Route, Table},
    troupes::Troupes,
    written_off::WrittenOff,
};
use crate::{event::Event, metrics::Metrics, queue::Queue};
use bytes::{Bytes, BytesMut};
use odeon_cluster::Rate;
use odeon_protocol::{
    Direct, NodeId, Reason, Time, WorkerId,
    control::{FromAgent, encode},
    frame::{self, Class, Frame, Header, Kind, flags},
    limits::{AGENT_BYTES_MAX, BLOCKS_MAX, HELD_BYTES, LARGE_FRAME_BYTES, LARGE_UNREAD_FOR},
    planted::{self, Fault},
    simulated::RandomState,
};
use odeon_transport::frame_io::{Outbox, PushError, share};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tokio::sync::Notify;
use tracing::debug;

/// Where a frame came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A process of this host, which owns the frame's sender.
    Process(WorkerId),
    /// Another agent.
    Peer(NodeId),
    /// This agent itself.
    Agent,
}

/// Where among those that wait for a name a message has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Before all that have come since: it was on its way to an earlier instance.
    First,
    /// Behind all others: it has only just come.
    Last,
}

/// A process of this host.
#[derive(Debug)]
struct Process {
    outbox: Outbox,
    name: String,
    /// Whether it was warned about; once is enough.
    warned: bool,
    blocks: usize,
    pace: Arc<Pace>,
    /// It does not read: its link is to be closed.
    deaf: Arc<Notify>,
    /// How many chunks it had taken when it was last seen to take any.
    taken: (u64, Time),
}

impl Process {
    /// Queues what cannot wait. A process for which too much of that gathers does not read: its link ends.
    fn push_urgent(&self, write: impl FnOnce(&mut BytesMut)) {
        // A closed link is noticed by its reader.
        if self.outbox.try_push(Class::Urgent, write) == Err(PushError::Full) {
            self.deaf.notify_one();
        }
    }

    /// Queues a whole frame that cannot wait.
    fn push_answer(&self, frame: BytesMut) {
        if frame.len() > LARGE_FRAME_BYTES {
            // As before; and what is large is bounded by `Budget`.
            let _ = self.outbox.try_push_large(Class::Urgent, share(frame));
        } else {
            self.push_urgent(|out| out.extend_from_slice(&frame));
        }
    }

    /// Closes the link of a process that takes none of the large frames that wait for it.
    fn look_at_large(&mut self, now: Time) {
        let (waiting, taken) = self.outbox.large();
        if waiting == 0 || taken != self.taken.0 {
            self.taken = (taken, now);
        } else if now.since(self.taken.1) >= LARGE_UNREAD_FOR {
            self.deaf.notify_one();
        }
    }
}

/// The router's state; see the module's head.
pub(crate) struct Router {
    pub(crate) table: Table,
    pub(in crate::router) troupes: Troupes,
    pub(crate) now: Time,
    holds: Holds,
    asks: Asks,
    pub(crate) budget: Budget,
    written_off: WrittenOff,
    bounced: Bounced,
    processes: HashMap<WorkerId, Process, Fast>,
    /// Peers that were warned about; once is enough.
    warned: HashSet<NodeId, RandomState>,
    /// Peers to which answers were dropped.
    overfull: HashSet<NodeId, RandomState>,
    /// Which processes were told where a name is, and of which grant.
    told: HashMap<Arc<str>, (u64, Vec<WorkerId>), RandomState>,
    me: Direct,
    peers: Arc<dyn Peers>,
    /// Until when bearers of global names may act; nothing before this agent's first lease.
    pub(crate) names_until: Option<Time>,
    /// Set while somebody, on any host, listens for messages that come back.
    letters: Option<Rate>,
    events: Arc<Queue<Event>>,
    metrics: Arc<Metrics>,
}

impl Router {
    pub(crate) fn new(me: Direct, peers: Arc<dyn Peers>, events: Arc<Queue<Event>>, metrics: Arc<Metrics>) -> Self {
        Self {
            table: Table::new(me.node, me.boot),
            troupes: Troupes::default(),
            now: Time::ZERO,
            holds: Holds::default(),
            asks: Asks::default(),
            budget: Budget::default(),
            written_off: WrittenOff::default(),
            bounced: Bounced::default(),
            processes: HashMap::default(),
            warned: HashSet::default(),
            overfull: HashSet::default(),
            told: HashMap::default(),
            me,
            peers,
            names_until: None,
            letters: None,
            events,
            metrics,
        }
    }

    /// A process was admitted. Its link is read at the pace that is returned, and closed when it is notified.
    pub(crate) fn attach(
        &mut self,
        id: WorkerId,
        name: String,
        outbox: Outbox,
        blocks: &[u64],
    ) -> (Arc<Pace>, Arc<Notify>) {
        blocks.iter().for_each(|block| self.table.lease(*block, id));
        let (pace, deaf) = <(Arc<Pace>, Arc<Notify>)>::default();
        let (blocks, kept) = (blocks.len(), (pace.clone(), deaf.clone()));
        self.processes.insert(id, Process { outbox, name, warned: false, blocks, pace, deaf, taken: (0, self.now) });
        kept
    }

    /// The block belongs to that process; `false` if it has as many as it may.
    pub(super) fn lease(&mut self, block: u64, id: WorkerId) -> bool {
        if let Some(process) = self.processes.get_mut(&id) {
            if process.blocks >= BLOCKS_MAX {
                return false;
            }
            process.blocks += 1;
        }
        self.table.lease(block, id);
        true
    }

    /// The queue towards a process.
    pub(super) fn outbox(&self, id: WorkerId) -> Option<&Outbox> {
        self.processes.get(&id).map(|process| &process.outbox)
    }

    /// Frames from a process of this host. An error says why its link is to be closed.
    pub(crate) fn take(&mut self, from: WorkerId, frames: Vec<BytesMut>) -> Result<(), String> {
        self.weigh();
        for frame in frames {
            let (header, _) = Header::read(&frame).map_err(|error| error.to_string())?;
            if header.kind == Kind::Control {
                let waits = self.processes.get(&from).map(|process| process.pace.one_more());
                self.events.push(Event::Control { process: from, body: body_of(frame)?, waits });
            } else if self.table.owns(from, header.from) {
                self.metrics.frames_from_processes.add(1);
                self.metrics.client_messages.add(u64::from(is_of_light_client(&header)));
                if self.is_too_late(&header) {
                    self.refuse_late(&header, &frame);
                } else {
                    self.forward(Origin::Process(from), header, frame);
                }
            } else {
                self.warn_disguise(from, &header);
            }
        }
        Ok(())
    }

    /// Whether a named actor says it past the time. A fence says nothing.
    fn is_too_late(&self, header: &Header) -> bool {
        header.from_epoch != 0
            && self.names_until.is_some_and(|until| self.now >= until)
            && matches!(header.kind, Kind::Tell | Kind::Ask | Kind::Reply)
            && !header.has(flags::FENCE)
            && !planted::is(Fault::GateOff)
    }

    fn refuse_late(&mut self, header: &Header, frame: &[u8]) {
        let text = format!("{}: its host's lease was not renewed in time", header.from);
        if header.kind == Kind::Reply {
            self.ask_ended(header);
            let why = Why { reason: Reason::Fenced, text, may_have_run: true };
            self.fail((header.to, header.correlation), header.from, &why);
        } else {
            self.give_back(frame, &Why::not_run(Reason::Fenced, text));
        }
    }

    fn ask_ended(&mut self, answer: &Header) {
        if let Some(of) = self.asks.remove(&(answer.to, answer.correlation)) {
            self.troupes.ask_ended(of);
        }
    }

    /// Frames from another agent.
    pub(crate) fn take_from_peer(&mut self, peer: NodeId, frames: Vec<BytesMut>) {
        self.weigh();
        for frame in frames {
            match Header::read(&frame) {
                Ok((header, _)) if self.may_come_from(peer, &header) => {
                    self.metrics.frames_from_peers.add(1);
                    self.forward(Origin::Peer(peer), header, frame);
                }
                Ok((header, _)) => {
                    self.warn_peer(peer, &format!("{:?} of {} is not the peer's", header.kind, header.from))
                }
                Err(error) => self.warn_peer(peer, &error.to_string()),
            }
        }
    }

    /// From a peer only frames of its own are taken, and none of a start that is over for good; nor what a lost place says,
    /// but that a message has not begun there.
    fn may_come_from(&self, peer: NodeId, header: &Header) -> bool {
        let may_say = || match self.table.route(header.from) {
            Route::Nobody(Reason::HostLost) => {
                let has_not_begun = header.kind == Kind::Returned && !header.has(flags::MAY_HAVE_RUN);
                has_not_begun && !self.table.is_over(peer, header.from.boot)
            }
            _ => true,
        };
        header.from.node == peer && header.kind != Kind::Control && may_say()
    }

    /// A frame that this agent made.
    pub(crate) fn send(&mut self, frame: BytesMut) {
        if let Ok((header, _)) = Header::read(&frame) {
            self.forward(Origin::Agent, header, frame);
        }
    }

    /// A control message to a process, in order with the frames towards it.
    pub(crate) fn control(&self, to: WorkerId, message: &FromAgent) {
        let Some(process) = self.processes.get(&to) else { return };
        let header = Header { class: Class::Urgent, ..Header::new(Kind::Control) };
        process.push_urgent(|out| {
            frame::write(out, &header, &[], &encode(message));
        });
    }

    /// The asks without an answer that are known, and the messages that wait for their names.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.asks.len(), self.holds.len())
    }

    /// Bytes that wait for names.
    pub(crate) fn held_bytes(&self) -> usize {
        self.holds.bytes()
    }

    /// Looks at how much waits, now and then.
    fn weigh(&mut self) {
        if self.budget.is_due(self.now) {
            let local =
                self.processes.values().map(|process| process.outbox.queued()).sum::<usize>() + self.holds.bytes();
            self.budget.look(self.now, local, self.peers.queued());
        }
    }

    /// A control message to every process.
    pub(crate) fn control_all(&self, message: &FromAgent) {
        self.processes.keys().for_each(|process| self.control(*process, message));
    }

    fn forward(&mut self, origin: Origin, header: Header, frame: BytesMut) {
        match header.kind {
            Kind::Tell | Kind::Ask | Kind::Signal => self.message(origin, header, frame),
            Kind::Reply | Kind::Failure => {
                self.ask_ended(&header);
                self.answer(&header, frame);
            }
            Kind::Settled => {
                self.troupes.settled(&header);
                self.answer(&header, frame);
            }
            Kind::Returned => self.returned(origin, &header, frame),
            Kind::Control | Kind::Void | Kind::Chunk | Kind::Credit => {}
        }
    }

    fn message(&mut self, origin: Origin, mut header: Header, mut frame: BytesMut) {
        if self.budget.is_spent() && header.kind != Kind::Signal && header.class != Class::Urgent {
            let text = format!("{} MiB wait in this host's agent, the most that it holds", AGENT_BYTES_MAX >> 20);
            return self.give_back(&frame, &Why::not_run(Reason::Full, text));
        }
        if header.has(flags::TROUPE) && !header.to.is_none() || self.table.route(header.to) == Route::Troupe {
            return self.pass_to_troupe(origin, header.to, frame);
        }
        if header.to.is_none() {
            let Some(name) = name_of(&frame) else {
                return self
                    .give_back(&frame, &Why::not_run(Reason::NoSuchActor, "the message says neither place nor name"));
            };
            let Some(known) = self.table.name(&name).filter(|_| !self.holds.has(&name)) else {
                return self.hold(&name, frame);
            };
            if self.table.route(known.place) == Route::Troupe {
                return self.pass_to_troupe(origin, known.place, frame);
            }
            if header.has(flags::FENCE) {
                self.follow(&header, Direct::NONE, known.place);
            }
            (header.to, header.to_epoch) = (known.place, known.epoch);
            frame::set_to(&mut frame, known.place, known.epoch);
            if let Origin::Process(process) = origin {
                self.tell_where(process, &name.as_str().into(), known);
            }
        }
        if matches!(origin, Origin::Peer(_)) && self.bounced.has(header.from, header.flow, header.to) {
            return self.bounce(frame, "its name has been elsewhere since");
        }
        self.deliver(origin, &header, frame);
    }

    fn deliver(&mut self, origin: Origin, header: &Header, frame: BytesMut) {
        if self.goes_behind_others(origin, header, &frame) {
            let name = name_of(&frame).unwrap_or_default();
            return self.hold(&name, frame);
        }
        match self.table.route(header.to) {
            Route::Process(process) => self.push_process(process, header, frame),
            Route::Stopping(process) => match name_of(&frame) {
                Some(name) => self.hold(&name, frame),
                None => self.push_process(process, header, frame),
            },
            Route::Peer(node) if matches!(origin, Origin::Peer(_)) && !planted::is(Fault::ForwardInsteadOfBounce) => {
                self.moved(header, frame, &format!("on node {node} now"));
            }
            Route::Peer(node) => self.push_peer(node, header, frame),
            // For an earlier start of this agent: where its name is now the sender's agent finds out as well.
            Route::Nobody(Reason::HostLost)
                if matches!(origin, Origin::Peer(_)) && header.to.node == self.me.node && name_of(&frame).is_some() =>
            {
                self.moved(header, frame, "gone with an earlier start of its agent");
            }
            Route::Troupe => self.pass_to_troupe(origin, header.to, frame),
            Route::Nobody(reason) => self.undeliverable(header, frame, reason, Turn::Last),
        }
    }

    /// Whether a message goes behind others that wait for its name: where its actor is on this host, if that is a former
    /// bearer, from which it would come back and be taken for an earlier one than they; where it is on another, if the
    /// sender's process sends it to the place, as they may have been taken back on their way there. But a fence goes where it
    /// is sent, so that it follows what went there.
    fn goes_behind_others(&self, origin: Origin, header: &Header, frame: &[u8]) -> bool {
        if self.holds.is_empty() || !matches!(header.kind, Kind::Tell | Kind::Ask) {
            return false;
        }
        let name = frame::extensions_of(frame).to_name().filter(|name| self.holds.has(name));
        let Some(name) = name.filter(|_| frame::extensions_of(frame).troupe().is_none()) else { return false };
        match self.table.route(header.to) {
            Route::Process(_) => self.table.name(name).is_none_or(|known| known.place != header.to),
            Route::Peer(_) => matches!(origin, Origin::Process(_)) && !header.has(flags::FENCE),
            Route::Stopping(_) | Route::Troupe | Route::Nobody(_) => false,
        }
    }

    fn push_process(&mut self, process: WorkerId, header: &Header, frame: BytesMut) {
        let Some(state) = self.processes.get(&process) else {
            return self.undeliverable(header, frame, Reason::WorkerLost, Turn::Last);
        };
        let class = if matches!(header.kind, Kind::Tell | Kind::Ask) { header.class } else { Class::Urgent };
        let frame = share(frame);
        let pushed = if frame.len() > LARGE_FRAME_BYTES {
            state.outbox.try_push_large(class, frame.clone())
        } else {
            state.outbox.try_push_bytes(class, &frame)
        };
        match pushed {
            Ok(()) => self.sent(Towards::Process(process), header, &frame),
            Err(PushError::Full) => {
                if class == Class::Urgent {
                    state.deaf.notify_one();
                }
                let text = format!("{} takes its messages too slowly: {} MiB wait", state.name, HELD_BYTES >> 20);
                self.give_back(&frame, &Why::not_run(Reason::Full, text));
            }
            Err(PushError::Closed) => self.undeliverable(header, mutable(frame), Reason::WorkerLost, Turn::Last),
        }
    }

    fn push_peer(&mut self, node: NodeId, header: &Header, frame: BytesMut) {
        self.sent(Towards::Peer(node), header, &frame);
        self.metrics.frames_to_peers.add(1);
        let frame = share(frame);
        if !self.peers.send(node, frame.clone()) {
            let text = format!("too much waits for the host of {}", header.to);
            self.give_back(&frame, &Why::not_run(Reason::Full, text));
        }
    }

    /// Notes an ask, so that its asker learns of the loss of that place.
    fn sent(&mut self, towards: Towards, header: &Header, frame: &[u8]) {
        if header.kind != Kind::Ask {
            return;
        }
        let key = ask_key(header, frame);
        if let Some(before) = self.asks.insert(key, towards, header, self.now) {
            self.troupes.ask_ended(before);
        }
    }

    /// A reply, failure, report or returned message: nobody waits for news of it.
    fn answer(&mut self, header: &Header, mut frame: BytesMut) {
        let route = self.table.route(header.to);
        if !matches!(route, Route::Peer(_)) {
            self.note_letter(header, &frame);
        }
        match route {
            Route::Process(process) | Route::Stopping(process) => {
                if let Some(state) = self.processes.get(&process) {
                    state.push_answer(frame);
                }
            }
            Route::Peer(node) => {
                if header.from.node != self.me.node {
                    // Given back for an actor that is not here: to the other agent it comes from this one.
                    back::set_from(&mut frame, self.me);
                }
                self.metrics.frames_to_peers.add(1);
                let frame = share(frame);
                if !self.peers.send(node, frame.clone()) {
                    self.note_letter(header, &frame);
                    self.answer_dropped(node);
                }
            }
            Route::Troupe | Route::Nobody(_) => {
                if !header.has(flags::FENCE) {
                    self.metrics.dead_letters.add(1);
                }
                debug!(to = %header.to, kind = ?header.kind, "nobody waits for this any more");
            }
        }
    }
}

/// The frame to be changed; copied where somebody else has it, too.
fn mutable(frame: Bytes) -> BytesMut {
    frame.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}

fn body_of(frame: BytesMut) -> Result<Bytes, String> {
    Frame::read(frame.freeze()).map(|frame| frame.body()).map_err(|error| error.to_string())
}

fn ask_key(header: &Header, frame: &[u8]) -> (Direct, u64) {
    frame::extensions_of(frame).reply_to().unwrap_or((header.from, header.correlation))
}

/// Whether a message was told by a client without a runtime, as the command line and HTTP are: only these name messages by
/// text. It is of a flow, so its receiver counts it.
fn is_of_light_client(header: &Header) -> bool {
    header.kind == Kind::Tell && header.type_id == 0 && header.flow != 0 && !header.has(flags::FENCE)
}

fn name_of(frame: &[u8]) -> Option<String> {
    frame::extensions_of(frame).to_name().map(str::to_owned)
}
