//! The receiving half of one lane: counts, and drops what came before.

use bytes::BytesMut;
use odeon_protocol::{
    frame::{Kind, kind_of},
    planted::{self, Fault},
};

#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// Whose numbering it is.
    session: u64,
    /// Frames before this one have been taken.
    received: u64,
}

impl Inbound {
    /// Whose numbering it is; 0 if nobody's.
    pub(super) fn session(&self) -> u64 {
        self.session
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Goes on with a session, or begins one: the lanes of the peer are new ones then, and their numbering another.
    pub(super) fn begin(&mut self, session: u64) {
        if self.session != session {
            *self = Self { session, received: 0 };
        }
    }

    /// What of `frames`, numbered from `first` on, has not been received before. Numbers that the sender skips it has
    /// given up, and what it took back stands for nothing. Nothing of another session is taken: its reader is a late one of an earlier connection.
    pub(super) fn fresh(&mut self, session: u64, first: u64, mut frames: Vec<BytesMut>) -> Vec<BytesMut> {
        if session != self.session {
            return Vec::new();
        }
        let end = first.saturating_add(frames.len() as u64);
        let old = self.received.saturating_sub(first).min(frames.len() as u64) as usize;
        if !planted::is(Fault::DedupeOff) {
            frames.drain(..old);
        }
        self.received = self.received.max(end);
        frames.retain(|frame| kind_of(frame) != Some(Kind::Void));
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(names: &[&str]) -> Vec<BytesMut> {
        names.iter().map(|name| BytesMut::from(*name)).collect()
    }

    #[test]
    fn what_was_received_before_is_dropped_and_gaps_are_the_senders() {
        let mut lane = Inbound::default();
        lane.begin(1);
        assert_eq!(lane.fresh(1, 0, frames(&["a", "b"])), frames(&["a", "b"]));
        assert_eq!(lane.fresh(1, 0, frames(&["a"])), frames(&[]));
        lane.begin(1);
        assert_eq!(lane.fresh(1, 1, frames(&["b", "c"])), frames(&["c"]));
        assert_eq!((lane.received(), lane.fresh(1, 7, frames(&["h"]))), (3, frames(&["h"])));
        assert_eq!(lane.received(), 8);
        lane.begin(2);
        assert_eq!(lane.fresh(1, 8, frames(&["late"])), frames(&[]));
        assert_eq!(lane.fresh(2, 0, frames(&["x"])), frames(&["x"]));
    }
}
