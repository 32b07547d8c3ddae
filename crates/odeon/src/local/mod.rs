//! A system on its own: global names, troupes and placement within one process.
//!
//! It is what an agent and its convention are to a worker, cut down to one host: the same rules for names (claim first,
//! then start; a failed start frees the name; what arrives while the bearer stops is held for the successor).

mod names;
mod troupe;

use crate::{
    core::{
        ActorType, AnyCell, Envelope,
        cell::{self, Birth, Extra},
    },
    error::{Error, Result},
    outside::{Answer, BoxFuture, Outgoing, Outside, Sent},
    system::Inner,
};
use names::Names;
use odeon_cluster::{
    capability::{self, Map},
    requirement::Requirement,
};
use odeon_protocol::{
    Address, DeadLetter, Direct, ExitCause, HostInfo, Reason, Serial,
    control::{OnStop, Placed, Policy, Refusal, Restart, Spec, Value, WireCodec},
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    future::ready,
    sync::{Arc, Weak},
    task::Waker,
};
use troupe::Troupe;

/// See the module's head.
pub(crate) struct Alone {
    system: Weak<Inner>,
    names: Names,
    troupes: Mutex<HashMap<Serial, Arc<Troupe>>>,
}

/// What an actor with a record is made from, again and again.
#[derive(Clone)]
struct Declaration {
    kind: &'static ActorType,
    args: Arc<[u8]>,
    codec: WireCodec,
    policy: Policy,
    parent: Serial,
}

impl Declaration {
    fn of(system: &Inner, spec: &Spec) -> Result<Self> {
        let kind = system.kind(&spec.type_name).ok_or_else(|| Error::NoSuchType(spec.type_name.to_string()))?;
        let policy = spec.policy.clone().unwrap_or_else(|| kind.policy());
        let parent = if system.is_mine(spec.parent) { spec.parent.serial } else { Serial::default() };
        Ok(Self { kind, args: spec.args.as_slice().into(), codec: spec.codec, policy, parent })
    }

    /// What a message that starts the bearer of a name declares.
    fn by_key(system: &Inner, name: &str) -> Result<Self> {
        let (type_name, key) = name.split_once('/').unwrap_or((name, ""));
        let kind = system.kind(type_name).ok_or_else(|| {
            Error::NoSuchType(format!("{type_name}, wanted by the global name {name}; register it with the system"))
        })?;
        let args = key.as_bytes().into();
        Ok(Self { kind, args, codec: WireCodec::Key, policy: kind.policy(), parent: Serial::default() })
    }

    fn make(&self, system: &Arc<Inner>, birth: Birth) -> Result<Arc<dyn AnyCell>> {
        self.kind.make(system, self.codec, &self.args, birth)
    }
}

impl Alone {
    pub(crate) fn new(system: &Arc<Inner>) -> Arc<Self> {
        Arc::new(Self { system: Arc::downgrade(system), names: Names::default(), troupes: Mutex::default() })
    }

    fn system(&self) -> Result<Arc<Inner>> {
        self.system
            .upgrade()
            .ok_or_else(|| Error::ActorStopped { text: "the system is gone".to_owned(), may_have_run: false })
    }

    /// Whether this host may run it.
    fn fits(&self, system: &Inner, spec: &Spec, policy: &Policy) -> Result {
        if let Some(host) = spec.on.as_deref().filter(|host| *host != system.host) {
            return Err(Error::NoHost(format!("{} is wanted on {host}, and this is {}", spec.type_name, system.host)));
        }
        if policy.requires.is_empty() {
            return Ok(());
        }
        let requirement: Requirement = policy.requires.parse().map_err(Error::other)?;
        match requirement.explain(&system.capabilities.read()) {
            None => Ok(()),
            Some(why) => Err(Error::NoHost(format!("{} requires {}: {why}", spec.type_name, policy.requires))),
        }
    }

