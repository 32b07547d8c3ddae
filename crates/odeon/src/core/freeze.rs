//! An actor between two messages, as bytes: mailbox, timers, children, asks that it still owes an answer.
//!
//! This is the first half of every move: what is written here is read by another worker, another version or another host.
//! The actor's own state is its own to write; the right to answer that it keeps (`ReplyTo`) has a wire form.
//!
//! - **Z-1.** Nothing runs while it is written: the cell takes no more messages, and its runner writes it.
//! - **Z-2.** What is written is in the order of the mailbox, the part that was taken already first.

use super::{
    cell::{AnyCell, FREEZE, Head, State},
    clock, current,
    envelope::{Entry, Envelope, Origin, RemoteFlow, RemoteOrigin, Settle},
    reply_to::{self, ReplyWire},
    scheduler,
    timers::ActorTimer,
    types::ActorType,
};
use crate::{
    error::{Error, Result},
    supervision::{ChildExited, Returned, ReturnedBody},
    system::Inner,
};
use odeon_protocol::{Address, ExitCause, Reason, Serial, frame::Codec};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Frozen {
    /// The actor's type.
    pub(crate) type_name: String,
    /// The actor, as it shows itself.
    pub(crate) address: Address,
    /// The mailbox.
    pub(crate) entries: Vec<FrozenEntry>,
    /// Timers; `at` is how many nanoseconds are left.
    pub(crate) timers: Vec<ActorTimer>,
    /// Children in the process that wrote this.
    pub(crate) children: Vec<Serial>,
}

/// What stood in the mailbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum FrozenEntry {
    /// A message.
    Message {
        /// Its type.
        type_id: u64,
        /// Itself.
        body: Vec<u8>,
        /// Its sender.
        from: Option<Address>,
        /// Who waits for the answer.
        ask: Option<ReplyWire>,
    },
    /// Stop here.
    Stop,
    /// A message that came back.
    Returned {
        /// Whom it was for.
        to: Address,
        /// Why it came back.
        reason: Reason,
        /// The same in words.
        text: String,
        /// Whether it may have run.
        may_have_run: bool,
        /// Its type and itself, if it was not consumed.
        body: Option<(u64, Vec<u8>)>,
    },
    /// Messages that went down with whoever had them.
    Lost {
        /// Whom they were for.
        to: Address,
        /// Why.
        reason: Reason,
        /// The same in words.
        text: String,
        /// How many.
        count: u32,
    },
    /// A child's end.
    ChildExited {
        /// The child.
        child: Address,
        /// Why.
        cause: ExitCause,
    },
    /// A timer is due.
    Tick(u64),
}

/// What is called with the bytes' contents.
pub(crate) type Freezer = Box<dyn FnOnce(Result<Frozen>) + Send>;

/// Stops an actor between two messages and writes it. It is gone then: no hook runs, nobody is told.
pub(crate) fn freeze(cell: &Arc<dyn AnyCell>, then: impl FnOnce(Result<Frozen>) + Send + 'static) {
    let head = cell.head();
    head.with_extra(|extra| extra.freezer = Some(Box::new(then)));
    head.signals.fetch_or(FREEZE, Ordering::SeqCst);
    let mut inbox = head.inbox.lock();
    if inbox.state == State::Idle {
        inbox.state = State::Queued;
        drop(inbox);
        scheduler::schedule(cell.clone());
    }
}

/// Writes a cell whose mailbox is closed.
pub(crate) fn write(head: &Head, entries: VecDeque<Entry>) -> Result<Frozen> {
    let now = clock::fine();
    let _here = current::enter_system(&head.system);
    let stays = |entry: &Entry| !matches!(entry, Entry::Message(envelope) if envelope.is_fence());
    let entries =
        entries.into_iter().filter(stays).map(|entry| write_entry(&head.system, entry)).collect::<Result<_>>()?;
    let (mut timers, children) =
        head.with_extra(|extra| (extra.timers.list().to_vec(), extra.children.iter().copied().collect()));
    timers.iter_mut().for_each(|timer| timer.at = timer.at.saturating_sub(now));
    Ok(Frozen { type_name: head.kind.name.to_owned(), address: head.address(), entries, timers, children })
}

