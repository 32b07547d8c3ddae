//! Troupes within one process: members on demand, the least loaded one takes the message.

use super::Declaration;
use crate::{
    core::{
        AnyCell, Envelope,
        cell::{self, Birth, Extra},
        clock,
        timers::Later,
    },
    error::{Error, Result},
    outside::Sent,
    system::Inner,
};
use odeon_cluster::troupe::{RETIRE_AFTER, TroupeMember, grow, pick, retire};
use odeon_protocol::{Serial, Time, control};
use parking_lot::Mutex;
use std::{
    mem,
    sync::{Arc, Weak},
    task::Waker,
};

/// A troupe of this process.
pub(super) struct Troupe {
    pub(super) serial: Serial,
    size: control::Troupe,
    declaration: Declaration,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    members: Vec<Member>,
    /// Ends; takes nothing more.
    closed: bool,
    /// A look for members to retire is due.
    watched: bool,
    turn: u64,
}

struct Member {
    cell: Arc<dyn AnyCell>,
    /// When it got its last message.
    used: u64,
}

impl Troupe {
    /// A troupe with its first member, whose start shows whether any will.
    pub(super) fn start(system: &Arc<Inner>, declaration: Declaration, name: Option<Arc<str>>) -> Result<Arc<Self>> {
        let size = declaration.policy.troupe.unwrap_or(control::Troupe { max: 1, idle: 1 });
        let troupe = Arc::new(Self { serial: system.next_serial()?, size, declaration, inside: Mutex::default() });
        let first = troupe.member(system)?;
        troupe.inside.lock().members.push(first);
        tracing::debug!(actor = troupe.declaration.kind.name, global_name = ?name, max = size.max, "a troupe");
        Ok(troupe)
    }

    fn member(&self, system: &Arc<Inner>) -> Result<Member> {
        let extra = Extra { troupe: Some(system.place(self.serial)), ..Extra::default() };
        let birth =
            Birth { serial: system.next_serial()?, recorded: true, extra: Some(Box::new(extra)), ..Birth::default() };
        let cell = self.declaration.make(system, birth)?;
        system.admit(cell.clone())?;
        Ok(Member { cell, used: clock::coarse() })
    }

    /// Gives a message to the least loaded member; starts one more where all are busy.
    pub(super) fn send(
        self: &Arc<Self>,
        system: &Arc<Inner>,
        envelope: Envelope,
        force: bool,
        waker: Option<&Waker>,
    ) -> Sent {
        let mut envelope = envelope;
        loop {
            let cell = match self.pick(system) {
                Ok(cell) => cell,
                Err(error) => return Sent::Refused(error, envelope),
            };
            match super::push(&cell, envelope, force, waker) {
                Ok(sent) => return sent,
                // It retires just now; it is no member any more, or will not be in a moment.
                Err(back) => envelope = back,
            }
            self.inside.lock().members.retain(|member| !Arc::ptr_eq(&member.cell, &cell));
        }
    }

    fn pick(self: &Arc<Self>, system: &Arc<Inner>) -> Result<Arc<dyn AnyCell>> {
        let mut inside = self.inside.lock();
        if inside.closed {
            return Err(Error::NoSuchActor(format!("a troupe of {}, which has ended", self.declaration.kind.name)));
        }
        let now = clock::coarse();
        let seen = inside.seen(now);
        for _ in 0..grow(self.size, &seen, 0, 1) {
            match self.member(system) {
                Ok(member) => inside.members.push(member),
                Err(error) if inside.members.is_empty() => return Err(error),
                Err(error) => tracing::warn!(actor = self.declaration.kind.name, %error, "a troupe cannot grow"),
            }
        }
        inside.turn += 1;
        let place = pick(&inside.seen(now), system.place(self.serial).node, inside.turn);
        let watch = inside.members.len() > self.size.idle.max(1) as usize && !mem::replace(&mut inside.watched, true);
        let member = inside.members.iter_mut().find(|member| Some(member.cell.head().place()) == place);
        let Some(member) = member else { return Err(Error::NoSuchActor("a troupe without members".to_owned())) };
        member.used = now;
        let cell = member.cell.clone();
        if watch {
            self.watch(system);
        }
        Ok(cell)
    }

    /// Looks for members to retire, for as long as there are more than stay.
    fn watch(self: &Arc<Self>, system: &Arc<Inner>) {
        let (troupe, weak): (Weak<Self>, Weak<Inner>) = (Arc::downgrade(self), Arc::downgrade(system));
        let look = Later::new(move || {
            if let (Some(troupe), Some(system)) = (troupe.upgrade(), weak.upgrade()) {
                troupe.retire_idle(&system);
            }
        });
        system.timers.arm(clock::fine() + clock::nanos(RETIRE_AFTER), look);
    }

    fn retire_idle(self: &Arc<Self>, system: &Arc<Inner>) {
        let now = clock::coarse();
        let mut inside = self.inside.lock();
        let retiring = retire(self.size, &inside.seen(now), Time::from_nanos(now));
        let (going, staying): (Vec<_>, Vec<_>) = mem::take(&mut inside.members)
            .into_iter()
            .partition(|member| retiring.contains(&member.cell.head().place()));
        inside.members = staying;
        inside.watched = inside.members.len() > self.size.idle.max(1) as usize && !inside.closed;
        let watch = inside.watched;
        drop(inside);
        going.iter().for_each(|member| cell::end(&member.cell, false));
        if watch {
            self.watch(system);
        }
    }

    /// A member stops: what it has left goes to others, or comes back where there are none.
    pub(super) fn stopping(
        self: &Arc<Self>,
        cell: &Arc<dyn AnyCell>,
        close: &mut dyn FnMut() -> Vec<Envelope>,
    ) -> Vec<Envelope> {
        self.inside.lock().members.retain(|member| !Arc::ptr_eq(&member.cell, cell));
        let mut back = Vec::new();
        for envelope in close() {
            match self.send(&cell.head().system, envelope, true, None) {
                Sent::Accepted => {}
                Sent::Full(envelope) | Sent::Refused(_, envelope) => back.push(envelope),
            }
        }
        back
    }

    /// Takes no more messages.
    pub(super) fn close(&self) {
        self.inside.lock().closed = true;
    }

    /// Ends all members.
    pub(super) fn end(&self, kill: bool) {
        let members = {
            let mut inside = self.inside.lock();
            inside.closed = true;
            mem::take(&mut inside.members)
        };
        members.iter().for_each(|member| cell::end(&member.cell, kill));
    }
}

impl Inside {
    fn seen(&self, now: u64) -> Vec<TroupeMember> {
        let see = |member: &Member| {
            let (waiting, busy) = member.cell.head().load();
            let queue = waiting as u64 + u64::from(busy);
            let idle_since = (queue == 0).then(|| Time::from_nanos(member.used.min(now)));
            TroupeMember { place: member.cell.head().place(), queue, idle_since }
        };
        self.members.iter().map(see).collect()
    }
}
