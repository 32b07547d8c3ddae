//! What a system does with what it cannot do inside this process.
//!
//! The core runs cells; whatever concerns global names, troupes, other processes and other hosts goes through
//! [`Outside`]. `local::Alone` implements it for a process on its own, the link for a worker or client of an agent.
//!
//! How a message to a global name travels:
//!
//! 1. The reference has a cell cached and the cell takes messages: pushed there, nothing else is asked.
//! 2. Else [`Outside::local`] is asked; what it answers is cached. It answers a cell only if from now on *every* sender of
//!    this process may push to it directly, that is, if nothing for that name is still held or on its way elsewhere.
//! 3. Else [`Outside::send`] takes the message, or says why not and gives it back.
//!
//! A cell with a *record* (a name, a troupe, whatever [`Outside`] itself started) tells of its end in two steps, both
//! called on its runner:
//!
//! - [`Outside::stopping`] before `stopping` runs (or at once, if it does not run). The implementation publishes that the
//!   cell takes no more, then calls `close`, which shuts the mailbox and gives what is left, oldest first. Whoever comes
//!   later finds the mailbox closed and comes to [`Outside::send`], so order is kept.
//! - [`Outside::ended`] when actor and context are dropped.
//!
//! For links: `registry.get(serial)` finds a cell; `types::HandlerEntry::read` makes an [`Envelope`] of a frame's body
//! (inside `current::enter_system`), with [`Origin::Remote`](crate::core::Origin) and, for asks,
//! `HandlerEntry::remote_reply`; `cell::push(cell, entry, true)` delivers it. [`Envelope::body`] writes a message at any
//! time; [`Envelope::slot`] is the slot of an ask, to be kept in `Inner::replies` under a correlation.

use crate::{
    core::{AnyCell, Envelope},
    error::{Error, Result},
};
use odeon_protocol::{
    Address, Counts, DeadLetter, Direct, ExitCause,
    control::{Placed, Refusal, Spec, Value},
    frame::Codec,
};
use std::{future::Future, pin::Pin, sync::Arc, task::Waker};

/// A boxed future.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A message for somebody who is not, or not known to be, in this process.
pub(crate) struct Outgoing {
    /// For whom.
    pub(crate) to: Address,
    /// The message, with its origin and, for an ask, its reply handle.
    pub(crate) envelope: Envelope,
    /// It must not wait: a forwarded ask, a message that comes back.
    pub(crate) force: bool,
}

/// What became of an [`Outgoing`].
#[derive(Debug)]
pub(crate) enum Sent {
    /// It is on its way, held, or delivered.
    Accepted,
    /// There is no room now; the waker that came with it is woken when there may be.
    Full(Envelope),
    /// It cannot be sent.
    Refused(Error, Envelope),
}

/// The answer to an ask from another process.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Who asked.
    pub(crate) to: Direct,
    /// The asker's number for it.
    pub(crate) correlation: u64,
    /// How the reply is written.
    pub(crate) codec: Codec,
    /// The reply's bytes.
    pub(crate) result: Result<Vec<u8>>,
}

/// What is under way beyond the process, as numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Flows with something outstanding or not yet reported, in both directions, and asks to be answered.
    pub(crate) flows: u64,
    /// Messages to and from other processes, by how they ended.
    pub(crate) counts: Counts,
}

/// What is beyond the cells of this process.
pub(crate) trait Outside: Send + Sync + 'static {
    /// The cell of a name, if every sender of this process may push to it directly from now on.
    fn local(&self, name: &Arc<str>) -> Option<Arc<dyn AnyCell>>;

    /// Sends a message. Where there is no room and a waker is given, it is woken when there may be.
    fn send(&self, message: Outgoing, waker: Option<&Waker>) -> Sent;

    /// Places and starts an actor with a record.
    fn create(&self, spec: Spec) -> BoxFuture<'static, Result<Placed, Refusal>>;

    /// Looks a global name up, creating nothing.
    fn find(&self, name: Arc<str>) -> BoxFuture<'static, Result<Option<Placed>, Refusal>>;

    /// Stops or kills whoever has that address.
    fn end(&self, target: Address, kill: bool);

    /// A cell with a record takes no more messages; see the module's head.
    fn stopping(&self, cell: &Arc<dyn AnyCell>, close: &mut dyn FnMut() -> Vec<Envelope>);

    /// A cell with a record has ended; `failure` is why its `start` failed, if it did. Answers whether that is final, so
    /// that its parent is told; else a successor goes on.
    fn ended(&self, cell: &Arc<dyn AnyCell>, cause: &ExitCause, failure: Option<&Error>) -> bool;

    /// A cell's parent in another process is to learn of its end.
    fn child_ended(&self, parent: Direct, child: Address, cause: &ExitCause);

    /// Sends the answer to an ask from another process.
    fn answer(&self, answer: Answer);

    /// More serials will be needed soon; `Inner::add_block` takes them.
    fn lease(&self);

    /// The system stops: no new actors, everything of its own ends.
    fn close(&self) -> BoxFuture<'static, ()>;

    /// The system has stopped: its last actor has ended, or was left behind.
    fn closed(&self) {}

    /// What is under way beyond the process.
    fn figures(&self) -> Figures {
        Figures::default()
    }

    /// Whether somebody in this process wants to hear of messages that come back, wherever. Called under a lock
    /// of the listeners: it must not tell them anything.
    fn listen(&self, listen: bool) {
        let _ = listen;
    }

    /// A message came back within this process, and somebody somewhere wants to hear of it. Answers whether it was told.
    fn dead_letter(&self, letter: DeadLetter) -> bool {
        let _ = letter;
        false
    }

    /// Somebody in this process wants to hear of hosts from now on: `Inner::hosts` is to be told.
    fn watch_hosts(&self) {}

    /// Gives this host a capability, or takes it away.
    fn change_capability(&self, key: String, value: Option<Value>) -> BoxFuture<'static, Result<(), Refusal>>;

    /// A cell with a record has started and takes messages.
    fn started(&self, cell: &Arc<dyn AnyCell>) {
        let _ = cell;
    }
}
