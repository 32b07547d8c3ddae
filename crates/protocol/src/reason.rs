//! Why a message came back, and why an actor ended. Numbers on the wire are never reused.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why the runtime gave a message back.
///
/// On the wire a reason is its number (`as u16`); whether the handler may have run travels beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u16)]
#[non_exhaustive]
pub enum Reason {
    /// No actor at that address, and none will come.
    NoSuchActor = 1,
    /// The actor stopped before it took the message.
    ActorStopped = 2,
    /// The worker process ended.
    WorkerLost = 3,
    /// The host is gone for good.
    HostLost = 4,
    /// The host cannot be reached now.
    Unreachable = 5,
    /// The time given ran out.
    Deadline = 6,
    /// A newer instance of the sender or receiver exists.
    Fenced = 7,
    /// The receiver's mailbox stayed full.
    Full = 8,
    /// Larger than a limit.
    TooBig = 9,
    /// The receiver has no handler for this type, or another version of it.
    Unsupported = 10,
    /// The body does not decode as its type.
    Decode = 11,
    /// The handler answered an error, or panicked.
    Failed = 12,
    /// The actor moved; to be sent again to its new place. Users never see it.
    Moved = 13,
    /// The global name cannot be granted: no majority of the voters is reached.
    NoQuorum = 14,
    /// The actor's start failed.
    StartFailed = 15,
    /// No host fits the requirements.
    NoHost = 16,
    /// No such type is registered anywhere that could be asked.
    NoSuchType = 17,
    /// A frame that breaks the protocol.
    Protocol = 18,
    /// Actors ask each other in a circle.
    Cycle = 19,
    /// The actor's `start` answered that there is nothing of that name; the name is free again.
    NotFound = 20,
    /// The global name is borne by an actor of another type.
    Taken = 21,
}

impl Reason {
    /// All reasons, by their numbers.
    pub const ALL: [Self; 21] = [
        Self::NoSuchActor,
        Self::ActorStopped,
        Self::WorkerLost,
        Self::HostLost,
        Self::Unreachable,
        Self::Deadline,
        Self::Fenced,
        Self::Full,
        Self::TooBig,
        Self::Unsupported,
        Self::Decode,
        Self::Failed,
        Self::Moved,
        Self::NoQuorum,
        Self::StartFailed,
        Self::NoHost,
        Self::NoSuchType,
        Self::Protocol,
        Self::Cycle,
        Self::NotFound,
        Self::Taken,
    ];

    /// The reason with that number on the wire.
    #[must_use]
    pub fn from_wire(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// Its word in JSON and in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoSuchActor => "no_such_actor",
            Self::ActorStopped => "actor_stopped",
            Self::WorkerLost => "worker_lost",
            Self::HostLost => "host_lost",
            Self::Unreachable => "unreachable",
            Self::Deadline => "deadline",
            Self::Fenced => "fenced",
            Self::Full => "full",
            Self::TooBig => "too_big",
            Self::Unsupported => "unsupported",
            Self::Decode => "decode",
            Self::Failed => "handler_failed",
            Self::Moved => "moved",
            Self::NoQuorum => "no_quorum",
            Self::StartFailed => "start_failed",
            Self::NoHost => "no_host",
            Self::NoSuchType => "no_such_type",
            Self::Protocol => "protocol",
            Self::Cycle => "cycle",
            Self::NotFound => "not_found",
            Self::Taken => "name_taken",
        }
    }

    /// The reason with that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.word() == word)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchActor => "no such actor",
            Self::ActorStopped => "the actor stopped",
            Self::WorkerLost => "its worker process ended",
            Self::HostLost => "its host is lost",
            Self::Unreachable => "its host cannot be reached",
            Self::Deadline => "the time ran out",
            Self::Fenced => "a newer instance exists",
            Self::Full => "the mailbox is full",
            Self::TooBig => "the message is too big",
            Self::Unsupported => "the actor does not take this message",
            Self::Decode => "the message does not decode",
            Self::Failed => "the handler failed",
            Self::Moved => "the actor moved",
            Self::NoQuorum => "no majority of the voters is reached",
            Self::StartFailed => "the actor's start failed",
            Self::NoHost => "no host fits the requirements",
            Self::NoSuchType => "no host knows this type",
            Self::Protocol => "the frame breaks the protocol",
            Self::Taken => "the global name is borne by an actor of another type",
            Self::Cycle => "actors ask each other in a circle",
            Self::NotFound => "there is nothing of that name",
        })
    }
}

/// Why an actor ended; told to its parent exactly once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ExitCause {
    /// It was stopped, or stopped itself.
    Stopped,
    /// It was killed by `kill()`.
    Killed,
    /// A handler or hook panicked, and the policy did not restart it.
    Panicked(String),
    /// `start` failed.
    NeverStarted(String),
    /// A lifecycle hook answered an error, and the policy did not restart it.
    Failed(String),
    /// Its worker process ended by itself.
    WorkerExited {
        /// The exit code.
        code: i32,
    },
    /// Its worker process was ended by a signal.
    WorkerKilled {
        /// The signal's number.
        signal: i32,
    },
    /// Its host is gone for good.
    HostLost,
    /// A newer instance of its name was granted.
    Fenced,
    /// Its host was drained.
    Drained,
    /// Its host no longer meets its requirement; the text says what it lacks.
    Unfit(String),
}

impl fmt::Display for ExitCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::Killed => f.write_str("killed"),
            Self::Panicked(text) => write!(f, "panicked: {text}"),
            Self::NeverStarted(text) => write!(f, "never started: {text}"),
            Self::Failed(text) => write!(f, "failed: {text}"),
            Self::WorkerExited { code } => write!(f, "its worker process exited with code {code}"),
            Self::WorkerKilled { signal } => write!(f, "its worker process was killed by signal {signal}"),
            Self::HostLost => f.write_str("its host is lost"),
            Self::Fenced => f.write_str("fenced by a newer instance"),
            Self::Drained => f.write_str("drained"),
            Self::Unfit(lacks) => write!(f, "its host no longer fits: {lacks}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_numbers_are_read_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_wire(reason as u16), Some(reason));
            assert_eq!(Reason::from_word(reason.word()), Some(reason));
        }
        assert_eq!(Reason::from_wire(0), None);
        assert_eq!(Reason::from_wire(22), None);
    }
}
