//! A runner: where its next cell comes from, and when it sleeps.

use super::{INJECTOR_EVERY, Runner, SLOT_TURNS, SPARE_LINGERS, Task, UNSENT_TURNS, seat::Seat};
use crate::core::run;
use crossbeam_deque::Steal;
use std::sync::atomic::{Ordering, fence};

impl Runner {
    /// Runs it after the cell that runs now. Alone it waits for that on a warm core; the monitor sees to it if that takes
    /// long. With company, another runner is woken.
    pub(super) fn schedule_next(&self, task: Task) {
        let displaced = self.scheduler.here(self.seat).next.replace(task);
        if let Some(displaced) = displaced {
            self.schedule_last(displaced);
        }
    }

    pub(super) fn schedule_last(&self, task: Task) {
        self.queue.push(task);
        self.scheduler.wake_one();
    }

    pub(super) fn activate(&self, task: Task) {
        let here = self.scheduler.here(self.seat);
        here.activations.store(here.activations.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.turn_over.set(run::run(task, Some(here)));
        if here.hurry.load(Ordering::Relaxed) {
            here.hurry.store(false, Ordering::Relaxed);
        }
        if here.blocked.load(Ordering::Relaxed) && here.blocked.swap(false, Ordering::SeqCst) {
            self.scheduler.blocked.fetch_sub(1, Ordering::SeqCst);
        }
        if here.unsent.load(Ordering::Relaxed) {
            self.unsent_turns.set(self.unsent_turns.get() + 1);
            if self.turn_over.get() || self.unsent_turns.get() >= UNSENT_TURNS {
                self.send_off();
            }
        }
    }

    /// Lets go what this runner's cells sent.
    pub(super) fn send_off(&self) {
        self.unsent_turns.set(0);
        self.scheduler.send_off(self.scheduler.here(self.seat));
    }

    /// The next cell to run: that which the last one scheduled, own queue, injector, others' queues.
    pub(super) fn next(&self) -> Option<Task> {
        let scheduler = &*self.scheduler;
        let here = scheduler.here(self.seat);
        let due = here.activations.load(Ordering::Relaxed).is_multiple_of(INJECTOR_EVERY);
        if (due || self.turn_over.replace(false))
            && let Some(task) = self.injected()
        {
            return Some(task);
        }
        if self.turns.get() < SLOT_TURNS || self.queue.is_empty() {
            let next = here.next.take();
            if next.is_some() {
                self.turns.set(self.turns.get() + 1);
                return next;
            }
        }
        self.turns.set(0);
        self.queue.pop().or_else(|| self.injected()).or_else(|| self.stolen()).or_else(|| here.next.take())
    }

    fn injected(&self) -> Option<Task> {
        loop {
            match self.scheduler.injector.steal_batch_with_limit_and_pop(&self.queue, 16) {
                Steal::Success(task) => return Some(task),
                Steal::Empty => return None,
                Steal::Retry => {}
            }
        }
    }

    fn stolen(&self) -> Option<Task> {
        let seats = &self.scheduler.seats;
        let from = self.random() as usize % seats.len();
        let others = || (0..seats.len()).map(|step| (from + step) % seats.len()).filter(|seat| *seat != self.seat);
        for seat in others().map(|seat| &seats[seat]).filter(|seat| seat.taken.load(Ordering::Relaxed)) {
            loop {
                match seat.stealer.steal_batch_with_limit_and_pop(&self.queue, 16) {
                    Steal::Success(task) => return Some(task),
                    Steal::Empty => break,
                    Steal::Retry => {}
                }
            }
        }
        let stuck = |seat: &&Seat| seat.hurry.load(Ordering::Relaxed) || seat.blocked.load(Ordering::Relaxed);
        others().map(|seat| &seats[seat]).filter(stuck).find_map(|seat| seat.next.take())
    }

    fn random(&self) -> u64 {
        let mut state = self.random.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random.set(state);
        state
    }

    fn anything(&self) -> bool {
        let scheduler = &*self.scheduler;
        !scheduler.injector.is_empty()
            || !self.queue.is_empty()
            || scheduler.seats.iter().any(|seat| seat.taken.load(Ordering::Relaxed) && !seat.stealer.is_empty())
    }

    /// Sleeps until there may be work; `false` if this runner is not needed any more.
    pub(super) fn sleep(&self, spare: bool) -> bool {
        let scheduler = &*self.scheduler;
        {
            let mut sleepers = scheduler.sleepers.lock();
            if !sleepers.contains(&self.seat) {
                sleepers.push(self.seat);
            }
            scheduler.sleeping.store(sleepers.len(), Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
        let mut needed = true;
        if !self.anything() && !scheduler.stopped.load(Ordering::SeqCst) {
            if spare {
                std::thread::park_timeout(SPARE_LINGERS);
                needed = scheduler.blocked.load(Ordering::SeqCst) > 0 || self.anything();
            } else {
                std::thread::park();
            }
        }
        let mut sleepers = scheduler.sleepers.lock();
        // Whoever woke this runner has taken it off the list; if nobody did, it does so itself.
        let woken = !sleepers.contains(&self.seat);
        sleepers.retain(|seat| *seat != self.seat);
        scheduler.sleeping.store(sleepers.len(), Ordering::SeqCst);
        needed || woken
    }
}
