//! A reply that is sent later.

use super::{
    clock, current,
    reply::{AnySlot, AskFacts, RemoteSlot, ReplyHandle},
};
use crate::{
    error::Error,
    schema::{Fingerprint, Schema},
    system::Inner,
};
use odeon_protocol::{Direct, frame::Codec};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use std::{
    any::TypeId,
    fmt,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The right to answer an ask later: keep it in the actor, give it to a task, or send it on in a message.
///
/// Dropped without an answer, the asker gets an error.
pub struct ReplyTo<R> {
    handle: ReplyHandle,
    /// Written as bytes: whoever reads them answers, not this one.
    away: AtomicBool,
    reply: PhantomData<fn(R)>,
}

impl<R: 'static> ReplyTo<R> {
    pub(crate) fn new(handle: ReplyHandle) -> Self {
        let of_another_type = handle.slot().is_some_and(|slot| slot.reply_type() != TypeId::of::<R>());
        if !of_another_type {
            return Self { handle, away: AtomicBool::new(false), reply: PhantomData };
        }
        let message = handle.slot().map_or("", |slot| slot.facts().message);
        handle.fail(Error::Handler(format!("{message} is not answered with {}", std::any::type_name::<R>())));
        Self::new(ReplyHandle::default())
    }

    /// Answers.
    pub fn send(mut self, reply: R)
    where
        R: Send,
    {
        std::mem::take(&mut self.handle).answer(reply);
    }

    /// Answers with an error: the asker gets [`Error::Handler`].
    pub fn fail(mut self, error: impl fmt::Display) {
        std::mem::take(&mut self.handle).fail(Error::Handler(error.to_string()));
    }
}

impl<R> ReplyTo<R> {
    /// Whether somebody waits for the answer. Nobody does where the message was told.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.handle.slot().is_some_and(|slot| slot.is_open())
    }
}

impl<R> Drop for ReplyTo<R> {
    fn drop(&mut self) {
        if *self.away.get_mut() {
            drop(self.handle.take());
        }
    }
}

impl<R> fmt::Debug for ReplyTo<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyTo").field("awaited", &self.is_awaited()).finish()
    }
}

impl<R: Serialize + DeserializeOwned + Send + 'static> Schema for ReplyTo<R> {
    const FINGERPRINT: u64 = Fingerprint::leaf("odeon reply-to");
}

/// The wire form of a right to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplyWire {
    /// The asker's agent and boot; nobody's where nobody waits.
    pub(crate) to: Direct,
    /// The asker's number for it.
    pub(crate) correlation: u64,
    /// Whether the reply is to be JSON.
    pub(crate) json: bool,
    /// Milliseconds left.
    pub(crate) remaining_ms: u32,
}

/// Writes the right to answer, which whoever reads it then has too.
pub(crate) fn write(system: &Inner, slot: Option<&Arc<dyn AnySlot>>) -> ReplyWire {
    let Some(slot) = slot else {
        return ReplyWire { to: Direct::NONE, correlation: 0, json: false, remaining_ms: 0 };
    };
    let remaining_ms = slot.facts().remaining_ms();
    let (to, correlation, codec) = slot.remote().unwrap_or_else(|| {
        let asker = slot.facts().asker.some();
        (asker.unwrap_or_else(|| system.me()), system.replies.keep(slot.clone()), Codec::Postcard)
    });
    ReplyWire { to, correlation, json: codec == Codec::Json, remaining_ms }
}

/// Reads a right to answer; `remote` makes the slot of an asker in another process.
pub(crate) fn read(
    system: &Arc<Inner>,
    wire: ReplyWire,
    message: &'static str,
    remote: impl FnOnce(AskFacts, (Direct, u64, Codec), Arc<Inner>) -> ReplyHandle,
) -> ReplyHandle {
    if wire.to.is_none() {
        return ReplyHandle::default();
    }
    if system.is_mine(wire.to)
        && let Some(slot) = system.replies.take(wire.correlation)
    {
        return ReplyHandle::new(slot);
    }
    let deadline = match wire.remaining_ms {
        0 => clock::NEVER,
        left => clock::coarse() + u64::from(left) * 1_000_000,
    };
    let facts = AskFacts { asker: wire.to, deadline, chain: None, message };
    let codec = if wire.json { Codec::Json } else { Codec::Postcard };
    remote(facts, (wire.to, wire.correlation, codec), system.clone())
}

impl<R> Serialize for ReplyTo<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let system = current::system();
        let wire = match (self.handle.slot(), &system) {
            (None, _) => ReplyWire { to: Direct::NONE, correlation: 0, json: false, remaining_ms: 0 },
            (slot, Some(system)) => write(system, slot),
            (Some(_), None) => return Err(serde::ser::Error::custom("a ReplyTo is written only inside a system")),
        };
        self.away.store(true, Ordering::Relaxed);
        wire.serialize(serializer)
    }
}

impl<'de, R: Serialize + DeserializeOwned + Send + 'static> Deserialize<'de> for ReplyTo<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = ReplyWire::deserialize(deserializer)?;
        let Some(system) = current::system() else {
            return Err(serde::de::Error::custom("a ReplyTo is read only inside a system"));
        };
        let handle = read(&system, wire, "a ReplyTo", |facts, to, system| {
            ReplyHandle::new(RemoteSlot::<R>::new(facts, to, system))
        });
        Ok(Self { handle, away: AtomicBool::new(false), reply: PhantomData })
    }
}
