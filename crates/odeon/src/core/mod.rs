//! What runs actors: cells, mailboxes, the scheduler, timers, pending replies.
//!
//! Nothing in here knows what is beyond the process; that is [`crate::outside`].
//!
//! | module | what |
//! |---|---|
//! | `cell` | one actor: its mailbox, its state, what it is doing |
//! | `envelope` | a message in a mailbox: a value with a table of functions, never a closure |
//! | `reply` | where the answer to an ask goes |
//! | `scratch` | where handlers' futures live |
//! | `run` | taking messages out of a mailbox, and the life of an actor |
//! | `scheduler` | threads, queues, waking, the monitor |
//! | `timers` | everything that happens later |
//! | `registry` | which serial is which cell |
//! | `current` | whose code this thread is running |
//! | `types` | what is known of an actor type |
//!
//! - **C-1 (one at a time).** A cell has at most one entry in all run queues together, and exactly one while `Queued`;
//!   only the runner that set `Running` touches its body, actor and context until it publishes another state.
//! - **C-2 (nothing lost).** An envelope leaves a mailbox to be handled or to be given back, and is never just dropped.
//! - **C-3 (as data).** Mailbox entries, timers, children and pending replies can be written as bytes at any time
//!   between two messages.
#![expect(
    unsafe_code,
    reason = "futures are polled in place and messages lie unboxed in mailboxes: measured four times as fast as boxes"
)]

pub(crate) mod cell;
pub(crate) mod clock;
pub(crate) mod current;
pub(crate) mod envelope;
#[cfg_attr(not(test), expect(dead_code, reason = "moves use it; until they are built, its tests do"))]
pub(crate) mod freeze;
pub(crate) mod gate;
pub(crate) mod hash;
pub(crate) mod registry;
pub(crate) mod replies;
pub(crate) mod reply;
pub(crate) mod reply_to;
pub(crate) mod restarts;
pub(crate) mod run;
pub(crate) mod scheduler;
pub(crate) mod scratch;
pub(crate) mod timers;
pub(crate) mod types;
pub(crate) mod wire;

pub(crate) use cell::{AnyCell, Cell, CellPtr};
pub(crate) use envelope::{Entry, Envelope, Origin};
pub(crate) use reply::ReplyHandle;
pub use reply_to::ReplyTo;
pub(crate) use types::{ActorType, HandlerEntry};
