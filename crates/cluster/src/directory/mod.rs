//! The directory: members, global names and tokens, as the voters agree on them.
//!
//! [`Directory::apply`] carries out one [`Command`] and is total and deterministic: the same commands in the same order
//! give the same bytes on every voter. It works in two steps. First the command is *decided* against the directory as it
//! is, which changes nothing and yields an [`Answer`] and a list of [`Change`]s; then the changes are carried out by the
//! same code that followers run ([`Directory::follow`]). So a follower's copy cannot drift from the leader's.
//!
//! What holds at all times:
//! - the epoch only grows, and each grant of any name raises it;
//! - a name has a holder exactly while it is starting or live, and that holder's boot was its member's newest when the
//!   grant was made;
//! - a repeated claim is granted at most once;
//! - nothing above the directory's feature level is logged, and no agent below it belongs and lives (see `levels`);
//! - secrets never appear in a [`Delta`].

mod follow;
mod levels;
mod members;
mod names;
#[cfg(feature = "next-level")]
mod note;
mod recovery;
mod requests;
mod tokens;

#[cfg(test)]
mod tests;

pub use follow::{Feed, Gap};
pub use odeon_protocol::directory::*;
pub use recovery::{RECOVERY_RAISES, Recovery};

#[cfg(feature = "next-level")]
use odeon_protocol::level::{added, is_default};
use odeon_protocol::{Boot, NodeId};
use requests::Requests;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The state that the voters replicate, and that every other agent follows without its secrets.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    state: State,
    /// Which names each node holds; follows from the records.
    held: BTreeMap<NodeId, BTreeSet<Arc<str>>>,
    /// The names to be started elsewhere; follows from the records.
    unplaced: BTreeSet<Arc<str>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    /// First, where every build finds it.
    level: u16,
    version: u64,
    epoch: u64,
    convention: Option<Convention>,
    members: BTreeMap<NodeId, Member>,
    names: BTreeMap<Arc<str>, NameRecord>,
    tokens: BTreeMap<TokenId, Token>,
    private: Private,
    #[cfg(feature = "next-level")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "added")]
    note: String,
}

/// What followers do not get.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Private {
    requests: Requests,
    ca_key: Secret,
    tokens: BTreeMap<TokenId, Secret>,
}

/// What [`Directory::apply`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// For the proposer.
    pub answer: Answer,
    /// For followers; nothing where nothing changed.
    pub delta: Option<Delta>,
}

/// A command decided, not yet carried out.
struct Decision {
    answer: Answer,
    changes: Vec<Change>,
}

impl Decision {
    fn unchanged(answer: Answer) -> Self {
        Self { answer, changes: Vec::new() }
    }

    fn done(changes: Vec<Change>) -> Self {
        Self { answer: Answer::Done, changes }
    }
}

impl From<Denied> for Decision {
    fn from(denied: Denied) -> Self {
        Self::unchanged(Answer::Denied(denied))
    }
}

impl Directory {
    /// Carries out a command.
    pub fn apply(&mut self, command: &Command) -> Applied {
        let Decision { answer, changes } = self.decide(command);
        if !changes.is_empty() {
            self.state.version += 1;
            for change in &changes {
                self.carry_out(change);
            }
        }
        self.keep_private(command, &answer, !changes.is_empty());
        let delta = (!changes.is_empty()).then_some(Delta { version: self.state.version, changes });
        Applied { answer, delta }
    }

    fn decide(&self, command: &Command) -> Decision {
        let decided = match command {
            Command::Found { convention, founder, .. } => self.found(convention, founder),
            _ if self.state.convention.is_none() => Err(Denied::NotFounded),
            Command::Admit { token, joiner, now } => self.admit(*token, joiner, *now),
            Command::BootStarted { node, boot, address, level } => self.boot_started(*node, (*boot, *level), address),
            Command::Leave { node } => self.leave(*node),
            Command::Evict { node } => self.evict(*node),
            Command::CreateToken { token, secret, now } => self.create_token(token, secret, *now),
            Command::RevokeToken { token } => self.revoke_token(*token),
            Command::Claim(claim) => self.claim(claim),
            Command::Started { name, epoch } => Ok(self.started(name, *epoch)),
            Command::StartFailed { name, epoch } => Ok(self.start_failed(name, *epoch)),
            Command::Released { name, epoch, dormant } => Ok(self.released(name, *epoch, *dormant)),
            Command::LeaseLost { node, generation } => Ok(self.lease_lost(*node, *generation)),
            Command::HostDead { node, boot } => Ok(self.host_dead(*node, *boot)),
            Command::GivenUp { name, epoch } => Ok(self.given_up(name, *epoch)),
            Command::RaiseLevel { level, voters } => self.raise_level(*level, voters),
            #[cfg(feature = "next-level")]
            Command::Note { text } => self.take_note(text),
            _ => Ok(Decision::unchanged(Answer::Done)),
        };
        decided.unwrap_or_else(Decision::from)
    }

