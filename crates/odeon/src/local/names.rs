//! Global names within one process.
//!
//! - **N-1.** A name has at most one cell whose mailbox is open.
//! - **N-2.** What arrives while there is none, but will be one, is held in order and given to the next cell before
//!   anybody can reach that cell directly.

use super::{Declaration, nobody, push, sleeps, troupe::Troupe};
use crate::{
    core::{
        AnyCell, Envelope,
        cell::{self, Birth, Extra, Identity},
        clock,
        restarts::Restarts,
        timers::Later,
    },
    error::{Error, Result},
    outside::Sent,
    system::Inner,
};
use odeon_protocol::{Address, Direct, ExitCause, Serial, control::Placed};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
    time::SystemTime,
};

/// All names.
pub(super) struct Names {
    table: Arc<Mutex<Table>>,
    epoch: Arc<AtomicU64>,
    blocks: AtomicU64,
}

impl Default for Names {
    /// Epochs guard what outlives the process: a later process must not begin below them. Nobody grants a million names
    /// a second for long, so the time in microseconds is ahead of all that were granted before.
    fn default() -> Self {
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros() as u64);
        Self { table: Arc::default(), epoch: Arc::new(AtomicU64::new(now)), blocks: AtomicU64::default() }
    }
}

#[derive(Default)]
struct Table {
    names: HashMap<Arc<str>, Name>,
    /// No bearer is started any more.
    closed: bool,
}

struct Name {
    declaration: Declaration,
    state: State,
    held: VecDeque<Held>,
    /// Senders that wait for room among what is held.
    waiters: Vec<Waker>,
    /// A bearer has lived, so a failing start does not free the name.
    proven: bool,
    /// Somebody created the name anew while the last bearer stopped.
    wanted: bool,
    /// Asked to end while it started; whether at once.
    ending: Option<bool>,
    restarts: Restarts,
}

enum State {
    Starting,
    Live(Arc<dyn AnyCell>),
    Troupe(Arc<Troupe>),
    Stopping,
    Dormant,
}

struct Held {
    envelope: Envelope,
    /// Its sender's reference starts the actor where there is none.
    starts: bool,
}

impl Name {
    fn new(declaration: Declaration) -> Self {
        Self {
            declaration,
            state: State::Starting,
            held: VecDeque::new(),
            waiters: Vec::new(),
            proven: false,
            wanted: false,
            ending: None,
            restarts: Restarts::default(),
        }
    }

    fn address(&self, name: &Arc<str>) -> Address {
        let (hint, epoch) = match &self.state {
            State::Live(cell) => {
                (cell.head().place(), cell.head().identity.as_ref().map_or(0, |identity| identity.epoch))
            }
            _ => (Direct::NONE, 0),
        };
        Address::Named { name: name.clone(), starts: false, hint, epoch }
    }

    fn hold(&mut self, envelope: Envelope, starts: bool, force: bool, waker: Option<&Waker>) -> Sent {
        if self.held.len() >= self.declaration.kind.options.mailbox && !force {
            self.waiters.extend(waker.cloned());
            return Sent::Full(envelope);
        }
        self.held.push_back(Held { envelope, starts });
        Sent::Accepted
    }
}

/// Messages to be given back, and senders to be woken, once the table is unlocked.
#[derive(Default)]
struct Aftermath {
    back: Vec<Envelope>,
    woken: Vec<Waker>,
}

impl Aftermath {
    fn of(name: &mut Name) -> Self {
        Self { back: name.held.drain(..).map(|held| held.envelope).collect(), woken: mem::take(&mut name.waiters) }
    }

    fn settle(self, system: &Arc<Inner>, name: &Arc<str>, error: &Error) {
        for envelope in self.back {
            system.give_back(Address::named(name.clone(), false), envelope, error);
        }
        self.woken.into_iter().for_each(Waker::wake);
    }
}

impl Names {
    pub(super) fn next_block(&self) -> u64 {
        self.blocks.fetch_add(1, Ordering::Relaxed) + 2
    }

    pub(super) fn local(&self, name: &Arc<str>) -> Option<Arc<dyn AnyCell>> {
        match &self.table.lock().names.get(name)?.state {
            State::Live(cell) => Some(cell.clone()),
            _ => None,
        }
    }

    pub(super) fn troupe(&self, serial: Serial) -> Option<Arc<Troupe>> {
        let table = self.table.lock();
        table.names.values().find_map(|name| match &name.state {
            State::Troupe(troupe) if troupe.serial == serial => Some(troupe.clone()),
            _ => None,
        })
    }

    pub(super) fn find(&self, name: &Arc<str>) -> Option<Address> {
        self.table.lock().names.get(name).map(|found| found.address(name))
    }

