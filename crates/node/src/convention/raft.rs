//! The directory's Raft group: how it is started, and how its messages travel.
//!
//! Heartbeats and elections run at D5's times. A client never dials: it hands the message to the peer's control
//! connection, and an absent connection is an error at once, so that a dead voter never holds up a round of the others.

use super::{
    peers::Peers,
    store::{self, Log, Medium, SharedMachine, TypeConfig, Vote},
    wire::{Reply, Request},
};
use odeon_cluster::lease::TIMING;
use odeon_protocol::{NodeId, limits::CONTROL_BYTES_MAX};
use openraft::{
    Config, EmptyNode, RaftNetwork, RaftNetworkFactory, Snapshot, SnapshotPolicy,
    error::{
        Fatal, NetworkError, PayloadTooLarge, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
    },
    network::{Backoff, RPCOption},
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};
use std::{collections::BTreeSet, future::Future, io, sync::Arc, time::Duration};
use tokio::sync::watch;

pub(crate) type Raft = openraft::Raft<TypeConfig>;

/// Entries between two snapshots.
const SNAPSHOT_EVERY: u64 = 2000;
/// Entries kept behind a snapshot, for voters that lag.
const KEPT_BEHIND_SNAPSHOT: u64 = 1000;
/// Entries in one message: each may hold a thousand commands.
const ENTRIES_PER_MESSAGE: u64 = 64;
/// Between two attempts to reach a voter that does not answer.
const RETRY: Duration = Duration::from_millis(100);
/// Bytes of a snapshot in one message.
const PIECE: usize = 4 << 20;
/// For a piece of a snapshot to arrive, and for the whole to be installed.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(20);

/// This agent's part in the group, whether it votes by now or not.
#[derive(Clone)]
pub(crate) struct Group {
    pub(crate) raft: Raft,
    pub(crate) machine: SharedMachine,
    pub(crate) log: Log,
}

impl Group {
    /// Who votes, by the newest entry that says so.
    pub(crate) fn voters(&self) -> BTreeSet<NodeId> {
        self.raft.metrics().borrow().membership_config.voter_ids().map(NodeId).collect()
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Group")
    }
}

/// Opens the log and takes part in the group from where it was left.
pub(crate) async fn start(
    me: NodeId,
    medium: &Medium,
    peers: Arc<Peers>,
    version: Arc<watch::Sender<u64>>,
) -> Result<Group, GroupError> {
    start_with(me, medium, Network { peers }, version).await
}

async fn start_with(
    me: NodeId,
    medium: &Medium,
    network: impl RaftNetworkFactory<TypeConfig>,
    version: Arc<watch::Sender<u64>>,
) -> Result<Group, GroupError> {
    let (log, machine) = store::open(medium, version)?;
    log.stand_again(me.0);
    let config = Arc::new(config().validate().map_err(|error| GroupError::Raft(error.to_string()))?);
    let raft = Raft::new(me.0, config, network, log.clone(), machine.clone())
        .await
        .map_err(|error| GroupError::Raft(error.to_string()))?;
    Ok(Group { raft, machine, log })
}

/// Why the directory cannot be kept here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GroupError {
    #[error(transparent)]
    Store(#[from] store::OpenError),
    #[error("the directory's Raft group does not start: {0}")]
    Raft(String),
}

fn config() -> Config {
    let millis = |span: Duration| span.as_millis() as u64;
    Config {
        cluster_name: "odeon".into(),
        heartbeat_interval: millis(TIMING.heartbeat),
        election_timeout_min: millis(TIMING.election_min),
        election_timeout_max: millis(TIMING.election_max),
        install_snapshot_timeout: millis(SNAPSHOT_WAIT),
        max_payload_entries: ENTRIES_PER_MESSAGE,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
        replication_lag_threshold: SNAPSHOT_EVERY * 2,
        max_in_snapshot_log_to_keep: KEPT_BEHIND_SNAPSHOT,
        ..Config::default()
    }
}

#[derive(Debug)]
struct Network {
    peers: Arc<Peers>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _: &EmptyNode) -> Client {
        Client { peers: self.peers.clone(), target: NodeId(target) }
    }
}

/// The way to one voter.
#[derive(Debug)]
struct Client {
    peers: Arc<Peers>,
    target: NodeId,
}

type RpcError<E = RaftError<u64>> = RPCError<u64, EmptyNode, E>;

impl Client {
    async fn ask(&self, request: &Request, within: Duration) -> Result<Reply, Unreachable> {
        self.peers.ask_connected(self.target, request, within).await.map_err(|error| Unreachable::new(&error))
    }

