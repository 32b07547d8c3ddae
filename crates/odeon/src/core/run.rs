//! Taking messages out of a mailbox, and the life of an actor.
//!
//! - **L-1.** A parent learns of a child's end once, when actor and context of the child are gone.
//! - **L-2.** What is left in a mailbox goes to [`Outside::stopping`](crate::outside::Outside::stopping) for cells with a
//!   record, back to its senders for others.

use super::{
    cell::{AnyCell, Body, FREEZE, Head, KILLED, Phase, RESTED, State, push},
    clock, current, freeze,
    envelope::{Entry, Envelope, MessageTable, Origin},
    reply::{self, AnySlot},
    scheduler::{self, Seat, schedule_last},
    scratch::{End, Scratch, Step},
    timers::{self, ActorTimers, Later},
};
use crate::{
    error::Error,
    supervision::{ChildExited, Returned, ReturnedBody},
};
use odeon_protocol::{ExitCause, Reason};
use std::{
    cell::RefCell,
    collections::VecDeque,
    mem::{self, ManuallyDrop},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    sync::{Arc, atomic::Ordering},
    task::{Context, Waker},
    time::{Duration, Instant},
};

type Task = Arc<dyn AnyCell>;

/// A turn that takes longer makes the next one shorter, and the other way round.
const TURN_LONG: Duration = Duration::from_micros(100);
const TURN_SHORT: Duration = Duration::from_micros(25);
/// Messages in one turn, at most.
const QUANTUM_MAX: u16 = 256;
/// Senders woken when a batch is taken: one in so many of its messages.
const WAKE_ONE_IN: usize = 16;
/// Buffers of idle mailboxes that a thread keeps, and how large they may be.
const BUFFERS_KEPT: usize = 512;
const BUFFER_SLOTS_MAX: usize = 1024;

thread_local! {
    static BUFFERS: RefCell<Vec<VecDeque<Entry>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer for a mailbox that has none.
pub(crate) fn take_buffer() -> VecDeque<Entry> {
    let kept = BUFFERS.try_with(|buffers| buffers.borrow_mut().pop()).ok().flatten();
    kept.unwrap_or_else(|| VecDeque::with_capacity(2))
}

fn give_buffer(buffer: VecDeque<Entry>) {
    if buffer.capacity() == 0 || buffer.capacity() > BUFFER_SLOTS_MAX {
        return;
    }
    let _ = BUFFERS.try_with(|buffers| {
        let mut buffers = buffers.borrow_mut();
        if buffers.len() < BUFFERS_KEPT {
            buffers.push(buffer);
        }
    });
}

/// Runs a cell of a `blocking` type on the pool for that.
pub(crate) fn run_blocking(task: Task) {
    let tokio = task.head().system.tokio.clone();
    drop(tokio.spawn_blocking(move || drop(run(task, None))));
}

/// What is to become of a cell when its turn is over.
enum Turn {
    /// It has nothing to do, or waits: its state says which.
    Rest,
    /// Others first, then it again.
    Again,
}

/// Gives a cell its turn; whether it would have gone on.
pub(crate) fn run(task: Task, seat: Option<&Seat>) -> bool {
    // SAFETY: the waker is never dropped, so `task` keeps its count; it is used only while `task` lives.
    let waker = ManuallyDrop::new(unsafe { ptr::read(&raw const task) }.waker());
    let turn = scheduler::with_scratch(|scratch| {
        let head = task.head();
        let _here = current::enter_handler(head);
        if let Some(seat) = seat {
            seat.serial.store(head.serial.0, Ordering::Relaxed);
        }
        let mut running = Running { task: &task, head, waker: &waker, scratch, seat };
        let turn = running.turn();
        if let Some(seat) = seat {
            seat.serial.store(0, Ordering::Relaxed);
        }
        turn
    });
    let again = matches!(turn, Turn::Again);
    if again {
        schedule_last(task);
    }
    again
}

struct Running<'a> {
    task: &'a Task,
    head: &'a Head,
    waker: &'a Waker,
    scratch: &'a mut Scratch,
    seat: Option<&'a Seat>,
}

/// Whether a cell's turn goes on after one piece of work.
enum Next {
    Go,
    Stop(Turn),
}

