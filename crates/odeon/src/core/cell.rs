//! One actor: its mailbox, its state, what it is doing.

use super::{
    current::Current,
    envelope::{Entry, Envelope, MessageTable},
    freeze::Freezer,
    reply::ReplyHandle,
    restarts::Restarts,
    scratch::{End, Parked, Scratch, Step},
    timers::ActorTimers,
    types::ActorType,
};
use crate::{
    actor::{Actor, Handler, Outcome},
    context::Context,
    error::Error,
    message::Message,
    supervision::{ChildExited, Returned},
    system::Inner,
};
use odeon_protocol::{Address, Direct, Serial, control::Policy};
use parking_lot::Mutex;
use std::{
    cell::UnsafeCell,
    collections::{HashSet, VecDeque},
    future::Future,
    pin::Pin,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{self, Poll, Wake, Waker},
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

/// The mailbox.
pub(crate) struct Inbox {
    pub(crate) queue: VecDeque<Entry>,
    pub(crate) state: State,
    /// Takes no messages any more, though hooks may still run.
    pub(crate) closed: bool,
    /// Senders that wait for room.
    pub(crate) waiters: Option<Box<Waiters>>,
}

/// Senders that wait for room, in order.
///
/// Keys are unique in the process, as a sender comes back to another cell with the key that it got from the last one.
#[derive(Default)]
pub(crate) struct Waiters {
    list: VecDeque<(u64, Waker)>,
}

static NEXT_KEY: AtomicU64 = AtomicU64::new(0);

impl Waiters {
    /// Adds a waker, or replaces that of `key`; answers the key.
    fn register(&mut self, key: Option<u64>, waker: &Waker) -> u64 {
        if let Some(key) = key
            && let Some(entry) = self.list.iter_mut().find(|entry| entry.0 == key)
        {
            entry.1.clone_from(waker);
            return key;
        }
        let key = key.unwrap_or_else(|| NEXT_KEY.fetch_add(1, Ordering::Relaxed));
        self.list.push_back((key, waker.clone()));
        key
    }

    /// Takes the first `count`.
    pub(crate) fn take(&mut self, count: usize) -> Vec<(u64, Waker)> {
        let count = count.min(self.list.len());
        self.list.drain(..count).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }
}

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
    pub(crate) children: HashSet<Serial>,
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

/// Why a message was not taken.
pub(crate) enum NotTaken {
    /// There is no room now.
    Full(Entry),
    /// The actor takes no more messages.
    Closed(Entry),
    /// It cannot be handled there, ever.
    Refused(Box<(Entry, Error)>),
}

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

/// The actor itself.
enum Slot<A: Actor> {
    Args(A::Args),
    Live(A),
    Empty,
}

/// An actor of type `A`.
pub(crate) struct Cell<A: Actor> {
    head: Head,
    actor: UnsafeCell<Slot<A>>,
    ctx: UnsafeCell<Context<A>>,
}

// SAFETY: `actor` and `ctx` are touched only by the runner that set `Running` (C-1) and by the future that it polls;
// actors, arguments and contexts may change threads.
unsafe impl<A: Actor> Sync for Cell<A> {}
// SAFETY: as above.
unsafe impl<A: Actor> Send for Cell<A> {}

impl<A: Actor> Cell<A> {
    pub(crate) fn new(system: Arc<Inner>, kind: &'static ActorType, args: A::Args, birth: Birth) -> Arc<Self> {
        let mut cell = Arc::new(Self {
            head: Head::new(system, kind, birth),
            actor: UnsafeCell::new(Slot::Args(args)),
            ctx: UnsafeCell::new(Context::new(CellPtr(ptr::null()))),
        });
        let place = Arc::as_ptr(&cell);
        if let Some(cell) = Arc::get_mut(&mut cell) {
            *cell.ctx.get_mut() = Context::new(CellPtr(place));
        }
        cell
    }

    /// # Safety
    /// `cell` is as [`Envelope::start`] says.
    pub(crate) unsafe fn expect_reply(cell: *const (), handle: ReplyHandle) {
        // SAFETY: as the caller says.
        unsafe { (*cell.cast::<Self>()).head.current() }.reply = handle;
    }

    /// # Safety
    /// `cell` and the rights to it are as [`Envelope::start`] says.
    pub(crate) unsafe fn start_handler<M: Message>(
        cell: *const (),
        message: M,
        scratch: &mut Scratch,
        cx: &mut task::Context<'_>,
    ) -> Step
    where
        A: Handler<M>,
    {
        // SAFETY: as the caller says; the cell outlives the future, as it owns it.
        let cell = unsafe { &*cell.cast::<Self>() };
        // SAFETY: C-1: nobody else refers to the actor and its context until the future has ended or is dropped.
        let (actor, ctx) = unsafe { (&mut *cell.actor.get(), &mut *cell.ctx.get()) };
        let Slot::Live(actor) = actor else { return Step::Done(End::Failed(Box::new("the actor is not live".to_owned()))) };
        // SAFETY: as above; the handler's future is `Send` by its trait.
        unsafe { scratch.run(|| Handling { head: &cell.head, future: actor.handle(message, ctx) }, cx) }
    }

    /// # Safety
    /// See [`AnyCell::begin`].
    unsafe fn hook<'a, F>(
        &'a self,
        make: impl FnOnce(&'a mut A, &'a mut Context<A>) -> F,
        scratch: &mut Scratch,
        cx: &mut task::Context<'_>,
    ) -> Step
    where
        F: Future<Output = crate::error::Result> + Send + 'a,
    {
        // SAFETY: as the caller says.
        let (actor, ctx) = unsafe { (&mut *self.actor.get(), &mut *self.ctx.get()) };
        let Slot::Live(actor) = actor else { return Step::Done(End::Ok) };
        let run = || async move {
            match make(actor, ctx).await {
                Ok(()) => End::Ok,
                Err(error) => End::Failed(Box::new(error.to_string())),
            }
        };
        // SAFETY: the cell outlives the future, as it owns it; the hook's future is `Send` by its trait.
        unsafe { scratch.run(run, cx) }
    }
}