fn write_entry(system: &Arc<Inner>, entry: Entry) -> Result<FrozenEntry> {
    Ok(match entry {
        Entry::Message(envelope) => write_message(system, envelope)?,
        Entry::Stop => FrozenEntry::Stop,
        Entry::Tick(id) => FrozenEntry::Tick(id),
        Entry::ChildExited(exit) => FrozenEntry::ChildExited { child: exit.child, cause: exit.cause },
        Entry::Returned(returned) => {
            let Returned { body, reason, text, to, may_have_run } = *returned;
            let body = match body {
                ReturnedBody::Value(envelope) => Some((envelope.table().type_id, envelope.body(Codec::Postcard)?)),
                ReturnedBody::Wire { type_id, bytes, codec: Codec::Postcard } => Some((type_id, bytes)),
                ReturnedBody::Wire { .. } | ReturnedBody::Consumed { .. } => None,
                ReturnedBody::Lost { count } => {
                    return Ok(FrozenEntry::Lost { to, reason, text, count });
                }
            };
            FrozenEntry::Returned { to, reason, text, may_have_run, body }
        }
    })
}

fn write_message(system: &Arc<Inner>, mut envelope: Envelope) -> Result<FrozenEntry> {
    let body = envelope.body(Codec::Postcard)?;
    let type_id = envelope.table().type_id;
    let from = match &envelope.origin {
        Origin::Outside { .. } => None,
        Origin::Local(sender) => Some(match system.registry.get(sender.serial()) {
            Some(sender) => sender.head().address(),
            None => Address::Direct(system.place(sender.serial())),
        }),
        Origin::Remote(remote) => Some(remote.from().clone()),
    };
    // Taken, not dropped: whoever reads this owes the answer from now on.
    let slot = envelope.handle().and_then(super::ReplyHandle::take);
    let ask = slot.map(|slot| reply_to::write(system, Some(&slot)));
    Ok(FrozenEntry::Message { type_id, body, from, ask })
}

/// A message that was frozen belongs to no flow any more.
struct NoFlow;

impl Settle for NoFlow {
    fn settled(&self, _: u32) {}

    fn give_back(&self, _: u32, returned: Returned) {
        tracing::debug!(to = %returned.to(), "a message that moved with its actor cannot go back");
    }
}

impl Frozen {
    /// The mailbox again, for an actor of `kind` in `system`.
    pub(crate) fn read(&self, system: &Arc<Inner>, kind: &'static ActorType) -> Result<Vec<Entry>> {
        if kind.name != self.type_name {
            return Err(Error::Unsupported(format!("{} was frozen, not {}", self.type_name, kind.name)));
        }
        let _here = current::enter_system(system);
        self.entries.iter().map(|entry| read_entry(system, kind, entry.clone())).collect()
    }
}

fn read_entry(system: &Arc<Inner>, kind: &'static ActorType, entry: FrozenEntry) -> Result<Entry> {
    Ok(match entry {
        FrozenEntry::Message { type_id, body, from, ask } => {
            let handler = kind.find(type_id).ok_or_else(|| Error::Unsupported(kind.name.to_owned()))?;
            let origin = from.map_or(Origin::NOBODY, |from| {
                Origin::Remote(RemoteOrigin::new(Arc::new(RemoteFlow { from, settle: Arc::new(NoFlow) }), 0))
            });
            let handle = ask.map(|ask| {
                reply_to::read(system, ask, handler.ask.name, |facts, to, system| {
                    handler.remote_reply(facts, to, system)
                })
            });
            Entry::Message(handler.read(Codec::Postcard, &body, origin, handle).map_err(|unread| unread.error)?)
        }
        FrozenEntry::Stop => Entry::Stop,
        FrozenEntry::Tick(id) => Entry::Tick(id),
        FrozenEntry::ChildExited { child, cause } => Entry::ChildExited(Box::new(ChildExited { child, cause })),
        FrozenEntry::Returned { to, reason, text, may_have_run, body } => {
            let body = match body {
                Some((type_id, bytes)) => ReturnedBody::Wire { type_id, codec: Codec::Postcard, bytes },
                None => ReturnedBody::Consumed { name: "" },
            };
            Entry::Returned(Box::new(Returned { body, reason, text, to, may_have_run }))
        }
        FrozenEntry::Lost { to, reason, text, count } => {
            let body = ReturnedBody::Lost { count };
            Entry::Returned(Box::new(Returned { body, reason, text, to, may_have_run: true }))
        }
    })
}

#[cfg(test)]
mod tests;
