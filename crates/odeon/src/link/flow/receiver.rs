//! The receiver's side of a flow.

use odeon_protocol::{limits::FLOW_WINDOW, ring::Ring};
use std::mem;

/// The receiver's side of one flow.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    latest: u32,
    pending: Ring,
    untold: Ring,
    hurry: bool,
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

    /// A message has ended. `told` if its sender learns so by the reply or by its return.
    pub(crate) fn end(&mut self, sequence: u32, told: bool) -> Report {
        if self.pending.has(sequence) {
            self.pending.clear(sequence);
            if !told {
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

    /// Takes what is to be told, as ranges of a first number and a count, the oldest first.
    pub(crate) fn take_report(&mut self) -> Vec<(u32, u32)> {
        self.hurry = false;
        mem::take(&mut self.untold).ranges(self.latest)
    }

    /// Whether there is nothing to remember.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.untold.is_empty()
    }
}
