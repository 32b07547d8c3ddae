//! What agents say to each other on a control connection beside [`odeon_protocol::peer`]: one request and its answer
//! per bidirectional stream, in postcard. Variants and fields are added at the end only.

use super::store::{SnapshotMeta, TypeConfig, Vote};
use odeon_protocol::peer::{PeerReply, PeerRequest};
use odeon_transport::join::{Attempt, Grant, Refused};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use serde::{Deserialize, Serialize};

/// A request between agents.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Peer(PeerRequest),
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<u64>),
    Snapshot {
        vote: Vote,
        meta: SnapshotMeta,
        data: Vec<u8>,
    },
    /// To the leader: a host wants to join.
    Join(Box<Attempt>),
}

/// The answer to a [`Request`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Peer(PeerReply),
    Append(AppendEntriesResponse<u64>),
    Vote(VoteResponse<u64>),
    Snapshot(Vote),
    Joined(Box<Result<Grant, Refused>>),
    /// What, why, what to do.
    Refused(String),
}
