//! The way back: what came back, what cannot be delivered, and what another agent has to send elsewhere.

use super::{Origin, Router, Turn, mutable, name_of};
use crate::router::back::{self, BOUNCES_MAX, Why};
use bytes::BytesMut;
use odeon_protocol::{
    Direct, Reason,
    frame::{self, Frame, Header, Kind, flags, to_of},
};

impl Router {
    /// A message that came back: sent on where that can help, else brought to its sender.
    pub(super) fn returned(&mut self, origin: Origin, header: &Header, bytes: BytesMut) {
        if header.correlation != 0
            && let Some(of) = self.asks.remove(&(header.to, header.correlation))
        {
            self.troupes.ask_ended(of);
        }
        if matches!(origin, Origin::Peer(_)) && self.written_off.has(header) {
            // An ask's sender knows, unless it was forwarded: then only its asker does.
            let forwarded = frame::extensions_of(&bytes).reply_to().is_some_and(|(asker, _)| asker != header.to);
            if forwarded {
                self.answer(header, bytes);
            }
            return;
        }
        if !header.has(flags::FENCE) {
            self.troupes.came_back(header.from, (header.to, header.flow), header.sequence);
            let (troupe, reason) = (frame::extensions_of(&bytes).troupe(), frame::extensions_of(&bytes).reason());
            if troupe.is_some() && reason == Some(Reason::Moved) {
                self.troupes.came_back_from_any((header.to, header.flow), header.sequence);
            }
        }
        let Ok(back) = Frame::read(bytes.freeze()) else { return };
        if let Some(troupe) = back.troupe().filter(|_| header.has(flags::FENCE)) {
            // This router's own; see `members_lost`.
            return self.tell_lost(header.from, troupe, (header.to, header.flow));
        }
        let overtaken = back.troupe().is_none() && self.written_off.is_overtaken(&back.header);
        if self.may_go_again(origin, &back) && !overtaken {
            let message = back::again(&back);
            if let Some(troupe) = back.troupe() {
                self.troupes.member_gone(troupe, back.header.from);
                return self.pass_to_troupe(Origin::Agent, troupe, message);
            }
            if let Some(name) = back.to_name() {
                if self.bounced.has(header.to, header.flow, header.from) {
                    // It came to the place all the same, as the first one came back.
                    let mut message = message;
                    frame::set_to(&mut message, header.from, header.from_epoch);
                    return self.bounce(message, "its name has been elsewhere since");
                }
                if matches!(origin, Origin::Peer(_)) {
                    self.written_off.came_back(header, self.now);
                }
                return self.hold_for_another(name, message, header.from, Turn::First);
            }
        }
        // Only a forwarded ask has another asker than the sender whom it comes back to.
        if let Some((asker, correlation)) = back.reply_to().filter(|(asker, _)| *asker != header.to) {
            let (reason, text) = back.reason().unwrap_or((Reason::NoSuchActor, ""));
            let why = Why { reason, text: text.to_owned(), may_have_run: header.has(flags::MAY_HAVE_RUN) };
            self.fail((asker, correlation), header.from, &why);
        }
        let header = *header;
        self.answer(&header, mutable(back.into_bytes()));
    }

    /// Whether another instance or member may take what came back. The actor's own agent decides, once; the sender's
    /// agent follows it when it says that the name is elsewhere.
    fn may_go_again(&self, origin: Origin, back: &Frame) -> bool {
        let Some((reason, _)) = back.reason() else { return false };
        if back.header.bounced() >= BOUNCES_MAX || back.header.has(flags::MAY_HAVE_RUN) {
            return false;
        }
        // The agent's own former start may have written it off.
        let to_local = self.is_of_this_start(back.header.to);
        match reason {
            Reason::Moved => to_local,
            Reason::ActorStopped | Reason::NoSuchActor | Reason::WorkerLost => match back.troupe() {
                Some(_) => to_local,
                None => !matches!(origin, Origin::Peer(_)),
            },
            _ => false,
        }
    }

