//! Taking messages out of a mailbox, and the life of an actor.
//!
//! - **L-1.** A parent learns of a child's end once, when actor and context of the child are gone.
//! - **L-2.** What is left in a mailbox goes to [`Outside::stopping`](crate::outside::Outside::stopping) for cells with a
//!   record, back to its senders for others.

mod ending;

use super::{
    cell::{AnyCell, Body, FREEZE, Head, KILLED, Phase, RESTED, State},
    clock, current,
    envelope::{Entry, Envelope, MessageTable, Origin},
    reply::{self, AnySlot},
    scheduler::{self, Seat, schedule_last},
    scratch::{End, Scratch, Step},
    timers,
};
use crate::supervision::{Returned, ReturnedBody};
use odeon_protocol::{ExitCause, Reason};
use std::{
    cell::RefCell,
    collections::VecDeque,
    mem::{self, ManuallyDrop},
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
    drop(tokio.spawn_blocking(move || {
        run(task, None);
    }));
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
        let timed = mem::take(&mut self.body().timed) && self.seat.is_some();
        let began = timed.then(Instant::now);
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
                Ok(entry) => self.take(entry),
                Err(turn) => Next::Stop(turn),
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

    /// The next entry, or what becomes of the cell as there is none.
    fn next_entry(&self) -> Result<Entry, Turn> {
        loop {
            if let Some(entry) = self.body().batch.pop_front() {
                return Ok(entry);
            }
            let mut inbox = self.head.inbox.lock();
            let taken = inbox.queue.len();
            if taken == 0 && inbox.waiters.is_none() {
                // Signals are set before the lock is taken, so one that came since they were last heeded shows here.
                if self.head.signals.load(Ordering::Relaxed) != 0 {
                    inbox.state = State::Queued;
                    return Err(Turn::Again);
                }
                inbox.state = State::Idle;
                let queue = mem::take(&mut inbox.queue);
                let batch = mem::take(&mut self.body().batch);
                drop(inbox);
                give_buffer(queue);
                give_buffer(batch);
                return Err(Turn::Rest);
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
            // What came before it has ended.
            Entry::Message(envelope) if envelope.is_fence() => return Next::Go,
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
            Step::Panicked(text) => return self.panicked(text.0),
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
                    self.give_consumed_back(table, Reason::Failed, &text.0);
                    self.settle();
                    Next::Go
                }
                None => self.fault(ExitCause::Failed(text.0)),
            },
            (Phase::Starting, End::Started) => {
                self.body().phase = Phase::Live;
                if self.head.recorded {
                    self.head.system.outside().started(self.task);
                }
                Next::Go
            }
            (Phase::Starting, End::NotStarted(error)) => self.not_started(*error),
            (Phase::Stopping, End::Failed(text)) => self.finish(ExitCause::Failed(text.0), None),
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
            current.origin = Origin::NOBODY;
        }
        if self.current().reply.slot().is_some() {
            drop(mem::take(&mut self.current().reply));
        }
    }

    /// Tells the sender of a message that its handler did not come to a good end.
    fn give_consumed_back(&self, table: &'static MessageTable, reason: Reason, text: &str) {
        let returned = Returned {
            body: ReturnedBody::Consumed { name: table.name },
            reason,
            text: format!("{}: {text}", self.head.label()),
            to: self.head.address(),
            may_have_run: true,
        };
        tracing::debug!(actor = %self.head.label(), message = table.name, error = text, "a handler came to no good end");
        let origin = mem::take(&mut self.current().origin);
        self.head.system.give_back_to(origin, returned);
    }
}
