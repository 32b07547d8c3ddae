//! - **CM-1.** An agent knows at most as many open asks as were sent within [`ASKS_LIVE`], and as many messages wait in it
//!   for their names as were sent within [`MESSAGES_LIVE`].
//! - **CM-2.** Once every message has ended nothing is kept of any.

use crate::convention::machine::{Kept, Machine};
use odeon_protocol::Time;
use std::{collections::VecDeque, time::Duration};

/// An ask's limit in a run, a host's silence that is borne, and what agents allow for the way.
const ASKS_LIVE: Duration = Duration::from_secs(50);
/// A message may have rested with a bearer whose host was away, and wait for its name after.
const MESSAGES_LIVE: Duration = Duration::from_secs(100);

/// Between two looks.
const LOOK_NANOS: u64 = 100_000_000;

/// When messages were sent, the oldest first.
#[derive(Debug, Default)]
pub(in crate::convention) struct Memory {
    asks: VecDeque<Time>,
    messages: VecDeque<Time>,
}

impl Memory {
    /// A message is sent.
    pub(in crate::convention) fn sent(&mut self, is_ask: bool, now: Time) {
        self.messages.push_back(now);
        if is_ask {
            self.asks.push_back(now);
        }
    }

    pub(in crate::convention) fn look(&mut self, machines: &[Machine], now: Time) -> Result<(), String> {
        if !now.as_nanos().is_multiple_of(LOOK_NANOS) {
            return Ok(());
        }
        while self.asks.pop_front_if(|at| now.since(*at) > ASKS_LIVE).is_some() {}
        while self.messages.pop_front_if(|at| now.since(*at) > MESSAGES_LIVE).is_some() {}
        let too_much = |kept: &Kept| kept.asks > self.asks.len() || kept.held > self.messages.len();
        match machines.iter().map(|machine| (machine, machine.kept())).find(|(_, kept)| too_much(kept)) {
            Some((machine, kept)) => {
                let (asks, messages) = (self.asks.len(), self.messages.len());
                Err(format!("the agent of {} keeps {kept:?} of {asks} asks and {messages} messages", machine.name()))
            }
            None => Ok(()),
        }
    }
}
