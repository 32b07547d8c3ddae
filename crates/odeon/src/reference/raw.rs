//! A reference without its actor's type: where messages go.

use crate::{
    actor::Handler,
    core::{AnyCell, Entry, Envelope, cell, current},
    error::{Error, Result},
    message::Message,
    outside::{Outgoing, Sent},
    sending::Call,
    system::Inner,
};
use odeon_protocol::{Address, Direct};
use parking_lot::RwLock;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
    task::Waker,
};

/// A reference without a type, which generated [`Calls`](crate::Calls) wrap.
#[derive(Clone)]
pub struct RawRef {
    target: Target,
}

#[derive(Clone)]
enum Target {
    /// A nameless actor of this process.
    Cell(Arc<dyn AnyCell>),
    /// Anybody else.
    Far(Arc<Far>),
    /// Decoded outside any system.
    Unbound(Arc<Address>),
}

/// A name, a troupe, or an actor elsewhere.
struct Far {
    system: Arc<Inner>,
    address: Address,
    /// The cell of the name, once every sender of this process may push to it.
    cached: RwLock<Option<Arc<dyn AnyCell>>>,
}

/// Who is referred to: what `Eq` and `Hash` go by.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Place(Direct),
    Name(&'a str),
    Troupe(Direct),
}

/// Why a message stays with its sender.
pub(crate) enum Kept {
    /// There is no room now; for a cell of this process, that cell.
    Full(Envelope, Option<Arc<dyn AnyCell>>),
    /// It cannot be sent.
    Refused(Error, Envelope),
}

/// A place among those who wait for room.
pub(crate) type WaitKey<'a> = (&'a mut Option<u64>, &'a Waker);

impl RawRef {
    /// A reference to a cell of this process.
    pub(crate) fn of_cell(cell: Arc<dyn AnyCell>) -> Self {
        let Some(identity) = &cell.head().identity else { return Self { target: Target::Cell(cell) } };
        let address = Address::Named {
            name: identity.name.clone(),
            starts: false,
            hint: cell.head().place(),
            epoch: identity.epoch,
        };
        let system = cell.head().system.clone();
        Self { target: Target::Far(Arc::new(Far { system, address, cached: RwLock::new(Some(cell)) })) }
    }

    /// A reference to an address, as seen from a system.
    pub(crate) fn bound(system: &Arc<Inner>, address: Address) -> Self {
        if let Address::Direct(place) = &address
            && system.is_mine(*place)
            && let Some(cell) = system.registry.get(place.serial)
            && cell.head().identity.is_none()
        {
            return Self { target: Target::Cell(cell) };
        }
        Self { target: Target::Far(Arc::new(Far { system: system.clone(), address, cached: RwLock::new(None) })) }
    }

    /// A reference to an address that belongs to no system yet.
    pub(crate) fn unbound(address: Address) -> Self {
        Self { target: Target::Unbound(Arc::new(address)) }
    }

    /// Bound to the system whose code this thread runs, if it runs any.
    fn decoded(address: Address) -> Self {
        match current::system() {
            Some(system) => Self::bound(&system, address),
            None => Self::unbound(address),
        }
    }

    /// Whether a message starts the name's actor where there is none.
    pub(crate) fn starts(&self) -> bool {
        matches!(&self.target, Target::Far(far) if matches!(far.address, Address::Named { starts: true, .. }))
    }

    /// The actor's address, as it travels.
    #[must_use]
    pub fn address(&self) -> Address {
        match &self.target {
            Target::Cell(cell) => Address::Direct(cell.head().place()),
            Target::Far(far) => far.address.clone(),
            Target::Unbound(address) => (**address).clone(),
        }
    }

    /// A message for the actor, to be told or asked: what generated methods return.
    pub fn call<A: Handler<M>, M: Message>(&self, message: M) -> Call<A, M> {
        Call::new(self.clone(), message)
    }

    pub(crate) fn system(&self) -> Option<&Arc<Inner>> {
        match &self.target {
            Target::Cell(cell) => Some(&cell.head().system),
            Target::Far(far) => Some(&far.system),
            Target::Unbound(_) => None,
        }
    }

    pub(super) fn name(&self) -> Option<&str> {
        match self.key() {
            Key::Name(name) => Some(name),
            Key::Place(_) | Key::Troupe(_) => None,
        }
    }