    pub(super) fn send(
        &self,
        system: &Arc<Inner>,
        (name, starts): (&Arc<str>, bool),
        message: (Envelope, bool),
        waker: Option<&Waker>,
    ) -> Sent {
        let (mut envelope, force) = message;
        loop {
            let mut table = self.table.lock();
            let closed = table.closed;
            let Some(found) = table.names.get_mut(name) else {
                if !starts || closed {
                    return Sent::Refused(nobody(name), envelope);
                }
                let declaration = match Declaration::by_key(system, name) {
                    Ok(declaration) => declaration,
                    Err(error) => return Sent::Refused(error, envelope),
                };
                let mut made = Name::new(declaration);
                let sent = made.hold(envelope, starts, true, None);
                table.names.insert(name.clone(), made);
                drop(table);
                self.start(system, name);
                return sent;
            };
            match &found.state {
                State::Live(cell) => {
                    let cell = cell.clone();
                    drop(table);
                    match push(&cell, envelope, force, waker) {
                        Ok(sent) => return sent,
                        // It has just begun to stop; the table says so by now.
                        Err(back) => envelope = back,
                    }
                }
                State::Troupe(troupe) => {
                    let troupe = troupe.clone();
                    drop(table);
                    return troupe.send(system, envelope, force, waker);
                }
                State::Starting | State::Stopping => return found.hold(envelope, starts, force, waker),
                State::Dormant if closed => return Sent::Refused(nobody(name), envelope),
                State::Dormant => {
                    let sent = found.hold(envelope, starts, true, None);
                    found.state = State::Starting;
                    drop(table);
                    self.start(system, name);
                    return sent;
                }
            }
        }
    }

    pub(super) fn create(&self, system: &Arc<Inner>, name: &Arc<str>, declaration: Declaration) -> Result<Placed> {
        let mut table = self.table.lock();
        if table.closed {
            return Err(Error::ActorStopped { text: "the system is stopping".to_owned(), may_have_run: false });
        }
        let mut created = true;
        let mut start = true;
        let found = table.names.entry(name.clone()).or_insert_with(|| Name::new(declaration.clone()));
        if found.declaration.kind.name != declaration.kind.name {
            let text = format!("the global name {name} is borne by {}", found.declaration.kind.name);
            return Err(Error::Unsupported(text));
        }
        match found.state {
            State::Live(_) | State::Troupe(_) => (created, start) = (false, false),
            // New by the line above, or started by somebody else: `started` tells.
            State::Starting if found.proven || found.wanted || !found.held.is_empty() => {
                (created, start) = (false, false)
            }
            State::Starting => found.wanted = true,
            State::Stopping => {
                found.declaration = declaration;
                found.wanted = true;
                start = false;
            }
            State::Dormant => {
                found.declaration = declaration;
                found.state = State::Starting;
            }
        }
        let host = system.host.clone();
        if !start {
            return Ok(Placed { address: found.address(name), created, host });
        }
        drop(table);
        self.start(system, name);
        let address = self.find(name).unwrap_or_else(|| Address::named(name.clone(), false));
        Ok(Placed { address, created, host })
    }

    fn start(&self, system: &Arc<Inner>, name: &Arc<str>) {
        start(&self.table, &self.epoch, system, name);
    }

    pub(super) fn end(&self, name: &Arc<str>, kill: bool) {
        let mut table = self.table.lock();
        let Some(found) = table.names.get_mut(name) else { return };
        match &found.state {
            State::Live(cell) => {
                let cell = cell.clone();
                drop(table);
                cell::end(&cell, kill);
            }
            State::Troupe(troupe) => {
                let troupe = troupe.clone();
                table.names.remove(name);
                drop(table);
                troupe.end(kill);
            }
            State::Starting => found.ending = Some(kill),
            State::Stopping | State::Dormant => {}
        }
    }

    pub(super) fn stopping(&self, name: &Arc<str>, cell: &Arc<dyn AnyCell>, close: &mut dyn FnMut() -> Vec<Envelope>) {
        let mut table = self.table.lock();
        let Some(found) = table.names.get_mut(name) else {
            drop(table);
            drop(close());
            return;
        };
        found.state = State::Stopping;
        // Closed under the table's lock: whoever finds the mailbox closed finds the name stopping (N-2).
        let held = close().into_iter().map(|envelope| Held { envelope, starts: false });
        found.held.extend(held);
        drop(table);
        tracing::trace!(actor = %cell.head().label(), "the bearer of a name stops");
    }

