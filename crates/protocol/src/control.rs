//! Between a process (worker or client) and its agent: bodies of frames of kind `Control` and `Signal`, in postcard.
//!
//! Numbered fields: variants and fields are added at the end only; golden vectors hold them in place. The first frame
//! of a process is [`ToAgent::Hello`]; the agent answers [`FromAgent::Welcome`] or [`FromAgent::Refused`] and closes.
//!
//! ```text
//! worker                                   agent
//!   Hello { types, listeners, … }     ──▶
//!                                     ◀──  Welcome { place, blocks, … }, listening sockets by SCM_RIGHTS
//!   Listening                         ──▶  (the worker is ready)
//!   Create, Find, Lease, Ended, …     ◀─▶  Start, Stopping, Resolved, answers
//! ```

use crate::{
    address::{Address, Direct},
    counts::Counts,
    dead_letter::DeadLetter,
    frame::Codec,
    host::HostInfo,
    id::{Boot, ConventionId, NodeId, Serial, WorkerId},
    reason::{ExitCause, Reason},
    time::Time,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a worker or client says to its agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ToAgent {
    /// The first message of a process.
    Hello(Hello),
    /// The worker has taken its listening sockets and serves.
    Listening,
    /// Place and start an actor. Answered by [`FromAgent::Created`].
    Create {
        /// Chosen by the process; comes back with the answer.
        request: u64,
        /// What to create.
        spec: Spec,
    },
    /// Look a global name up, creating nothing. Answered by [`FromAgent::Found`].
    Find {
        /// Comes back with the answer.
        request: u64,
        /// The whole global name.
        name: Arc<str>,
    },
    /// Lease another block of serials. Answered by [`FromAgent::Leased`].
    Lease {
        /// Comes back with the answer.
        request: u64,
    },
    /// An actor that the agent started is running.
    Started {
        /// Which.
        serial: Serial,
    },
    /// An actor with a record at the agent has ended; its unhandled messages were sent before this, as `Returned`.
    Ended {
        /// Which.
        serial: Serial,
        /// Why.
        cause: ExitCause,
        /// Whether `start` answered `NotFound`: the name is to be freed without a trace.
        not_found: bool,
    },
    /// An actor with a record has begun to stop: what arrives for its name is to be held for the successor.
    Stopping {
        /// Which.
        serial: Serial,
    },
    /// The worker's own capabilities, replacing earlier ones.
    Capabilities(Vec<(String, Value)>),
    /// Stop or kill an actor by address, named, direct or troupe.
    End {
        /// Which.
        target: Address,
        /// At once, without what is queued and without `stopping`.
        kill: bool,
    },
    /// An operator's request. Answered by [`FromAgent::Admin`].
    Admin {
        /// Comes back with the answer.
        request: u64,
        /// The command line's words as JSON, `{"command": "hosts"}`.
        json: String,
    },
    /// The answer to [`FromAgent::List`].
    Listed {
        /// From the question.
        request: u64,
        /// One entry an actor.
        actors: Vec<ActorInfo>,
    },
    /// The worker has finished stopping and is about to exit.
    Stopped,
    /// A load report: messages waiting in all mailboxes.
    Load {
        /// Actors alive.
        actors: u64,
        /// Messages waiting.
        waiting: u64,
    },
    /// Report an end to [`FromAgent::ChildExited`] on behalf of a child whose parent is elsewhere.
    ChildEnded {
        /// The parent.
        parent: Direct,
        /// The child.
        child: Address,
        /// Why it ended.
        cause: ExitCause,
    },
    /// Whether this process wants to hear of messages that came back, on any host.
    ListenDeadLetters {
        /// From now on.
        listen: bool,
    },
    /// A message came back within this process; said only while [`FromAgent::DeadLettersWanted`].
    DeadLetter(Box<DeadLetter>),
    /// The process's messages so far, by how they ended: said when they have changed, about once a second at most, and
    /// before [`ToAgent::Stopped`].
    Counts(Box<Counts>),
    /// Since [`FromAgent::Lease`] ran out none of the process's named actors is in the middle of anything, and none
    /// begins or goes on before a later lease.
    AtRest {
        /// When the lease paused them, as it said.
        pause_at: Time,
    },
    /// From now on this process wants to hear of hosts: of those that are there first, then of each change.
    WatchHosts,
}

/// What an agent says to a worker or client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FromAgent {
    /// The process is admitted.
    Welcome(Welcome),
    /// It is not, and why; the socket is closed.
    Refused {
        /// What, why, what to do: one line.
        text: String,
    },
    /// The answer to [`ToAgent::Create`].
    Created {
        /// From the question.
        request: u64,
        /// The actor, or why there is none.
        result: Result<Placed, Refusal>,
    },
    /// The answer to [`ToAgent::Find`].
    Found {
        /// From the question.
        request: u64,
        /// Where the name is, nothing if nobody bears it. A dormant name is found without a place.
        result: Result<Option<Placed>, Refusal>,
    },
    /// The answer to [`ToAgent::Lease`].
    Leased {
        /// From the question.
        request: u64,
        /// The block.
        block: u64,
    },
    /// Start an actor. Frames for it follow on the same socket.
    Start(Start),
    /// Where a name is now; frames for it that the agent held were sent before this.
    Resolved {
        /// The whole global name.
        name: Arc<str>,
        /// The place.
        place: Direct,
        /// Its epoch.
        epoch: u64,
    },
    /// A name is no longer where it was.
    Unresolved {
        /// The whole global name.
        name: Arc<str>,
        /// The epoch that is gone.
        epoch: u64,
    },
    /// List the process's actors. Answered by [`ToAgent::Listed`].
    List {
        /// Comes back with the answer.
        request: u64,
    },
    /// Stop gracefully and exit.
    Stop,
    /// The answer to [`ToAgent::Admin`].
    Admin {
        /// From the question.
        request: u64,
        /// JSON, or what went wrong.
        result: Result<String, Refusal>,
    },
    /// An actor that one of this process's actors created elsewhere has ended.
    ChildExited {
        /// The parent.
        parent: Direct,
        /// The child.
        child: Address,
        /// Why.
        cause: ExitCause,
    },
    /// The members of a troupe that this process created or asked for.
    Troupe {
        /// The troupe.
        troupe: Direct,
        /// Its members.
        members: Vec<Direct>,
    },
    /// Processes or a host are gone: what was sent to actors there and is not settled may have run.
    Lost {
        /// The agent of the lost actors.
        node: NodeId,
        /// Its start; with no `blocks`, earlier starts are lost as well.
        boot: Boot,
        /// The blocks whose actors are lost; empty for all of that boot.
        blocks: Vec<u64>,
        /// Why.
        reason: Reason,
    },
    /// Until when this process's named actors may run, by `CLOCK_BOOTTIME`; said anew with every renewal.
    Lease {
        /// From here on no handler of a named actor may start.
        pause_at: Time,
        /// From here on a process with a named actor is ended unless it said [`ToAgent::AtRest`].
        kill_at: Time,
    },
    /// One actor is gone with its host's lease: what was sent to it and is not settled may have run. Others of that host
    /// may live on.
    PlaceLost {
        /// Where it was.
        place: Direct,
        /// Why.
        reason: Reason,
    },
    /// Whether anybody, on any host, wants to hear of messages that come back within this process.
    DeadLettersWanted {
        /// From now on.
        wanted: bool,
    },
    /// A message came back somewhere; said to processes that asked for it with [`ToAgent::ListenDeadLetters`].
    DeadLetter(Box<DeadLetter>),
    /// A host is there, and like this; said to processes that asked for it with [`ToAgent::WatchHosts`]. Of changes that
    /// follow each other closely only the last may be told.
    Host(Box<HostInfo>),
    /// A host is no longer there.
    HostGone {
        /// Its agent.
        node: NodeId,
    },
}

