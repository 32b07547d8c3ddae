//! What can go wrong, as one enum: each variant says what happened to the message.
//!
//! - **E-1 (did it run).** [`Error::may_have_run`] is `false` only where the handler is known not to have started.
//! - **E-2 (one level).** `Display` prints its own level in lower case, without a full stop; causes hang on `source()`,
//!   and [`chain`] prints them all. `Debug` prints the chain too, so that `fn main() -> odeon::Result` reads well.
//! - **E-3 (by wire).** [`Error::reason`], [`Error::text`] and [`Error::may_have_run`] are an error's form between
//!   processes; [`Error::from_wire`] reads it back.

use odeon_protocol::{Reason, control::Refusal};
use std::{error::Error as StdError, fmt, sync::Arc};

/// What Odeon's fallible operations answer.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Why an `ask` got no reply: [`Error`] by the name of the operation, so that `AskError::Handler(..)` reads well.
pub type AskError = Error;

/// What went wrong, and whether the message may have run all the same.
///
/// Texts name the actor, the message or the host concerned and say what to do, where something can be done.
#[derive(Clone)]
#[non_exhaustive]
pub enum Error {
    /// What was looked for does not exist. Answered by `start`, it says that there is no such actor and none is to be
    /// kept under that name.
    NotFound,
    /// No actor has that address, and none will. Not handled.
    NoSuchActor(String),
    /// The actor stopped before it answered.
    ActorStopped {
        /// Which actor, and what was asked of it.
        text: String,
        /// Whether its handler may have run.
        may_have_run: bool,
    },
    /// The actor's worker process ended.
    WorkerLost {
        /// Which actor or worker.
        text: String,
        /// Whether its handler may have run.
        may_have_run: bool,
    },
    /// The actor's host is gone for good.
    HostLost {
        /// Which actor or host.
        text: String,
        /// Whether its handler may have run.
        may_have_run: bool,
    },
    /// The actor's host cannot be reached now; it may come back.
    Unreachable {
        /// Which actor or host.
        text: String,
        /// Whether its handler may have run.
        may_have_run: bool,
    },
    /// The time given ran out.
    Deadline {
        /// What was waited for, and how long.
        text: String,
        /// Whether its handler may have run.
        may_have_run: bool,
    },
    /// A newer instance of the sender's or receiver's global name exists.
    Fenced {
        /// Which name.
        text: String,
        /// Whether its handler may have run.
        may_have_run: bool,
    },
    /// The receiver's mailbox stayed full. Not handled.
    Full(String),
    /// The message, or its reply, is larger than a limit.
    TooBig {
        /// How large, and what is allowed.
        text: String,
        /// Whether its handler may have run: it has if the reply is too big.
        may_have_run: bool,
    },
    /// The actor takes no such message, or another version of it. Not handled.
    Unsupported(String),
    /// The message, or its reply, does not decode as its type.
    Decode {
        /// Which type, and where it failed.
        text: String,
        /// Whether its handler may have run: it has if the reply does not decode.
        may_have_run: bool,
    },
    /// The handler ran and answered an error, panicked, or dropped its `ReplyTo`.
    Handler(String),
    /// A global name cannot be granted while no majority of the voters is reached.
    NoQuorum(String),
    /// The actor's `start` failed. Not handled.
    StartFailed(String),
    /// No host fits the requirements. Nothing was created.
    NoHost(String),
    /// No worker that could be asked runs actors of that type. Nothing was created.
    NoSuchType(String),
    /// Actors ask each other in a circle and would wait for ever; the text names them. Not handled.
    Cycle(String),
    /// A reference was decoded outside any system; `system.bind(&reference)` gives it one. Not handled.
    Unbound(String),
    /// The other side broke the protocol.
    Protocol {
        /// How.
        text: String,
        /// Whether its handler may have run.
        may_have_run: bool,
    },
    /// Anything else, usually an error of the user's own; see [`Error::other`].
    Other(Arc<dyn StdError + Send + Sync>),
}

impl Error {
    /// Wraps an error of another kind, or a text.
    ///
    /// ```
    /// let error = odeon::Error::other("the archive is closed");
    /// assert_eq!(error.to_string(), "the archive is closed");
    /// ```
    pub fn other(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Other(Arc::from(error.into()))
    }

