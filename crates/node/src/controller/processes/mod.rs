//! Workers and clients: admitted, listed, lost.

mod admission;
mod counts;
mod lists;
mod loss;
mod units;

use crate::{config::WorkerCommand, workers::Order};
pub(super) use counts::Messages;
use counts::Said;
use odeon_protocol::{
    ExitCause, Serial, Time, WorkerId,
    control::{ActorInfo, Hello, TypeInfo, Value},
};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Workers that do not answer a question for their actors are left out of lists after so long.
const LIST_WAIT: Duration = Duration::from_secs(2);
/// The unit of workers that live in the agent's own process.
const EMBEDDED: u32 = 0;
/// Named actors whose names are lost end within this time, or their workers are ended.
const END_WAIT: Duration = Duration::from_secs(1);
/// An ended process's link is read to its end within this time.
const LINK_WAIT: Duration = Duration::from_secs(2);

/// A worker executable that is kept running.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) command: WorkerCommand,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) worker: Option<WorkerId>,
    pub(super) pid: u32,
    pub(super) starts: u32,
    pub(super) state: UnitState,
    /// Why its last process was not admitted or ended.
    pub(super) why: Option<String>,
    /// The types of its last worker.
    pub(super) types: Vec<String>,
    /// It runs one actor in a process of its own.
    pub(super) dedicated: bool,
}

/// Where a unit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnitState {
    Starting,
    Running,
    Waiting,
    Stopping,
}

impl UnitState {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Stopping => "stopping",
        }
    }
}

impl Unit {
    /// Whether a worker that runs the type will be registered again without anybody's doing.
    pub(super) fn brings(&self, type_name: &str) -> bool {
        !self.dedicated && self.state != UnitState::Stopping && self.types.iter().any(|known| known == type_name)
    }
}

/// An admitted worker process.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) name: String,
    pub(super) unit: u32,
    pub(super) pid: u32,
    pub(super) types: Vec<TypeInfo>,
    pub(super) capabilities: Vec<(String, Value)>,
    pub(super) actors: u64,
    pub(super) waiting: u64,
    /// Its messages, as it last said.
    pub(super) said: Said,
    /// The actors that it said last it had.
    reported: u64,
    /// The next serial for actors placed here.
    next: Serial,
    /// The last serial of the block that these come from.
    last: Serial,
    admitted: bool,
    pub(super) dedicated: bool,
    /// The end of a lease since which its named actors rest.
    rests_since: Option<Time>,
    /// Its link has ended.
    closed: bool,
    /// Its process has ended, so.
    ended: Option<ExitCause>,
    pub(super) stopping: bool,
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    name: String,
    pid: u32,
    /// Its messages, as it last said.
    said: Said,
}

/// A list of actors in the making.
#[derive(Debug)]
pub(super) struct Listing {
    missing: Vec<WorkerId>,
    found: Vec<(WorkerId, ActorInfo)>,
    reply: oneshot::Sender<Vec<(WorkerId, ActorInfo)>>,
}

impl Worker {
    fn new(hello: &Hello, (unit, pid, dedicated): (u32, u32, bool), placed_block: u64) -> Self {
        let mut worker = Self {
            name: hello.name.clone(),
            unit,
            pid,
            types: hello.types.clone(),
            capabilities: hello.capabilities.clone(),
            actors: 0,
            waiting: 0,
            said: Said::default(),
            reported: 0,
            next: Serial(0),
            last: Serial(0),
            admitted: false,
            dedicated,
            rests_since: None,
            closed: false,
            ended: None,
            stopping: false,
        };
        worker.take_block(placed_block);
        worker
    }

    fn take_block(&mut self, block: u64) {
        let first = Serial::first_of(block);
        (self.next, self.last) = (first, Serial(first.0 + Serial::BLOCK - 1));
    }

    fn is_block_used_up(&self) -> bool {
        self.next > self.last
    }

    /// Whether it was let in.
    pub(super) fn is_admitted(&self) -> bool {
        self.admitted
    }

    /// Whether actors may be placed in it.
    pub(super) fn takes_actors(&self) -> bool {
        self.admitted && !self.closed && !self.stopping && self.ended.is_none()
    }
}
