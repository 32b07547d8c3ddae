//! How much waits in this agent, and who is held back for that.
//!
//! - **B-1.** While [`AGENT_LOCAL_BYTES`] wait for processes and names, no large frames are taken from other agents; while
//!   [`AGENT_WAITING_BYTES`] wait in all, none from processes. They wait where they are, and nothing behind them but their
//!   own flows.
//! - **B-2.** No agents wait for one another: whether one takes from others depends on its own processes alone, and one
//!   of those that does not read is closed.
//! - **B-3.** While [`AGENT_BYTES_MAX`] wait, messages go back to their senders; answers and reports never do.

use odeon_protocol::{
    Time,
    limits::{AGENT_BYTES_MAX, AGENT_LOCAL_BYTES, AGENT_WAITING_BYTES},
};
use odeon_transport::frame_io::Gate;
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;

/// How often is looked at what waits.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(5);

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// Large frames of processes pass it.
    pub(crate) processes: Gate,
    /// Large frames of other agents pass it.
    pub(crate) peers: Gate,
    /// Told when a gate was shut: somebody has to look again soon.
    pub(super) shut: Arc<Notify>,
    looked: Time,
    spent: bool,
}

impl Budget {
    /// Whether it is time for a look.
    pub(super) fn is_due(&self, now: Time) -> bool {
        now.since(self.looked) >= LOOK_EVERY
    }

    /// So many bytes wait, for processes and names and for other agents.
    pub(super) fn look(&mut self, now: Time, local: usize, peers: usize) {
        self.looked = now;
        let all = local + peers;
        let was_open = self.is_open();
        self.peers.set(local < AGENT_LOCAL_BYTES);
        self.processes.set(all < AGENT_WAITING_BYTES);
        self.spent = all >= AGENT_BYTES_MAX;
        if was_open && !self.is_open() {
            self.shut.notify_one();
        }
    }

    /// Whether no messages are taken.
    pub(super) fn is_spent(&self) -> bool {
        self.spent
    }

    fn is_open(&self) -> bool {
        self.peers.is_open() && self.processes.is_open() && !self.spent
    }

    /// Ready after a while, soon while somebody waits.
    pub(super) fn pause(&self) -> Duration {
        if self.is_open() { super::TICK } else { LOOK_EVERY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_shut_in_turn_and_open_again() {
        let mut budget = Budget::default();
        let mut look = |local, peers| {
            budget.look(Time::ZERO, local, peers);
            (budget.peers.is_open(), budget.processes.is_open(), budget.is_spent())
        };
        assert_eq!(look(0, 0), (true, true, false));
        assert_eq!(look(AGENT_LOCAL_BYTES, 0), (false, true, false));
        // What waits for other agents never keeps this one from reading them.
        assert_eq!(look(0, AGENT_BYTES_MAX), (true, false, true));
        assert_eq!(look(AGENT_LOCAL_BYTES, AGENT_WAITING_BYTES), (false, false, true));
        assert_eq!(look(0, 0), (true, true, false));
    }
}