    /// A message whose receiver is not there: waits for the name's next instance, or goes back.
    pub(super) fn undeliverable(&mut self, header: &Header, frame: BytesMut, reason: Reason, turn: Turn) {
        if !matches!(header.kind, Kind::Tell | Kind::Ask) {
            return;
        }
        let troupe = frame::extensions_of(&frame).troupe();
        if header.bounced() < BOUNCES_MAX
            && troupe.is_none()
            && let Some(name) = name_of(&frame)
        {
            let mut frame = frame;
            frame::set_to(&mut frame, Direct::NONE, 0);
            frame[8..10].copy_from_slice(&back::bounced(header.flags).to_le_bytes());
            return self.hold_for_another(&name, frame, header.to, turn);
        }
        if header.bounced() < BOUNCES_MAX
            && header.from.node == self.me.node
            && let Some(troupe) = troupe.filter(|_| !header.has(flags::FENCE))
            && let Ok(message) = back::read(&frame)
        {
            // Another member may take it.
            self.troupes.member_gone(troupe, header.to);
            self.troupes.came_back(header.to, (header.from, header.flow), header.sequence);
            let again = message.with_header(Header { flags: back::bounced(header.flags), ..*header });
            return self.pass_to_troupe(Origin::Agent, troupe, BytesMut::from(&again.bytes()[..]));
        }
        let text = format!("odeon:{}: {reason}", header.to);
        self.give_back(&frame, &Why::not_run(reason, text));
    }

    /// A name that is not on this host: its sender's agent has to send it there.
    pub(super) fn moved(&mut self, header: &Header, frame: BytesMut, text: &str) {
        let text = format!("{} is {text}", header.to);
        if name_of(&frame).is_none() {
            return self.give_back(&frame, &Why::not_run(Reason::NoSuchActor, text));
        }
        self.bounced.add(header, header.to);
        self.bounce(frame, &text);
    }

    /// The place if it is of this start of this agent, or else the agent's own.
    fn of_this_start(&self, place: Direct) -> Direct {
        if self.is_of_this_start(place) { place } else { self.me }
    }

    pub(super) fn is_of_this_start(&self, place: Direct) -> bool {
        (place.node, place.boot) == (self.me.node, self.me.boot)
    }

    /// Sends a name's message back to its sender's agent, which sends it where the name is. It goes back from a place of this
    /// start, since the other agent takes nothing of anybody else.
    pub(super) fn bounce(&mut self, mut frame: BytesMut, text: &str) {
        let to = self.of_this_start(to_of(&frame).unwrap_or(Direct::NONE));
        frame::set_to(&mut frame, to, 0);
        self.give_back(&frame, &Why::not_run(Reason::Moved, text));
    }

    /// Gives a message back to its sender; an ask that was forwarded also fails for whoever asked.
    pub(super) fn give_back(&mut self, frame: &[u8], why: &Why) {
        let Ok(message) = back::read(frame) else { return };
        if !matches!(message.header.kind, Kind::Tell | Kind::Ask) || message.header.from.is_none() {
            return;
        }
        let header = &message.header;
        if header.has(flags::FENCE)
            && header.from.node == self.me.node
            && let Some(troupe) = message.troupe()
        {
            // This router's own, which could not be brought there; see `members_lost`.
            return self.tell_lost(header.to, troupe, (header.from, header.flow));
        }
        if !header.has(flags::FENCE) {
            self.metrics.returned.add(1);
            self.metrics.returned_for.add(why.reason);
            self.troupes.came_back(header.to, (header.from, header.flow), header.sequence);
        }
        if message.header.kind == Kind::Ask && why.reason != Reason::Moved {
            let asker = back::asker(&message);
            if asker != (message.header.from, message.header.correlation) {
                self.fail(asker, message.header.to, why);
            }
        }
        let back = back::returned(&message, why);
        if let Ok((header, _)) = Header::read(&back) {
            if header.correlation != 0 {
                let _ = self.asks.remove(&(header.to, header.correlation));
            }
            self.answer(&header, back);
        }
    }

    pub(super) fn fail(&mut self, key: (Direct, u64), of: Direct, why: &Why) {
        let _ = self.asks.remove(&key);
        let failure = back::failure(key, of, why);
        if let Ok((header, _)) = Header::read(&failure) {
            self.answer(&header, failure);
        }
    }
}
