//! Everything of a process that is beyond the process: one link to the host's agent.
//!
//! | module | what |
//! |---|---|
//! | `flow` | windows and ledgers, pure |
//! | `names` | where global names are, pure |
//! | `handshake` | the first frame each way |
//! | `thread` | the link's own thread: reading, writing, lazy reports |
//! | `sending` | messages on their way out |
//! | `receiving` | flows that end here, and their reports |
//! | `incoming` | frames on their way in |
//! | `large` | large frames on their way in, on a thread of their own |
//! | `asks` | asks whose answers come from elsewhere |
//! | `control` | requests to the agent, and what the agent says |
//! | `counts` | messages by how they ended, told to the agent |
//! | `rest` | tells the agent that named actors are at rest |
//! | `beyond` | [`crate::outside::Outside`] over all this |
//!
//! Locks are held for a few instructions, never over a wait, and never two of the same kind; whom to wake is collected
//! under a lock and woken after it.

pub(crate) mod asks;
pub(crate) mod beyond;
mod control;
mod counts;
pub(crate) mod flow;
pub(crate) mod handshake;
mod incoming;
mod large;
mod names;
mod receiving;
mod rest;
mod sending;
pub(crate) mod thread;

use crate::{
    core::scheduler,
    error::{Error, Result},
    system::Inner,
};
use asks::Asks;
use bytes::BytesMut;
use control::Requests;
use counts::Counting;
use flow::{End, FlowKey, News, Sending};
use names::Names;
use odeon_protocol::{
    Direct, Reason,
    control::ToAgent,
    frame::{self, Class, Extension, HEADER_BYTES, Header, Kind},
    limits::{BODY_BYTES_MAX, EXTENSION_BYTES_MAX, LARGE_FRAME_BYTES},
};
use odeon_transport::frame_io::{Gate, Inlet, Outbox, PushError, memory, share};
use parking_lot::{Mutex, RwLock};
use receiving::Receiving;
use std::{
    fmt,
    sync::{Arc, OnceLock, Weak, atomic::AtomicBool},
    task::Waker,
};
use tokio::sync::{Notify, watch};

/// Tables of sending flows; each serves some senders, so that threads seldom meet.
const SHARDS: u32 = 16;

/// A frame with a larger body is large: it leaves in chunks.
const SMALL_BODY_BYTES_MAX: usize = LARGE_FRAME_BYTES - HEADER_BYTES;

/// Bytes of frames that gather at most before the link's thread is told.
const GATHERED_BYTES: usize = 16 << 10;

/// How the link to the agent fares.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// It works.
    Up,
    /// The agent wants this process to stop gracefully.
    Stop,
    /// It is gone, with the reason.
    Lost(String),
}

/// A process's link to its agent.
pub(crate) struct Link {
    /// The process itself, as the sender of what no actor sends.
    me: Direct,
    outbox: Outbox,
    sending: Vec<Mutex<Sending<FlowKey>>>,
    names: RwLock<Names>,
    asks: Asks,
    receiving: Receiving,
    large: large::Large,
    requests: Requests,
    system: OnceLock<Weak<Inner>>,
    /// Wakes the link's thread to send reports soon.
    reports: Notify,
    /// Ends the reading of a link whose frames are no longer understood.
    broken: Notify,
    state: watch::Sender<State>,
    /// Held while a stopping actor's messages go back, so that nothing that comes later goes back before them.
    leaving: Mutex<()>,
    rest: rest::Rest,
    counting: Counting,
    /// The agent was asked to tell of hosts.
    watches_hosts: AtomicBool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("me", &self.me).field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(me: Direct) -> Arc<Self> {
        Arc::new(Self {
            me,
            outbox: Outbox::default(),
            sending: (0..SHARDS).map(|first| Mutex::new(Sending::new(first, SHARDS))).collect(),
            names: RwLock::default(),
            asks: Asks::default(),
            receiving: Receiving::default(),
            large: large::Large::default(),
            requests: Requests::default(),
            system: OnceLock::new(),
            reports: Notify::new(),
            broken: Notify::new(),
            state: watch::Sender::new(State::Up),
            leaving: Mutex::default(),
            rest: rest::Rest::default(),
            counting: Counting::default(),
            watches_hosts: AtomicBool::new(false),
        })
    }

    /// From now on what comes is for that system.
    pub(crate) fn bind(&self, system: &Arc<Inner>) {
        // Set once: a link is greeted once.
        let _ = self.system.set(Arc::downgrade(system));
        self.gather_frames_of(system);
    }

    /// What turns chunks that come into frames.
    pub(crate) fn inlet(&self) -> Inlet {
        Inlet::new(self.outbox.clone(), Gate::default())
    }

    /// Takes frames that wait to be written, at most about so many bytes; where no thread does.
    pub(crate) fn take_outgoing(&self, limit: usize) -> BytesMut {
        self.outbox.take_queued(limit)
    }

    /// Whether reports wait for company.
    pub(crate) fn has_reports(&self) -> bool {
        self.receiving.is_dirty()
    }

    /// Sends the reports that wait.
    pub(crate) fn report(&self) {
        self.receiving.report();
    }

    /// Whether any flow waits for a fence.
    pub(crate) fn is_fencing(&self) -> bool {
        self.sending.iter().any(|shard| shard.lock().is_fencing())
    }

    /// How the link fares from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// The flows that are known here, in words.
    pub(crate) fn open_flows(&self) -> Vec<String> {
        let sent = self.sending.iter().flat_map(|shard| shard.lock().described());
        sent.chain(self.receiving.described()).collect()
    }

