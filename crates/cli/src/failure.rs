//! How a command fails: an exit code and one line, `odeon: what: why: what to do`.

use odeon_protocol::Reason;
use std::{fmt, process::ExitCode};

/// Exit codes, as scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// It failed.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// No agent reached.
    NoAgent = 3,
    /// No such actor, global name, type or host.
    NotFound = 4,
    /// Timed out.
    TimedOut = 5,
    /// Refused: quorum, convention, token, requirement.
    Refused = 6,
}

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(code: Code, text: impl fmt::Display) -> Self {
        Self { code, text: text.to_string() }
    }

    /// For what has no better code.
    pub(crate) fn failed(text: impl fmt::Display) -> Self {
        Self::new(Code::Failed, text)
    }

    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self::new(Code::Usage, text)
    }

    /// A refusal by the runtime, with its typed reason.
    pub(crate) fn reason(reason: Reason, text: impl fmt::Display) -> Self {
        Self::new(code_of(reason), text)
    }

    /// No connection to the agent came about.
    pub(crate) fn unconnected(error: &odeon::Error) -> Self {
        match error {
            odeon::Error::Unreachable { text, .. } => Self::new(Code::NoAgent, text),
            other => Self::reason(other.reason(), other),
        }
    }

    /// Writes the line; the program ends with the code.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("odeon: {}", self.text);
        ExitCode::from(self.code as u8)
    }
}

const fn code_of(reason: Reason) -> Code {
    match reason {
        Reason::NoSuchActor | Reason::NoSuchType | Reason::ActorStopped => Code::NotFound,
        Reason::Deadline => Code::TimedOut,
        Reason::NoQuorum | Reason::NoHost | Reason::Fenced => Code::Refused,
        _ => Code::Failed,
    }
}

pub(crate) type Outcome = Result<(), Failure>;
