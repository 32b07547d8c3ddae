//! The router itself: takes frames, sends each on, or gives it back. It does no I/O: it appends to queues.
//!
//! - **R-1 (order).** From one sender to one receiver frames of one class keep their order.
//! - **R-2 (closed bodies).** It reads headers, and the name where the place is not known.
//! - **R-3 (no silence).** A message is sent on, held for a bounded time, or given back with its reason.
//! - **R-4 (no waiting).** It never waits: not for the controller, not for a receiver.
//! - **R-5 (no disguise).** A frame is taken only from the process or the agent that owns its sender.

use super::{
    Peers,
    asks::{Asks, Towards},
    back::{self, BOUNCES_MAX, Why},
    hash::Fast,
    holds::{Asking, Held, Holds},
    table::{Known, Route, Table},
    troupes::{Pick, Troupes},
};
use crate::{event::Event, metrics::Metrics, queue::Queue};
use bytes::BytesMut;
use odeon_protocol::{
    Boot, Direct, NodeId, Reason, Time, WorkerId,
    control::{FromAgent, encode},
    frame::{self, Class, Extension, Frame, Header, Kind, flags},
};
use odeon_transport::frame_io::{Outbox, PushError};
use std::{collections::HashMap, sync::Arc};
use tracing::{debug, warn};

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

/// A process of this host.
#[derive(Debug)]
struct Process {
    outbox: Outbox,
    name: String,
    /// Whether it was warned about; once is enough.
    warned: bool,
}

/// The router's state; see the module's head.
pub(super) struct Router {
    pub(super) table: Table,
    pub(super) troupes: Troupes,
    pub(super) now: Time,
    holds: Holds,
    asks: Asks,
    processes: HashMap<WorkerId, Process, Fast>,
    /// Which processes were told where a name is, and of which grant.
    told: HashMap<Arc<str>, (u64, Vec<WorkerId>)>,
    me: Direct,
    peers: Arc<dyn Peers>,
    events: Arc<Queue<Event>>,
    metrics: Arc<Metrics>,
}

impl Router {
    pub(super) fn new(me: Direct, peers: Arc<dyn Peers>, events: Arc<Queue<Event>>, metrics: Arc<Metrics>) -> Self {
        Self {
            table: Table::new(me.node, me.boot),
            troupes: Troupes::default(),
            now: Time::ZERO,
            holds: Holds::default(),
            asks: Asks::default(),
            processes: HashMap::default(),
            told: HashMap::new(),
            me,
            peers,
            events,
            metrics,
        }
    }

    /// A process was admitted.
    pub(super) fn attach(&mut self, id: WorkerId, name: String, outbox: Outbox, blocks: &[u64]) {
        blocks.iter().for_each(|block| self.table.lease(*block, id));
        self.processes.insert(id, Process { outbox, name, warned: false });
    }

    /// The queue towards a process.
    pub(super) fn outbox(&self, id: WorkerId) -> Option<&Outbox> {
        self.processes.get(&id).map(|process| &process.outbox)
    }

    /// Frames from a process of this host. An error says why its link is to be closed.
    pub(super) fn take(&mut self, from: WorkerId, frames: Vec<BytesMut>) -> Result<(), String> {
        for frame in frames {
            let (header, _) = Header::read(&frame).map_err(|error| error.to_string())?;
            if header.kind == Kind::Control {
                self.events.push(Event::Control { process: from, body: control_body(frame)? });
            } else if self.table.owns(from, header.from) {
                self.metrics.frames_from_processes.add(1);
                self.forward(Origin::Process(from), header, frame);
            } else {
                self.warn_disguise(from, &header);
            }
        }
        Ok(())
    }

    /// Frames from another agent.
    pub(super) fn take_from_peer(&mut self, peer: NodeId, frames: Vec<BytesMut>) {
        for frame in frames {
            match Header::read(&frame) {
                Ok((header, _)) if header.from.node == peer && header.kind != Kind::Control => {
                    self.metrics.frames_from_peers.add(1);
                    self.forward(Origin::Peer(peer), header, frame);
                }
                Ok((header, _)) => {
                    warn!(%peer, from = %header.from, kind = ?header.kind, "frame refused: it is not the peer's")
                }
                Err(error) => warn!(%peer, %error, "frame refused"),
            }
        }
    }

