//! Why the convention did not do what it was asked.

use crate::identity::DataDirError;
use odeon_protocol::{NodeId, Reason, control::Refusal, directory::Denied};
use std::{net::SocketAddr, path::PathBuf};

/// For a host whose log is from before a recovery.
pub(crate) const SUPERSEDED: &str = "the convention's directory was recovered without this host, whose data is from \
     before: remove its data directory and join again with a token";

/// Why an agent does not come into its convention: what, why, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Data(#[from] DataDirError),
    /// Neither state nor a way in.
    #[error(
        "{0}: this host belongs to no convention: give --bootstrap to form one, or --join and a token to enter one"
    )]
    NoConvention(String),
    /// `--bootstrap` with another convention's data directory.
    #[error(
        "data directory: it belongs to convention {0}, which another host formed: leave --bootstrap out to rejoin it, or give another --data"
    )]
    NotFounder(odeon_protocol::ConventionId),
    /// `--bootstrap` without a data directory, beside the tokens of a convention.
    #[error(
        "--bootstrap: {} holds a token of a convention that there is already, and the data directory {} is empty: to enter that convention give --join and --token-file instead; to form another one remove the file first",
        .file.display(),
        .data.display()
    )]
    TokenOfAnother {
        /// The file, as `--token-out` names it.
        file: PathBuf,
        /// The data directory.
        data: PathBuf,
    },
    /// `--bootstrap` without a data directory, beside a file that may be of a convention.
    #[error(
        "--token-out {}: {why}, so that it cannot be told whether there is a convention already: make it readable, remove it, or name another file",
        .file.display()
    )]
    NoTokenFile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The way in leads elsewhere.
    #[error(
        "--join {address}: an agent of convention {has} answers there, this data directory belongs to convention {wants}: give another address, or another --data"
    )]
    OtherConvention {
        /// As it was given.
        address: String,
        /// Whose agent answers.
        has: odeon_protocol::ConventionId,
        /// Whose data directory it is.
        wants: odeon_protocol::ConventionId,
    },
    /// The UDP address.
    #[error("listening on {address}: {why}: give another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        why: String,
    },
    /// The convention refused.
    #[error("joining: {0}")]
    Refused(String),
    /// The directory was recovered without this host.
    #[error("data directory {}: {SUPERSEDED}", .0.display())]
    Superseded(PathBuf),
    /// Something that should not happen.
    #[error("starting the convention's part of the agent: {0}")]
    Other(String),
}

/// Why a proposal was not carried out. It may still be, later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// No majority of the voters answers, or no leader was found in time.
    #[error("no majority of the voters is reached")]
    NoQuorum,
    /// The directory refused.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
}

impl From<ProposeError> for Refusal {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Denied(denied) => denied.into(),
            other => Self { reason: Reason::NoQuorum, text: other.to_string() },
        }
    }
}

/// Why another agent did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// It is not connected and could not be in time.
    #[error("host {node} cannot be reached: {why}")]
    Unreachable {
        /// Which.
        node: NodeId,
        /// Why.
        why: String,
    },
    /// It was asked and its answer did not come. It may have done what was asked.
    #[error("host {node} did not answer: {why}")]
    Unanswered {
        /// Which.
        node: NodeId,
        /// Why.
        why: String,
    },
    /// It refused.
    #[error("{0}")]
    Refused(Refusal),
}

impl CallError {
    /// The reason alone, without the host.
    pub(crate) fn why(&self) -> String {
        match self {
            Self::Unreachable { why, .. } | Self::Unanswered { why, .. } => why.clone(),
            Self::Refused(refusal) => refusal.text.clone(),
        }
    }

    /// Whether the other agent may have done what it was asked.
    #[must_use]
    pub const fn may_have_run(&self) -> bool {
        matches!(self, Self::Unanswered { .. })
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(refusal) => refusal,
            other => Self { reason: Reason::Unreachable, text: other.to_string() },
        }
    }
}
