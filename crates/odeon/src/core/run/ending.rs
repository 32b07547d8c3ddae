//! Panics, restarts, and the end of an actor.

use super::{Next, Running, Turn};
use crate::{
    core::{
        cell::{self, Head, Phase, RESTED, State, push},
        clock,
        envelope::{Entry, Envelope},
        freeze, scheduler,
        timers::{ActorTimers, Later},
    },
    error::Error,
    supervision::ChildExited,
};
use odeon_protocol::{ExitCause, Reason};
use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    task::Context,
};

impl Running<'_> {
    pub(super) fn panicked(&mut self, text: String) -> Next {
        let system = &self.head.system;
        system.counters.panics.fetch_add(1, Ordering::Relaxed);
        let doing = self.body().doing.take();
        let during = doing.map_or("a hook", |table| table.name);
        tracing::error!(actor = %self.head.label(), during, panic = %text, "an actor panicked");
        let said = format!("panicked: {text}");
        mem::take(&mut self.current().reply).fail(Error::Handler(format!("{} {said}", self.head.label())));
        if let Some(table) = doing {
            if !table.is_ask {
                self.give_consumed_back(table, Reason::Failed, &said);
            }
            self.settle();
        }
        match self.body().phase {
            Phase::Starting => self.not_started(Error::StartFailed(format!("{} {said}", self.head.label()))),
            Phase::Stopping => self.finish(ExitCause::Panicked(text), None),
            _ => self.fault(ExitCause::Panicked(text)),
        }
    }

    pub(super) fn stop(&mut self) -> Next {
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
    pub(super) fn fault(&mut self, cause: ExitCause) -> Next {
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

    pub(super) fn not_started(&mut self, error: Error) -> Next {
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
    pub(super) fn finish(&mut self, cause: ExitCause, failure: Option<Error>) -> Next {
        drop(self.body().parked.take());
        if let Some(table) = self.body().doing.take().filter(|table| !table.is_ask) {
            self.give_consumed_back(table, Reason::ActorStopped, &format!("{cause} while it handled {}", table.name));
        }
        let stopped = Error::ActorStopped { text: format!("{}: {cause}", self.head.label()), may_have_run: false };
        self.shut(failure.as_ref().unwrap_or(&stopped));
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
            cell::end(&child, kill);
        }
    }

    /// Writes the actor and lets go of it (Z-1).
    pub(super) fn freeze(&mut self) -> Next {
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