    /// Whether the end is final.
    pub(super) fn ended(
        &self,
        name: &Arc<str>,
        cell: &Arc<dyn AnyCell>,
        cause: &ExitCause,
        failure: Option<&Error>,
    ) -> bool {
        let system = &cell.head().system;
        let mut table = self.table.lock();
        let closed = table.closed;
        let Some(found) = table.names.get_mut(name) else { return true };
        found.proven |= failure.is_none();
        let failed = matches!(cause, ExitCause::Panicked(_) | ExitCause::Failed(_));
        let rest = (failed && !closed).then(|| found.restarts.allow(found.declaration.policy.restart, clock::fine()));
        if let Some(rest) = rest.flatten() {
            found.state = State::Starting;
            drop(table);
            self.start_after(system, name, rest);
            return false;
        }
        let error = failure
            .cloned()
            .unwrap_or_else(|| Error::ActorStopped { text: format!("{name}: {cause}"), may_have_run: false });
        let forget = matches!(failure, Some(Error::NotFound)) || (failure.is_some() && !found.proven);
        let stays = sleeps(&found.declaration.policy) && !forget;
        let wanted = mem::take(&mut found.wanted);
        let asked_for = found.held.iter().any(|held| stays || held.starts);
        let mut aftermath = Aftermath::default();
        if failure.is_none() && !closed && (wanted || asked_for) {
            let (kept, back): (VecDeque<_>, VecDeque<_>) = found.held.drain(..).partition(|held| stays || held.starts);
            found.held = kept;
            aftermath.back = back.into_iter().map(|held| held.envelope).collect();
            found.state = State::Starting;
            drop(table);
            aftermath.settle(system, name, &error);
            self.start(system, name);
            return true;
        }
        if failure.is_some() || closed || !stays {
            aftermath = Aftermath::of(found);
        }
        if stays {
            found.state = State::Dormant;
        } else {
            table.names.remove(name);
        }
        drop(table);
        aftermath.settle(system, name, &error);
        true
    }

    fn start_after(&self, system: &Arc<Inner>, name: &Arc<str>, rest: u64) {
        system.counters.restarts.fetch_add(1, Ordering::Relaxed);
        tracing::info!(global_name = %name, rest_ms = rest / 1_000_000, "an actor is started again");
        let (table, epoch, name, weak) = (self.table.clone(), self.epoch.clone(), name.clone(), Arc::downgrade(system));
        let later = Later::new(move || {
            if let Some(system) = weak.upgrade() {
                start(&table, &epoch, &system, &name);
            }
        });
        system.timers.arm(clock::fine() + rest, later);
    }

    pub(super) fn close(&self) {
        let mut table = self.table.lock();
        table.closed = true;
        for name in table.names.values() {
            if let State::Troupe(troupe) = &name.state {
                troupe.close();
            }
        }
    }
}

/// Makes a bearer for a name whose state is `Starting`; only the one who set that calls this.
fn start(table: &Mutex<Table>, epoch: &AtomicU64, system: &Arc<Inner>, name: &Arc<str>) {
    let Some(declaration) = table.lock().names.get(name).map(|found| found.declaration.clone()) else { return };
    let made = if declaration.policy.troupe.is_some() {
        Troupe::start(system, declaration, Some(name.clone())).map(State::Troupe)
    } else {
        make(epoch, system, name, &declaration).map(State::Live)
    };
    let mut locked = table.lock();
    let Some(found) = locked.names.get_mut(name) else { return };
    let admitted = made.and_then(|state| {
        if let State::Live(cell) = &state {
            system.admit(cell.clone())?;
        }
        Ok(state)
    });
    match admitted {
        Ok(state) => {
            let back = hand_over(system, found, &state);
            found.state = state;
            found.wanted = false;
            let ending = found.ending.take();
            let woken = mem::take(&mut found.waiters);
            let cell = if let State::Live(cell) = &found.state { Some(cell.clone()) } else { None };
            drop(locked);
            for (envelope, error) in back {
                system.give_back(Address::named(name.clone(), false), envelope, &error);
            }
            woken.into_iter().for_each(Waker::wake);
            if let (Some(cell), Some(kill)) = (cell, ending) {
                cell::end(&cell, kill);
            }
        }
        Err(error) => {
            let aftermath = Aftermath::of(found);
            if found.proven && sleeps(&found.declaration.policy) {
                found.state = State::Dormant;
            } else {
                locked.names.remove(name);
            }
            drop(locked);
            aftermath.settle(system, name, &error);
        }
    }
}

fn make(
    epoch: &AtomicU64,
    system: &Arc<Inner>,
    name: &Arc<str>,
    declaration: &Declaration,
) -> Result<Arc<dyn AnyCell>> {
    let identity = Identity { name: name.clone(), epoch: epoch.fetch_add(1, Ordering::Relaxed) + 1 };
    let birth = Birth {
        serial: system.next_serial()?,
        parent: declaration.parent,
        identity: Some(Box::new(identity)),
        recorded: true,
        extra: Some(Box::new(Extra::default())),
    };
    declaration.make(system, birth)
}

/// Gives what was held to the new bearer, in order; answers what it does not take.
fn hand_over(system: &Arc<Inner>, name: &mut Name, bearer: &State) -> Vec<(Envelope, Error)> {
    let mut back = Vec::new();
    for Held { envelope, .. } in name.held.drain(..) {
        let sent = match bearer {
            State::Live(cell) => match push(cell, envelope, true, None) {
                Ok(sent) => sent,
                Err(envelope) => Sent::Refused(nobody(""), envelope),
            },
            State::Troupe(troupe) => troupe.send(system, envelope, true, None),
            State::Starting | State::Stopping | State::Dormant => return back,
        };
        match sent {
            Sent::Accepted => {}
            Sent::Full(envelope) => back.push((envelope, Error::Full(String::new()))),
            Sent::Refused(error, envelope) => back.push((envelope, error)),
        }
    }
    back
}