    /// The error for a typed reason; the handler did not run.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self::from_wire(reason, text, false)
    }

    /// Reads an error's form between processes.
    pub fn from_wire(reason: Reason, text: impl Into<String>, may_have_run: bool) -> Self {
        let text = text.into();
        match reason {
            Reason::NotFound => Self::NotFound,
            Reason::NoSuchActor => Self::NoSuchActor(text),
            Reason::ActorStopped => Self::ActorStopped { text, may_have_run },
            Reason::WorkerLost => Self::WorkerLost { text, may_have_run },
            Reason::HostLost => Self::HostLost { text, may_have_run },
            Reason::Unreachable => Self::Unreachable { text, may_have_run },
            Reason::Deadline => Self::Deadline { text, may_have_run },
            Reason::Fenced => Self::Fenced { text, may_have_run },
            Reason::Full => Self::Full(text),
            Reason::TooBig => Self::TooBig { text, may_have_run },
            Reason::Unsupported => Self::Unsupported(text),
            Reason::Decode => Self::Decode { text, may_have_run },
            Reason::Failed => Self::Handler(text),
            Reason::NoQuorum => Self::NoQuorum(text),
            Reason::StartFailed => Self::StartFailed(text),
            Reason::NoHost => Self::NoHost(text),
            Reason::NoSuchType => Self::NoSuchType(text),
            Reason::Cycle => Self::Cycle(text),
            // `Moved` is settled inside the runtime; a user who sees it sees a broken peer. So do reasons of later versions.
            _ => Self::Protocol { text, may_have_run },
        }
    }

    /// The typed reason that stands for this error between processes.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotFound => Reason::NotFound,
            Self::NoSuchActor(_) => Reason::NoSuchActor,
            Self::ActorStopped { .. } => Reason::ActorStopped,
            Self::WorkerLost { .. } => Reason::WorkerLost,
            Self::HostLost { .. } => Reason::HostLost,
            Self::Unreachable { .. } => Reason::Unreachable,
            Self::Deadline { .. } => Reason::Deadline,
            Self::Fenced { .. } => Reason::Fenced,
            Self::Full(_) => Reason::Full,
            Self::TooBig { .. } => Reason::TooBig,
            Self::Unsupported(_) => Reason::Unsupported,
            Self::Decode { .. } => Reason::Decode,
            Self::Handler(_) | Self::Unbound(_) | Self::Other(_) => Reason::Failed,
            Self::NoQuorum(_) => Reason::NoQuorum,
            Self::StartFailed(_) => Reason::StartFailed,
            Self::NoHost(_) => Reason::NoHost,
            Self::NoSuchType(_) => Reason::NoSuchType,
            Self::Cycle(_) => Reason::Cycle,
            Self::Protocol { .. } => Reason::Protocol,
        }
    }

    /// Which actor, message or host it is about and what to do, without the kind; for a wrapped error, its chain.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::NotFound => "not found".to_owned(),
            Self::NoSuchActor(text)
            | Self::Full(text)
            | Self::Unsupported(text)
            | Self::Handler(text)
            | Self::NoQuorum(text)
            | Self::StartFailed(text)
            | Self::NoHost(text)
            | Self::NoSuchType(text)
            | Self::Cycle(text)
            | Self::Unbound(text)
            | Self::ActorStopped { text, .. }
            | Self::WorkerLost { text, .. }
            | Self::HostLost { text, .. }
            | Self::Unreachable { text, .. }
            | Self::Deadline { text, .. }
            | Self::Fenced { text, .. }
            | Self::TooBig { text, .. }
            | Self::Decode { text, .. }
            | Self::Protocol { text, .. } => text.clone(),
            Self::Other(error) => chain(&**error),
        }
    }

    /// Whether the handler may have run in spite of the error.
    ///
    /// `false` says that it did not start, so that sending again cannot do anything twice.
    #[must_use]
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::ActorStopped { may_have_run, .. }
            | Self::WorkerLost { may_have_run, .. }
            | Self::HostLost { may_have_run, .. }
            | Self::Unreachable { may_have_run, .. }
            | Self::Deadline { may_have_run, .. }
            | Self::Fenced { may_have_run, .. }
            | Self::TooBig { may_have_run, .. }
            | Self::Decode { may_have_run, .. }
            | Self::Protocol { may_have_run, .. } => *may_have_run,
            Self::Handler(_) | Self::Other(_) => true,
            Self::NotFound
            | Self::NoSuchActor(_)
            | Self::Full(_)
            | Self::Unsupported(_)
            | Self::NoQuorum(_)
            | Self::StartFailed(_)
            | Self::NoHost(_)
            | Self::NoSuchType(_)
            | Self::Cycle(_)
            | Self::Unbound(_) => false,
        }
    }

    /// The same error with [`Error::may_have_run`] set, where the variant leaves it open.
    #[must_use]
    pub fn having_run(self, may_have_run: bool) -> Self {
        match self {
            Self::Handler(_) | Self::Other(_) | Self::Unbound(_) => self,
            other => Self::from_wire(other.reason(), other.text(), may_have_run),
        }
    }

    /// The status with which a web server should answer.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self {
            Self::NotFound | Self::NoSuchActor(_) | Self::NoSuchType(_) => 404,
            Self::TooBig { .. } => 413,
            Self::Unsupported(_) | Self::Decode { .. } => 422,
            Self::Full(_) => 429,
            Self::Handler(_) | Self::StartFailed(_) | Self::Cycle(_) | Self::Unbound(_) | Self::Other(_) => 500,
            Self::Protocol { .. } => 502,
            Self::ActorStopped { .. }
            | Self::WorkerLost { .. }
            | Self::HostLost { .. }
            | Self::Unreachable { .. }
            | Self::Fenced { .. }
            | Self::NoQuorum(_)
            | Self::NoHost(_) => 503,
            Self::Deadline { .. } => 504,
        }
    }

    /// The variant's name in lower case, as JSON answers and metrics show it: `no_such_actor`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.words().0
    }

    /// Kind, and what `Display` begins with.
    fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::NotFound => ("not_found", "not found"),
            Self::NoSuchActor(_) => ("no_such_actor", "no such actor"),
            Self::ActorStopped { .. } => ("actor_stopped", "the actor stopped"),
            Self::WorkerLost { .. } => ("worker_lost", "the worker process ended"),
            Self::HostLost { .. } => ("host_lost", "the host is lost"),
            Self::Unreachable { .. } => ("unreachable", "the host cannot be reached"),
            Self::Deadline { .. } => ("deadline", "the time ran out"),
            Self::Fenced { .. } => ("fenced", "a newer instance exists"),
            Self::Full(_) => ("full", "the mailbox is full"),
            Self::TooBig { .. } => ("too_big", "too big"),
            Self::Unsupported(_) => ("unsupported", "not a message of this actor"),
            Self::Decode { .. } => ("decode", "does not decode"),
            Self::Handler(_) => ("handler", "the handler failed"),
            Self::NoQuorum(_) => ("no_quorum", "no majority of the voters is reached"),
            Self::StartFailed(_) => ("start_failed", "the actor did not start"),
            Self::NoHost(_) => ("no_host", "no host fits"),
            Self::NoSuchType(_) => ("no_such_type", "no such actor type"),
            Self::Cycle(_) => ("cycle", "actors ask each other in a circle"),
            Self::Unbound(_) => ("unbound", "the reference belongs to no system"),
            Self::Protocol { .. } => ("protocol", "the protocol was broken"),
            Self::Other(_) => ("other", ""),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str(self.words().1),
            Self::Other(error) => fmt::Display::fmt(error, f),
            _ => {
                let (what, text) = (self.words().1, self.text());
                if text.is_empty() { f.write_str(what) } else { write!(f, "{what}: {text}") }
            }
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(self))
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            // `Display` shows the wrapped error itself, so what comes next is its cause.
            Self::Other(error) => error.source(),
            _ => None,
        }
    }
}

