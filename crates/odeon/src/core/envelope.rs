//! A message in a mailbox: a value with a table of functions, never a closure.
//!
//! Small messages lie in the envelope itself, larger ones in a box. The table is a static one per actor type and message
//! type; it starts the handler, drops the value, and shows it to whoever writes it as bytes.
//!
//! - **V-1.** `payload` holds a value of the type that `table` was made for, from [`Envelope::pack`] until the table's
//!   `start` or `drop`, or [`Envelope::into_message`], has taken it; then the envelope is forgotten.

use super::{
    cell::Cell,
    current::Current,
    reply::{AnySlot, ReplyHandle},
    scratch::{Scratch, Step},
    wire::Writable,
};
use crate::{
    actor::Handler,
    error::Result,
    message::Message,
    supervision::{ChildExited, Returned},
};
use bytes::BytesMut;
use odeon_protocol::{Address, Serial, frame::Codec};
use std::{
    any::TypeId,
    fmt,
    mem::{ManuallyDrop, MaybeUninit, align_of, size_of},
    sync::Arc,
    task::Context,
};

/// Words of a message that lie in the envelope itself.
const INLINE_WORDS: usize = 8;

pub(crate) type Payload = [MaybeUninit<u64>; INLINE_WORDS];

/// What stands in a mailbox.
pub(crate) enum Entry {
    /// A message for a handler.
    Message(Envelope),
    /// Stop when this is reached.
    Stop,
    /// A message that came back.
    Returned(Box<Returned>),
    /// A child's end.
    ChildExited(Box<ChildExited>),
    /// A timer of this actor is due.
    Tick(u64),
}

const _: () = assert!(size_of::<Envelope>() == 88, "mailboxes are arrays of these");
const _: () = assert!(size_of::<Entry>() == 88, "mailboxes are arrays of these");

/// Who sent a message. Of messages of this process it says, too, whether they start the receiver's name where nobody bears
/// it: those of others have it in their flow.
pub(crate) enum Origin {
    /// No actor.
    Outside { starts: bool },
    /// An actor of this process.
    Local(Local),
    /// Somebody in another process.
    Remote(RemoteOrigin),
}

impl Origin {
    /// No actor, to a receiver that is not started.
    pub(crate) const NOBODY: Self = Self::Outside { starts: false };

    /// That actor, or none.
    pub(crate) const fn of(serial: Option<Serial>, starts: bool) -> Self {
        match serial {
            Some(serial) => Self::Local(Local::new(serial, starts)),
            None => Self::Outside { starts },
        }
    }

    /// Whether the receiver's name is started where nobody bears it; of messages of this process.
    pub(crate) const fn starts(&self) -> bool {
        match self {
            Self::Outside { starts } => *starts,
            Self::Local(sender) => sender.starts(),
            Self::Remote(_) => false,
        }
    }
}

/// An actor of this process that sends, and [`Origin`]'s flag, in eight bytes: more would make every message larger.
#[derive(Clone, Copy)]
pub(crate) struct Local(u64);

impl Local {
    /// Serials are far below it: a process would have to start actors for thousands of years.
    const STARTS: u64 = 1 << 63;

    const fn new(serial: Serial, starts: bool) -> Self {
        Self(serial.0 | if starts { Self::STARTS } else { 0 })
    }

    /// The sender.
    pub(crate) const fn serial(self) -> Serial {
        Serial(self.0 & !Self::STARTS)
    }

    const fn starts(self) -> bool {
        self.0 & Self::STARTS != 0
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self::NOBODY
    }
}

/// The sender of a message from another process, and who is told that the message is settled.
///
/// Dropped when the handler has ended or the message was given back, which counts as its end. It is made for every
/// message by one thread and dropped by another, so it is kept small enough to need no memory of its own.
pub(crate) struct RemoteOrigin {
    flow: Arc<RemoteFlow>,
    ticket: u32,
    /// Always the same; the values that it never has tell the other origins apart.
    _niche: Niche,
}

#[derive(Clone, Copy)]
#[repr(u8)]
enum Niche {
    Here = 1,
}