/// What a context holds: a pointer to the cell that the context lies in.
///
/// - **P-1.** Users have contexts by reference only, while the cell's runner holds the cell; so the pointer is good.
pub(crate) struct CellPtr<A: Actor>(*const Cell<A>);

// SAFETY: it stands for a reference to a cell, which is `Sync`.
unsafe impl<A: Actor> Send for CellPtr<A> {}
// SAFETY: as above.
unsafe impl<A: Actor> Sync for CellPtr<A> {}

impl<A: Actor> CellPtr<A> {
    pub(crate) fn head(&self) -> &Head {
        // SAFETY: P-1.
        unsafe { &(*self.0).head }
    }

    /// The cell, for keeping.
    pub(crate) fn shared_any(&self) -> Arc<dyn AnyCell> {
        // SAFETY: P-1: the pointer came from an `Arc`, of which the runner holds a count.
        unsafe {
            Arc::increment_strong_count(self.0);
            Arc::from_raw(self.0)
        }
    }
}

impl<A: Actor> Wake for Cell<A> {
    fn wake(self: Arc<Self>) {
        super::scheduler::wake(self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        super::scheduler::wake_by_ref(self);
    }
}

impl<A: Actor> AnyCell for Cell<A> {
    fn head(&self) -> &Head {
        &self.head
    }

    fn waker(self: Arc<Self>) -> Waker {
        Waker::from(self)
    }

    unsafe fn begin(&self, scratch: &mut Scratch, cx: &mut task::Context<'_>) -> Step {
        // SAFETY: as the caller says.
        let (actor, ctx) = unsafe { (&mut *self.actor.get(), &mut *self.ctx.get()) };
        let Slot::Args(args) = std::mem::replace(actor, Slot::Empty) else {
            let error = Error::StartFailed("its arguments are gone".to_owned());
            return Step::Done(End::NotStarted(Box::new(error)));
        };
        let run = || async move {
            match A::start(args, ctx).await {
                Ok(started) => *actor = Slot::Live(started),
                Err(error) => return End::NotStarted(Box::new(error)),
            }
            let Slot::Live(started) = actor else { return End::Started };
            match started.started(ctx).await {
                Ok(()) => End::Started,
                Err(error) => End::NotStarted(Box::new(error)),
            }
        };
        // SAFETY: the cell outlives the future, as it owns it; the hooks' futures are `Send` by their trait.
        unsafe { scratch.run(run, cx) }
    }

    unsafe fn stopping(&self, scratch: &mut Scratch, cx: &mut task::Context<'_>) -> Step {
        // SAFETY: as the caller says.
        unsafe { self.hook(|actor, ctx| actor.stopping(ctx), scratch, cx) }
    }

    unsafe fn returned(&self, back: Returned, scratch: &mut Scratch, cx: &mut task::Context<'_>) -> Step {
        // SAFETY: as the caller says.
        unsafe { self.hook(|actor, ctx| actor.returned(back, ctx), scratch, cx) }
    }

    unsafe fn child_exited(&self, exit: ChildExited, scratch: &mut Scratch, cx: &mut task::Context<'_>) -> Step {
        // SAFETY: as the caller says.
        unsafe { self.hook(|actor, ctx| actor.child_exited(exit, ctx), scratch, cx) }
    }

    unsafe fn discard(&self, again: Option<&[u8]>) -> Result<(), Error> {
        let next = match again {
            Some(bytes) => Slot::Args(super::wire::read(odeon_protocol::frame::Codec::Postcard, bytes)?),
            None => Slot::Empty,
        };
        // SAFETY: as the caller says.
        *unsafe { &mut *self.actor.get() } = next;
        Ok(())
    }
}

/// A handler's future and what is done with its outcome.
struct Handling<'a, F> {
    head: &'a Head,
    future: F,
}

