//! Refusals of the directory.

use super::{Role, TokenId};
use crate::{
    control::Refusal,
    id::{Boot, ConventionId, NodeId},
    reason::Reason,
};
use serde::{Deserialize, Serialize};

/// Why a command was not carried out: what, why, what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// A second founding.
    #[error("the convention {0} is founded already: join it with a token")]
    Founded(ConventionId),
    /// Nothing but founding is possible before it.
    #[error("the directory is empty: start one agent with --bootstrap")]
    NotFounded,
    /// The token is not known, or was revoked.
    #[error("the token {0} is unknown or revoked: make another with `odeon token create`")]
    TokenUnknown(TokenId),
    /// The token is too old.
    #[error("the token {0} has expired: make another with `odeon token create`")]
    TokenExpired(TokenId),
    /// The token has no uses left.
    #[error("the token {0} is used up: make another with `odeon token create`")]
    TokenUsedUp(TokenId),
    /// A token under that id exists.
    #[error("the token id {0} is taken: try again")]
    TokenTaken(TokenId),
    /// A client's token does not make a host.
    #[error("the token {token} is for a {has}, not for a {wanted}: make one with `odeon token create --role {wanted}`")]
    TokenRole {
        /// The token.
        token: TokenId,
        /// Its role.
        has: Role,
        /// The role that it takes.
        wanted: Role,
    },
    /// Another key under a known node id.
    #[error("the node id {0} belongs to another key: start with a new data directory")]
    KeyDiffers(NodeId),
    /// A second host of that name.
    #[error(
        "a host named {name:?} (node {node}) is a member already: start this one with another --name, or evict that one"
    )]
    HostNameTaken {
        /// The name.
        name: String,
        /// Who bears it.
        node: NodeId,
    },
    /// The member was evicted.
    #[error("the host {name:?} (node {node}) was evicted: to return it needs a new data directory and a token")]
    Evicted {
        /// Its name.
        name: String,
        /// Its node id.
        node: NodeId,
    },
    /// No member, or no longer.
    #[error("node {0} is not a member of this convention: join it with a token")]
    NotMember(NodeId),
    /// The boot is not the member's newest, or is dead.
    #[error("boot {boot} of node {node} is over: the agent has to begin a new boot")]
    BootOver {
        /// The member.
        node: NodeId,
        /// The boot that is over.
        boot: Boot,
    },
    /// The lease generation is not the member's newest.
    #[error("the lease {generation} of node {node} has run out: it may claim again once it has renewed")]
    LeaseOver {
        /// The member.
        node: NodeId,
        /// The generation that is over.
        generation: u64,
    },
    /// The member hosts no actors.
    #[error("the host {0:?} hosts no actors: it is a witness or a client")]
    NoActors(String),
    /// The request was answered long ago, and the answer no longer holds.
    #[error("this repetition of a request came too late: look the name up again")]
    TooLate,
    /// No such member to leave or to be evicted.
    #[error("no host has the node id {0}: see `odeon hosts`")]
    NoSuchHost(NodeId),
    /// A text is not fit to be a name.
    #[error("{0}")]
    BadName(String),
    /// Larger than a limit.
    #[error("{what} has {size} bytes, more than {max}: make it smaller")]
    TooBig {
        /// What is too big.
        what: String,
        /// Its size.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// More than a limit.
    #[error("there are {max} {what} already, and no more are possible: remove some")]
    TooMany {
        /// What there are too many of.
        what: String,
        /// The limit.
        max: u64,
    },
    /// A host's agent does not understand what the log may hold.
    #[error(
        "the host {name:?} runs an Odeon of feature level {has}, and this convention uses what came with level {needs}: \
         install an Odeon of level {needs} or later there"
    )]
    Outdated {
        /// The host's name.
        name: String,
        /// Its agent's level.
        has: u16,
        /// The directory's level.
        needs: u16,
    },
    /// Some hosts do not understand the command: it was not logged.
    #[error(
        "that needs an Odeon of feature level {needs} on every host, and {} not: install it there and start these agents \
         again, and evict hosts that are gone for good",
        list_behind(.hosts, *.more)
    )]
    HostsBehind {
        /// The command's level.
        needs: u16,
        /// Some of those that are behind.
        hosts: Vec<Behind>,
        /// How many others are.
        more: u64,
    },
}

/// A host whose agent is of too low a feature level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// Its name.
    pub host: String,
    /// Its agent's level.
    pub level: u16,
}

/// `h1 (level 1) and h2 (level 1) do`.
fn list_behind(hosts: &[Behind], more: u64) -> String {
    let mut each: Vec<String> =
        hosts.iter().map(|behind| format!("{} (level {})", behind.host, behind.level)).collect();
    each.extend((more > 0).then(|| format!("{more} more")));
    let verb = if each.len() == 1 && more < 2 { "does" } else { "do" };
    match each.split_last() {
        Some((last, [])) => format!("{last} {verb}"),
        Some((last, first)) => format!("{} and {last} {verb}", first.join(", ")),
        None => "some hosts do".to_owned(),
    }
}

impl Denied {
    /// The reason as it travels with messages.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::BootOver { .. } | Self::LeaseOver { .. } | Self::TooLate => Reason::Fenced,
            Self::TooBig { .. } => Reason::TooBig,
            Self::TooMany { .. } => Reason::Full,
            Self::NoActors(_) => Reason::NoHost,
            _ => Reason::Protocol,
        }
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self { reason: denied.reason(), text: denied.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_to_do() {
        let refusal = Refusal::from(Denied::HostNameTaken { name: "eu-1".to_owned(), node: NodeId(0xa) });
        assert_eq!(
            refusal.text,
            "a host named \"eu-1\" (node a) is a member already: start this one with another --name, or evict that one"
        );
    }

    #[test]
    fn hosts_that_are_behind_are_named() {
        let said = |names: &[&str], more| {
            let hosts = names.iter().map(|host| Behind { host: (*host).to_owned(), level: 1 }).collect();
            Denied::HostsBehind { needs: 2, hosts, more }.to_string()
        };
        let what = "that needs an Odeon of feature level 2 on every host, and";
        let todo = "install it there and start these agents again, and evict hosts that are gone for good";
        assert_eq!(said(&["h1"], 0), format!("{what} h1 (level 1) does not: {todo}"));
        assert_eq!(said(&["h1", "h2"], 0), format!("{what} h1 (level 1) and h2 (level 1) do not: {todo}"));
        assert_eq!(said(&["h1", "h2"], 7), format!("{what} h1 (level 1), h2 (level 1) and 7 more do not: {todo}"));
    }
}