    fn place(&self, spec: &Spec) -> Result<Placed> {
        let system = self.system()?;
        let declaration = Declaration::of(&system, spec)?;
        self.fits(&system, spec, &declaration.policy)?;
        match &spec.global_name {
            Some(name) => self.names.create(&system, name, declaration),
            None if declaration.policy.troupe.is_some() => {
                let troupe = Troupe::start(&system, declaration, None)?;
                let address = Address::Troupe(system.place(troupe.serial));
                self.troupes.lock().insert(troupe.serial, troupe);
                Ok(Placed { address, created: true, host: system.host.clone() })
            }
            None => {
                let cell = start_nameless(&system, &declaration)?;
                Ok(Placed { address: cell.head().address(), created: true, host: system.host.clone() })
            }
        }
    }

    fn troupe_of(&self, cell: &Arc<dyn AnyCell>) -> Option<Arc<Troupe>> {
        let place = cell.head().extra.lock().as_ref()?.troupe?;
        let unnamed = self.troupes.lock().get(&place.serial).cloned();
        unnamed.or_else(|| self.names.troupe(place.serial))
    }
}

fn start_nameless(system: &Arc<Inner>, declaration: &Declaration) -> Result<Arc<dyn AnyCell>> {
    let again = declaration.policy.restart != Restart::Never && declaration.codec == WireCodec::Postcard;
    let extra = again.then(|| {
        let policy = Some(Box::new(declaration.policy.clone()));
        Box::new(Extra { args: Some(declaration.args.clone()), policy, ..Extra::default() })
    });
    let birth = Birth { serial: system.next_serial()?, parent: declaration.parent, extra, ..Birth::default() };
    let cell = declaration.make(system, birth)?;
    system.admit(cell.clone())?;
    Ok(cell)
}

impl Outside for Alone {
    fn local(&self, name: &Arc<str>) -> Option<Arc<dyn AnyCell>> {
        self.names.local(name)
    }

    fn send(&self, message: Outgoing, waker: Option<&Waker>) -> Sent {
        let Outgoing { to, envelope, force } = message;
        let system = match self.system() {
            Ok(system) => system,
            Err(error) => return Sent::Refused(error, envelope),
        };
        match &to {
            Address::Named { name, starts, .. } => self.names.send(&system, (name, *starts), (envelope, force), waker),
            Address::Troupe(place) => {
                let found = self.troupes.lock().get(&place.serial).cloned().filter(|_| system.is_mine(*place));
                match found {
                    Some(troupe) => troupe.send(&system, envelope, force, waker),
                    None => Sent::Refused(Error::NoSuchActor(to.to_string()), envelope),
                }
            }
            Address::Direct(place) => match system.is_mine(*place).then(|| system.registry.get(place.serial)).flatten()
            {
                Some(cell) => push(&cell, envelope, force, waker)
                    .unwrap_or_else(|envelope| Sent::Refused(Error::NoSuchActor(to.to_string()), envelope)),
                None => Sent::Refused(Error::NoSuchActor(to.to_string()), envelope),
            },
        }
    }

