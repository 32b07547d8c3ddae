//! What goes wrong in a run, and in which phases it may meet the messages.

use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Nothing passes between two hosts.
    Cut,
    /// Nothing passes one way.
    OneWayCut,
    /// Packets between two hosts are lost.
    Loss,
    /// The connection between two agents closes.
    Close,
    /// An agent does not run for a while.
    PauseAgent,
    /// A worker does not run for a while.
    PauseWorker,
    /// A worker's process is killed.
    KillWorker,
    /// A host goes down with all on it, and comes back.
    KillHost,
    /// A receiver becomes slow.
    Slow,
    /// A receiver with a global name stops; the next message starts it somewhere.
    Stop,
}

/// All faults.
pub const FAULTS: [Fault; 10] = [
    Fault::Cut,
    Fault::OneWayCut,
    Fault::Loss,
    Fault::Close,
    Fault::PauseAgent,
    Fault::PauseWorker,
    Fault::KillWorker,
    Fault::KillHost,
    Fault::Slow,
    Fault::Stop,
];

/// What is going on when a fault comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Messages are outstanding.
    Flowing,
    /// A sender waits for room, or for an answer.
    WindowFull,
    /// Messages wait for a name to be found or started.
    Unplaced,
    /// A receiver is stopping or has just stopped.
    Stopping,
    /// Two hosts have no connection.
    Unconnected,
    /// A sender waits to learn what a loss has taken.
    Fencing,
    /// A large message is on its way, and perhaps a part of it there.
    Large,
}

/// All phases.
pub const PHASES: [Phase; 7] = [
    Phase::Flowing,
    Phase::WindowFull,
    Phase::Unplaced,
    Phase::Stopping,
    Phase::Unconnected,
    Phase::Fencing,
    Phase::Large,
];

/// How long a cut lasts: mostly short, sometimes longer than anybody waits.
pub(super) fn cut(random: &mut crate::Random) -> Duration {
    let (from, to) = match random.below(10) {
        0..=4 => (50, 1_000),
        5..=7 => (1_000, 9_000),
        8 => (9_000, 20_000),
        _ => (20_000, 60_000),
    };
    Duration::from_millis(from + random.below(to - from))
}
