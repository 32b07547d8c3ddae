//! What the voters agree on: members, global names, join tokens, and the commands that change them.
//!
//! A [`Command`] is an entry of the directory's log and travels between agents; an [`Answer`] is what it came to. How
//! commands are carried out is decided in `odeon-cluster`, by the same code on every voter.
//!
//! A command carries everything that its outcome depends on: no clock is read where it is applied, so the few that
//! need a date bring it along.

mod denied;

use crate::{
    address::Direct,
    control::{Policy, WireCodec},
    id::{Boot, ConventionId, NodeId},
    level::FIRST_LEVEL,
};
pub use denied::{Behind, Denied};
use serde::{Deserialize, Serialize};
use std::{fmt, num::ParseIntError, str::FromStr, sync::Arc};

/// A change to the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Command {
    /// Founds the convention, once. Answered by [`Answer::Admitted`].
    Found {
        /// The convention.
        convention: Convention,
        /// The authority's private key; voters only.
        ca_key: Secret,
        /// The first member, a voter.
        founder: Joiner,
    },
    /// Admits a host, or an outside client, by its token. Answered by [`Answer::Admitted`].
    ///
    /// Whoever proposes it has checked the proof of the token's secret. A member with the same key is admitted again
    /// without a use of the token.
    Admit {
        /// The token.
        token: TokenId,
        /// Who joins.
        joiner: Joiner,
        /// Seconds since 1970, against the token's expiry.
        now: u64,
    },
    /// A member's agent has started anew: what its earlier boot held is unplaced. Answered by [`Answer::Booted`].
    BootStarted {
        /// Whose.
        node: NodeId,
        /// Larger than every earlier one.
        boot: Boot,
        /// What other agents dial from now on.
        address: String,
        /// The feature level of its agent.
        level: u16,
    },
    /// A member leaves of its own will, with all its actors stopped.
    Leave {
        /// Who.
        node: NodeId,
    },
    /// A member is kept out from now on. Its names are freed for others when its lease has run out.
    Evict {
        /// Who.
        node: NodeId,
    },
    /// Makes a token.
    CreateToken {
        /// The token.
        token: Token,
        /// The key of its proof; voters only.
        secret: Secret,
        /// Seconds since 1970; tokens that expired before are forgotten.
        now: u64,
    },
    /// Makes a token useless.
    RevokeToken {
        /// Which.
        token: TokenId,
    },
    /// Asks for a name. Answered by [`Answer::Granted`], [`Answer::Held`], [`Answer::TypeMismatch`] or
    /// [`Answer::Changed`].
    Claim(Claim),
    /// The actor of that grant runs.
    Started {
        /// The name.
        name: Arc<str>,
        /// The grant.
        epoch: u64,
    },
    /// The start of that grant failed, or answered `NotFound`: the name is free.
    StartFailed {
        /// The name.
        name: Arc<str>,
        /// The grant.
        epoch: u64,
    },
    /// The actor of that grant has stopped.
    Released {
        /// The name.
        name: Arc<str>,
        /// The grant.
        epoch: u64,
        /// Whether the next message starts it again; else the name is free.
        dormant: bool,
    },
    /// A lease ran out: the host's names are unplaced, and its generation is one higher.
    ///
    /// Only a leader that watched the lease run out proposes it, itself and at once ([`Command::leader_only`]).
    LeaseLost {
        /// Whose.
        node: NodeId,
        /// The generation that ran out.
        generation: u64,
    },
    /// That start of an agent is over for good: its addresses are dead.
    HostDead {
        /// Whose.
        node: NodeId,
        /// Which start.
        boot: Boot,
    },
    /// The actor of that grant has stopped because its host no longer fits it: another host is to start it.
    GivenUp {
        /// The name.
        name: Arc<str>,
        /// The grant.
        epoch: u64,
    },
    /// From here on the log has commands of that level: every host understands them, and none is let in that does not.
    ///
    /// Only a leader proposes it, before the first such command.
    RaiseLevel {
        /// The level.
        level: u16,
        /// Who votes: these are fed the log whatever their standing.
        voters: Vec<NodeId>,
    },
    /// Keeps a line for people in the directory, in place of the one before.
    #[cfg(feature = "next-level")]
    Note {
        /// The line.
        text: String,
    },
}

impl Command {
    /// The feature level that introduced the command: a leader logs it only where every host has that level.
    #[must_use]
    pub const fn level(&self) -> u16 {
        match self {
            Self::Found { .. }
            | Self::Admit { .. }
            | Self::BootStarted { .. }
            | Self::Leave { .. }
            | Self::Evict { .. }
            | Self::CreateToken { .. }
            | Self::RevokeToken { .. }
            | Self::Claim(_)
            | Self::Started { .. }
            | Self::StartFailed { .. }
            | Self::Released { .. }
            | Self::LeaseLost { .. }
            | Self::HostDead { .. }
            | Self::GivenUp { .. }
            | Self::RaiseLevel { .. } => FIRST_LEVEL,
            #[cfg(feature = "next-level")]
            Self::Note { .. } => crate::level::FEATURE_LEVEL,
        }
    }
}