/// What the messages of one sender to one receiver have in common.
pub(crate) struct RemoteFlow {
    /// The sender as it shows itself.
    pub(crate) from: Address,
    pub(crate) settle: Arc<dyn Settle>,
}

/// Learns that messages from another process are settled; exactly once each.
pub(crate) trait Settle: Send + Sync {
    /// The handler has ended, or the message was given back.
    fn settled(&self, ticket: u32);
    /// The message goes back to its sender; `settled` follows.
    fn give_back(&self, ticket: u32, returned: Returned);
}

impl RemoteOrigin {
    /// The origin of a message with that number.
    pub(crate) const fn new(flow: Arc<RemoteFlow>, ticket: u32) -> Self {
        Self { flow, ticket, _niche: Niche::Here }
    }

    /// The sender as it shows itself.
    pub(crate) fn from(&self) -> &Address {
        &self.flow.from
    }

    /// The message goes back to its sender.
    pub(crate) fn give_back(&self, returned: Returned) {
        self.flow.settle.give_back(self.ticket, returned);
    }
}

impl Drop for RemoteOrigin {
    fn drop(&mut self) {
        self.flow.settle.settled(self.ticket);
    }
}

/// The functions of one message type for one actor type.
pub(crate) struct MessageTable {
    /// The actor that `start` is for; nothing where no actor is known yet.
    pub(crate) actor: Option<TypeId>,
    pub(crate) message: TypeId,
    pub(crate) type_id: u64,
    pub(crate) fingerprint: u64,
    pub(crate) name: &'static str,
    pub(crate) idempotent: bool,
    pub(crate) is_ask: bool,
    start: unsafe fn(*mut Payload, *const (), &mut Scratch, &mut Context<'_>) -> Step,
    drop: unsafe fn(*mut Payload),
    value: unsafe fn(*const Payload) -> *const dyn Writable,
    handle: unsafe fn(*mut Payload) -> Option<*mut ReplyHandle>,
}

/// A message on its way.
pub(crate) struct Envelope {
    table: &'static MessageTable,
    pub(crate) origin: Origin,
    payload: Payload,
}

// SAFETY: `pack` takes only messages and reply handles, which are `Send`; the table is a static of functions.
unsafe impl Send for Envelope {}

/// An ask's payload.
struct Asked<M> {
    message: M,
    handle: ReplyHandle,
}

impl Envelope {
    /// A message without an answer.
    pub(crate) fn tell<A: Handler<M>, M: Message>(message: M, origin: Origin) -> Self {
        Self::pack(&Tables::<A, M>::TELL, origin, message)
    }

    /// A message with an answer.
    pub(crate) fn ask<A: Handler<M>, M: Message>(message: M, handle: ReplyHandle, origin: Origin) -> Self {
        Self::pack(&Tables::<A, M>::ASK, origin, Asked { message, handle })
    }

    /// A message without an answer for whoever handles it.
    pub(crate) fn tell_any<M: Message>(message: M, origin: Origin) -> Self {
        Self::pack(&Unaddressed::<M>::TELL, origin, message)
    }

    /// A message with an answer for whoever handles it.
    pub(crate) fn ask_any<M: Message>(message: M, handle: ReplyHandle, origin: Origin) -> Self {
        Self::pack(&Unaddressed::<M>::ASK, origin, Asked { message, handle })
    }

    /// A fence: goes where the messages of its flow go, and ends without having been handled.
    pub(crate) fn fence(origin: Origin) -> Self {
        Self::pack(&FENCE, origin, Fence)
    }

    /// Whether it is a fence.
    pub(crate) fn is_fence(&self) -> bool {
        self.table.message == TypeId::of::<Fence>()
    }

    /// `table` must be one of a payload of type `T`.
    fn pack<T>(table: &'static MessageTable, origin: Origin, value: T) -> Self {
        let mut payload: Payload = [MaybeUninit::uninit(); INLINE_WORDS];
        let place = payload.as_mut_ptr();
        if fits::<T>() {
            // SAFETY: the value fits the payload in size and alignment.
            unsafe { place.cast::<T>().write(value) };
        } else {
            // SAFETY: a pointer fits the payload.
            unsafe { place.cast::<*mut T>().write(Box::into_raw(Box::new(value))) };
        }
        Self { table, origin, payload }
    }

