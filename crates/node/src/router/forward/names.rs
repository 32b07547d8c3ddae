//! Names: frames wait for them, and processes are told where they are.

use super::{Origin, Router, Turn};
use crate::{
    event::Event,
    router::{
        back::Why,
        holds::{Asking, Held},
        table::{Known, Route},
    },
};
use bytes::BytesMut;
use odeon_protocol::{
    Direct, Reason, WorkerId,
    control::FromAgent,
    frame::{self, Header, Kind, flags, to_of},
    planted::{self, Fault},
};
use std::sync::Arc;

impl Router {
    /// A message waits for a name.
    pub(super) fn hold(&mut self, name: &str, frame: BytesMut) {
        let was = to_of(&frame).unwrap_or(Direct::NONE);
        self.put_aside(name, (frame, was), (Turn::Last, false));
    }

    /// A message waits for the next instance of a name, since what was known of it is wrong.
    /// It was sent to that place.
    pub(super) fn hold_for_another(&mut self, name: &str, frame: BytesMut, was: Direct, turn: Turn) {
        self.put_aside(name, (frame, was), (turn, true));
    }

    fn put_aside(&mut self, name: &str, (frame, was): (BytesMut, Direct), (turn, stale): (Turn, bool)) {
        let Ok((header, _)) = Header::read(&frame) else { return };
        // A fence stays behind what it follows, also where that starts the actor.
        let starts = header.has(flags::STARTS) && header.kind != Kind::Signal
            || header.has(flags::FENCE) && self.holds.starts(name);
        match self.holds.push(name, (frame, was), (turn == Turn::First, starts), self.now) {
            Ok(Asking::Ask) => self.events.push(Event::Missed { name: name.into(), starts, stale }),
            Ok(Asking::Asked) => {}
            Err(frame) => {
                let text = format!("{name}: too many messages wait for names that are being found or started");
                self.give_back(&frame, &Why::not_run(Reason::Full, text));
            }
        }
    }

    /// A name is there now: what waited for it goes on, in order, and its senders learn the place.
    pub(crate) fn resolved(&mut self, name: &Arc<str>, known: Known) {
        self.table.learn(name, known);
        let mut senders: Vec<WorkerId> = Vec::new();
        for held in self.holds.release(name) {
            if let Some(Origin::Process(sender)) = self.go_on(name, known, held)
                && !senders.contains(&sender)
            {
                senders.push(sender);
            }
        }
        senders.into_iter().for_each(|process| self.tell_where(process, name, known));
    }

    /// What waited for a name goes there, or back; answers where it came from.
    fn go_on(&mut self, name: &str, known: Known, mut held: Held) -> Option<Origin> {
        if let Err(why) = self.age(&mut held) {
            self.give_up((&held.frame, held.was), &why);
            return None;
        }
        let (header, _) = Header::read(&held.frame).ok()?;
        let origin = self.origin_of(header.from);
        if matches!(origin, Origin::Peer(_)) && self.sends_back(&header, held.was, known) {
            self.bounced.add(&header, held.was);
            frame::set_to(&mut held.frame, held.was, 0);
            self.bounce(held.frame, &format!("{name} is at {} now", known.place));
            return None;
        }
        self.follow(&header, held.was, known.place);
        frame::set_to(&mut held.frame, known.place, known.epoch);
        self.deliver(origin, &Header { to: known.place, to_epoch: known.epoch, ..header }, held.frame);
        Some(origin)
    }

    /// Where a message of that sender has come from; it may be gone since.
    fn origin_of(&self, sender: Direct) -> Origin {
        match self.table.route(sender) {
            Route::Process(process) | Route::Stopping(process) => Origin::Process(process),
            Route::Peer(node) => Origin::Peer(node),
            Route::Troupe | Route::Nobody(_) if self.is_of_this_start(sender) => Origin::Agent,
            Route::Troupe | Route::Nobody(_) => Origin::Peer(sender.node),
        }
    }

