//! What is known of an actor type: how to make its cells, and its messages by their wire names.

use super::{
    cell::{AnyCell, Birth, Cell, Head},
    current,
    envelope::{self, Envelope, MessageTable, Origin},
    hash::Fast,
    reply::{AskFacts, RemoteSlot, ReplyHandle},
    wire,
};
use crate::{
    actor::{Actor, Handler, HandlerTable},
    error::{Error, Result},
    message::Message,
    schema::Schema,
    supervision::Options,
    system::Inner,
};
use odeon_protocol::{
    Direct, Reason,
    control::{MessageInfo, Policy, TypeInfo, WireCodec},
    frame::Codec,
};
use parking_lot::RwLock;
use std::{
    any::TypeId,
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock},
};

/// Facts of an actor type; made once per process and never changed.
pub(crate) struct ActorType {
    pub(crate) id: TypeId,
    pub(crate) name: &'static str,
    pub(crate) options: Options,
    handlers: HashMap<u64, HandlerEntry, Fast>,
    make: Make,
}

/// Makes a cell from arguments as bytes.
type Make = fn(&Arc<Inner>, &'static ActorType, WireCodec, &[u8], Birth) -> Result<Arc<dyn AnyCell>>;
/// Reads a message.
type Read = fn(Codec, &[u8], Origin, Option<ReplyHandle>) -> Result<Envelope, Box<Unread>>;
/// Makes the handle of an ask whose asker is in another process.
type Remote = fn(AskFacts, (Direct, u64, Codec), Arc<Inner>) -> ReplyHandle;

/// Types already described. Pure facts: two systems of a process share them without noticing.
static TYPES: LazyLock<RwLock<HashMap<TypeId, &'static ActorType>>> = LazyLock::new(RwLock::default);

impl ActorType {
    /// The facts of `A`.
    pub(crate) fn of<A: Actor>() -> &'static Self {
        if let Some(found) = TYPES.read().get(&TypeId::of::<A>()) {
            return found;
        }
        let made = Self {
            id: TypeId::of::<A>(),
            name: A::TYPE,
            options: A::options(),
            handlers: HandlerTable::<A>::of_actor()
                .entries
                .into_iter()
                .map(|entry| (entry.tell.type_id, entry))
                .collect(),
            make: make::<A>,
        };
        TYPES.write().entry(TypeId::of::<A>()).or_insert_with(|| Box::leak(Box::new(made)))
    }

    /// The handler of a message.
    pub(crate) fn find(&self, type_id: u64) -> Option<&HandlerEntry> {
        self.handlers.get(&type_id)
    }

    /// Makes a cell from arguments as bytes.
    pub(crate) fn make(
        &'static self,
        system: &Arc<Inner>,
        codec: WireCodec,
        args: &[u8],
        birth: Birth,
    ) -> Result<Arc<dyn AnyCell>> {
        (self.make)(system, self, codec, args, birth)
    }

    /// The policy that the type declares.
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            on_stop: self.options.on_stop,
            restart: self.options.restart,
            own_process: self.options.own_process,
            requires: self.options.requires.to_owned(),
            troupe: self.options.troupe,
        }
    }

    /// The type as a worker announces it.
    pub(crate) fn info(&self) -> TypeInfo {
        let mut messages: Vec<_> = self.handlers.values().map(HandlerEntry::info).collect();
        messages.sort_by(|one, two| one.name.cmp(&two.name));
        TypeInfo { name: self.name.to_owned(), messages, policy: self.policy() }
    }
}

impl fmt::Debug for ActorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ActorType").field(&self.name).finish()
    }
}

fn make<A: Actor>(
    system: &Arc<Inner>,
    kind: &'static ActorType,
    codec: WireCodec,
    args: &[u8],
    birth: Birth,
) -> Result<Arc<dyn AnyCell>> {
    let _here = current::enter_system(system);
    let args = match codec {
        WireCodec::Postcard => wire::read(Codec::Postcard, args)?,
        WireCodec::Json => wire::read(Codec::Json, args)?,
        WireCodec::Key => {
            let key = std::str::from_utf8(args).map_err(|_| Error::StartFailed("a key is no UTF-8 text".to_owned()))?;
            A::args_from_key(key)?
        }
    };
    Ok(Cell::<A>::new(system.clone(), kind, args, birth))
}