    /// A frame that this agent made.
    pub(super) fn send(&mut self, frame: BytesMut) {
        if let Ok((header, _)) = Header::read(&frame) {
            self.forward(Origin::Agent, header, frame);
        }
    }

    /// A control message to a process, in order with the frames towards it.
    pub(super) fn control(&self, to: WorkerId, message: &FromAgent) {
        let Some(process) = self.processes.get(&to) else { return };
        let header = Header { class: Class::Urgent, ..Header::new(Kind::Control) };
        // A closed link is noticed by its reader.
        let _ = process.outbox.try_push(Class::Urgent, |out| {
            frame::write(out, &header, &[], &encode(message));
        });
    }

    /// A control message to every process.
    pub(super) fn control_all(&self, message: &FromAgent) {
        self.processes.keys().for_each(|process| self.control(*process, message));
    }

    fn forward(&mut self, origin: Origin, header: Header, frame: BytesMut) {
        match header.kind {
            Kind::Tell | Kind::Ask | Kind::Signal => self.message(origin, header, frame),
            Kind::Reply | Kind::Failure => {
                if let Some(of) = self.asks.remove(&(header.to, header.correlation)) {
                    self.troupes.ask_ended(of);
                }
                self.answer(&header, frame);
            }
            Kind::Settled => {
                self.troupes.settled(&header);
                self.answer(&header, frame);
            }
            Kind::Returned => self.returned(origin, &header, frame),
            Kind::Control => {}
        }
    }

    fn message(&mut self, origin: Origin, mut header: Header, mut frame: BytesMut) {
        if header.has(flags::TROUPE) && !header.to.is_none() || self.table.route(header.to) == Route::Troupe {
            return self.pass_to_troupe(origin, header.to, frame);
        }
        if header.to.is_none() {
            let Some(name) = name_of(&frame) else {
                return self
                    .give_back(&frame, &Why::not_run(Reason::NoSuchActor, "the message says neither place nor name"));
            };
            let Some(known) = self.table.name(&name).filter(|_| !self.holds.has(&name)) else {
                return self.hold(&name, frame, false);
            };
            (header.to, header.to_epoch) = (known.place, known.epoch);
            frame::set_to(&mut frame, known.place, known.epoch);
            if let Origin::Process(process) = origin {
                self.tell_where(process, &name.as_str().into(), known);
            }
            if self.table.route(header.to) == Route::Troupe {
                return self.pass_to_troupe(origin, header.to, frame);
            }
        }
        self.deliver(origin, &header, frame);
    }

    fn deliver(&mut self, origin: Origin, header: &Header, frame: BytesMut) {
        match self.table.route(header.to) {
            Route::Process(process) => self.push_process(process, header, frame),
            Route::Stopping(process) => match name_of(&frame) {
                Some(name) => self.hold(&name, frame, false),
                None => self.push_process(process, header, frame),
            },
            Route::Peer(node) if matches!(origin, Origin::Peer(_)) => self.moved(header, frame, node),
            Route::Peer(node) => self.push_peer(node, header, frame),
            Route::Troupe => self.pass_to_troupe(origin, header.to, frame),
            Route::Nobody(reason) => self.undeliverable(header, frame, reason),
        }
    }

    fn push_process(&mut self, process: WorkerId, header: &Header, frame: BytesMut) {
        let Some(state) = self.processes.get(&process) else {
            return self.undeliverable(header, frame, Reason::WorkerLost);
        };
        let class = if matches!(header.kind, Kind::Tell | Kind::Ask) { header.class } else { Class::Urgent };
        match state.outbox.try_push_bytes(class, &frame) {
            Ok(()) => self.sent(Towards::Process(process), header, &frame),
            Err(PushError::Full) => {
                let text = format!("{} takes its messages too slowly: 8 MiB wait", state.name);
                self.give_back(&frame, &Why::not_run(Reason::Full, text));
            }
            Err(PushError::Closed) => self.undeliverable(header, frame, Reason::WorkerLost),
        }
    }

