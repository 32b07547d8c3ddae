//! Messages of this process by how they ended, and telling the agent.
//!
//! Each is counted where its end is noted, under the lock that is held there anyway: sent ones in their shard, received ones
//! in their flow's ledger. What is shared by all is one flag, which is set once between two looks at the counts.
//!
//! - **LC-1.** The agent is told within about two looks of every change, and never twice the same.
//! - **LC-2.** While nothing changes, nothing runs.

use super::Link;
use odeon_protocol::{Counts, control::ToAgent};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Notify, time::sleep};

/// How often the counts are looked at while they change.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The part of its time that a process with very many flows spends on it, at most: one in so many.
const SHARE: u32 = 100;

/// Whether the counts have changed since they were last looked at. On cache lines of its own: every sender reads it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counting {
    has_changed: AtomicBool,
    change: Notify,
    /// Messages sent beside the flows; seldom any.
    beside: AtomicU64,
}

impl Counting {
    /// A message was queued.
    pub(super) fn sent(&self, flow: u32) {
        if flow == 0 {
            self.beside.fetch_add(1, Ordering::Relaxed);
        }
        self.changed();
    }

    /// To be said after the lock is given back under which something was counted: whoever clears the flag takes each of
    /// these locks after that, so that no change is overlooked.
    pub(super) fn changed(&self) {
        if !self.has_changed.load(Ordering::Relaxed) && !self.has_changed.swap(true, Ordering::Relaxed) {
            self.change.notify_one();
        }
    }
}

impl Link {
    /// The messages so far.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = self.receiving.counts();
        self.sending.iter().for_each(|shard| counts.add(&shard.lock().counts()));
        counts.beside = self.counting.beside.load(Ordering::Relaxed);
        counts
    }

    /// Tells the agent of the messages so far, if there were any.
    pub(super) fn say_counts(&self) {
        let counts = self.counts();
        if counts != Counts::default() {
            self.say(&ToAgent::Counts(Box::new(counts)));
        }
    }

    /// Tells the agent of the messages so far, whenever that has changed.
    pub(super) async fn report_counts(self: Arc<Self>) {
        let mut told = Counts::default();
        let mut pause = LOOK_EVERY;
        loop {
            self.counting.change.notified().await;
            sleep(pause).await;
            let began = Instant::now();
            self.counting.has_changed.store(false, Ordering::Relaxed);
            let counts = self.counts();
            if counts != told {
                self.say(&ToAgent::Counts(Box::new(counts.clone())));
                told = counts;
            }
            pause = LOOK_EVERY.max(began.elapsed() * SHARE);
        }
    }
}