impl<R: Send + 'static, F: Future<Output = Outcome<R>>> Future for Handling<'_, F> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<End> {
        // SAFETY: `future` is pinned with `self` and never moved out; `head` is only read.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        let future = unsafe { Pin::new_unchecked(&mut this.future) };
        future.poll(cx).map(|outcome| {
            // SAFETY: this is polled by the runner of the cell only; the reference ends with the expression.
            let reply = unsafe { &mut this.head.current().reply };
            if reply.slot().is_none() {
                return match outcome {
                    Outcome::Failed(text) => End::Failed(Box::new(text)),
                    Outcome::Reply(_) | Outcome::Forwarded | Outcome::Deferred => End::Ok,
                };
            }
            let handle = std::mem::take(reply);
            match outcome {
                Outcome::Reply(reply) => handle.answer(reply),
                Outcome::Forwarded | Outcome::Deferred => {}
                Outcome::Failed(text) => {
                    this.head.system.counters.failed.fetch_add(1, Ordering::Relaxed);
                    handle.fail(Error::Handler(format!("{}: {text}", this.head.label())));
                }
            }
            End::Ok
        })
    }
}

/// Puts an entry into the mailbox of a cell.
///
/// `force` is for what must never wait: self-tells, replies, exits, timers, frames that a flow's window already bounds.
pub(crate) fn push(cell: &Arc<dyn AnyCell>, entry: Entry, force: bool) -> Result<(), NotTaken> {
    push_or_wait(cell, entry, force, None)
}

/// As [`push`]; where there is no room, leaves a waker under a key.
pub(crate) fn push_or_wait(
    cell: &Arc<dyn AnyCell>,
    entry: Entry,
    force: bool,
    waiting: Option<(&mut Option<u64>, &Waker)>,
) -> Result<(), NotTaken> {
    let head = cell.head();
    let mut entry = entry;
    if let Entry::Message(envelope) = &mut entry
        && let Err(error) = fit(head, envelope)
    {
        return Err(NotTaken::Refused(Box::new((entry, error))));
    }
    let mut inbox = head.inbox.lock();
    if inbox.closed {
        return Err(NotTaken::Closed(entry));
    }
    let full = inbox.queue.len() >= head.kind.options.mailbox;
    if full && !force {
        if let Some((key, waker)) = waiting {
            *key = Some(inbox.waiters.get_or_insert_default().register(*key, waker));
        }
        return Err(NotTaken::Full(entry));
    }
    if inbox.queue.capacity() == 0 {
        inbox.queue = super::run::take_buffer();
    }
    inbox.queue.push_back(entry);
    if inbox.state == State::Idle {
        inbox.state = State::Queued;
        drop(inbox);
        super::scheduler::schedule(cell.clone());
    } else if inbox.queue.len() == CROWDED {
        drop(inbox);
        head.system.scheduler.crowded(cell);
    }
    Ok(())
}

/// A mailbox that reaches this many messages may not wait behind its sender.
const CROWDED: usize = 64;

/// Binds an envelope to the type of this actor, and takes it through its wire form where that is asked for.
fn fit(head: &Head, envelope: &mut Envelope) -> Result<(), Error> {
    if envelope.table().actor != Some(head.kind.id) {
        let found = head.kind.find(envelope.table().type_id);
        if !found.is_some_and(|entry| envelope.readdress(entry.tell, entry.ask)) {
            return Err(super::types::unsupported(head, envelope.table().name));
        }
    }
    if head.system.restless() { super::types::through_wire(head, envelope) } else { Ok(()) }
}

/// Gives up waiting for room.
pub(crate) fn forget_waiter(cell: &Arc<dyn AnyCell>, key: u64) {
    let mut inbox = cell.head().inbox.lock();
    if let Some(waiters) = &mut inbox.waiters {
        waiters.list.retain(|entry| entry.0 != key);
    }
}

/// Ends an actor: after what is queued, or now.
pub(crate) fn end(cell: &Arc<dyn AnyCell>, kill: bool) {
    let head = cell.head();
    if !kill {
        // A closed mailbox belongs to an actor that stops anyway.
        let _ = push(cell, Entry::Stop, true);
        return;
    }
    head.signals.fetch_or(KILLED, Ordering::SeqCst);
    let mut inbox = head.inbox.lock();
    match inbox.state {
        State::Idle | State::Suspended => inbox.state = State::Queued,
        State::Running => {
            inbox.state = State::Notified;
            return;
        }
        State::Queued | State::Notified | State::Dead => return,
    }
    drop(inbox);
    super::scheduler::schedule(cell.clone());
}