    fn key(&self) -> Key<'_> {
        let address = match &self.target {
            Target::Cell(cell) => return Key::Place(cell.head().place()),
            Target::Far(far) => &far.address,
            Target::Unbound(address) => &**address,
        };
        match address {
            Address::Direct(place) => Key::Place(*place),
            Address::Named { name, .. } => Key::Name(name),
            Address::Troupe(place) => Key::Troupe(*place),
        }
    }

    /// Where the actor is, as far as this process knows without asking.
    pub(crate) fn place(&self) -> Option<Direct> {
        match &self.target {
            Target::Cell(cell) => Some(cell.head().place()),
            Target::Far(far) => match &far.address {
                Address::Direct(place) => Some(*place),
                Address::Named { hint, .. } => far.cell().map(|cell| cell.head().place()).or_else(|| hint.some()),
                Address::Troupe(_) => None,
            },
            Target::Unbound(_) => None,
        }
    }

    /// Sends a message there, or gives it back. Where the sender must rest, it waits like for room: woken at once, it rests
    /// before it tries again.
    pub(crate) fn push(&self, envelope: Envelope, force: bool, waiting: Option<WaitKey<'_>>) -> Result<(), Kept> {
        if let Some(fenced) = current::fenced(false) {
            let Some((_, waker)) = waiting else { return Err(Kept::Refused(fenced, envelope)) };
            waker.wake_by_ref();
            return Err(Kept::Full(envelope, None));
        }
        match &self.target {
            Target::Cell(cell) => push_cell(cell, envelope, force, waiting).or_else(|kept| match kept {
                Missed::Kept(kept) => Err(kept),
                Missed::Closed(envelope) => {
                    // The actor is gone, or has moved: what is outside knows which.
                    let address = Address::Direct(cell.head().place());
                    send(&cell.head().system, address, envelope, force, None)
                }
            }),
            Target::Far(far) => far.push(envelope, force, waiting),
            Target::Unbound(address) => {
                let text = format!("{address} was decoded outside any system; bind it with `system.bind(&reference)`");
                Err(Kept::Refused(Error::Unbound(text), envelope))
            }
        }
    }

    /// Stops or kills the actor.
    pub(crate) fn end(&self, kill: bool) {
        match &self.target {
            Target::Cell(cell) => cell::end(cell, kill),
            Target::Far(far) => match far.cell() {
                Some(cell) => cell::end(&cell, kill),
                None => far.system.outside().end(far.address.clone(), kill),
            },
            Target::Unbound(_) => {}
        }
    }
}

enum Missed {
    Kept(Kept),
    Closed(Envelope),
}

fn push_cell(
    cell: &Arc<dyn AnyCell>,
    envelope: Envelope,
    force: bool,
    waiting: Option<WaitKey<'_>>,
) -> Result<(), Missed> {
    use cell::NotTaken;
    let to_itself =
        matches!(envelope.origin, crate::core::Origin::Local(sender) if sender.serial() == cell.head().serial);
    let message = |entry| match entry {
        Entry::Message(envelope) => envelope,
        _ => unreachable!("a message was pushed"),
    };
    cell::push_or_wait(cell, Entry::Message(envelope), force || to_itself, waiting).map_err(|not_taken| match not_taken
    {
        NotTaken::Full(entry) => Missed::Kept(Kept::Full(message(entry), Some(cell.clone()))),
        NotTaken::Closed(entry) => Missed::Closed(message(entry)),
        NotTaken::Refused(refused) => Missed::Kept(Kept::Refused(refused.1, message(refused.0))),
    })
}

fn send(system: &Arc<Inner>, to: Address, envelope: Envelope, force: bool, waker: Option<&Waker>) -> Result<(), Kept> {
    match system.outside().send(Outgoing { to, envelope, force }, waker) {
        Sent::Accepted => Ok(()),
        Sent::Full(envelope) => Err(Kept::Full(envelope, None)),
        Sent::Refused(error, envelope) => Err(Kept::Refused(error, envelope)),
    }
}

impl Far {
    /// The cell of the name, from the cache or from outside.
    fn cell(&self) -> Option<Arc<dyn AnyCell>> {
        let name = self.address.name()?;
        if let Some(cell) = &*self.cached.read()
            && !cell.head().inbox.lock().closed
        {
            return Some(cell.clone());
        }
        self.system.outside().local(name)
    }

    fn push(&self, mut envelope: Envelope, force: bool, waiting: Option<WaitKey<'_>>) -> Result<(), Kept> {
        let (mut key, waker) = match waiting {
            Some((key, waker)) => (Some(key), Some(waker)),
            None => (None, None),
        };
        // Twice: what was cached may have stopped, and what was found may stop meanwhile; then outside holds the message.
        for _ in 0..2 {
            let cached = self.cached.read();
            let Some(cell) = &*cached else {
                drop(cached);
                let Some(cell) = self.address.name().and_then(|name| self.system.outside().local(name)) else { break };
                *self.cached.write() = Some(cell);
                continue;
            };
            match push_cell(cell, envelope, force, key.as_deref_mut().zip(waker)) {
                Ok(()) => return Ok(()),
                Err(Missed::Kept(kept)) => return Err(kept),
                Err(Missed::Closed(back)) => envelope = back,
            }
            drop(cached);
            *self.cached.write() = None;
        }
        send(&self.system, self.address.clone(), envelope, force, waker)
    }
}

impl PartialEq for RawRef {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for RawRef {}

impl Hash for RawRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Display for RawRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.address(), f)
    }
}

impl fmt::Debug for RawRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for RawRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&self.address())
        } else {
            self.address().serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for RawRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return text.parse().map(Self::decoded).map_err(serde::de::Error::custom);
        }
        Address::deserialize(deserializer).map(Self::decoded)
    }
}