    fn push_peer(&mut self, node: NodeId, header: &Header, frame: BytesMut) {
        self.sent(Towards::Peer(node), header, &frame);
        self.metrics.frames_to_peers.add(1);
        let frame = frame.freeze();
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
        if let Some(before) = self.asks.insert(key, (towards, header.to), header.remaining_ms, self.now) {
            self.troupes.ask_ended(before);
        }
    }

    /// A reply, failure, report or returned message: nobody waits for news of it.
    fn answer(&self, header: &Header, mut frame: BytesMut) {
        match self.table.route(header.to) {
            Route::Process(process) | Route::Stopping(process) => {
                if let Some(state) = self.processes.get(&process) {
                    let _ = state.outbox.try_push_bytes(Class::Urgent, &frame);
                }
            }
            Route::Peer(node) => {
                if header.from.node != self.me.node {
                    // Given back for an actor that is not here: to the other agent it comes from this one.
                    back::set_from(&mut frame, self.me);
                }
                self.metrics.frames_to_peers.add(1);
                let _ = self.peers.send(node, frame.freeze());
            }
            Route::Troupe | Route::Nobody(_) => {
                self.metrics.dead_letters.add(1);
                debug!(to = %header.to, kind = ?header.kind, "nobody waits for this any more");
            }
        }
    }

    /// A message that came back: sent on where that can help, else brought to its sender.
    fn returned(&mut self, origin: Origin, header: &Header, bytes: BytesMut) {
        if header.correlation != 0
            && let Some(of) = self.asks.remove(&(header.to, header.correlation))
        {
            self.troupes.ask_ended(of);
        }
        let Ok(back) = Frame::read(bytes.freeze()) else { return };
        if self.may_go_again(origin, &back) {
            let message = back::again(&back);
            if let Some(troupe) = back::troupe_of(&back) {
                self.troupes.member_gone(troupe, back.header.from);
                return self.pass_to_troupe(Origin::Agent, troupe, message);
            }
            if let Some(name) = back.to_name() {
                return self.hold(name, message, true);
            }
        }
        if let (asker, correlation) = back::asker(&back)
            && correlation != 0
            && asker != header.to
        {
            let (reason, text) = back.reason().unwrap_or((Reason::NoSuchActor, ""));
            let why = Why { reason, text: text.to_owned(), may_have_run: header.has(flags::MAY_HAVE_RUN) };
            self.fail((asker, correlation), header.from, &why);
        }
        self.answer(header, BytesMut::from(&back.bytes()[..]));
    }

    /// Whether another instance or member may take what came back. The actor's own agent decides, once; the sender's
    /// agent follows it when it says that the name is elsewhere.
    fn may_go_again(&self, origin: Origin, back: &Frame) -> bool {
        let Some((reason, _)) = back.reason() else { return false };
        if back.header.bounced() >= BOUNCES_MAX || back.header.has(flags::MAY_HAVE_RUN) {
            return false;
        }
        let to_local = back.header.to.node == self.me.node;
        match reason {
            Reason::Moved => to_local,
            Reason::ActorStopped | Reason::NoSuchActor | Reason::WorkerLost => match back::troupe_of(back) {
                Some(_) => to_local,
                None => !matches!(origin, Origin::Peer(_)),
            },
            _ => false,
        }
    }

    /// A message whose receiver is not there: waits for the name's next instance, or goes back.
    fn undeliverable(&mut self, header: &Header, frame: BytesMut, reason: Reason) {
        if !matches!(header.kind, Kind::Tell | Kind::Ask) {
            return;
        }
        if header.bounced() < BOUNCES_MAX
            && let Some(name) = name_of(&frame)
        {
            let mut frame = frame;
            frame::set_to(&mut frame, Direct::NONE, 0);
            frame[8..10].copy_from_slice(&back::bounced(header.flags).to_le_bytes());
            return self.hold(&name, frame, true);
        }
        let text = format!("odeon:{}: {reason}", header.to);
        self.give_back(&frame, &Why::not_run(reason, text));
    }

