//! Whether this agent still leads: confirmed by a majority, one round for everyone who asked before it began.

use super::{raft::Group, store::TypeConfig};
use odeon_protocol::NodeId;
use openraft::error::{CheckIsLeaderError, RaftError};
use std::time::Duration;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// For one round.
const ROUND: Duration = Duration::from_secs(1);
/// Who may wait for a round.
const QUEUE: usize = 8192;

type Asked = oneshot::Sender<Result<(), Option<NodeId>>>;

/// See the module's head.
#[derive(Clone, Debug)]
pub(crate) struct Confirmations {
    queue: mpsc::Sender<Asked>,
}

impl Confirmations {
    /// Starts the task that does the rounds; it ends with the last handle.
    pub(crate) fn start(group: &Group) -> Self {
        let (queue, asked) = mpsc::channel(QUEUE);
        tokio::spawn(rounds(group.clone(), asked));
        Self { queue }
    }

    /// Returns once a majority has confirmed, in a round that began after this call, that this agent leads, and its
    /// copy of the directory holds everything committed before. Else says who leads, if it is known.
    pub(crate) async fn confirm(&self) -> Result<(), Option<NodeId>> {
        let (asked, answer) = oneshot::channel();
        self.queue.send(asked).await.map_err(|_| None)?;
        answer.await.map_err(|_| None)?
    }
}

async fn rounds(group: Group, mut queue: mpsc::Receiver<Asked>) {
    let mut asked = Vec::new();
    while queue.recv_many(&mut asked, QUEUE).await > 0 {
        let outcome = round(&group).await;
        for asked in asked.drain(..) {
            let _ = asked.send(outcome);
        }
    }
}

async fn round(group: &Group) -> Result<(), Option<NodeId>> {
    match timeout(ROUND, group.raft.ensure_linearizable()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(RaftError::APIError(
            CheckIsLeaderError::<u64, <TypeConfig as openraft::RaftTypeConfig>::Node>::ForwardToLeader(leader),
        ))) => Err(leader.leader_id.map(NodeId)),
        Ok(Err(_)) | Err(_) => Err(None),
    }
}
