//! What agents say to each other on a control connection beside [`odeon_protocol::peer`], in postcard. It grows as
//! [`odeon_protocol::level`] says: variants and fields at the end only.

use super::{
    error::CallError,
    store::{SnapshotMeta, TypeConfig, Vote},
};
use odeon_cluster::directory::Delta;
#[cfg(feature = "next-level")]
use odeon_protocol::level::{added, is_default};
use odeon_protocol::{
    NodeId,
    peer::{PeerReply, PeerRequest},
};
use odeon_transport::{
    join::{Attempt, Grant, Refused},
    quic::Urgency,
};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A request between agents.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Peer(PeerRequest),
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<u64>),
    /// A piece of a snapshot; the one that ends it says of what it is.
    Snapshot {
        offset: u64,
        piece: Vec<u8>,
        end: Option<Box<(Vote, SnapshotMeta)>>,
    },
    /// To the leader: a host wants to join.
    Join(Box<Attempt>),
    /// Who leads, and who votes?
    WhoLeads,
    /// To a voter: the directory's steps after this version. Answered by a stream of [`Step`]s.
    Follow {
        after: u64,
    },
    /// To a voter: sign my key again. The request for a certificate, DER.
    Certify(Vec<u8>),
    /// From a leader that stops: stand for election now.
    Stand,
    /// Which Odeon are you, and what does your clock say?
    About,
    /// Try, from a port that I never spoke to, whether I am reached at the address that the directory has for me.
    DialBack,
}

impl Request {
    /// Whether the Raft group alone says it.
    pub(crate) const fn is_of_the_log(&self) -> bool {
        matches!(self, Self::Append(_) | Self::Vote(_) | Self::Snapshot { .. } | Self::Stand)
    }

    /// Urgent is what the directory itself needs to go on: whoever answers other requests may be waiting for it. One agent
    /// has few of these under way.
    pub(crate) const fn urgency(&self) -> Urgency {
        match self {
            Self::WhoLeads | Self::Peer(PeerRequest::Propose(_) | PeerRequest::Renew(_)) => Urgency::Urgent,
            request if request.is_of_the_log() => Urgency::Urgent,
            _ => Urgency::Ordinary,
        }
    }
}

/// The answer to a [`Request`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Peer(PeerReply),
    Append(AppendEntriesResponse<u64>),
    Vote(VoteResponse<u64>),
    /// The piece has come.
    Piece,
    /// The snapshot is installed.
    Snapshot(Vote),
    Joined(Box<Result<Grant, Refused>>),
    Leader(Leadership),
    Certified {
        leaf: Vec<u8>,
        roots: Vec<Vec<u8>>,
    },
    Done,
    /// What, why, what to do.
    Refused(String),
    About(About),
    /// What was dialled, and how it went.
    DialledBack {
        address: String,
        outcome: Result<(), String>,
    },
}

/// What an agent says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) version: String,
    /// The newest command of the directory that it understands.
    pub(crate) feature_level: u16,
    /// Microseconds since 1970.
    pub(crate) wall: u64,
    /// The version of the directory that its copy has; 0 from an agent that does not say it.
    #[cfg(feature = "next-level")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "added")]
    pub(crate) copy: u64,
}

impl Reply {
    /// For an answer to another question.
    pub(crate) fn unexpected(&self, node: NodeId) -> CallError {
        let why = match self {
            Self::Refused(why) => why.clone(),
            _ => "its answer is to another question".into(),
        };
        CallError::Unanswered { node, why }
    }
}

/// Who leads, as one agent knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leadership {
    pub(crate) term: u64,
    pub(crate) leader: Option<NodeId>,
    pub(crate) voters: Vec<NodeId>,
    /// Who follows the log, to vote when a voter is gone.
    pub(crate) stand_bys: Vec<NodeId>,
}

/// One message of the change stream.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Step {
    /// A piece of the whole directory, and whether it is the last.
    Snapshot { piece: Vec<u8>, last: bool },
    /// Steps, in order.
    Deltas(Vec<Arc<Delta>>),
    /// Who leads. Comes at least each second, so that a silent stream is a broken one.
    Leadership(Leadership),
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::{control::encode, level::decode_known};

    #[test]
    fn variants_keep_their_numbers() {
        let requests = [Request::WhoLeads, Request::Stand, Request::About, Request::DialBack];
        assert_eq!(requests.map(|request| encode(&request)), [[5], [8], [9], [10]]);
        let about = About {
            version: "1".into(),
            feature_level: 2,
            wall: 3,
            #[cfg(feature = "next-level")]
            copy: 0,
        };
        assert_eq!(encode(&Reply::About(about)), [10, 1, b'1', 2, 3]);
        assert_eq!(encode(&Reply::DialledBack { address: "a".into(), outcome: Ok(()) }), [11, 1, b'a', 0]);
        assert_eq!(encode(&Reply::Refused("r".into())), [9, 1, b'r']);
    }

    /// An agent of the next level says more, one of the level before less.
    #[test]
    fn what_an_agent_of_another_level_says_of_itself_is_read() {
        let short = [10, 1, b'1', 1, 3];
        for said in [&short[..], &[10, 1, b'1', 1, 3, 7]] {
            let Ok(Reply::About(about)) = decode_known(said) else { panic!("{said:?} is read") };
            assert_eq!((about.version.as_str(), about.feature_level, about.wall), ("1", 1, 3));
            #[cfg(feature = "next-level")]
            assert_eq!(about.copy, if said == short { 0 } else { 7 });
        }
        assert!(decode_known::<Reply>(&short[..4]).is_err());
    }
}
