//! Who votes: one, three or five of the hosts that joined with a voter's token; never an even number by choice.
//!
//! - **V-1.** 1 → 3 and 3 → 5 are one change each, after the new voters have caught up as learners.
//! - **V-2.** A voter that is silent keeps its vote until another host can take its place: it may come back with the
//!   newest log. Only one that left or was evicted loses its vote at once.

use super::{raft::Group, shared::Shared};
use odeon_cluster::directory::{Directory, Role, Standing};
use odeon_protocol::NodeId;
use openraft::EmptyNode;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(300);
/// For a new voter to catch up, and for the change itself.
const CHANGE: Duration = Duration::from_secs(10);
/// A host that was silent for longer is not made a voter.
const SILENT_MAX: Duration = Duration::from_secs(2);

/// Looks after the set of voters while this agent leads.
pub(crate) async fn promote(shared: &Arc<Shared>, group: &Group) {
    loop {
        let (voters, nodes) = {
            let metrics = group.raft.metrics();
            let now = metrics.borrow();
            let membership = now.membership_config.membership();
            let nodes: BTreeSet<NodeId> = membership.nodes().map(|(node, _)| NodeId(*node)).collect();
            (membership.voter_ids().map(NodeId).collect::<BTreeSet<_>>(), nodes)
        };
        let lives = |node: NodeId| {
            node == shared.me || shared.leading.silent_for(node).is_some_and(|silent| silent < SILENT_MAX)
        };
        let wanted = wanted(&group.machine.read().directory, shared.me, &voters, lives);
        if !voters.is_empty() && wanted != voters {
            change(group, &wanted, &nodes).await;
        }
        sleep(EVERY).await;
    }
}

/// The voters that there should be.
fn wanted(
    directory: &Directory,
    me: NodeId,
    voters: &BTreeSet<NodeId>,
    lives: impl Fn(NodeId) -> bool,
) -> BTreeSet<NodeId> {
    let belong = directory.hosts().filter(|host| host.role == Role::Voter && host.standing == Standing::In);
    let mut pool: Vec<(u8, NodeId)> = belong
        .filter_map(|host| {
            let node = host.node;
            let rank = match (voters.contains(&node), lives(node) && !host.dead) {
                _ if node == me => 0,
                (true, true) => 1,
                (false, true) => 2,
                (true, false) => 3,
                (false, false) => return None,
            };
            Some((rank, node))
        })
        .collect();
    pool.sort_unstable();
    let count = match pool.len() {
        0 => return voters.clone(),
        1 | 2 => 1,
        3 | 4 => 3,
        _ => 5,
    };
    pool.into_iter().take(count).map(|(_, node)| node).collect()
}

async fn change(group: &Group, wanted: &BTreeSet<NodeId>, nodes: &BTreeSet<NodeId>) {
    for node in wanted.difference(nodes) {
        match timeout(CHANGE, group.raft.add_learner(node.0, EmptyNode {}, true)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return tracing::info!(%node, %error, "a host cannot be made a voter now"),
            Err(_) => return tracing::info!(%node, "a host does not catch up, so it is not made a voter now"),
        }
    }
    let voters: BTreeSet<u64> = wanted.iter().map(|node| node.0).collect();
    match timeout(CHANGE, group.raft.change_membership(voters, false)).await {
        Ok(Ok(_)) => tracing::info!(voters = wanted.len(), "the voters are others now"),
        Ok(Err(error)) => tracing::info!(%error, "the voters cannot be changed now"),
        Err(_) => tracing::info!("changing the voters takes long"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_cluster::directory::{Command, Convention, Joiner, Secret, Token, TokenId};
    use odeon_protocol::{Boot, ConventionId, level::FEATURE_LEVEL};

    fn joiner(number: u64, role: Role) -> Joiner {
        Joiner {
            node: NodeId(number),
            key_hash: [number as u8; 32],
            name: format!("h{number}"),
            address: format!("h{number}:7400"),
            boot: Boot(1),
            role,
            witness: false,
            level: FEATURE_LEVEL,
        }
    }

    fn directory(voters: u64) -> Directory {
        let mut directory = Directory::default();
        let convention = Convention { id: ConventionId(1), ca_cert: vec![1] };
        directory.apply(&Command::Found { convention, ca_key: Secret(vec![1]), founder: joiner(1, Role::Voter) });
        let token = Token { id: TokenId(1), role: Role::Voter, admin: false, expires: 9, uses: None };
        directory.apply(&Command::CreateToken { token, secret: Secret(vec![1]), now: 0 });
        for number in 2..=voters {
            directory.apply(&Command::Admit { token: TokenId(1), joiner: joiner(number, Role::Voter), now: 0 });
        }
        directory.apply(&Command::Admit { token: TokenId(1), joiner: joiner(90, Role::Member), now: 0 });
        directory
    }

    fn nodes(numbers: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
        numbers.into_iter().map(NodeId).collect()
    }

    #[test]
    fn the_number_is_odd_and_members_never_vote() {
        for (hosts, voters) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (9, 5)] {
            let wanted = wanted(&directory(hosts), NodeId(1), &nodes([1]), |_| true);
            assert_eq!(wanted.len(), voters, "{hosts} hosts");
            assert!(wanted.contains(&NodeId(1)) && !wanted.contains(&NodeId(90)));
        }
    }

    #[test]
    fn a_silent_voter_keeps_its_vote_until_another_can_take_it() {
        let silent = |node| node != NodeId(2);
        assert_eq!(wanted(&directory(3), NodeId(1), &nodes([1, 2, 3]), silent), nodes([1, 2, 3]));
        assert_eq!(wanted(&directory(4), NodeId(1), &nodes([1, 2, 3]), silent), nodes([1, 3, 4]));
    }

    #[test]
    fn one_that_left_loses_it() {
        let mut directory = directory(3);
        directory.apply(&Command::Leave { node: NodeId(2) });
        assert_eq!(wanted(&directory, NodeId(1), &nodes([1, 2, 3]), |_| true), nodes([1]));
    }

    #[test]
    fn voters_stay_who_they_are() {
        assert_eq!(wanted(&directory(5), NodeId(3), &nodes([3, 4, 5]), |node| node.0 > 2), nodes([3, 4, 5]));
    }
}
