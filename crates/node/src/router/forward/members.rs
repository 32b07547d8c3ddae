//! Troupes: any member will do.
//!
//! - **TR-1.** A message's member is chosen by the agent of its sender alone: only from it another agent takes the
//!   message. An agent that has a message of another one's for a troupe in hand gives it back to that.
//! - **TR-2.** A message for a name goes on by the name when the troupe that bore it is gone.

use super::{Origin, Router, Turn, body_of, mutable};
use crate::{
    event::Event,
    router::{
        back::{self, BOUNCES_MAX, Why},
        holds::Asking,
        table::Route,
        troupes::Pick,
    },
};
use bytes::BytesMut;
use odeon_protocol::{
    Direct, Reason,
    frame::{Class, Extension, Frame, Header, Kind, flags},
};

impl Router {
    pub(super) fn pass_to_troupe(&mut self, origin: Origin, troupe: Direct, frame: BytesMut) {
        let Ok((header, _)) = Header::read(&frame) else { return };
        if header.kind == Kind::Signal {
            if let Ok(body) = body_of(frame) {
                self.events.push(Event::TroupeSignal { troupe, body });
            }
            return;
        }
        if matches!(origin, Origin::Peer(_)) {
            return self.not_chosen_here(troupe, header, frame);
        }
        if header.bounced() >= BOUNCES_MAX {
            return self.give_back(&frame, &Why::not_run(Reason::Full, "no member of the troupe took the message"));
        }
        match self.troupes.pick(troupe, &header, self.now) {
            Pick::Member { member, wants_more } => {
                if wants_more {
                    self.events.push(Event::TroupeBusy { troupe });
                }
                let Some(frame) = through(troupe, (header, member), frame) else { return };
                let Ok((header, _)) = Header::read(&frame) else { return };
                self.deliver(origin, &header, frame);
            }
            Pick::Unknown => match self.table.route(troupe) {
                Route::Nobody(reason) => {
                    let text = format!("{}: {reason}", troupe_name(troupe));
                    self.without_troupe(troupe, &frame, &Why::not_run(reason, text));
                }
                _ => self.wait_for_members(troupe, header.bounced() > 0, frame),
            },
        }
    }

    fn wait_for_members(&mut self, troupe: Direct, came_back: bool, frame: BytesMut) {
        let (name, starts) = (troupe_name(troupe), false);
        match self.holds.push(&name, (frame, Direct::NONE), (came_back, starts), self.now) {
            Ok(Asking::Ask) => self.events.push(Event::TroupeMissed { troupe }),
            Ok(Asking::Asked) => {}
            Err(frame) => {
                let text = format!("{name}: too many messages wait for names and troupes that are being found");
                self.give_back(&frame, &Why::not_run(Reason::Full, text));
            }
        }
    }

    /// Another agent's message for a troupe goes back to that agent, which chooses the member.
    fn not_chosen_here(&mut self, troupe: Direct, header: Header, frame: BytesMut) {
        if let Some(frame) = through(troupe, (header, troupe), frame) {
            self.bounce(frame, &format!("{} is a troupe", troupe_name(troupe)));
        }
    }

    /// A message for a troupe that is gone waits for the next bearer of its name, or goes back.
    fn without_troupe(&mut self, troupe: Direct, frame: &[u8], why: &Why) {
        let Ok(message) = back::read(frame) else { return };
        let header = message.header;
        let is_message = matches!(header.kind, Kind::Tell | Kind::Ask) && !header.has(flags::FENCE);
        let Some(name) = message.to_name().filter(|_| is_message && header.bounced() < BOUNCES_MAX) else {
            return self.give_up((frame, Direct::NONE), why);
        };
        let flags = back::bounced(header.flags & !flags::TROUPE);
        let header = Header { to: Direct::NONE, to_epoch: 0, flags, ..header };
        let others = message.extensions().flatten().filter(|extension| !matches!(extension, Extension::Troupe(_)));
        let frame = Frame::new(header, &others.collect::<Vec<_>>(), &message.body());
        self.hold_for_another(name, mutable(frame.into_bytes()), troupe, Turn::Last);
    }