    /// What is known of the message's type.
    pub(crate) fn table(&self) -> &'static MessageTable {
        self.table
    }

    /// Whether the message is of that type.
    pub(crate) fn is<M: Message>(&self) -> bool {
        self.table.message == TypeId::of::<M>()
    }

    /// The message, if it is of that type. An ask's handle is dropped, so take it before.
    pub(crate) fn into_message<M: Message>(self) -> std::result::Result<M, Self> {
        if !self.is::<M>() {
            return Err(self);
        }
        let mut envelope = ManuallyDrop::new(self);
        // SAFETY: dropped once here, as the envelope itself is forgotten.
        unsafe { std::ptr::drop_in_place(&raw mut envelope.origin) };
        let payload = &raw mut envelope.payload;
        // SAFETY: V-1: the tables of this message type hold an `M` or an `Asked<M>`, and nobody takes it again.
        unsafe { if envelope.table.is_ask { Ok(take::<Asked<M>>(payload).message) } else { Ok(take::<M>(payload)) } }
    }

    /// The handle of an ask, to be kept or answered.
    pub(crate) fn handle(&mut self) -> Option<&mut ReplyHandle> {
        // SAFETY: V-1; the pointer is into the payload, borrowed as long as `self`.
        unsafe { (self.table.handle)(&raw mut self.payload).map(|handle| &mut *handle) }
    }

    /// The slot of an ask.
    pub(crate) fn slot(&mut self) -> Option<Arc<dyn AnySlot>> {
        self.handle().and_then(|handle| handle.slot().cloned())
    }

    /// The message as bytes.
    pub(crate) fn body(&self, codec: Codec) -> Result<Vec<u8>> {
        let mut bytes = BytesMut::new();
        self.value().append(codec, &mut bytes)?;
        Ok(bytes.into())
    }

    /// The message, to be written.
    pub(crate) fn value(&self) -> &dyn Writable {
        // SAFETY: V-1; the pointer is into the payload, borrowed as long as `self`.
        unsafe { &*(self.table.value)(&raw const self.payload) }
    }

    /// Binds the message to an actor type whose tables are given, if it is of their message type.
    pub(crate) fn readdress(&mut self, tell: &'static MessageTable, ask: &'static MessageTable) -> bool {
        let table = if self.table.is_ask { ask } else { tell };
        if table.message != self.table.message {
            return false;
        }
        // The payload's type depends on message type and kind alone, so V-1 holds.
        self.table = table;
        true
    }

    /// Starts the handler and polls it once; the origin becomes `current`'s.
    ///
    /// # Safety
    /// `cell` points to a live `Cell<A>` where `A` is the type whose id is `table().actor`, and the caller is the one
    /// runner that may touch its actor and context (C-1).
    pub(crate) unsafe fn start(
        self,
        cell: *const (),
        current: &mut Current,
        scratch: &mut Scratch,
        cx: &mut Context<'_>,
    ) -> Step {
        let mut envelope = ManuallyDrop::new(self);
        // SAFETY: read once, as the envelope itself is forgotten.
        current.origin = unsafe { std::ptr::read(&raw const envelope.origin) };
        // SAFETY: V-1: `start` takes the value; the cell is as the caller says.
        unsafe { (envelope.table.start)(&raw mut envelope.payload, cell, scratch, cx) }
    }
}

impl Drop for Envelope {
    fn drop(&mut self) {
        // SAFETY: V-1; whoever took the value has forgotten the envelope.
        unsafe { (self.table.drop)(&raw mut self.payload) };
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope").field("message", &self.table.name).finish_non_exhaustive()
    }
}

const fn fits<T>() -> bool {
    size_of::<T>() <= size_of::<Payload>() && align_of::<T>() <= align_of::<Payload>()
}