    /// The part of a command that only voters keep: secrets and answers to repeatable requests.
    fn keep_private(&mut self, command: &Command, answer: &Answer, changed: bool) {
        let private = &mut self.state.private;
        match command {
            Command::Found { ca_key, .. } if changed => private.ca_key = ca_key.clone(),
            Command::CreateToken { token, secret, .. } if changed => {
                private.tokens.insert(token.id, secret.clone());
            }
            Command::Claim(claim) => private.requests.remember(claim.request, answer),
            _ => {}
        }
    }

    /// How many steps it has taken; the same on every copy.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.state.version
    }

    /// The last grant's epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.state.epoch
    }

    /// The convention, once it was founded.
    #[must_use]
    pub fn convention(&self) -> Option<&Convention> {
        self.state.convention.as_ref()
    }

    /// A member, whatever its standing.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.state.members.get(&node)
    }

    /// Every member that is remembered, whatever its standing.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.state.members.values()
    }

    /// The agents that belong, witnesses among them.
    pub fn hosts(&self) -> impl Iterator<Item = &Member> {
        self.members().filter(|member| member.standing == Standing::In && member.role.is_host())
    }

    /// The host of that name, if it belongs.
    #[must_use]
    pub fn host_named(&self, name: &str) -> Option<&Member> {
        self.hosts().find(|member| member.name == name)
    }

    /// Whether frames of that boot may still arrive: its member belongs, and it is that one's newest and not known to be dead,
    /// or a newer one, whose beginning is not in this copy yet.
    #[must_use]
    pub fn boot_lives(&self, node: NodeId, boot: Boot) -> bool {
        let is_over = |member: &Member| boot < member.boot || boot == member.boot && member.dead;
        self.member(node).is_some_and(|member| !is_over(member) && member.standing == Standing::In)
    }

    /// The record of a global name.
    #[must_use]
    pub fn name(&self, name: &str) -> Option<&NameRecord> {
        self.state.names.get(name)
    }

    /// All global names, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &NameRecord> {
        self.state.names.values()
    }

    /// The names that are starting or live on a node.
    pub fn names_of(&self, node: NodeId) -> impl Iterator<Item = &NameRecord> {
        self.held.get(&node).into_iter().flatten().filter_map(|name| self.state.names.get(name))
    }

    /// How many names are starting or live on a node.
    #[must_use]
    pub fn names_held(&self, node: NodeId) -> usize {
        self.held.get(&node).map_or(0, BTreeSet::len)
    }

    /// The names to be started elsewhere.
    pub fn unplaced(&self) -> impl ExactSizeIterator<Item = &NameRecord> {
        self.unplaced.iter().filter_map(|name| self.state.names.get(name)).collect::<Vec<_>>().into_iter()
    }

    /// Every token that was neither revoked nor forgotten.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.state.tokens.values()
    }

    /// A token.
    #[must_use]
    pub fn token(&self, id: TokenId) -> Option<&Token> {
        self.state.tokens.get(&id)
    }

    /// The key of a token's proof; voters only.
    #[must_use]
    pub fn token_secret(&self, id: TokenId) -> Option<&Secret> {
        self.state.private.tokens.get(&id)
    }

    /// The authority's private key; voters only.
    #[must_use]
    pub fn ca_key(&self) -> Option<&Secret> {
        Some(&self.state.private.ca_key).filter(|key| !key.0.is_empty())
    }

    /// A copy for followers: without secrets and without the answers kept for repeated requests.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        let mut copy = self.clone();
        copy.state.private = Private::default();
        copy
    }
}

impl PartialEq for Directory {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state
    }
}

impl From<State> for Directory {
    fn from(state: State) -> Self {
        let mut directory = Self { state, held: BTreeMap::new(), unplaced: BTreeSet::new() };
        for record in directory.state.names.values() {
            if let Some(holder) = record.holder {
                directory.held.entry(holder.node).or_default().insert(record.name.clone());
            }
            if record.state.is_unplaced() {
                directory.unplaced.insert(record.name.clone());
            }
        }
        directory
    }
}

impl Serialize for Directory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.state.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Directory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        State::deserialize(deserializer).map(Self::from)
    }
}
