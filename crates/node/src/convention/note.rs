//! What the next feature level adds for people: the directory's note, and how new each host's copy of it is.

use super::{
    error::ProposeError,
    handle::Handle,
    wire::{Reply, Request},
};
use odeon_cluster::directory::{Command, Member};
use odeon_protocol::NodeId;
use std::time::Duration;
use tokio::task::JoinSet;

/// For a host to be connected and to answer.
const ASK: Duration = Duration::from_secs(2);

impl Handle {
    /// Keeps a line for people in the directory.
    ///
    /// # Errors
    /// As [`Handle::propose`]; it is denied while a host's agent is of a lower feature level.
    pub async fn set_note(&self, text: String) -> Result<(), ProposeError> {
        self.propose(Command::Note { text }).await.map(drop)
    }

    /// The version of the directory that each host's copy has; nothing where its agent does not say.
    pub async fn copies(&self) -> Vec<(String, Option<u64>)> {
        let of = |member: &Member| (member.node, member.name.clone());
        let hosts: Vec<(NodeId, String)> = self.directory(|directory| directory.hosts().map(of).collect());
        let mut asked = JoinSet::new();
        for (node, name) in hosts {
            let shared = self.shared.clone();
            asked.spawn(async move {
                let copy = match shared.peers.ask(node, Request::About, ASK).await {
                    Ok(Reply::About(about)) => Some(about.copy).filter(|copy| *copy != 0),
                    _ => None,
                };
                (name, copy)
            });
        }
        let mut copies = asked.join_all().await;
        copies.sort_unstable();
        copies
    }
}