    /// A snapshot goes in pieces: one message has a limit.
    async fn send_snapshot(&self, vote: Vote, snapshot: Snapshot<TypeConfig>) -> Result<Reply, Unreachable> {
        let (data, mut end) = (*snapshot.snapshot, Some(Box::new((vote, snapshot.meta))));
        let mut offset = 0;
        loop {
            let piece = &data[offset..data.len().min(offset + PIECE)];
            let next = offset + piece.len();
            let end = if next == data.len() { end.take() } else { None };
            let last = end.is_some();
            let request = Request::Snapshot { offset: offset as u64, piece: piece.to_vec(), end };
            let reply = self.ask(&request, SNAPSHOT_WAIT).await?;
            if last || !matches!(reply, Reply::Piece) {
                return Ok(reply);
            }
            offset = next;
        }
    }
}

fn unexpected<E: std::error::Error>(reply: &Reply) -> RpcError<E> {
    NetworkError::new(&io::Error::other(format!("an answer to another question: {reply:?}"))).into()
}

impl RaftNetwork<TypeConfig> for Client {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        let entries = rpc.entries.len() as u64;
        let request = Request::Append(rpc);
        if entries > 1 && postcard::experimental::serialized_size(&request).is_ok_and(|bytes| bytes > CONTROL_BYTES_MAX)
        {
            return Err(PayloadTooLarge::new_entries_hint(entries / 2).into());
        }
        match self.ask(&request, option.hard_ttl()).await? {
            Reply::Append(answer) => Ok(answer),
            other => Err(unexpected(&other)),
        }
    }

    async fn vote(&mut self, rpc: VoteRequest<u64>, option: RPCOption) -> Result<VoteResponse<u64>, RpcError> {
        match self.ask(&Request::Vote(rpc), option.hard_ttl()).await? {
            Reply::Vote(answer) => Ok(answer),
            other => Err(unexpected(&other)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        tokio::select! {
            closed = cancel => Err(closed.into()),
            answer = self.send_snapshot(vote, snapshot) => match answer? {
                Reply::Snapshot(vote) => Ok(SnapshotResponse { vote }),
                other => Err(NetworkError::new(&io::Error::other(format!("an answer to another question: {other:?}"))).into()),
            },
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(RETRY))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::store::Disk, *};
    use openraft::{
        Entry, EntryPayload, LeaderId, LogId, ServerState,
        storage::{RaftLogStorage, RaftLogStorageExt},
    };

    /// Nobody is reached.
    struct Nobody;

    impl RaftNetworkFactory<TypeConfig> for Nobody {
        type Network = Self;

        async fn new_client(&mut self, _: u64, _: &EmptyNode) -> Self {
            Self
        }
    }

    fn unreachable() -> Unreachable {
        Unreachable::new(&io::Error::other("nobody is there"))
    }

    impl RaftNetwork<TypeConfig> for Nobody {
        async fn append_entries(
            &mut self,
            _: AppendEntriesRequest<TypeConfig>,
            _: RPCOption,
        ) -> Result<AppendEntriesResponse<u64>, RpcError> {
            Err(unreachable().into())
        }

        async fn vote(&mut self, _: VoteRequest<u64>, _: RPCOption) -> Result<VoteResponse<u64>, RpcError> {
            Err(unreachable().into())
        }

        async fn full_snapshot(
            &mut self,
            _: Vote,
            _: Snapshot<TypeConfig>,
            _: impl Future<Output = ReplicationClosed> + Send + 'static,
            _: RPCOption,
        ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
            Err(unreachable().into())
        }
    }

    /// Else it would answer reads and renewals by what it had applied, which may be older than what it had committed.
    #[tokio::test(start_paused = true)]
    async fn a_leader_that_starts_again_leads_only_once_it_is_elected_anew() {
        let (medium, version) = (Medium::Simulated(Disk::default()), Arc::new(watch::Sender::new(0)));
        let (mut log, _machine) = store::open(&medium, version.clone()).unwrap();
        let voters = openraft::Membership::new(vec![BTreeSet::from([1, 2, 3])], ());
        let first = Entry { log_id: LogId::new(LeaderId::new(4, 1), 0), payload: EntryPayload::Membership(voters) };
        log.save_vote(&Vote::new_committed(4, 1)).await.unwrap();
        log.blocking_append([first]).await.unwrap();
        log.close().await;
        let group = start_with(NodeId(1), &medium, Nobody, version).await.unwrap();
        let mut metrics = group.raft.metrics();
        let stands = metrics.wait_for(|now| now.current_term > 4 || now.state == ServerState::Leader).await.unwrap();
        assert_eq!(stands.state, ServerState::Candidate, "it does not lead in its old term");
    }
}