/// Takes the value out of a payload.
///
/// # Safety
/// The payload holds a `T` that was packed and not yet taken.
unsafe fn take<T>(payload: *mut Payload) -> T {
    if fits::<T>() {
        // SAFETY: as the caller says.
        unsafe { payload.cast::<T>().read() }
    } else {
        // SAFETY: as the caller says; `pack` made the box.
        *unsafe { Box::from_raw(payload.cast::<*mut T>().read()) }
    }
}

/// Where the value of a payload lies.
///
/// # Safety
/// As for [`take`]; the pointer lives as long as the payload does.
unsafe fn place<T>(payload: *mut Payload) -> *mut T {
    // SAFETY: as the caller says.
    if fits::<T>() { payload.cast::<T>() } else { unsafe { payload.cast::<*mut T>().read() } }
}

/// The tables of a message type for an actor type.
struct Tables<A, M>(std::marker::PhantomData<(A, M)>);

impl<A: Handler<M>, M: Message> Tables<A, M> {
    const TELL: MessageTable = MessageTable {
        actor: Some(TypeId::of::<A>()),
        start: |payload, cell, scratch, cx| {
            // SAFETY: V-1 for the value, `Envelope::start` for the cell.
            unsafe { Cell::<A>::start_handler::<M>(cell, take::<M>(payload), scratch, cx) }
        },
        ..Unaddressed::<M>::TELL
    };
    const ASK: MessageTable = MessageTable {
        actor: Some(TypeId::of::<A>()),
        start: |payload, cell, scratch, cx| {
            // SAFETY: V-1 for the value, `Envelope::start` for the cell.
            unsafe {
                let Asked { message, handle } = take::<Asked<M>>(payload);
                Cell::<A>::expect_reply(cell, handle);
                Cell::<A>::start_handler::<M>(cell, message, scratch, cx)
            }
        },
        ..Unaddressed::<M>::ASK
    };
}

/// The tables of a message type while no actor type is known.
struct Unaddressed<M>(std::marker::PhantomData<M>);

impl<M: Message> Unaddressed<M> {
    const TELL: MessageTable = MessageTable {
        actor: None,
        message: TypeId::of::<M>(),
        type_id: M::TYPE_ID,
        fingerprint: M::FINGERPRINT,
        name: M::NAME,
        idempotent: M::IDEMPOTENT,
        is_ask: false,
        start: |payload, _, _, _| {
            // SAFETY: V-1.
            drop(unsafe { take::<M>(payload) });
            Step::Done(super::scratch::End::Failed(Box::new((format!("{} reached no actor type", M::NAME),))))
        },
        // SAFETY: V-1.
        drop: |payload| drop(unsafe { take::<M>(payload) }),
        // SAFETY: V-1.
        value: |payload| unsafe { place::<M>(payload.cast_mut()) },
        handle: |_| None,
    };
    const ASK: MessageTable = MessageTable {
        is_ask: true,
        start: |payload, _, _, _| {
            // SAFETY: V-1. Dropping the handle fails the ask.
            drop(unsafe { take::<Asked<M>>(payload) });
            Step::Done(super::scratch::End::Ok)
        },
        // SAFETY: V-1.
        drop: |payload| drop(unsafe { take::<Asked<M>>(payload) }),
        // SAFETY: V-1.
        value: |payload| unsafe { &raw const (*place::<Asked<M>>(payload.cast_mut())).message },
        // SAFETY: V-1.
        handle: |payload| unsafe { Some(&raw mut (*place::<Asked<M>>(payload)).handle) },
        ..Self::TELL
    };
}

/// The payload of a fence.
struct Fence;

static FENCE: MessageTable = MessageTable {
    actor: None,
    message: TypeId::of::<Fence>(),
    type_id: 0,
    fingerprint: 0,
    name: "fence",
    idempotent: false,
    is_ask: false,
    start: |_, _, _, _| Step::Done(super::scratch::End::Ok),
    drop: |_| (),
    value: |_| &(),
    handle: |_| None,
};

/// The tables of `M` for `A`, tell first.
pub(crate) fn tables<A: Handler<M>, M: Message>() -> (&'static MessageTable, &'static MessageTable) {
    (&Tables::<A, M>::TELL, &Tables::<A, M>::ASK)
}