/// An error and all its causes in one line.
#[must_use]
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.reason, refusal.text)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { reason: error.reason(), text: error.text() }
    }
}

impl From<(Reason, String)> for Error {
    fn from((reason, text): (Reason, String)) -> Self {
        Self::new(reason, text)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::other(error)
    }
}

/// A message that was not sent, given back with the reason. Its handler did not run.
///
/// `?` turns it into [`Error`] and drops the message.
pub struct TellError<M> {
    /// The message.
    pub message: M,
    /// Why it was not sent.
    pub error: Error,
}

impl<M> TellError<M> {
    /// Gives `message` back because of `error`.
    pub fn new(message: M, error: Error) -> Self {
        Self { message, error }
    }
}

impl<M> fmt::Display for TellError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl<M> fmt::Debug for TellError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was not sent: {:?}", std::any::type_name::<M>(), self.error)
    }
}

impl<M> StdError for TellError<M> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

impl<M> From<TellError<M>> for Error {
    fn from(back: TellError<M>) -> Self {
        back.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_crosses_the_wire_comes_back_the_same() {
        for number in 1..=64 {
            let Some(reason) = Reason::from_wire(number) else { continue };
            for ran in [false, true] {
                let error = Error::from_wire(reason, "poll.question/pizza", ran);
                let back = Error::from_wire(error.reason(), error.text(), error.may_have_run());
                assert_eq!((back.kind(), back.text()), (error.kind(), error.text()));
                assert_eq!(back.may_have_run(), error.may_have_run());
                assert!(error.to_string().starts_with(|first: char| first.is_lowercase()), "{error}");
            }
        }
    }

    #[test]
    fn a_handler_that_answered_an_error_has_run_and_a_full_mailbox_has_not() {
        assert!(Error::Handler("poll.question: no".into()).may_have_run());
        assert!(!Error::from_wire(Reason::Full, "poll.question", true).may_have_run());
        assert!(Error::new(Reason::Deadline, "").having_run(true).may_have_run());
    }

    #[test]
    fn display_is_one_level_and_debug_the_chain() {
        #[derive(Debug, thiserror::Error)]
        #[error("the archive is closed")]
        struct Closed(#[source] std::io::Error);
        let error = Error::other(Closed(std::io::Error::other("disk full")));
        assert_eq!(error.to_string(), "the archive is closed");
        assert_eq!(format!("{error:?}"), "the archive is closed: disk full");
        assert_eq!(Error::NoSuchActor("odeon:1.2.3".into()).to_string(), "no such actor: odeon:1.2.3");
    }

    #[test]
    fn a_message_that_was_not_sent_is_given_back() {
        let back = TellError::new(7u8, Error::Full("poll.cast/cast".into()));
        assert_eq!(back.message, 7);
        assert_eq!(Error::from(back).http_status(), 429);
    }
}
