//! Flows: who may send how much, and what has become of it.
//!
//! A *flow* is all messages of one sender to one receiver in another process. The sender's side ([`Sending`]) numbers
//! them and lets at most [`FLOW_WINDOW`](odeon_protocol::limits::FLOW_WINDOW) be outstanding; the receiver's side ([`Ledger`]) knows which have ended and
//! tells so in ranges. One report is credit and ledger. Both sides forget a flow that has nothing outstanding.
//!
//! Nothing here does I/O or knows the time.
//!
//! - **FL-1.** At most [`FLOW_WINDOW`](odeon_protocol::limits::FLOW_WINDOW) numbers of messages lie between the oldest
//!   outstanding one and the newest, and with fences at most [`Ring::BITS`](odeon_protocol::ring::Ring::BITS).
//!   At most [`FLOW_LARGE_BYTES`](odeon_protocol::limits::FLOW_LARGE_BYTES) of large ones are outstanding, or one message.
//! - **FL-2.** A number is told settled only after [`Ledger::end`]; telling twice changes nothing at the sender.
//! - **FL-3.** Once every message was settled or given back the sender has nothing outstanding, in whichever order and
//!   from however many receivers the reports came.
//! - **FL-4.** A flow changes its route only when it has nothing outstanding, save from *by the agent* to the first place
//!   that the agent named after the flow opened: there the agent has sent what it held. While the name has no place
//!   again, or a second one, the flow waits.
//! - **FL-5.** Who waits is woken when there is room; when nothing is outstanding all are.
//! - **FL-6.** A number has one end: settled, back, or lost. What comes later for it changes nothing.
//! - **FL-7.** Both sides count each message once, under its one end ([`Counts`](odeon_protocol::Counts)); fences are
//!   counted nowhere.
//!
//! # Fences
//!
//! When a receiver is lost with its process, some of its messages may still be on their way back, or to a successor, and
//! only the rest is lost. To tell them apart, a *fence*, an empty message with the flow's next number, goes the way that
//! they went. It stays behind them in every queue; once it has ended, wherever, what is still outstanding is lost. Until
//! then the flow takes no messages. A fence may itself be lost with a second receiver; then it is sent again.

mod receiver;
mod sender;
#[cfg(test)]
mod tests;

use odeon_protocol::{address::Direct, frame::FLOW_ORDER_BITS, id::Serial};
pub(crate) use receiver::{Ended, Ledger, Report};
pub(crate) use sender::{End, Fence, News, Sending, Via};
use std::{hash::Hash, sync::Arc};

/// Who is sent to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// An actor by its place.
    Direct(Direct),
    /// An actor by its global name.
    Name(Arc<str>),
    /// A troupe.
    Troupe(Direct),
}

/// Where a flow's messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To the agent, which resolves the name or picks the member.
    Agent,
    /// To that place, under that epoch.
    Place(Direct, u64),
}

/// A target's present route, as the names cache sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) route: Route,
    /// The cache's version.
    pub(crate) version: u64,
    /// The versions in which the target got this route, and the one before.
    pub(crate) since: u64,
    pub(crate) before: u64,
}

impl Now {
    /// A route that never changes.
    pub(crate) const fn fixed(route: Route) -> Self {
        Self { route, version: 0, since: 0, before: 0 }
    }
}

/// The numbers to write into a message's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) flow: u32,
    pub(crate) sequence: u32,
    pub(crate) opens: bool,
    pub(crate) route: Route,
    /// Whether half of the window is used up by it, or all, so that a report is wanted as soon as it has ended.
    pub(crate) report: bool,
}

/// Whether a message may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Now, with these numbers.
    Go(Numbers),
    /// Not yet: the window is used up, or the route is about to change.
    Wait,
    /// Not at all: as many flows are open as may be.
    TooMany,
}
/// Who sends to whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlowKey {
    pub(crate) from: Serial,
    pub(crate) to: Target,
    /// 0, and more for messages that must not wait while the first window is used up; at most [`LANES_MAX`].
    pub(crate) lane: u32,
}

/// Flows beside one another for what must not wait. Their numbers say that they keep one order.
pub(crate) const LANES_MAX: u32 = (1 << (u32::BITS - FLOW_ORDER_BITS)) - 1;

/// What of a key [`Sending`] looks at.
pub(crate) trait Lane: Clone + Eq + Hash {
    /// Which of the flows beside one another it is.
    fn lane(&self) -> u32;
    /// The first of them.
    fn first(&self) -> Self;
}

impl Lane for FlowKey {
    fn lane(&self) -> u32 {
        self.lane
    }

    fn first(&self) -> Self {
        Self { lane: 0, ..self.clone() }
    }
}
