//! Troupes: any member will do.

use super::{Origin, Router, mutable};
use crate::{
    event::Event,
    router::{
        back::{BOUNCES_MAX, Why},
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
        if header.bounced() >= BOUNCES_MAX {
            return self.give_back(&frame, &Why::not_run(Reason::Full, "no member of the troupe took the message"));
        }
        match self.troupes.pick(troupe, &header) {
            Pick::Member { member, wants_more } => {
                if wants_more {
                    self.events.push(Event::TroupeBusy { troupe });
                }
                self.pass_to_member(origin, troupe, member, frame);
            }
            Pick::Unknown => {
                let starts = false;
                let name = format!("odeon:troupe/{troupe}");
                match self.holds.push(&name, (frame, Direct::NONE), (header.bounced() > 0, starts), self.now) {
                    Ok(Asking::Ask) => self.events.push(Event::TroupeMissed { troupe }),
                    Ok(Asking::Asked) => {}
                    Err(frame) => {
                        let text = format!("{name}: too many messages wait for names and troupes that are being found");
                        self.give_back(&frame, &Why::not_run(Reason::Full, text));
                    }
                }
            }
        }
    }

    fn pass_to_member(&mut self, origin: Origin, troupe: Direct, member: Direct, frame: BytesMut) {
        let Ok(message) = Frame::read(frame.freeze()) else { return };
        let flags = message.header.flags & !flags::TROUPE;
        let header = Header { to: member, to_epoch: 0, flags, ..message.header };
        let frame = if message.troupe().is_some() {
            message.with_header(header)
        } else {
            let extensions: Vec<_> = message.extensions().flatten().chain([Extension::Troupe(troupe)]).collect();
            Frame::new(header, &extensions, &message.body())
        };
        let origin = if matches!(origin, Origin::Peer(_)) { Origin::Agent } else { origin };
        self.deliver(origin, &header, mutable(frame.into_bytes()));
    }

    /// The members of a troupe as its keeper says; what waited for them goes on.
    pub(crate) fn troupe(&mut self, troupe: Direct, members: &[Direct], room: bool) {
        self.troupes.set(troupe, members, room);
        if members.is_empty() {
            return;
        }
        for mut held in self.holds.release(&format!("odeon:troupe/{troupe}")) {
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
        self.missing(&format!("odeon:troupe/{troupe}"), true, why);
    }
}