/// One message that an actor type takes.
pub(crate) struct HandlerEntry {
    pub(crate) tell: &'static MessageTable,
    pub(crate) ask: &'static MessageTable,
    reply: Option<u64>,
    read: Read,
    remote: Remote,
}

/// What is left of a message whose body could not be read.
pub(crate) struct Unread {
    pub(crate) error: Error,
    pub(crate) origin: Origin,
    pub(crate) handle: Option<ReplyHandle>,
}

impl fmt::Debug for HandlerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HandlerEntry").field(&self.tell.name).finish()
    }
}

impl HandlerEntry {
    pub(crate) fn of<A: Handler<M>, M: Message>() -> Self {
        let (tell, ask) = envelope::tables::<A, M>();
        let silent = M::Reply::FINGERPRINT == <()>::FINGERPRINT;
        Self { tell, ask, reply: (!silent).then_some(M::Reply::FINGERPRINT), read: read::<A, M>, remote: remote::<M> }
    }

    /// Reads a message. Set the system first, so that references in it are bound.
    pub(crate) fn read(
        &self,
        codec: Codec,
        bytes: &[u8],
        origin: Origin,
        handle: Option<ReplyHandle>,
    ) -> Result<Envelope, Box<Unread>> {
        (self.read)(codec, bytes, origin, handle)
    }

    /// The handle of an ask whose asker is in another process.
    pub(crate) fn remote_reply(&self, facts: AskFacts, to: (Direct, u64, Codec), system: Arc<Inner>) -> ReplyHandle {
        (self.remote)(facts, to, system)
    }

    fn info(&self) -> MessageInfo {
        MessageInfo {
            name: self.tell.name.to_owned(),
            type_id: self.tell.type_id,
            fingerprint: self.tell.fingerprint,
            reply: self.reply,
        }
    }
}

fn read<A: Handler<M>, M: Message>(
    codec: Codec,
    bytes: &[u8],
    origin: Origin,
    handle: Option<ReplyHandle>,
) -> Result<Envelope, Box<Unread>> {
    match (wire::read::<M>(codec, bytes), handle) {
        (Ok(message), None) => Ok(Envelope::tell::<A, M>(message, origin)),
        (Ok(message), Some(handle)) => Ok(Envelope::ask::<A, M>(message, handle, origin)),
        (Err(error), handle) => Err(Box::new(Unread { error, origin, handle })),
    }
}

fn remote<M: Message>(facts: AskFacts, to: (Direct, u64, Codec), system: Arc<Inner>) -> ReplyHandle {
    ReplyHandle::new(RemoteSlot::<M::Reply>::new(facts, to, system))
}

/// Writes a message and reads it back: what restless systems do with every one.
///
/// A message that cannot make the way stays as it was.
pub(crate) fn through_wire(head: &Head, envelope: &mut Envelope) -> Result<()> {
    let _here = current::enter_system(&head.system);
    let Some(entry) = head.kind.find(envelope.table().type_id) else {
        return Err(unsupported(head, envelope.table().name));
    };
    let bytes = envelope.body(Codec::Postcard)?;
    let handle = envelope.handle().map(std::mem::take);
    let origin = std::mem::take(&mut envelope.origin);
    match entry.read(Codec::Postcard, &bytes, origin, handle) {
        Ok(read) => {
            *envelope = read;
            Ok(())
        }
        Err(unread) => {
            let Unread { error, origin, handle } = *unread;
            envelope.origin = origin;
            if let (Some(place), Some(handle)) = (envelope.handle(), handle) {
                *place = handle;
            }
            Err(error)
        }
    }
}

/// The refusal of a message that an actor does not take.
pub(crate) fn unsupported(head: &Head, message: &str) -> Error {
    Error::new(Reason::Unsupported, format!("{} takes no {message}", head.label()))
}
