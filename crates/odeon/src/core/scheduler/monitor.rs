//! The monitor: sees runners that stand still, and adds spare ones for handlers that hold their thread.

use super::{QUIET_TICKS, Scheduler, TICK, seat::Seat};
use odeon_protocol::limits::HANDLER_BLOCKS;
use std::{
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
    time::Instant,
};

/// What the monitor remembers of a runner.
#[derive(Clone, Copy)]
struct Seen {
    activations: u64,
    beats: u64,
    since: Instant,
}

impl Scheduler {
    /// The monitor's thread.
    pub(super) fn watch(self: Arc<Self>) {
        let now = Instant::now();
        let mut seen = vec![Seen { activations: 0, beats: 0, since: now }; self.seats.len()];
        let mut quiet = 0;
        while !self.stopped.load(Ordering::SeqCst) {
            quiet = if self.inspect(&mut seen) { 0 } else { quiet + 1 };
            let mut lock = self.monitor.lock.lock();
            if quiet < QUIET_TICKS {
                self.monitor.wake.wait_for(&mut lock, TICK);
                continue;
            }
            self.monitor.asleep.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            // Looked at once more after saying so: whoever begins to work from here on wakes the monitor.
            if !self.busy() && !self.stopped.load(Ordering::SeqCst) {
                self.monitor.wake.wait(&mut lock);
            }
            self.monitor.asleep.store(false, Ordering::SeqCst);
            quiet = 0;
        }
    }

    fn busy(&self) -> bool {
        let seated = self.seats.iter().filter(|seat| seat.taken.load(Ordering::SeqCst)).count();
        self.sleeping.load(Ordering::SeqCst) < seated || !self.injector.is_empty()
    }

    /// Looks at every runner; whether any is at work.
    fn inspect(self: &Arc<Self>, seen: &mut [Seen]) -> bool {
        if !self.busy() {
            return false;
        }
        let now = Instant::now();
        let mut waiting = false;
        for (seat, seen) in self.seats.iter().zip(seen) {
            if seat.serial.load(Ordering::Relaxed) == 0 {
                seen.since = now;
                continue;
            }
            let (activations, beats) = (seat.activations.load(Ordering::Relaxed), seat.beats.load(Ordering::Relaxed));
            if seen.activations == activations {
                // It has been at one actor since the last tick at least.
                seat.hurry.store(true, Ordering::Relaxed);
                self.send_off(seat);
                waiting |= seat.next.is_some() || !seat.stealer.is_empty();
            }
            if seen.beats != beats || seen.activations != activations {
                *seen = Seen { activations, beats, since: now };
            } else if now.duration_since(seen.since) >= HANDLER_BLOCKS && !seat.blocked.swap(true, Ordering::SeqCst) {
                self.replace(seat);
            }
        }
        if waiting {
            self.wake_one();
        }
        true
    }

    /// Adds a runner for one whose handler holds its thread, and says who that is.
    fn replace(self: &Arc<Self>, seat: &Seat) {
        self.blocked.fetch_add(1, Ordering::SeqCst);
        self.blocking_seen.fetch_add(1, Ordering::Relaxed);
        let serial = seat.serial.load(Ordering::Relaxed);
        let actor = self.label.get().and_then(|label| label(serial)).unwrap_or_else(|| format!("actor {serial}"));
        // SAFETY: only tables, which are static, are stored there.
        let message =
            unsafe { seat.message.load(Ordering::Relaxed).as_ref() }.map_or("its lifecycle", |table| table.name);
        tracing::warn!(
            %actor,
            handler = message,
            "a handler has held its thread for 50 ms; another thread takes its place. \
             Declare the actor `blocking`, or await instead of blocking"
        );
        let free = self.sleeping.load(Ordering::SeqCst);
        let spare = if free == 0 { self.add_runner(true) } else { Ok(()) };
        if let Err(error) = spare {
            tracing::error!(%error, "no spare thread could be started");
        }
        self.wake_one();
    }
}