    /// A name that is on another host: its sender's agent has to send it there.
    fn moved(&mut self, header: &Header, frame: BytesMut, node: NodeId) {
        if name_of(&frame).is_some() {
            let text = format!("{} is on node {node} now", header.to);
            return self.give_back(&frame, &Why::not_run(Reason::Moved, text));
        }
        self.give_back(&frame, &Why::not_run(Reason::NoSuchActor, format!("odeon:{} is not of this host", header.to)));
    }

    /// Gives a message back to its sender; an ask that was forwarded also fails for whoever asked.
    pub(super) fn give_back(&mut self, frame: &[u8], why: &Why) {
        let Ok(message) = back::read(frame) else { return };
        if !matches!(message.header.kind, Kind::Tell | Kind::Ask) || message.header.from.is_none() {
            return;
        }
        self.metrics.returned.add(1);
        if message.header.kind == Kind::Ask && why.reason != Reason::Moved {
            let asker = back::asker(&message);
            if asker != (message.header.from, message.header.correlation) {
                self.fail(asker, message.header.to, why);
            }
        }
        let back = back::returned(&message, why);
        if let Ok((header, _)) = Header::read(&back) {
            if header.correlation != 0 {
                let _ = self.asks.remove(&(header.to, header.correlation));
            }
            self.answer(&header, back);
        }
    }

    fn fail(&mut self, key: (Direct, u64), of: Direct, why: &Why) {
        let _ = self.asks.remove(&key);
        let failure = back::failure(key, of, why);
        if let Ok((header, _)) = Header::read(&failure) {
            self.answer(&header, failure);
        }
    }
}

/// Names: waiting for them, and telling where they are.
impl Router {
    fn hold(&mut self, name: &str, frame: BytesMut, returned: bool) {
        let Ok((header, _)) = Header::read(&frame) else { return };
        let starts = header.has(flags::STARTS) && header.kind != Kind::Signal;
        match self.holds.push(name, &frame, (returned, starts), self.now) {
            Some(Asking::Ask) => self.events.push(Event::Missed { name: name.into(), starts, stale: returned }),
            Some(Asking::Asked) => {}
            None => {
                let text = format!("{name}: too many messages wait for names that are being found or started");
                self.give_back(&frame, &Why::not_run(Reason::Full, text));
            }
        }
    }

    /// A name is there now: what waited for it goes on, in order, and its senders learn the place.
    pub(super) fn resolved(&mut self, name: &Arc<str>, known: Known) {
        self.table.learn(name, known);
        let mut senders: Vec<WorkerId> = Vec::new();
        for mut held in self.holds.release(name) {
            if let Err(why) = self.age(&mut held) {
                self.give_back(&held.frame, &why);
                continue;
            }
            frame::set_to(&mut held.frame, known.place, known.epoch);
            let Ok((header, _)) = Header::read(&held.frame) else { continue };
            let origin = match self.table.route(header.from) {
                Route::Process(process) | Route::Stopping(process) => {
                    if !senders.contains(&process) {
                        senders.push(process);
                    }
                    Origin::Process(process)
                }
                Route::Peer(node) => Origin::Peer(node),
                Route::Troupe | Route::Nobody(_) => Origin::Agent,
            };
            self.deliver(origin, &header, held.frame);
        }
        senders.into_iter().for_each(|process| self.tell_where(process, name, known));
    }

    /// The name is nobody's: what waited for it goes back. `was_start` if its start was asked for.
    pub(super) fn missing(&mut self, name: &str, was_start: bool, why: &Why) {
        for held in self.holds.release_for_missing(name, was_start) {
            self.give_back(&held.frame, why);
        }
    }

    /// That grant of the name is over; its messages wait from now on.
    pub(super) fn unresolved(&mut self, name: &Arc<str>, epoch: u64) {
        self.table.forget(name, epoch);
        if let Some((_, processes)) = self.told.remove(name) {
            let message = FromAgent::Unresolved { name: name.clone(), epoch };
            processes.iter().for_each(|process| self.control(*process, &message));
        }
    }

