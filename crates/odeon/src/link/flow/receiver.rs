//! The receiver's side of a flow.

use odeon_protocol::{Counts, limits::FLOW_WINDOW, ring::Ring};
use std::mem;

/// The receiver's side of one flow.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    latest: u32,
    pending: Ring,
    untold: Ring,
    hurry: bool,
    /// Which of the pending are fences; seldom any.
    fences: Vec<u32>,
    taken: u64,
    handled: u64,
    given_back: u64,
}

/// How a message ended at its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Its handler has ended; its sender is to be told.
    Handled,
    /// Its sender learns so by the answer.
    Answered,
    /// Its sender learns so by its return.
    GivenBack,
}

/// A sender sent beyond its window, or one number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overrun;

/// What is to be done after a message has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// Nothing: the sender knows already. Set if the flow is to be forgotten.
    None {
        /// Nothing is pending or untold.
        idle: bool,
    },
    /// Within a few milliseconds.
    Soon,
    /// At once.
    Now,
}

impl Ledger {
    /// A message has come; `hurry` if the sender wants a report as soon as it has ended.
    pub(crate) fn receive(&mut self, sequence: u32, hurry: bool) -> Result<(), Overrun> {
        self.put(sequence, hurry)?;
        self.taken += 1;
        Ok(())
    }

    /// A fence has come.
    pub(crate) fn receive_fence(&mut self, sequence: u32, hurry: bool) -> Result<(), Overrun> {
        self.put(sequence, hurry)?;
        self.fences.push(sequence);
        Ok(())
    }

    fn put(&mut self, sequence: u32, hurry: bool) -> Result<(), Overrun> {
        let ahead = sequence.wrapping_sub(self.latest) < u32::MAX / 2;
        let first = self.is_idle();
        let fits = first || ahead || self.latest.wrapping_sub(sequence) < Ring::BITS;
        // Whatever shares its bit must be settled and told, or the sender went beyond its window.
        if !fits || self.pending.has(sequence) || self.untold.has(sequence) {
            return Err(Overrun);
        }
        if first || ahead {
            self.latest = sequence;
        }
        self.pending.set(sequence);
        self.hurry |= hurry;
        Ok(())
    }

    /// A message has ended; what had ended before has not again.
    pub(crate) fn end(&mut self, sequence: u32, ended: Ended) -> Report {
        if self.is_pending(sequence) {
            self.pending.clear(sequence);
            self.count(sequence, ended);
            if ended == Ended::Handled {
                self.untold.set(sequence);
            }
        }
        if self.untold.is_empty() {
            return Report::None { idle: self.pending.is_empty() };
        }
        // Half a window of them, or the last that a waiting sender hopes for.
        if self.untold.count() >= FLOW_WINDOW / 2 || (self.hurry && self.pending.is_empty()) {
            return Report::Now;
        }
        Report::Soon
    }

    /// Whether it has come and not ended. One from before the last [`Ring::BITS`] numbers has ended, whatever stands for
    /// the number that shares its bit: its answer may come that late.
    const fn is_pending(&self, sequence: u32) -> bool {
        self.latest.wrapping_sub(sequence) < Ring::BITS && self.pending.has(sequence)
    }

    fn count(&mut self, sequence: u32, ended: Ended) {
        if let Some(at) = self.fences.iter().position(|fence| *fence == sequence) {
            self.fences.swap_remove(at);
        } else if ended == Ended::GivenBack {
            self.given_back += 1;
        } else {
            self.handled += 1;
        }
    }

    /// Takes what is to be told, as ranges of a first number and a count, the oldest first.
    pub(crate) fn take_report(&mut self) -> Vec<(u32, u32)> {
        self.hurry = false;
        mem::take(&mut self.untold).ranges(self.latest)
    }

    /// What came here, by how it ended.
    pub(crate) fn counts(&self) -> Counts {
        let waiting = u64::from(self.pending.count()) - self.fences.len() as u64;
        let Self { taken, handled, given_back, .. } = *self;
        Counts { taken, handled, given_back, waiting, ..Counts::default() }
    }

    /// Takes the counts out of a flow that is idle.
    pub(crate) fn take_counts(&mut self) -> Counts {
        let counts = self.counts();
        (self.taken, self.handled, self.given_back) = (0, 0, 0);
        counts
    }

    /// Whether there is nothing to remember.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.untold.is_empty()
    }
}