    /// What waited for a name goes back to its sender.
    pub(super) fn give_up(&mut self, (frame, was): (&[u8], Direct), why: &Why) {
        if let Ok((header, _)) = Header::read(frame)
            && header.has(flags::FENCE)
        {
            self.follow(&header, was, Direct::NONE);
        }
        self.give_back(frame, why);
    }

    /// A message that waited goes on to a place, or a fence by the name has nowhere to go: what comes back from now on of
    /// what was before it comes too late.
    pub(super) fn follow(&mut self, header: &Header, was: Direct, place: Direct) {
        if !self.is_of_this_start(header.from) || header.has(flags::TROUPE) {
            return;
        }
        if header.has(flags::FENCE) {
            self.written_off.fence(header, (place, was.is_none()), self.now);
        } else {
            self.written_off.sent_on(header, place, self.now);
        }
    }

    /// Whether another agent's message goes back there, as its receiver is elsewhere.
    fn sends_back(&self, header: &Header, was: Direct, known: Known) -> bool {
        let elsewhere = !was.is_none() && was != known.place || matches!(self.table.route(known.place), Route::Peer(_));
        elsewhere && header.kind != Kind::Signal && !planted::is(Fault::ForwardInsteadOfBounce)
    }

    /// The name is nobody's: what waited for it goes back. `was_start` if its start was asked for.
    pub(crate) fn missing(&mut self, name: &str, was_start: bool, why: &Why) {
        for held in self.holds.release_for_missing(name, was_start) {
            self.give_up((&held.frame, held.was), why);
        }
    }

    /// That grant of the name is over; its messages wait from now on.
    pub(crate) fn unresolved(&mut self, name: &Arc<str>, epoch: u64) {
        self.table.forget(name, epoch);
        if let Some((_, processes)) = self.told.remove(name) {
            let message = FromAgent::Unresolved { name: name.clone(), epoch };
            processes.iter().for_each(|process| self.control(*process, &message));
        }
    }

    /// What has waited too long goes back; asks that nobody waits for any more are forgotten.
    pub(crate) fn tick(&mut self) {
        for (name, held) in self.holds.expire(self.now) {
            let text =
                format!("{name}: it was not found and not started within 10 s: see `odeon names` and the agent's log");
            self.give_up((&held.frame, held.was), &Why::not_run(Reason::Unreachable, text));
        }
        for of in self.asks.expire(self.now) {
            self.troupes.ask_ended(of);
        }
        let now = self.now;
        self.written_off.tick(now);
        self.processes.values_mut().for_each(|process| process.look_at_large(now));
        self.weigh();
        self.metrics.asks_open.set(self.asks.len() as u64);
        self.metrics.held.set(self.holds.len() as u64);
        self.metrics.held_bytes.set(self.holds.bytes() as u64);
    }

    /// A process is told where a name is. Not so of a troupe, whose member this agent chooses for each message.
    pub(super) fn tell_where(&mut self, process: WorkerId, name: &Arc<str>, known: Known) {
        if known.place.serial.is_troupe() {
            return;
        }
        let (epoch, told) = self.told.entry(name.clone()).or_default();
        if *epoch != known.epoch {
            *epoch = known.epoch;
            told.clear();
        }
        if !told.contains(&process) {
            told.push(process);
            let message = FromAgent::Resolved { name: name.clone(), place: known.place, epoch: known.epoch };
            self.control(process, &message);
        }
    }

    /// Takes the waiting off the time that is left.
    pub(super) fn age(&self, held: &mut Held) -> Result<(), Why> {
        let Ok((header, _)) = Header::read(&held.frame) else { return Ok(()) };
        if header.remaining_ms == 0 {
            return Ok(());
        }
        let waited = u32::try_from(self.now.since(held.since).as_millis()).unwrap_or(u32::MAX);
        let left = header.remaining_ms.saturating_sub(waited);
        if left == 0 {
            return Err(Why::not_run(Reason::Deadline, "the time ran out while its name was being found or started"));
        }
        held.frame[12..16].copy_from_slice(&left.to_le_bytes());
        Ok(())
    }
}