    /// Flows known here, sent and received, and asks to be answered: zero once all is settled.
    pub(crate) fn flows(&self) -> usize {
        self.sending.iter().map(|shard| shard.lock().len()).sum::<usize>() + self.receiving.len()
    }

    fn system(&self) -> Option<Arc<Inner>> {
        self.system.get().and_then(Weak::upgrade)
    }

    fn shard_of_flow(&self, flow: u32) -> &Mutex<Sending<FlowKey>> {
        &self.sending[(flow % SHARDS) as usize]
    }

    fn shard_of_sender(&self, key: &FlowKey) -> &Mutex<Sending<FlowKey>> {
        &self.sending[(key.from.0 % u64::from(SHARDS)) as usize]
    }

    /// Messages of a flow, from the first number on so many, have ended. Answers how many of them had not before; what is
    /// not in a flow always has not.
    fn settle(&self, flow: u32, (first, count): (u32, u32), end: End) -> u32 {
        if flow == 0 {
            return count;
        }
        let News { ended, woken, lost, fence } = self.shard_of_flow(flow).lock().end(flow, (first, count), end);
        woken.into_iter().for_each(Waker::wake);
        fence.into_iter().for_each(|fence| self.send_fence(&fence));
        if let Some((key, count)) = lost {
            self.lost_for_good(flow, &key, count);
        }
        ended
    }

    /// Queues a frame that must not wait: answers, reports, what comes back, control. It is bounded by what it answers.
    fn push(&self, header: &Header, extensions: &[Extension<'_>], body: &[u8]) {
        if body.len() > SMALL_BODY_BYTES_MAX {
            let mut bytes = memory_for(body.len());
            frame::write(&mut bytes, header, extensions, body);
            // As below.
            let _ = self.outbox.try_push_large(Class::Urgent, share(bytes));
            return;
        }
        // Closed: the agent is gone, and everybody is told so by other means.
        let _ = self.queue(Class::Urgent, |buffer| {
            frame::write(buffer, header, extensions, body);
        });
    }

    /// Queues a frame. Runners let more of them gather before the link's thread is told.
    fn queue(&self, class: Class, write: impl FnOnce(&mut BytesMut)) -> Result<(), PushError> {
        if !scheduler::gathers_for(self.id()) {
            return self.outbox.try_push(class, write);
        }
        if self.outbox.try_push_quietly(class, write)? > GATHERED_BYTES {
            self.outbox.flush();
        } else {
            scheduler::send_off_later();
        }
        Ok(())
    }

    /// What tells this link from others of the process.
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// From now on runners of that system let frames gather.
    fn gather_frames_of(&self, system: &Inner) {
        let outbox = self.outbox.clone();
        system.scheduler.set_outgoing(self.id(), move || outbox.flush());
    }

    pub(crate) fn say(&self, message: &ToAgent) {
        let header = Header { class: Class::Urgent, ..Header::new(Kind::Control) };
        self.push(&header, &[], &odeon_protocol::control::encode(message));
    }

    /// As [`Link::say`], behind all that was sent before, large or not.
    fn say_last(&self, message: &ToAgent) {
        let header = Header { class: Class::Bulk, ..Header::new(Kind::Control) };
        self.push(&header, &[], &odeon_protocol::control::encode(message));
    }

    fn report_soon(&self) {
        self.reports.notify_one();
    }

    fn gone(&self) -> Error {
        let text = match &*self.state.borrow() {
            State::Lost(text) => text.clone(),
            State::Up | State::Stop => "the link to the agent is closed".to_owned(),
        };
        Error::new(Reason::Unreachable, text)
    }

    fn check(&self) -> Result {
        if self.outbox.is_closed() { Err(self.gone()) } else { Ok(()) }
    }

    /// The link has ended: everybody who waits for something beyond the process is told.
    fn lose(&self, why: &str) {
        self.outbox.close();
        self.say_lost(why);
        let lost = Error::from_wire(Reason::Unreachable, why, true);
        self.asks.take_where(|_| true).into_iter().for_each(|ask| ask.slot.fail(lost.clone()));
        self.requests.lose();
        if let Some(system) = self.system() {
            system.letters.close();
            system.hosts.close();
        }
        for shard in &self.sending {
            let woken = shard.lock().lose();
            woken.into_iter().for_each(Waker::wake);
        }
        self.receiving.lose();
        self.forget_large();
    }

    /// Says that the link is lost; the first reason stays.
    fn say_lost(&self, why: &str) {
        self.state.send_if_modified(|state| {
            let first = !matches!(state, State::Lost(_));
            if first {
                *state = State::Lost(why.to_owned());
            }
            first
        });
    }

    /// What the agent sent cannot be understood: nothing after it can be either.
    fn break_off(&self, why: &str) {
        tracing::error!("the link to the agent is closed: {why}");
        self.say_lost(why);
        self.outbox.close();
        self.broken.notify_one();
    }
}

/// Memory for a large frame with a body of so many bytes.
fn memory_for(body_bytes: usize) -> BytesMut {
    memory(HEADER_BYTES + EXTENSION_BYTES_MAX + body_bytes)
}

/// Refuses a body that no frame can carry: the agent would close the link of whoever sent it.
fn check_size(what: &str, bytes: usize, may_have_run: bool) -> Result {
    if bytes <= BODY_BYTES_MAX {
        return Ok(());
    }
    let text = format!("{what} has {bytes} bytes, allowed are {BODY_BYTES_MAX}");
    Err(Error::from_wire(Reason::TooBig, text, may_have_run))
}