/// A lifecycle signal to one actor, the body of a frame of kind `Signal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Signal {
    /// Stop after what is queued.
    Stop,
    /// Stop now.
    Kill,
}

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Role {
    /// Runs actors.
    Worker,
    /// Only talks to them.
    Client,
}

/// The first message of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::PROTOCOL_VERSION`].
    pub protocol: u8,
    /// The Odeon version, for people.
    pub version: String,
    /// What the process is.
    pub role: Role,
    /// The executable's name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// The actor types that it runs.
    pub types: Vec<TypeInfo>,
    /// The listening sockets that it asks for: name and default address.
    pub listeners: Vec<(String, String)>,
    /// Capabilities that it gives its host.
    pub capabilities: Vec<(String, Value)>,
}

/// An actor type of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeInfo {
    /// `poll.question`.
    pub name: String,
    /// What it takes.
    pub messages: Vec<MessageInfo>,
    /// Declared defaults, used where a creation says nothing else.
    pub policy: Policy,
}

/// A message that an actor type takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageInfo {
    /// `poll.Response`.
    pub name: String,
    /// FNV-1a of the name.
    pub type_id: u64,
    /// Its schema.
    pub fingerprint: u64,
    /// The reply's schema; nothing for a tell.
    pub reply: Option<u64>,
}

/// What becomes of an actor in the cases that need a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What stopping does to its global name.
    pub on_stop: OnStop,
    /// After a panic or failure.
    pub restart: Restart,
    /// A process of its own.
    pub own_process: bool,
    /// Where it may run; empty for anywhere.
    pub requires: String,
    /// Set for troupes.
    pub troupe: Option<Troupe>,
}

