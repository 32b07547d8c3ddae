//! One actor: its mailbox, its state, what it is doing.

mod actor;
mod mailbox;

pub(crate) use actor::{Cell, CellPtr};
pub(crate) use mailbox::{Inbox, NotTaken, end, forget_waiter, push, push_or_wait};

use super::{
    current::Current,
    envelope::{Entry, MessageTable},
    freeze::Freezer,
    restarts::Restarts,
    scratch::{Parked, Scratch, Step},
    timers::ActorTimers,
    types::ActorType,
};
use crate::{
    error::Error,
    supervision::{ChildExited, Returned},
    system::Inner,
};
use odeon_protocol::{Address, Direct, Serial, control::Policy, simulated::RandomState};
use parking_lot::Mutex;
use std::{
    cell::UnsafeCell,
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{self, Waker},
};

/// Where a cell is between a message and the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing to do.
    Idle,
    /// In a run queue.
    Queued,
    /// On a runner.
    Running,
    /// On a runner, and woken meanwhile.
    Notified,
    /// Its future waits; so does its mailbox.
    Suspended,
    /// Ended.
    Dead,
}

/// How far the actor's life has come. Only the runner reads and writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// `start` has not begun.
    Fresh,
    /// `start` runs.
    Starting,
    /// Takes messages.
    Live,
    /// `stopping` runs.
    Stopping,
    /// Rests until it is started again.
    Resting,
    /// Over.
    Ended,
}

/// Bit of [`Head::signals`]: stop at once.
pub(crate) const KILLED: u8 = 1;
/// Bit of [`Head::signals`]: a rest is over.
pub(crate) const RESTED: u8 = 2;
/// Bit of [`Head::signals`]: stop between two messages and be written as bytes.
pub(crate) const FREEZE: u8 = 4;

/// What only the runner touches.
pub(crate) struct Body {
    /// Taken from the mailbox, not yet handled.
    pub(crate) batch: VecDeque<Entry>,
    pub(crate) parked: Option<Parked>,
    /// The message whose handler runs; nothing while a hook does.
    pub(crate) doing: Option<&'static MessageTable>,
    pub(crate) phase: Phase,
    /// How many messages it may handle before others have a turn.
    pub(crate) quantum: u16,
    /// Whether the next turn is to be measured.
    pub(crate) timed: bool,
}

/// A global name and the epoch under which this instance bears it.
pub(crate) struct Identity {
    pub(crate) name: Arc<str>,
    pub(crate) epoch: u64,
}

/// What few actors have.
#[derive(Default)]
pub(crate) struct Extra {
    pub(crate) timers: ActorTimers,
    /// Actors of this process that it created and that bear no global name.
    pub(crate) children: HashSet<Serial, RandomState>,
    pub(crate) tasks: Vec<tokio::task::AbortHandle>,
    /// The arguments as bytes, for a restart.
    pub(crate) args: Option<Arc<[u8]>>,
    pub(crate) restarts: Restarts,
    /// The policy given at its creation.
    pub(crate) policy: Option<Box<Policy>>,
    /// The troupe that it belongs to.
    pub(crate) troupe: Option<Direct>,
    /// Who wants the actor as bytes.
    pub(crate) freezer: Option<Freezer>,
    /// The parent, if it is in another process.
    pub(crate) remote_parent: Option<Direct>,
}

/// What all cells have, whatever their actor's type.
pub(crate) struct Head {
    pub(crate) inbox: Mutex<Inbox>,
    pub(crate) system: Arc<Inner>,
    pub(crate) kind: &'static ActorType,
    pub(crate) serial: Serial,
    /// The parent's serial; zero without one in this process.
    pub(crate) parent: Serial,
    pub(crate) identity: Option<Box<Identity>>,
    /// Whether [`Outside`](crate::outside::Outside) is told of its end.
    pub(crate) recorded: bool,
    pub(crate) extra: Mutex<Option<Box<Extra>>>,
    pub(crate) handled: AtomicU64,
    pub(crate) signals: AtomicU8,
    pub(crate) body: UnsafeCell<Body>,
    pub(crate) current: UnsafeCell<Current>,
}

// SAFETY: `body` and `current` are touched only by the runner that set `Running` (C-1), and by code that this runner
// calls; everything else is `Sync` by itself.
unsafe impl Sync for Head {}
// SAFETY: all parts may change threads.
unsafe impl Send for Head {}