    /// What has waited too long goes back; asks that nobody waits for any more are forgotten.
    pub(super) fn tick(&mut self) {
        for (name, held) in self.holds.expire(self.now) {
            let text =
                format!("{name}: it was not found and not started within 10 s: see `odeon names` and the agent's log");
            self.give_back(&held.frame, &Why::not_run(Reason::Unreachable, text));
        }
        for of in self.asks.expire(self.now) {
            self.troupes.ask_ended(of);
        }
        self.metrics.asks_open.set(self.asks.len() as u64);
        self.metrics.held_bytes.set(self.holds.bytes() as u64);
    }

    fn tell_where(&mut self, process: WorkerId, name: &Arc<str>, known: Known) {
        let (epoch, told) = self.told.entry(name.clone()).or_default();
        if *epoch != known.epoch {
            *epoch = known.epoch;
            told.clear();
        }
        if !told.contains(&process) {
            told.push(process);
            let message = FromAgent::Resolved { name: name.clone(), place: known.place, epoch: known.epoch };
            self.control(process, &message);
        }
    }

    /// Takes the waiting off the time that is left.
    fn age(&self, held: &mut Held) -> Result<(), Why> {
        let Ok((header, _)) = Header::read(&held.frame) else { return Ok(()) };
        if header.remaining_ms == 0 {
            return Ok(());
        }
        let waited = u32::try_from(self.now.since(held.since).as_millis()).unwrap_or(u32::MAX);
        let left = header.remaining_ms.saturating_sub(waited);
        if left == 0 {
            return Err(Why::not_run(Reason::Deadline, "the time ran out while its name was being found or started"));
        }
        held.frame[12..16].copy_from_slice(&left.to_le_bytes());
        Ok(())
    }
}

/// Troupes: any member will do.
impl Router {
    fn pass_to_troupe(&mut self, origin: Origin, troupe: Direct, frame: BytesMut) {
        let Ok((header, _)) = Header::read(&frame) else { return };
        if header.bounced() >= BOUNCES_MAX {
            return self.give_back(&frame, &Why::not_run(Reason::Full, "no member of the troupe took the message"));
        }
        match self.troupes.pick(troupe, &header) {
            Pick::Member { member, wants_more } => {
                if wants_more {
                    self.events.push(Event::TroupeBusy { troupe });
                }
                self.pass_to_member(origin, troupe, member, &frame);
            }
            Pick::Unknown => {
                let starts = false;
                let name = format!("odeon:troupe/{troupe}");
                if let Some(Asking::Ask) = self.holds.push(&name, &frame, (header.bounced() > 0, starts), self.now) {
                    self.events.push(Event::TroupeMissed { troupe });
                }
            }
        }
    }

    fn pass_to_member(&mut self, origin: Origin, troupe: Direct, member: Direct, frame: &[u8]) {
        let Ok(message) = back::read(frame) else { return };
        let flags = message.header.flags & !flags::TROUPE;
        let header = Header { to: member, to_epoch: 0, flags, ..message.header };
        let frame = if back::troupe_of(&message).is_some() {
            message.with_header(header)
        } else {
            let extensions: Vec<_> = message.extensions().flatten().chain([Extension::Troupe(troupe)]).collect();
            Frame::new(header, &extensions, &message.body())
        };
        let origin = if matches!(origin, Origin::Peer(_)) { Origin::Agent } else { origin };
        self.deliver(origin, &header, BytesMut::from(&frame.bytes()[..]));
    }

    /// The members of a troupe as its keeper says; what waited for them goes on.
    pub(super) fn troupe(&mut self, troupe: Direct, members: &[Direct], room: bool) {
        self.troupes.set(troupe, members, room);
        if members.is_empty() {
            return;
        }
        for mut held in self.holds.release(&format!("odeon:troupe/{troupe}")) {
            match self.age(&mut held) {
                Ok(()) => self.pass_to_troupe(Origin::Agent, troupe, held.frame),
                Err(why) => self.give_back(&held.frame, &why),
            }
        }
    }

    /// There is no such troupe.
    pub(super) fn troupe_missing(&mut self, troupe: Direct, why: &Why) {
        self.troupes.remove(troupe);
        self.missing(&format!("odeon:troupe/{troupe}"), true, why);
    }
}