/// What stopping does to a global name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnStop {
    /// The name is free.
    #[default]
    Free,
    /// The next message or creation starts it again, under a new epoch.
    Dormant,
}

/// Whether an actor is started again after a panic or failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// It ends, and its parent is told.
    #[default]
    Never,
    /// It is started again with its arguments, at most `max` times in `within_ms`; then it ends.
    UpTo {
        /// How often.
        max: u32,
        /// In how many milliseconds.
        within_ms: u32,
    },
}

/// The size of a troupe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Troupe {
    /// At most so many members.
    pub max: u32,
    /// Idle members above this number retire.
    pub idle: u32,
}

/// What to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The type's name.
    pub type_name: Arc<str>,
    /// Its arguments.
    pub args: Vec<u8>,
    /// How they are written.
    pub codec: WireCodec,
    /// The whole global name, if it is to bear one.
    pub global_name: Option<Arc<str>>,
    /// Only on this host, by name.
    pub on: Option<String>,
    /// On this actor's host, if it fits.
    pub near: Option<Direct>,
    /// Replaces the type's policy.
    pub policy: Option<Policy>,
    /// Who is told of its end.
    pub parent: Direct,
    /// Milliseconds that the creator waits.
    pub remaining_ms: u32,
}

/// [`Codec`] as a field of a control message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireCodec {
    /// postcard.
    #[default]
    Postcard,
    /// JSON text.
    Json,
    /// The key of a global name: the type makes its arguments of it.
    Key,
}

impl From<WireCodec> for Codec {
    fn from(codec: WireCodec) -> Self {
        match codec {
            WireCodec::Postcard => Self::Postcard,
            WireCodec::Json => Self::Json,
            WireCodec::Key => Self::Raw,
        }
    }
}

/// Where an actor was placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// How it is reached from now on.
    pub address: Address,
    /// Whether this request made it (a name that lives already is answered with its bearer).
    pub created: bool,
    /// The host's name.
    pub host: String,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// The typed reason.
    pub reason: Reason,
    /// In words: what, why, what to do.
    pub text: String,
}

/// An actor for a worker to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Its place, assigned by the agent.
    pub serial: Serial,
    /// The type's name.
    pub type_name: Arc<str>,
    /// Its arguments.
    pub args: Vec<u8>,
    /// How they are written.
    pub codec: WireCodec,
    /// The global name, if it bears one.
    pub global_name: Option<Arc<str>>,
    /// The name's epoch; 0 without a name.
    pub epoch: u64,
    /// Who is told of its end.
    pub parent: Direct,
    /// What becomes of it.
    pub policy: Policy,
    /// Set if it is a member of that troupe.
    pub troupe: Option<Direct>,
}

/// The agent's answer to a `Hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The convention.
    pub convention: ConventionId,
    /// The host's name.
    pub host: String,
    /// The agent.
    pub node: NodeId,
    /// Its start.
    pub boot: Boot,
    /// What this process is called.
    pub worker: WorkerId,
    /// A block of serials to give to local children.
    pub block: u64,
    /// A block from which the agent assigns serials to actors it places here.
    pub placed_block: u64,
    /// The names of the listening sockets that follow, one descriptor each, in this order.
    pub listeners: Vec<String>,
    /// What the host can do.
    pub capabilities: Vec<(String, Value)>,
}

/// A capability's value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A number, in millionths, so that it compares exactly.
    Micros(i64),
    /// Anything else.
    Text(String),
}

/// One actor, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorInfo {
    /// Its number.
    pub serial: Serial,
    /// Its type's name.
    pub type_name: String,
    /// Its global name.
    pub global_name: Option<String>,
    /// The name's epoch.
    pub epoch: u64,
    /// Its parent, [`Direct::NONE`] without one.
    pub parent: Direct,
    /// Messages waiting.
    pub mailbox: u64,
    /// Messages handled.
    pub handled: u64,
}

/// Writes a control message as a frame's body.
#[must_use]
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Serialising these types into memory has no failing case: no maps of unknown length, no custom impls.
    postcard::to_stdvec(message).unwrap_or_default()
}

/// Reads a control message from a frame's body.
///
/// # Errors
/// The bytes are no such message, or bytes are left over.
pub fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, DecodeError> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(DecodeError { bytes: body.len(), why: format!("{} bytes are left over", rest.len()) }),
        Err(error) => Err(DecodeError { bytes: body.len(), why: error.to_string() }),
    }
}

/// Why a body is no control message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a control message of {bytes} bytes does not decode: {why}")]
pub struct DecodeError {
    /// The body's size.
    pub bytes: usize,
    /// What the decoder said.
    pub why: String,
}

#[cfg(test)]
mod tests;