impl Command {
    /// Whether the command rests on what the leader has seen since its election. Such a command is never forwarded and
    /// never proposed again by a later leader: that one may have confirmed the very lease that this one saw run out.
    #[must_use]
    pub const fn leader_only(&self) -> bool {
        matches!(self, Self::LeaseLost { .. } | Self::HostDead { .. })
    }
}

/// A claim of a global name for an actor that is about to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The same for every repetition of this claim: it is granted once.
    pub request: RequestId,
    /// The whole global name.
    pub name: Arc<str>,
    /// What to start. A dormant or unplaced name keeps what it declared first: with `epoch_seen` 0 another declaration
    /// is answered [`Answer::Changed`], so that the claimant places and starts what the record says.
    pub declaration: Declaration,
    /// The place that the actor will have.
    pub holder: Direct,
    /// The lease generation under which the holder's agent works.
    pub generation: u64,
    /// 0 to take a name that nobody bears; else the epoch that this claim follows: the claimant's own earlier grant
    /// (its worker was lost, its actor restarts), or that of an unplaced or dormant record.
    pub epoch_seen: u64,
}

/// Makes repetitions of a request recognisable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// Who asks.
    pub node: NodeId,
    /// In which of its starts.
    pub boot: Boot,
    /// A number never used twice in it.
    pub number: u64,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Answer {
    /// It was carried out, or had been before.
    Done,
    /// The joiner is a member.
    Admitted(Box<Member>),
    /// The boot is known; renew the lease under this generation.
    Booted {
        /// The member's lease generation.
        generation: u64,
    },
    /// The name is the claimant's.
    Granted {
        /// The fencing token, larger than every earlier one of the convention.
        epoch: u64,
    },
    /// Another holds the name.
    Held(Box<NameRecord>),
    /// The name belongs to an actor of another type.
    TypeMismatch {
        /// The name.
        name: Arc<str>,
        /// The type that bears it.
        has: Arc<str>,
        /// The type that was claimed.
        wanted: Arc<str>,
    },
    /// The name is not, or no longer, what the command took it for: look at the record and decide anew.
    Changed {
        /// The name now; nothing if it is free.
        record: Option<Box<NameRecord>>,
    },
    /// It was not carried out.
    Denied(Denied),
}

/// What the convention is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Convention {
    /// Minted at its founding.
    pub id: ConventionId,
    /// The authority's certificate, DER.
    pub ca_cert: Vec<u8>,
}

/// Who wants to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joiner {
    /// Made from the key.
    pub node: NodeId,
    /// The blake3 hash of its public key.
    pub key_hash: [u8; 32],
    /// The host's name.
    pub name: String,
    /// What other agents dial.
    pub address: String,
    /// Its agent's start.
    pub boot: Boot,
    /// The part that it wants to take, which its token has to allow.
    pub role: Role,
    /// Votes, hosts no actors.
    pub witness: bool,
    /// The feature level of its agent.
    pub level: u16,
}

/// A host (or outside client) of the convention, as the directory knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Made from the key.
    pub node: NodeId,
    /// The host's name; unique among those that are [`Standing::In`].
    pub name: String,
    /// Its part.
    pub role: Role,
    /// Votes, hosts no actors.
    pub witness: bool,
    /// The blake3 hash of its public key.
    pub key_hash: [u8; 32],
    /// What other agents dial.
    pub address: String,
    /// Its newest boot.
    pub boot: Boot,
    /// Whether that boot was found dead.
    pub dead: bool,
    /// Under which it renews; one higher whenever its names were taken from it.
    pub generation: u64,
    /// Whether it belongs.
    pub standing: Standing,
    /// The feature level of its agent in that boot.
    pub level: u16,
}

impl Member {
    /// Whether actors may run there: a host that belongs and whose boot is not known to be dead.
    #[must_use]
    pub const fn hosts_actors(&self) -> bool {
        matches!(self.standing, Standing::In) && !self.dead && !self.witness && self.role.is_host()
    }
}

/// Whether a member belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Standing {
    /// It does.
    #[default]
    In,
    /// It left; it may come back with a token.
    Left,
    /// It is kept out.
    Evicted,
}

/// The part that a token lets its bearer take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// May become a voter, thus leader.
    #[default]
    Voter,
    /// Follows the directory.
    Member,
    /// Sends and asks; hosts nothing.
    Client,
}

