//! What a host may be in a convention.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What a join token makes of its bearer. Numbers on the wire are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum JoinRole {
    /// A member that can become leader of the directory.
    Voter,
    /// A member.
    Member,
    /// Sends and asks from outside; runs no actors.
    Client,
}

impl JoinRole {
    /// The role's word in tokens and on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Voter => "voter",
            Self::Member => "member",
            Self::Client => "client",
        }
    }
}

impl fmt::Display for JoinRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no role; there are voter, member and client")]
pub struct UnknownRole(pub String);

impl FromStr for JoinRole {
    type Err = UnknownRole;
    fn from_str(word: &str) -> Result<Self, UnknownRole> {
        [Self::Voter, Self::Member, Self::Client]
            .into_iter()
            .find(|role| role.word() == word)
            .ok_or_else(|| UnknownRole(word.to_owned()))
    }
}