    /// The members of a troupe as its keeper says; what waited for them goes on.
    pub(crate) fn troupe(&mut self, troupe: Direct, members: &[Direct], room: bool) {
        // A troupe is no member of another.
        let members: Vec<_> = members.iter().copied().filter(|member| !member.serial.is_troupe()).collect();
        self.troupes.set(troupe, &members, room, self.now);
        if members.is_empty() {
            return;
        }
        for mut held in self.holds.release(&troupe_name(troupe)) {
            match self.age(&mut held) {
                Ok(()) => self.pass_to_troupe(Origin::Agent, troupe, held.frame),
                Err(why) => self.give_back(&held.frame, &why),
            }
        }
    }

    /// Members are lost with their process or host. What they had of tells is lost as well: its senders are told, once all
    /// that their agent still has to say of them is said. `said` if it is.
    pub(super) fn members_lost(&mut self, fits: impl Fn(Direct) -> bool, said: bool) {
        for (member, troupe, (sender, flow)) in self.troupes.handed.flows(&fits) {
            if said || !matches!(self.table.route(member), Route::Peer(_)) {
                self.tell_lost(member, troupe, (sender, flow));
                continue;
            }
            // Goes where the messages went, and comes back behind whatever comes back of them.
            let fence = Header { to: member, from: sender, flow, flags: flags::FENCE, ..Header::new(Kind::Tell) };
            let fence = Header { class: Class::Urgent, ..fence };
            let fence = Frame::new(fence, &[Extension::Troupe(troupe)], &[]);
            self.deliver(Origin::Agent, &fence.header, BytesMut::from(&fence.bytes()[..]));
        }
        self.troupes.lose(fits);
    }

    /// What that member had of a flow has no other end than this.
    pub(super) fn tell_lost(&mut self, member: Direct, troupe: Direct, (sender, flow): (Direct, u32)) {
        for (first, count) in self.troupes.handed.take(member, (sender, flow)) {
            let header = Header {
                class: Class::Urgent,
                to: sender,
                from: member,
                flow,
                sequence: first,
                correlation: u64::from(count),
                flags: flags::MAY_HAVE_RUN,
                ..Header::new(Kind::Settled)
            };
            let frame = Frame::new(header, &[Extension::Troupe(troupe)], &[]);
            self.answer(&header, BytesMut::from(&frame.bytes()[..]));
        }
    }

    /// There is no such troupe.
    pub(crate) fn troupe_missing(&mut self, troupe: Direct, why: &Why) {
        self.troupes.remove(troupe);
        // Where a troupe has no member, or its keeper is out of reach, its name is nowhere else.
        let is_gone = matches!(
            why.reason,
            Reason::NoSuchActor | Reason::ActorStopped | Reason::WorkerLost | Reason::HostLost | Reason::Fenced
        );
        for mut held in self.holds.release(&troupe_name(troupe)) {
            match self.age(&mut held) {
                Err(late) => self.give_up((&held.frame, Direct::NONE), &late),
                Ok(()) if is_gone => self.without_troupe(troupe, &held.frame, why),
                Ok(()) => self.give_up((&held.frame, Direct::NONE), why),
            }
        }
    }
}

/// Under which name messages for it are held.
fn troupe_name(troupe: Direct) -> String {
    format!("odeon:troupe/{troupe}")
}

/// The message with the troupe noted on it, to that receiver.
fn through(troupe: Direct, (header, to): (Header, Direct), frame: BytesMut) -> Option<BytesMut> {
    let message = Frame::read(frame.freeze()).ok()?;
    let header = Header { to, to_epoch: 0, flags: header.flags & !flags::TROUPE, ..header };
    let frame = if message.troupe().is_some() {
        message.with_header(header)
    } else {
        let extensions: Vec<_> = message.extensions().flatten().chain([Extension::Troupe(troupe)]).collect();
        Frame::new(header, &extensions, &message.body())
    };
    Some(mutable(frame.into_bytes()))
}
