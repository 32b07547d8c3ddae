//! References to actors: one type for local, remote, named and troupe.

mod raw;

pub(crate) use raw::Kept;
pub use raw::RawRef;

use crate::{
    actor::{Actor, Calls, Handler},
    core::{ActorType, Envelope},
    error::Result,
    message::Message,
    schema::{Fingerprint, Schema},
    sending::{Ask, Tell},
};
use odeon_protocol::Address;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
    ops::Deref,
};

/// A reference to an actor of type `A`: in this process, in another, by its place, by its global name, or to a troupe.
///
/// Cheap to clone, equal if it means the same actor, and part of any message. It offers a method per handler of `A`
/// besides the ones here.
pub struct ActorRef<A: Actor> {
    calls: A::Calls,
}

impl<A: Actor> ActorRef<A> {
    pub(crate) fn from_raw(raw: RawRef) -> Self {
        Self { calls: A::Calls::new(raw) }
    }

    pub(crate) fn raw(&self) -> &RawRef {
        self.calls.raw()
    }

    /// Sends a message; ready when the runtime has accepted it, which waits while the receiver is behind.
    ///
    /// ```
    /// # use odeon::prelude::*;
    /// # #[message]
    /// # struct Routed { question: String }
    /// # #[derive(Default)]
    /// # struct Cast;
    /// # #[actor("doc.cast")]
    /// # impl Cast { fn routed(&mut self, _: Routed) {} }
    /// # async fn example(cast: ActorRef<Cast>, question: String) -> odeon::Result {
    /// cast.tell(Routed { question }).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn tell<M: Message>(&self, message: M) -> Tell<'_, M>
    where
        A: Handler<M>,
    {
        Tell::new(self.raw(), message, Envelope::tell::<A, M>)
    }

    /// Sends a message if there is room for it at once.
    ///
    /// # Errors
    /// The message comes back: there is no room, or no such actor.
    pub fn try_tell<M: Message>(&self, message: M) -> Result<(), crate::TellError<M>>
    where
        A: Handler<M>,
    {
        Tell::new(self.raw(), message, Envelope::tell::<A, M>).now()
    }

    /// Sends a message and waits for its reply: 5 s, or what is left of the time of the ask that is being handled.
    pub fn ask<M: Message>(&self, message: M) -> Ask<A, M>
    where
        A: Handler<M>,
    {
        Ask::new(self.raw().clone(), message, Envelope::ask::<A, M>)
    }

    /// Stops the actor after what is queued.
    pub fn stop(&self) {
        self.raw().end(false);
    }

    /// Ends the actor now: what is queued goes back to its senders, `stopping` does not run.
    pub fn kill(&self) {
        self.raw().end(true);
    }

    /// The actor's address, without its type.
    #[must_use]
    pub fn address(&self) -> Address {
        self.raw().address()
    }

    /// The actor's global name, if this refers to it by one.
    #[must_use]
    pub fn global_name(&self) -> Option<&str> {
        self.raw().name()
    }

    /// The same actor, for whoever only needs to send it `M`.
    #[must_use]
    pub fn recipient<M: Message>(&self) -> Recipient<M>
    where
        A: Handler<M>,
    {
        Recipient { raw: self.raw().clone(), message: PhantomData }
    }
}

impl<A: Actor> Deref for ActorRef<A> {
    type Target = A::Calls;
    fn deref(&self) -> &A::Calls {
        &self.calls
    }
}

impl<A: Actor> Clone for ActorRef<A> {
    fn clone(&self) -> Self {
        Self { calls: self.calls.clone() }
    }
}

impl<A: Actor> PartialEq for ActorRef<A> {
    fn eq(&self, other: &Self) -> bool {
        self.raw() == other.raw()
    }
}

impl<A: Actor> Eq for ActorRef<A> {}

impl<A: Actor> Hash for ActorRef<A> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.raw().hash(state);
    }
}

impl<A: Actor> fmt::Debug for ActorRef<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", A::TYPE, self.raw())
    }
}

impl<A: Actor> Serialize for ActorRef<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw().serialize(serializer)
    }
}

impl<'de, A: Actor> Deserialize<'de> for ActorRef<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawRef::deserialize(deserializer)?;
        if let Some(system) = raw.system() {
            system.know(ActorType::of::<A>());
        }
        Ok(Self::from_raw(raw))
    }
}

impl<A: Actor> Schema for ActorRef<A> {
    const FINGERPRINT: u64 = Fingerprint::leaf("odeon reference");
}

/// A reference to whoever handles `M`, so that its sender need not know the actor's type.
pub struct Recipient<M: Message> {
    raw: RawRef,
    message: PhantomData<fn(M)>,
}

impl<M: Message> Recipient<M> {
    pub(crate) fn from_raw(raw: RawRef) -> Self {
        Self { raw, message: PhantomData }
    }

    /// See [`ActorRef::tell`].
    pub fn tell(&self, message: M) -> Tell<'_, M> {
        Tell::new(&self.raw, message, Envelope::tell_any::<M>)
    }

    /// See [`ActorRef::try_tell`].
    ///
    /// # Errors
    /// The message comes back: there is no room, no such actor, or no such handler.
    pub fn try_tell(&self, message: M) -> Result<(), crate::TellError<M>> {
        Tell::new(&self.raw, message, Envelope::tell_any::<M>).now()
    }

    /// See [`ActorRef::ask`].
    pub fn ask(&self, message: M) -> Ask<(), M> {
        Ask::new(self.raw.clone(), message, Envelope::ask_any::<M>)
    }

    /// The actor's address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.raw.address()
    }
}

impl<M: Message> Clone for Recipient<M> {
    fn clone(&self) -> Self {
        Self { raw: self.raw.clone(), message: PhantomData }
    }
}

impl<M: Message> PartialEq for Recipient<M> {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl<M: Message> Eq for Recipient<M> {}

impl<M: Message> Hash for Recipient<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.raw.hash(state);
    }
}

impl<M: Message> fmt::Debug for Recipient<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}→{}", M::NAME, self.raw)
    }
}

impl<M: Message> Serialize for Recipient<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw.serialize(serializer)
    }
}

impl<'de, M: Message> Deserialize<'de> for Recipient<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawRef::deserialize(deserializer).map(Self::from_raw)
    }
}

impl<M: Message> Schema for Recipient<M> {
    const FINGERPRINT: u64 = Fingerprint::leaf("odeon reference");
}
