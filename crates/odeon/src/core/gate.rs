//! What keeps bearers of global names at rest while it is not certain that the names are still theirs.
//!
//! - **G-1.** After the deadline no named actor of this system takes a message or goes on with a handler, and nothing that
//!   it has spawned goes on, until a later deadline is set.
//! - **G-2.** What it sends after the deadline, in the middle of a handler, waits like that; a reply, or what is sent without
//!   waiting, fails as `Fenced`. (`RawRef::push`, `ReplyHandle::answer`)

use super::{cell::AnyCell, clock, scheduler};
use odeon_protocol::{
    planted::{self, Fault},
    simulated::RandomState,
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::Waker,
};
use tokio::task;

/// See the module's head.
pub(crate) struct Gate {
    /// By `CLOCK_BOOTTIME`, in nanoseconds; [`clock::NEVER`] while there is none.
    until: AtomicU64,
    held: Mutex<HashMap<u64, Arc<dyn AnyCell>, RandomState>>,
    /// What named actors have spawned and rests.
    tasks: Mutex<HashMap<Option<task::Id>, Waker>>,
    /// How much of what they have spawned is doing something now.
    acting: AtomicUsize,
}

/// Something that a named actor has spawned is doing something, until this is dropped.
pub(crate) struct Acting<'a>(&'a Gate);

impl Drop for Acting<'_> {
    fn drop(&mut self) {
        self.0.acting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            until: AtomicU64::new(clock::NEVER),
            held: Mutex::default(),
            tasks: Mutex::default(),
            acting: AtomicUsize::new(0),
        }
    }
}

impl Gate {
    /// Whether a named cell must rest now. It is woken when it may go on.
    pub(crate) fn holds(&self, cell: &Arc<dyn AnyCell>) -> bool {
        if self.is_open() {
            return false;
        }
        let mut held = self.held.lock();
        // Once more under the lock: `open_until` lets go of all after it has set the deadline.
        if self.is_open() {
            return false;
        }
        held.insert(cell.head().serial.0, cell.clone());
        true
    }

    /// Lets the current task, which a named actor has spawned, act; nothing if it must rest now. It is woken when it may
    /// go on.
    pub(crate) fn enter(&self, waker: &Waker) -> Option<Acting<'_>> {
        self.acting.fetch_add(1, Ordering::SeqCst);
        let acting = Acting(self);
        if self.is_open() {
            return Some(acting);
        }
        let mut tasks = self.tasks.lock();
        if self.is_open() {
            return Some(acting);
        }
        tasks.insert(task::try_id(), waker.clone());
        None
    }

    /// Whether anything that named actors have spawned is doing something now.
    pub(crate) fn is_acting(&self) -> bool {
        self.acting.load(Ordering::SeqCst) > 0
    }

    /// Whether named actors may act now.
    pub(crate) fn is_open(&self) -> bool {
        let until = self.until.load(Ordering::SeqCst);
        until == clock::NEVER || clock::boot() < until || planted::is(Fault::GateOff)
    }

    /// The deadline, by `CLOCK_BOOTTIME`; [`clock::NEVER`] without one.
    pub(crate) fn until(&self) -> u64 {
        self.until.load(Ordering::SeqCst)
    }

    /// Sets the deadline, by `CLOCK_BOOTTIME`; wakes those that were held.
    pub(crate) fn open_until(&self, until: u64) {
        self.until.store(until, Ordering::SeqCst);
        let held = std::mem::take(&mut *self.held.lock());
        held.values().for_each(scheduler::wake_any);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.into_values().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core::current, prelude::*};

    /// Counts.
    #[derive(Debug, Default)]
    struct Counter(u64);
    /// One more.
    #[message(reply = u64)]
    #[derive(Debug)]
    struct More;
    /// How many.
    #[message(reply = u64)]
    #[derive(Debug)]
    struct Count;
    #[actor("gate.counter")]
    impl Counter {
        fn count(&mut self, _: Count) -> u64 {
            self.0
        }
        fn more(&mut self, _: More) -> u64 {
            self.0 += 1;
            self.0
        }
    }

    /// Sends to a counter after the gate has shut.
    #[derive(Debug, Default)]
    struct Late;
    /// Without waiting.
    #[message(reply = bool)]
    #[derive(Debug)]
    struct Now(ActorRef<Counter>);
    /// Waiting.
    #[message]
    #[derive(Debug)]
    struct Wait(ActorRef<Counter>);
    #[actor("gate.late")]
    impl Late {
        fn now(&mut self, now: Now) -> bool {
            shut();
            matches!(now.0.try_tell(More), Err(error) if matches!(error.error, Error::Fenced { may_have_run: false, .. }))
        }
        async fn wait(&mut self, wait: Wait) {
            shut();
            wait.0.tell(More).await.unwrap();
        }
    }

    fn shut() {
        current::system().unwrap().gate.open_until(clock::boot());
    }

    #[tokio::test]
    async fn what_a_named_actor_sends_past_the_deadline_waits_or_fails() {
        let system = System::local();
        let (late, nameless) = (system.named::<Late>("a"), system.create::<Late>(()).await.unwrap());
        let counter = system.create::<Counter>(()).await.unwrap();
        let replied = late.ask(Now(counter.clone())).await;
        assert!(matches!(replied, Err(Error::Fenced { may_have_run: true, .. })), "{replied:?}");
        assert!(!nameless.ask(Now(counter.clone())).await.unwrap(), "nameless actors send");
        system.inner.gate.open_until(clock::NEVER);
        late.tell(Wait(counter.clone())).await.unwrap();
        while system.inner.gate.is_open() {
            tokio::task::yield_now().await;
        }
        assert_eq!(counter.ask(Count).await.unwrap(), 1, "that of the nameless one");
        system.inner.gate.open_until(clock::NEVER);
        while counter.ask(Count).await.unwrap() < 2 {
            tokio::task::yield_now().await;
        }
        system.stop().await;
    }

    #[tokio::test]
    async fn past_the_deadline_named_actors_rest_until_a_later_one() {
        let system = System::local();
        let named = system.named::<Counter>("a");
        let nameless = system.create::<Counter>(()).await.unwrap();
        assert_eq!(named.ask(More).await.unwrap(), 1);
        system.inner.gate.open_until(clock::boot());
        let held = tokio::spawn(named.ask(More).timeout(Duration::from_secs(60)));
        for round in 1..20 {
            assert_eq!(nameless.ask(More).await.unwrap(), round, "nameless actors go on");
        }
        assert!(!held.is_finished(), "the named one rests");
        system.inner.gate.open_until(clock::NEVER);
        assert_eq!(held.await.unwrap().unwrap(), 2);
        system.stop().await;
    }
}
