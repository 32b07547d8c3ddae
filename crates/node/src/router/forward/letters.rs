//! Messages that come back, for whoever listens.

use super::Router;
use crate::{event::Event, router::back};
use odeon_cluster::Rate;
use odeon_protocol::{
    WorkerId,
    control::{FromAgent, encode},
    frame::{self, Class, Header, Kind, flags},
    limits::DEAD_LETTERS_A_SECOND,
};

impl Router {
    /// Whether somebody, on any host, listens for messages that come back. Every process of this host is told.
    pub(in crate::router) fn want_letters(&mut self, wanted: bool) {
        self.letters = wanted.then(|| Rate::new(DEAD_LETTERS_A_SECOND));
        self.control_all(&FromAgent::DeadLettersWanted { wanted });
    }

    /// A frame has come to the agent of its receiver: if it is a message that came back, whoever listens is to know. A
    /// fence is no message.
    pub(super) fn note_letter(&mut self, header: &Header, bytes: &[u8]) {
        if header.kind != Kind::Returned || header.has(flags::FENCE) {
            return;
        }
        let Some(missed) = self.letters.as_mut().and_then(|rate| rate.pass(self.now)) else { return };
        if let Ok(frame) = back::read(bytes) {
            self.events.push(Event::CameBack { frame: Box::new(frame), missed });
        }
    }

    /// A control message that may be left out; whether it was queued.
    pub(in crate::router) fn control_if_room(&self, to: WorkerId, message: &FromAgent) -> bool {
        let Some(process) = self.processes.get(&to) else { return false };
        let write = |out: &mut bytes::BytesMut| {
            frame::write(out, &Header::new(Kind::Control), &[], &encode(message));
        };
        process.outbox.try_push(Class::Normal, write).is_ok()
    }
}