    fn create(&self, spec: Spec) -> BoxFuture<'static, Result<Placed, Refusal>> {
        Box::pin(ready(self.place(&spec).map_err(Refusal::from)))
    }

    fn find(&self, name: Arc<str>) -> BoxFuture<'static, Result<Option<Placed>, Refusal>> {
        let host = self.system().map(|system| system.host.clone()).unwrap_or_default();
        Box::pin(ready(Ok(self.names.find(&name).map(|address| Placed { address, created: false, host }))))
    }

    fn end(&self, target: Address, kill: bool) {
        match &target {
            Address::Named { name, .. } => self.names.end(name, kill),
            Address::Direct(place) => {
                let system = self.system().ok().filter(|system| system.is_mine(*place));
                if let Some(cell) = system.and_then(|system| system.registry.get(place.serial)) {
                    cell::end(&cell, kill);
                }
            }
            Address::Troupe(place) => {
                let troupe = self.troupes.lock().remove(&place.serial);
                if let Some(troupe) = troupe {
                    troupe.end(kill);
                }
            }
        }
    }

    fn stopping(&self, cell: &Arc<dyn AnyCell>, close: &mut dyn FnMut() -> Vec<Envelope>) {
        if let Some(identity) = &cell.head().identity {
            self.names.stopping(&identity.name, cell, close);
            return;
        }
        let left = match self.troupe_of(cell) {
            Some(troupe) => troupe.stopping(cell, close),
            None => close(),
        };
        let error = Error::ActorStopped { text: cell.head().label(), may_have_run: false };
        for envelope in left {
            cell.head().system.give_back(cell.head().address(), envelope, &error);
        }
    }

    fn ended(&self, cell: &Arc<dyn AnyCell>, cause: &ExitCause, failure: Option<&Error>) -> bool {
        match &cell.head().identity {
            Some(identity) => self.names.ended(&identity.name.clone(), cell, cause, failure),
            None => true,
        }
    }

    fn listen(&self, listen: bool) {
        if let Ok(system) = self.system() {
            system.letters.want(listen);
        }
    }

    fn dead_letter(&self, letter: DeadLetter) -> bool {
        self.system().is_ok_and(|system| {
            system.letters.hear(&letter);
            true
        })
    }

    fn watch_hosts(&self) {
        if let Ok(system) = self.system() {
            tell_of_host(&system, &system.capabilities.read());
        }
    }

    fn change_capability(&self, key: String, value: Option<Value>) -> BoxFuture<'static, Result<(), Refusal>> {
        let changed = self.system().and_then(|system| {
            let mut capabilities = system.capabilities.write();
            change_capability(&mut capabilities, key, value)?;
            // Under the lock, so that changes are told in their order.
            tell_of_host(&system, &capabilities);
            Ok(())
        });
        Box::pin(ready(changed.map_err(Refusal::from)))
    }

    fn child_ended(&self, parent: Direct, child: Address, cause: &ExitCause) {
        tracing::debug!(%parent, %child, %cause, "the parent of an actor is in no process that is reached");
    }

    fn answer(&self, answer: Answer) {
        tracing::debug!(to = %answer.to, "an answer reaches nobody");
    }

    fn lease(&self) {
        if let Ok(system) = self.system() {
            system.add_block(self.names.next_block());
        }
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.names.close();
        self.troupes.lock().values().for_each(|troupe| troupe.close());
        Box::pin(ready(()))
    }
}

fn change_capability(capabilities: &mut Map, key: String, value: Option<Value>) -> Result {
    let Some(value) = value else {
        let gone = capabilities.remove(&key).map(drop);
        return gone.ok_or_else(|| Error::other(format!("{key:?}: this host has no such capability")));
    };
    let pairs = capabilities.clone().into_iter().chain([(key, value)]);
    *capabilities = capability::collect(pairs).map_err(Error::other)?;
    Ok(())
}

/// Tells whoever watches hosts of the only one.
fn tell_of_host(system: &Inner, capabilities: &Map) {
    let Direct { node, boot, .. } = system.place(Serial::default());
    let capabilities = capabilities.clone().into_iter().collect();
    system.hosts.here(HostInfo {
        node,
        boot,
        name: system.host.clone(),
        suspect: false,
        draining: false,
        capabilities,
    });
}

/// Pushes a message into a cell; it comes back where the mailbox is closed.
fn push(cell: &Arc<dyn AnyCell>, envelope: Envelope, force: bool, waker: Option<&Waker>) -> Result<Sent, Envelope> {
    use crate::core::{Entry, cell::NotTaken};
    let mut key = None;
    let waiting = waker.map(|waker| (&mut key, waker));
    let message = |entry| match entry {
        Entry::Message(envelope) => envelope,
        _ => unreachable!("a message was pushed"),
    };
    match cell::push_or_wait(cell, Entry::Message(envelope), force, waiting) {
        Ok(()) => Ok(Sent::Accepted),
        Err(NotTaken::Full(entry)) => Ok(Sent::Full(message(entry))),
        Err(NotTaken::Closed(entry)) => Err(message(entry)),
        Err(NotTaken::Refused(refused)) => Ok(Sent::Refused(refused.1, message(refused.0))),
    }
}

/// The refusal of a name that nobody bears.
fn nobody(name: &str) -> Error {
    Error::new(Reason::NoSuchActor, name)
}

/// Whether a stopped bearer of a name leaves the name dormant.
fn sleeps(policy: &Policy) -> bool {
    policy.on_stop == OnStop::Dormant
}
