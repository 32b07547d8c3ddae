//! Flows of which a message came for an actor that is elsewhere by now, and was sent back to its sender's agent. What follows of
//! the flow for that very place goes the same way: it would overtake the former.
//!
//! - **BO-1.** At most [`BOUNCED_KEPT`] are remembered; beyond it the oldest are forgotten.

use super::hash::Fast;
use odeon_protocol::{Direct, frame::Header, limits::BOUNCED_KEPT};
use std::collections::{HashSet, VecDeque};

/// Sender, flow, and where the messages were sent to.
type Way = (Direct, u32, Direct);

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Bounced {
    ways: HashSet<Way, Fast>,
    oldest: VecDeque<Way>,
}

impl Bounced {
    /// That message, sent to that place, goes back to its sender's agent.
    pub(super) fn add(&mut self, message: &Header, place: Direct) {
        let way = (message.from, message.flow, place);
        if message.flow == 0 || place.is_none() || !self.ways.insert(way) {
            return;
        }
        self.oldest.push_back(way);
        if self.oldest.len() > BOUNCED_KEPT
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.ways.remove(&oldest);
        }
    }

    /// Whether an earlier message of that sender and flow to that place went back.
    pub(super) fn has(&self, sender: Direct, flow: u32, place: Direct) -> bool {
        !self.ways.is_empty() && self.ways.contains(&(sender, flow, place))
    }
}