/// Loss of processes and hosts.
impl Router {
    /// A process is gone: what was queued for it goes back or waits for its name, what it had in hand fails.
    pub(super) fn lost(&mut self, id: WorkerId, unsent: Vec<BytesMut>) {
        let Some(process) = self.processes.remove(&id) else { return };
        let blocks = self.table.lose(id);
        let me = self.me;
        let is_lost =
            |place: Direct| place.node == me.node && place.boot == me.boot && blocks.contains(&place.serial.block());
        self.troupes.lose(is_lost);
        for frame in unsent {
            if let Ok((header, _)) = Header::read(&frame) {
                if header.kind == Kind::Ask {
                    let _ = self.asks.remove(&ask_key(&header, &frame));
                }
                self.undeliverable(&header, frame, Reason::WorkerLost);
            }
        }
        for of in self.asks.lose_askers(is_lost) {
            self.troupes.ask_ended(of);
        }
        let why = Why {
            reason: Reason::WorkerLost,
            text: format!("{} ({id}) ended before it answered", process.name),
            may_have_run: true,
        };
        for (key, of) in self.asks.lose(Towards::Process(id)) {
            self.fail(key, of, &why);
        }
        self.told.values_mut().for_each(|(_, processes)| processes.retain(|told| *told != id));
        if !blocks.is_empty() {
            self.events.push(Event::Lost { process: id, blocks });
        }
    }

    /// Frames that could not be brought to another agent.
    pub(super) fn undelivered(&mut self, frames: Vec<BytesMut>, why: &Why) {
        for frame in frames {
            if let Ok((header, _)) = Header::read(&frame) {
                if header.kind == Kind::Ask {
                    let _ = self.asks.remove(&ask_key(&header, &frame));
                }
                if why.may_have_run || name_of(&frame).is_none() {
                    self.give_back(&frame, why);
                } else {
                    self.undeliverable(&header, frame, why.reason);
                }
            }
        }
    }

    /// Whatever lived there lives there no more: asks of it fail, and senders wait for it no longer.
    pub(super) fn place_lost(&mut self, place: Direct, why: &Why) {
        self.control_all(&FromAgent::PlaceLost { place, reason: why.reason });
        for key in self.asks.lose_of(place) {
            self.fail(key, place, why);
        }
    }

    /// Processes of another agent are gone.
    pub(super) fn blocks_lost(&mut self, node: NodeId, boot: Boot, blocks: Vec<u64>) {
        let is_lost =
            |place: Direct| place.node == node && place.boot == boot && blocks.contains(&place.serial.block());
        self.troupes.lose(is_lost);
        let gone: Vec<_> = self
            .table
            .names()
            .filter(|(_, known)| is_lost(known.place))
            .map(|(name, known)| (name.clone(), known.epoch))
            .collect();
        gone.iter().for_each(|(name, epoch)| self.unresolved(name, *epoch));
        self.control_all(&FromAgent::Lost { node, boot, blocks, reason: Reason::WorkerLost });
    }

    /// Another agent cannot be reached, or is gone for good: asks there fail.
    pub(super) fn peer_lost(&mut self, node: NodeId, why: &Why) {
        for (key, of) in self.asks.lose(Towards::Peer(node)) {
            self.fail(key, of, why);
        }
    }

    fn warn_disguise(&mut self, from: WorkerId, header: &Header) {
        self.metrics.refused.add(1);
        if let Some(process) = self.processes.get_mut(&from)
            && !std::mem::replace(&mut process.warned, true)
        {
            warn!(process = %from, name = process.name, sender = %header.from, "frame refused: its sender is not of that process");
        }
    }
}

fn control_body(frame: BytesMut) -> Result<bytes::Bytes, String> {
    Frame::read(frame.freeze()).map(|frame| frame.body()).map_err(|error| error.to_string())
}

fn ask_key(header: &Header, frame: &[u8]) -> (Direct, u64) {
    // Most asks have no extensions at all.
    if frame[10..12] == [0, 0] {
        return (header.from, header.correlation);
    }
    back::read(frame).map_or((header.from, header.correlation), |frame| back::asker(&frame))
}

fn name_of(frame: &[u8]) -> Option<String> {
    if frame[10..12] == [0, 0] {
        return None;
    }
    back::read(frame).ok()?.to_name().map(str::to_owned)
}