impl Running<'_> {
    #[expect(clippy::mut_from_ref, reason = "only the runner of the cell calls it, and lets go before it calls others")]
    fn body(&self) -> &mut Body {
        // SAFETY: C-1: the state is `Running` and this thread set it; no reference is kept across calls.
        unsafe { &mut *self.head.body.get() }
    }

    #[expect(clippy::mut_from_ref, reason = "as above")]
    fn current(&self) -> &mut current::Current {
        // SAFETY: C-1, as above.
        unsafe { self.head.current() }
    }

    fn turn(&mut self) -> Turn {
        {
            let mut inbox = self.head.inbox.lock();
            if inbox.state == State::Dead {
                return Turn::Rest;
            }
            inbox.state = State::Running;
            let body = self.body();
            // The first batch under the same lock, unless something else comes first.
            if inbox.waiters.is_none() && body.batch.is_empty() && body.parked.is_none() && body.phase == Phase::Live {
                mem::swap(&mut inbox.queue, &mut body.batch);
            }
        }
        // The clock is read only for actors whose last turn was a full one.
        let began = mem::take(&mut self.body().timed).then(Instant::now);
        let mut left = self.body().quantum;
        loop {
            if let Next::Stop(turn) = self.step() {
                return turn;
            }
            left -= 1;
            if left == 0 || self.seat.is_some_and(|seat| seat.hurry.load(Ordering::Relaxed)) {
                return self.turn_over(began, left > 0);
            }
        }
    }

    /// Ends a full turn; fits the next one's length to the time that this one took.
    fn turn_over(&self, began: Option<Instant>, hurried: bool) -> Turn {
        let body = self.body();
        body.timed = true;
        let taken = began.map(|began| began.elapsed());
        if hurried || taken.is_some_and(|taken| taken > TURN_LONG) {
            body.quantum = (body.quantum / 2).max(1);
        } else if taken.is_some_and(|taken| taken < TURN_SHORT) {
            body.quantum = (body.quantum * 2).min(QUANTUM_MAX);
        }
        self.head.inbox.lock().state = State::Queued;
        Turn::Again
    }

    /// One piece of work: a parked future, a phase of life, or an entry of the mailbox.
    fn step(&mut self) -> Next {
        if self.head.signals.load(Ordering::Relaxed) != 0
            && let Some(next) = self.heed_signals()
        {
            return next;
        }
        if self.head.identity.is_some() && self.head.system.gate.holds(self.task) {
            return self.suspend();
        }
        if let Some(parked) = self.body().parked.take() {
            let step = parked.poll(&mut self.scratch.parked, &mut Context::from_waker(self.waker));
            return self.after(step);
        }
        match self.body().phase {
            Phase::Live => match self.next_entry() {
                Some(entry) => self.take(entry),
                None => Next::Stop(Turn::Rest),
            },
            Phase::Fresh => {
                self.body().phase = Phase::Starting;
                // SAFETY: C-1; nothing is parked.
                let step = unsafe { self.task.begin(self.scratch, &mut Context::from_waker(self.waker)) };
                self.after(step)
            }
            Phase::Resting => self.suspend(),
            Phase::Starting | Phase::Stopping | Phase::Ended => Next::Stop(Turn::Rest),
        }
    }

    fn heed_signals(&mut self) -> Option<Next> {
        let signals = self.head.signals.fetch_and(!(RESTED | FREEZE), Ordering::SeqCst);
        if signals & KILLED != 0 {
            return Some(self.finish(ExitCause::Killed, None));
        }
        if signals & RESTED != 0 && self.body().phase == Phase::Resting {
            self.body().phase = Phase::Fresh;
        }
        if signals & FREEZE != 0 {
            if self.body().parked.is_some() || self.body().phase != Phase::Live {
                // Between two messages only: asked again after this one.
                self.head.signals.fetch_or(FREEZE, Ordering::SeqCst);
                return None;
            }
            return Some(self.freeze());
        }
        None
    }

    /// Waits: for a wake of the parked future, the end of a rest, or the gate.
    fn suspend(&self) -> Next {
        let mut inbox = self.head.inbox.lock();
        if inbox.state == State::Notified || self.head.killed() {
            inbox.state = State::Queued;
            return Next::Stop(Turn::Again);
        }
        inbox.state = State::Suspended;
        Next::Stop(Turn::Rest)
    }

    /// The next entry, or nothing after the cell has become idle.
    fn next_entry(&self) -> Option<Entry> {
        loop {
            if let Some(entry) = self.body().batch.pop_front() {
                return Some(entry);
            }
            let mut inbox = self.head.inbox.lock();
            let taken = inbox.queue.len();
            if taken == 0 && inbox.waiters.is_none() {
                inbox.state = State::Idle;
                let queue = mem::take(&mut inbox.queue);
                let batch = mem::take(&mut self.body().batch);
                drop(inbox);
                give_buffer(queue);
                give_buffer(batch);
                return None;
            }
            mem::swap(&mut inbox.queue, &mut self.body().batch);
            // Some senders go on; all of them before the mailbox may become idle, so that none waits for ever.
            let count = if taken == 0 { usize::MAX } else { (taken / WAKE_ONE_IN).max(1) };
            let woken = inbox.waiters.as_mut().map(|waiters| waiters.take(count));
            if inbox.waiters.as_ref().is_some_and(|waiters| waiters.len() == 0) {
                inbox.waiters = None;
            }
            drop(inbox);
            woken.into_iter().flatten().for_each(|(_, waker)| waker.wake());
        }
    }

    fn take(&mut self, entry: Entry) -> Next {
        let mut cx = Context::from_waker(self.waker);
        let step = match entry {
            Entry::Message(envelope) => return self.handle(envelope),
            Entry::Tick(id) => match timers::ring(self.task, id) {
                Some(envelope) => return self.handle(envelope),
                None => return Next::Go,
            },
            Entry::Stop => return self.stop(),
            // SAFETY: C-1; nothing is parked.
            Entry::Returned(back) => unsafe { self.task.returned(*back, self.scratch, &mut cx) },
            // SAFETY: C-1; nothing is parked.
            Entry::ChildExited(exit) => unsafe { self.task.child_exited(*exit, self.scratch, &mut cx) },
        };
        self.after(step)
    }

    fn handle(&mut self, mut envelope: Envelope) -> Next {
        let table = envelope.table();
        if table.is_ask && self.is_late(&mut envelope) {
            return Next::Go;
        }
        self.body().doing = Some(table);
        if let Some(seat) = self.seat {
            seat.beats.store(seat.beats.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            seat.message.store(ptr::from_ref(table).cast_mut(), Ordering::Relaxed);
        }
        let cell = Arc::as_ptr(self.task).cast::<()>();
        // SAFETY: C-1, nothing is parked; `push` bound the envelope to this cell's type.
        let step = unsafe {
            let current = self.head.current();
            envelope.start(cell, current, self.scratch, &mut Context::from_waker(self.waker))
        };
        self.after(step)
    }

    /// Fails an ask whose time ran out before its handler began.
    fn is_late(&self, envelope: &mut Envelope) -> bool {
        let late = |slot: &Arc<dyn AnySlot>| slot.facts().deadline <= clock::coarse();
        let Some(handle) = envelope.handle() else { return false };
        if !handle.slot().is_some_and(late) {
            return false;
        }
        self.head.system.counters.late.fetch_add(1, Ordering::Relaxed);
        mem::take(handle).fail(reply::too_late(&self.head.address(), envelope.table().name, false));
        true
    }

    /// What follows from the end, or not, of a future.
    fn after(&mut self, step: Step) -> Next {
        let end = match step {
            Step::Parked => {
                self.body().parked = self.scratch.parked.take();
                return self.suspend();
            }
            Step::Panicked(text) => return self.panicked(*text),
            Step::Done(end) => end,
        };
        match (self.body().phase, end) {
            (Phase::Live, End::Ok) => {
                if self.body().doing.take().is_some() {
                    self.settle();
                }
                Next::Go
            }
            (Phase::Live, End::Failed(text)) => match self.body().doing.take() {
                Some(table) => {
                    self.head.system.counters.failed.fetch_add(1, Ordering::Relaxed);
                    self.give_consumed_back(table, &text);
                    self.settle();
                    Next::Go
                }
                None => self.fault(ExitCause::Failed(*text)),
            },
            (Phase::Starting, End::Started) => {
                self.body().phase = Phase::Live;
                if self.head.recorded {
                    self.head.system.outside().started(self.task);
                }
                Next::Go
            }
            (Phase::Starting, End::NotStarted(error)) => self.not_started(*error),
            (Phase::Stopping, End::Failed(text)) => self.finish(ExitCause::Failed(*text), None),
            (Phase::Stopping, _) => self.finish(ExitCause::Stopped, None),
            _ => Next::Stop(Turn::Rest),
        }
    }

    /// A handler has ended.
    fn settle(&self) {
        let handled = &self.head.handled;
        handled.store(handled.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let current = self.current();
        if let Origin::Remote(_) = &current.origin {
            drop(mem::take(&mut self.current().origin));
        } else {
            // Nothing to drop.
            current.origin = Origin::Outside;
        }
        if self.current().reply.slot().is_some() {
            drop(mem::take(&mut self.current().reply));
        }
    }

    /// Tells the sender of a message that its handler failed.
    fn give_consumed_back(&self, table: &'static MessageTable, text: &str) {
        let returned = Returned {
            body: ReturnedBody::Consumed { name: table.name },
            reason: Reason::Failed,
            text: format!("{}: {text}", self.head.label()),
            to: self.head.address(),
            may_have_run: true,
        };
        tracing::debug!(actor = %self.head.label(), message = table.name, error = text, "a handler failed");
        let origin = mem::take(&mut self.current().origin);
        self.head.system.give_back_to(origin, returned);
    }

    fn panicked(&mut self, text: String) -> Next {
        let system = &self.head.system;
        system.counters.panics.fetch_add(1, Ordering::Relaxed);
        let doing = self.body().doing.take();
        let during = doing.map_or("a hook", |table| table.name);
        tracing::error!(actor = %self.head.label(), during, panic = %text, "an actor panicked");
        let said = format!("panicked: {text}");
        mem::take(&mut self.current().reply).fail(Error::Handler(format!("{} {said}", self.head.label())));
        if let Some(table) = doing {
            if !table.is_ask {
                self.give_consumed_back(table, &said);
            }
            self.settle();
        }
        match self.body().phase {
            Phase::Starting => self.not_started(Error::StartFailed(format!("{} {said}", self.head.label()))),
            Phase::Stopping => self.finish(ExitCause::Panicked(text), None),
            _ => self.fault(ExitCause::Panicked(text)),
        }
    }

    fn stop(&mut self) -> Next {
        self.shut(&Error::ActorStopped { text: self.head.label(), may_have_run: false });
        self.body().phase = Phase::Stopping;
        // SAFETY: C-1; nothing is parked.
        let step = unsafe { self.task.stopping(self.scratch, &mut Context::from_waker(self.waker)) };
        self.after(step)
    }

    /// Closes the mailbox; what is left goes outside or back (L-2).
    fn shut(&self, why: &Error) {
        if self.head.inbox.lock().closed {
            return;
        }
        let mut close = || self.close();
        if self.head.recorded {
            self.head.system.outside().stopping(self.task, &mut close);
            return;
        }
        for envelope in close() {
            self.head.system.give_back(self.head.address(), envelope, why);
        }
    }

    fn close(&self) -> Vec<Envelope> {
        let mut left = mem::take(&mut self.body().batch);
        let (mut queue, waiters) = self.head.close();
        left.append(&mut queue);
        waiters.into_iter().for_each(|(_, waker)| waker.wake());
        let message = |entry| if let Entry::Message(envelope) = entry { Some(envelope) } else { None };
        left.into_iter().filter_map(message).collect()
    }

    /// A panic or a hook's error: again, or the end.
    fn fault(&mut self, cause: ExitCause) -> Next {
        if !self.head.recorded
            && let Some(rest) = self.may_restart()
        {
            return self.restart(rest);
        }
        self.finish(cause, None)
    }

    /// After which rest the actor may start again, if it may.
    fn may_restart(&self) -> Option<u64> {
        let mut extra = self.head.extra.lock();
        let extra = extra.as_mut()?;
        extra.args.as_ref()?;
        let policy = extra.policy.as_ref().map_or(self.head.kind.options.restart, |policy| policy.restart);
        extra.restarts.allow(policy, clock::fine())
    }

    fn restart(&mut self, rest: u64) -> Next {
        let args = self.head.with_extra(|extra| extra.args.clone());
        self.end_belongings(false);
        // SAFETY: C-1; nothing is parked.
        let again = catch_unwind(AssertUnwindSafe(|| unsafe { self.task.discard(args.as_deref()) }));
        if !matches!(again, Ok(Ok(()))) {
            return self.finish(ExitCause::Failed("it could not be started again".to_owned()), None);
        }
        self.head.system.counters.restarts.fetch_add(1, Ordering::Relaxed);
        tracing::info!(actor = %self.head.label(), rest_ms = rest / 1_000_000, "an actor is started again");
        self.body().phase = Phase::Resting;
        let task = Arc::downgrade(self.task);
        let rested = Later::new(move || {
            if let Some(task) = task.upgrade() {
                task.head().signals.fetch_or(RESTED, Ordering::SeqCst);
                scheduler::wake_any(&task);
            }
        });
        self.head.system.timers.arm(clock::fine() + rest, rested);
        Next::Go
    }

    fn not_started(&mut self, error: Error) -> Next {
        let again = self.head.extra.lock().as_ref().is_some_and(|extra| !extra.restarts.is_empty());
        if again && !self.head.recorded && !matches!(error, Error::NotFound) {
            return self.fault(ExitCause::NeverStarted(error.to_string()));
        }
        tracing::debug!(actor = %self.head.label(), %error, "an actor did not start");
        let error = match error {
            Error::NotFound | Error::StartFailed(_) => error,
            other => Error::StartFailed(format!("{}: {other}", self.head.label())),
        };
        self.finish(ExitCause::NeverStarted(error.to_string()), Some(error))
    }

    /// The end: actor and context go, and those concerned are told.
    fn finish(&mut self, cause: ExitCause, failure: Option<Error>) -> Next {
        let stopped = Error::ActorStopped { text: format!("{}: {cause}", self.head.label()), may_have_run: false };
        self.shut(failure.as_ref().unwrap_or(&stopped));
        drop(self.body().parked.take());
        let mut current = mem::take(self.current());
        mem::take(&mut current.reply).fail(stopped.having_run(true));
        drop(current);
        // SAFETY: C-1; nothing is parked any more.
        let discarded = catch_unwind(AssertUnwindSafe(|| unsafe { self.task.discard(None) }));
        if discarded.is_err() {
            tracing::error!(actor = %self.head.label(), "an actor panicked while it was dropped");
        }
        self.body().phase = Phase::Ended;
        self.head.inbox.lock().state = State::Dead;
        let system = &self.head.system;
        system.registry.remove(self.head.serial);
        self.end_belongings(cause == ExitCause::Killed);
        let is_final = !self.head.recorded || system.outside().ended(self.task, &cause, failure.as_ref());
        tell_parent(self.head, cause, is_final);
        system.ended();
        Next::Stop(Turn::Rest)
    }

    /// Ends what belongs to one incarnation: tasks, timers, nameless children.
    fn end_belongings(&self, kill: bool) {
        let (tasks, children) = {
            let Some(extra) = &mut *self.head.extra.lock() else { return };
            extra.timers = ActorTimers::default();
            (mem::take(&mut extra.tasks), mem::take(&mut extra.children))
        };
        tasks.iter().for_each(tokio::task::AbortHandle::abort);
        let living = children.into_iter().filter_map(|serial| self.head.system.registry.get(serial));
        for child in living.filter(|child| child.head().identity.is_none()) {
            super::cell::end(&child, kill);
        }
    }

    /// Writes the actor and lets go of it (Z-1).
    fn freeze(&mut self) -> Next {
        let Some(freezer) = self.head.with_extra(|extra| extra.freezer.take()) else { return Next::Go };
        let mut left = mem::take(&mut self.body().batch);
        let (mut queue, waiters) = self.head.close();
        left.append(&mut queue);
        let frozen = freeze::write(self.head, left);
        waiters.into_iter().for_each(|(_, waker)| waker.wake());
        // SAFETY: C-1; nothing is parked.
        let discarded = catch_unwind(AssertUnwindSafe(|| unsafe { self.task.discard(None) }));
        if discarded.is_err() {
            tracing::error!(actor = %self.head.label(), "an actor panicked while it was dropped");
        }
        self.body().phase = Phase::Ended;
        self.head.inbox.lock().state = State::Dead;
        self.head.system.registry.remove(self.head.serial);
        self.head.system.ended();
        freezer(frozen);
        Next::Stop(Turn::Rest)
    }
}

/// Tells the parent, unless a successor goes on (L-1).
fn tell_parent(head: &Head, cause: ExitCause, is_final: bool) {
    let system = &head.system;
    let remote = head.extra.lock().as_ref().and_then(|extra| extra.remote_parent);
    if let Some(parent) = remote.filter(|_| is_final) {
        system.outside().child_ended(parent, head.address(), &cause);
    }
    let Some(parent) = system.registry.get(head.parent) else { return };
    // Not among its children: that incarnation of the parent is over.
    if parent.head().with_extra(|extra| extra.children.remove(&head.serial)) && is_final {
        let exit = Box::new(ChildExited { child: head.address(), cause });
        let _ = push(&parent, Entry::ChildExited(exit), true);
    }
}
