//! Between two agents, on their control connection: one request, one reply, in postcard.
//!
//! The stream of directory changes is not here: it is a long-lived stream of [`crate::directory::Delta`]s.

use crate::{
    address::{Address, Direct},
    control::{ActorInfo, Placed, Refusal, Spec, TypeInfo},
    dead_letter::DeadLetter,
    directory::{Answer, Command, Declaration, NameRecord},
    id::{Boot, NodeId, WorkerId},
    reason::ExitCause,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A child's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildEnd {
    /// The parent.
    pub parent: Direct,
    /// The child.
    pub child: Address,
    /// Why it ended.
    pub cause: ExitCause,
}

/// What one agent asks of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PeerRequest {
    /// Place and start an actor on the asked host. Answered by [`PeerReply::Placed`] as soon as it is placed.
    Place(Box<Spec>),
    /// Claim and start names that lost their host, from the leader. Answered by [`PeerReply::Adopted`].
    Adopt(Vec<Adoption>),
    /// Stop or kill an actor that lives on the asked host.
    End {
        /// Which.
        target: Address,
        /// At once.
        kill: bool,
    },
    /// The asked host's actors. Answered by [`PeerReply::Actors`].
    Actors,
    /// The asked host's workers. Answered by [`PeerReply::Workers`].
    Workers,
    /// The actor types that the asked host's workers run. Answered by [`PeerReply::Types`].
    Types,
    /// Actors ended whose parents live on the asked host. Answered by [`PeerReply::Done`] once they are taken.
    ChildrenEnded {
        /// The asker's start.
        boot: Boot,
        /// The asked agent's start, to which the parents belong.
        of: Boot,
        /// The number of the first of these, among all ends that this start of the asker tells the asked one.
        first: u64,
        /// Which, and why.
        ends: Vec<ChildEnd>,
    },
    /// Propose commands; only the leader takes them. Answered by [`PeerReply::Answers`].
    Propose(Vec<Command>),
    /// A name as the leader knows it, confirmed by a quorum. Answered by [`PeerReply::Name`].
    ReadName(Arc<str>),
    /// Renew a lease; only the leader takes it. Answered by [`PeerReply::Renewed`].
    Renew(Renewal),
    /// Digest of capability maps. Answered by [`PeerReply::Facts`]; both are written by `odeon-cluster`.
    Facts(Vec<u8>),
    /// Stop a worker process, or restart it.
    Worker {
        /// Which.
        worker: WorkerId,
        /// Whether it is started again.
        restart: bool,
    },
    /// The members of a troupe that the asked host keeps. Answered by [`PeerReply::Troupe`].
    Troupe {
        /// Which.
        troupe: Direct,
        /// Whether every member known to the asking host is busy.
        grow: bool,
        /// The members that the asking host used since it asked last.
        used: Vec<Direct>,
    },
    /// Worker processes of the asking host are gone: what was sent to their actors may have run.
    Lost {
        /// The asking agent's start.
        boot: Boot,
        /// The blocks of serials that are gone.
        blocks: Vec<u64>,
    },
    /// Messages that came back on the asking host, for whoever listens on the asked one.
    DeadLetters(Vec<DeadLetter>),
}

/// The answer to a [`PeerRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PeerReply {
    /// It was done.
    Done,
    /// It was not, and why.
    Refused(Refusal),
    /// The asked agent is not the leader; this one is, as far as it knows.
    NotLeader(Option<NodeId>),
    /// Where the actor was placed.
    Placed {
        /// How it is reached.
        placed: Placed,
        /// Its place now; [`Direct::NONE`] for a troupe.
        place: Direct,
        /// Its name's epoch; 0 without a name.
        epoch: u64,
    },
    /// The names that the host could not take, and why.
    Adopted {
        /// Name and reason.
        refused: Vec<(Arc<str>, Refusal)>,
    },
    /// Actors, each with its worker.
    Actors(Vec<(WorkerId, ActorInfo)>),
    /// Workers.
    Workers(Vec<WorkerInfo>),
    /// Actor types.
    Types(Vec<TypeInfo>),
    /// One answer a command, in order.
    Answers(Vec<Answer>),
    /// The name, if anybody bears it.
    Name(Option<Box<NameRecord>>),
    /// Whether the lease holds.
    Renewed(Renewed),
    /// What the asking agent did not know yet.
    Facts(Vec<u8>),
    /// A troupe.
    Troupe {
        /// Its members.
        members: Vec<Direct>,
        /// Whether it may grow.
        room: bool,
    },
}

/// A name to be started on the asked host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// The name.
    pub name: Arc<str>,
    /// The epoch that the claim has to follow.
    pub epoch: u64,
    /// What to start.
    pub declaration: Declaration,
}

/// A request to renew a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// Whose.
    pub node: NodeId,
    /// Its agent's start.
    pub boot: Boot,
    /// The generation that it works under.
    pub generation: u64,
    /// Comes back with the answer, so that the agent knows when it sent this one.
    pub number: u64,
}

/// The answer to a [`Renewal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Renewed {
    /// The lease holds, counted from when that renewal was sent.
    Held {
        /// From the renewal.
        number: u64,
    },
    /// The generation ran out: put every named actor to rest, then renew under this one.
    Lost {
        /// The member's generation now.
        generation: u64,
    },
    /// The boot is over: stop every worker and begin a new boot.
    BootOver,
    /// Not a member, or kept out.
    NotMember,
}

/// One worker process, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Which.
    pub worker: WorkerId,
    /// The executable's name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Actors alive in it.
    pub actors: u64,
    /// The types that it runs.
    pub types: Vec<String>,
    /// Its listening sockets: name and address.
    pub listeners: Vec<(String, String)>,
    /// How often it was started.
    pub starts: u32,
}