impl Head {
    pub(crate) fn new(system: Arc<Inner>, kind: &'static ActorType, birth: Birth) -> Self {
        let extra = birth.extra;
        Self {
            inbox: Mutex::new(Inbox { queue: VecDeque::new(), state: State::Idle, closed: false, waiters: None }),
            system,
            kind,
            serial: birth.serial,
            parent: birth.parent,
            identity: birth.identity,
            recorded: birth.recorded,
            extra: Mutex::new(extra),
            handled: AtomicU64::new(0),
            signals: AtomicU8::new(0),
            body: UnsafeCell::new(Body {
                batch: VecDeque::new(),
                parked: None,
                doing: None,
                phase: Phase::Fresh,
                quantum: 32,
                timed: false,
            }),
            current: UnsafeCell::new(Current::default()),
        }
    }

    /// The place of the actor in the whole convention.
    pub(crate) fn place(&self) -> Direct {
        self.system.place(self.serial)
    }

    /// The address that it shows.
    pub(crate) fn address(&self) -> Address {
        match &self.identity {
            Some(identity) => {
                Address::Named { name: identity.name.clone(), starts: false, hint: self.place(), epoch: identity.epoch }
            }
            None => Address::Direct(self.place()),
        }
    }

    /// The actor in words: type and name or number.
    pub(crate) fn label(&self) -> String {
        match &self.identity {
            Some(identity) => identity.name.to_string(),
            None => format!("{} {}", self.kind.name, self.serial),
        }
    }

    pub(crate) fn with_extra<T>(&self, change: impl FnOnce(&mut Extra) -> T) -> T {
        change(self.extra.lock().get_or_insert_default())
    }

    /// Messages that wait, and whether it is doing something now.
    pub(crate) fn load(&self) -> (usize, bool) {
        let inbox = self.inbox.lock();
        (inbox.queue.len(), !matches!(inbox.state, State::Idle | State::Dead))
    }

    /// Whether a runner has it.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.inbox.lock().state, State::Running | State::Notified)
    }

    /// Takes no more messages from now on; answers the senders that waited.
    pub(crate) fn close(&self) -> (VecDeque<Entry>, Vec<(u64, Waker)>) {
        let mut inbox = self.inbox.lock();
        inbox.closed = true;
        let waiters = inbox.waiters.take().map(|mut waiters| waiters.take(usize::MAX)).unwrap_or_default();
        (std::mem::take(&mut inbox.queue), waiters)
    }

    pub(crate) fn killed(&self) -> bool {
        self.signals.load(Ordering::Relaxed) & KILLED != 0
    }

    /// What this thread's handler is doing.
    ///
    /// # Safety
    /// The caller is the runner that runs this cell, or is called by it, and keeps the reference no longer than it calls
    /// nothing else that may use it.
    #[expect(clippy::mut_from_ref, reason = "only one thread may call it, see Safety")]
    pub(crate) unsafe fn current(&self) -> &mut Current {
        // SAFETY: as the caller says.
        unsafe { &mut *self.current.get() }
    }
}

/// How a cell comes to be.
#[derive(Default)]
pub(crate) struct Birth {
    pub(crate) serial: Serial,
    pub(crate) parent: Serial,
    pub(crate) identity: Option<Box<Identity>>,
    pub(crate) recorded: bool,
    pub(crate) extra: Option<Box<Extra>>,
}

/// A cell, whatever its actor's type.
pub(crate) trait AnyCell: Send + Sync {
    fn head(&self) -> &Head;
    fn waker(self: Arc<Self>) -> Waker;
    /// Runs `start` and `started`.
    ///
    /// # Safety
    /// For this and the next four: the caller is the runner of C-1, nothing is parked.
    unsafe fn begin(&self, scratch: &mut Scratch, cx: &mut task::Context<'_>) -> Step;
    /// Runs `stopping`.
    ///
    /// # Safety
    /// See [`AnyCell::begin`].
    unsafe fn stopping(&self, scratch: &mut Scratch, cx: &mut task::Context<'_>) -> Step;
    /// Runs `returned`.
    ///
    /// # Safety
    /// See [`AnyCell::begin`].
    unsafe fn returned(&self, back: Returned, scratch: &mut Scratch, cx: &mut task::Context<'_>) -> Step;
    /// Runs `child_exited`.
    ///
    /// # Safety
    /// See [`AnyCell::begin`].
    unsafe fn child_exited(&self, exit: ChildExited, scratch: &mut Scratch, cx: &mut task::Context<'_>) -> Step;
    /// Drops the actor; where arguments as bytes are given, it can begin again with them.
    ///
    /// # Safety
    /// See [`AnyCell::begin`].
    unsafe fn discard(&self, again: Option<&[u8]>) -> Result<(), Error>;
}