impl Role {
    /// The word in tokens and on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Voter => "voter",
            Self::Member => "member",
            Self::Client => "client",
        }
    }

    /// Whether the bearer runs an agent.
    #[must_use]
    pub const fn is_host(self) -> bool {
        matches!(self, Self::Voter | Self::Member)
    }

    /// Whether a token for `self` lets its bearer take the part `wanted`.
    #[must_use]
    pub const fn allows(self, wanted: Self) -> bool {
        matches!(
            (self, wanted),
            (Self::Voter, Self::Voter | Self::Member) | (Self::Member, Self::Member) | (Self::Client, Self::Client)
        )
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Voter, Self::Member, Self::Client]
            .into_iter()
            .find(|role| role.word() == text)
            .ok_or_else(|| format!("{text:?} is no role: use voter, member or client"))
    }
}

/// A token's public name, the fourth part of its text; in hexadecimal.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenId(pub u64);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenId({self})")
    }
}

impl FromStr for TokenId {
    type Err = ParseIntError;
    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// A join token without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its public name.
    pub id: TokenId,
    /// What its bearer may become.
    pub role: Role,
    /// Whether a client with it may also create, evict and make tokens.
    pub admin: bool,
    /// Seconds since 1970 at which it stops being good.
    pub expires: u64,
    /// Joins that it is still good for; nothing for any number.
    pub uses: Option<u32>,
}

/// Bytes that only voters have; shown as stars.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// What to start under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declaration {
    /// The type's name.
    pub type_name: Arc<str>,
    /// Its arguments.
    pub args: Vec<u8>,
    /// How they are written.
    pub codec: WireCodec,
    /// What becomes of it, and where it may run.
    pub policy: Policy,
    /// Only on this host, by name.
    pub on: Option<String>,
    /// Who is told of its end; [`Direct::NONE`] for nobody.
    pub parent: Direct,
}

impl Declaration {
    /// Whether both would start the same actor; who is told of its end does not matter.
    #[must_use]
    pub fn same_actor(&self, other: &Self) -> bool {
        (&self.type_name, &self.args, self.codec, &self.policy, &self.on)
            == (&other.type_name, &other.args, other.codec, &other.policy, &other.on)
    }
}

/// A global name, as the directory knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRecord {
    /// The whole global name.
    pub name: Arc<str>,
    /// What bears it.
    pub declaration: Declaration,
    /// Where it stands.
    pub state: NameState,
    /// The bearer's place; set exactly while starting and live.
    pub holder: Option<Direct>,
    /// Where it is, or was last.
    pub host: NodeId,
    /// The last grant.
    pub epoch: u64,
}

/// Where a name stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NameState {
    /// Granted; its actor is being started.
    Starting,
    /// Its actor runs.
    Live,
    /// Stopped; the next message or creation starts it.
    Dormant,
    /// Its host was lost; to be started elsewhere.
    Unplaced,
    /// Its host stopped it in order, as it no longer fits; to be started elsewhere. Nothing was lost.
    GivenUp,
}

impl NameState {
    /// The word in lists.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Live => "live",
            Self::Dormant => "dormant",
            Self::Unplaced | Self::GivenUp => "unplaced",
        }
    }

    /// Whether it is to be started on whatever host fits, without anybody asking for it.
    #[must_use]
    pub const fn is_unplaced(self) -> bool {
        matches!(self, Self::Unplaced | Self::GivenUp)
    }
}

impl fmt::Display for NameState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One step of the directory, as followers get it: without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The directory's version after it; a follower applies it to the version before.
    pub version: u64,
    /// What changed, in order.
    pub changes: Vec<Change>,
}

/// A part of a [`Delta`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Change {
    /// The convention was founded.
    Founded(Convention),
    /// A member is new or other than before.
    Member(Box<Member>),
    /// A member that left long ago is forgotten.
    MemberGone(NodeId),
    /// A name was declared, or its record is other than before.
    Name(Box<NameRecord>),
    /// A known name has moved on in its life.
    NameMoved {
        /// The name.
        name: Arc<str>,
        /// Where it stands now.
        state: NameState,
        /// The bearer's place.
        holder: Option<Direct>,
        /// The grant.
        epoch: u64,
    },
    /// A name is free.
    NameGone(Arc<str>),
    /// Every name starting or live on that node is unplaced.
    Unplaced(NodeId),
    /// A token is new or other than before.
    Token(Token),
    /// A token is gone.
    TokenGone(TokenId),
    /// Commands of that feature level may follow.
    LevelRaised(u16),
    /// The line for people is another one.
    #[cfg(feature = "next-level")]
    Noted(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(format!("{:?}", Secret(b"hush".to_vec())), "Secret(***)");
    }

    #[test]
    fn roles_are_read_back_and_never_raise_their_bearer() {
        for role in [Role::Voter, Role::Member, Role::Client] {
            assert_eq!(role.word().parse(), Ok(role));
            assert!(role.allows(role));
        }
        assert!(Role::Voter.allows(Role::Member));
        assert!(!Role::Member.allows(Role::Voter));
        assert!(!Role::Client.allows(Role::Member));
        assert!("boss".parse::<Role>().is_err());
    }

    #[test]
    fn a_token_id_is_read_back() {
        let id = TokenId(0xfeed);
        assert_eq!(id.to_string(), "000000000000feed");
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
