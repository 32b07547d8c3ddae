//! What wakes the controller: one closed set of events, in one queue, in order.

use crate::{router::Waits, workers};
use bytes::Bytes;
use odeon_protocol::{
    Direct, NodeId, WorkerId,
    control::{Hello, Welcome},
    frame::Frame,
    peer::{PeerReply, PeerRequest},
};
use std::{fmt, os::fd::OwnedFd, sync::Arc};
use tokio::sync::oneshot;

/// See the module's head.
#[derive(Debug)]
pub(crate) enum Event {
    /// A process says something to its agent.
    Control { process: WorkerId, body: Bytes, waits: Option<Waits> },
    /// Frames wait for a name. To be answered to the router by `resolved` or `missing`.
    Missed {
        name: Arc<str>,
        /// Whether it is to be started if nobody bears it.
        starts: bool,
        /// Whether what was known of it turned out wrong.
        stale: bool,
    },
    /// Frames wait for a troupe's members. To be answered by `troupe` or `troupe_missing`.
    TroupeMissed { troupe: Direct },
    /// Every member of a troupe has something in hand. To be answered by `troupe`.
    TroupeBusy { troupe: Direct },
    /// A signal for a troupe: all its members are to end.
    TroupeSignal {
        troupe: Direct,
        /// The signal, encoded.
        body: Bytes,
    },
    /// A message came back and goes on to its sender, or would if there still were one; said while somebody listens.
    CameBack {
        /// The frame of kind `Returned`.
        frame: Box<Frame>,
        /// How many came back since the last and are not told of.
        missed: u64,
    },
    /// So much waits for another agent that answers to it are dropped; said once for each boot of it.
    AnswersDropped { node: NodeId },
    /// A process's link has ended; everything it said was taken.
    Closed { process: WorkerId, why: Option<String> },
    /// A process's blocks of serials are gone with it.
    Lost { process: WorkerId, blocks: Vec<u64> },

    /// A process asks to be admitted.
    Hello {
        process: WorkerId,
        greeting: Greeting,
        hello: Box<Hello>,
        reply: oneshot::Sender<Result<Admission, String>>,
    },
    /// Its link is the router's: it may be sent to.
    Admitted { process: WorkerId },
    /// A unit started a process.
    UnitStarted { unit: u32, worker: WorkerId, pid: u32 },
    /// A unit's process has ended.
    ProcessEnded { unit: u32, worker: WorkerId, admitted: bool, end: workers::End },
    /// A unit waits before its next start.
    UnitWaits { unit: u32, why: Option<String> },
    /// A unit starts no more processes.
    UnitEnded { unit: u32 },

    /// Another agent asks.
    Peer { from: NodeId, request: PeerRequest, reply: oneshot::Sender<PeerReply> },
    /// Whether another agent is reached.
    Reachable { node: NodeId, reachable: bool },

    /// Something that the controller began elsewhere has ended.
    Done(Continuation),
}

/// What goes on in the controller when something that it began has ended.
pub(crate) struct Continuation(pub(crate) Box<dyn FnOnce(&mut crate::controller::Controller) + Send>);

impl fmt::Debug for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Continuation")
    }
}

/// How a process came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// A unit started it.
    Worker { unit: u32, pid: u32 },
    /// It connected to the agent's socket.
    Client,
    /// It lives in the agent's own process.
    Embedded,
}

/// The controller's yes to a `Hello`.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) welcome: Box<Welcome>,
    pub(crate) name: String,
    /// The listening sockets, in the order of `welcome.listeners`.
    pub(crate) descriptors: Vec<OwnedFd>,
}
