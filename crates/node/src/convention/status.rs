//! What is known of the hosts, for placement and for people.

use super::shared::Shared;
use odeon_cluster::{
    directory::{Member, Standing},
    host::{HostView, Liveness, Load},
};
use odeon_protocol::{Boot, ConventionId, NodeId, control::Value};
use std::collections::{BTreeMap, BTreeSet};

/// A member of the convention, for lists.
#[derive(Clone, Debug, PartialEq)]
pub struct HostStatus {
    /// Its id.
    pub node: NodeId,
    /// Its newest boot.
    pub boot: Boot,
    /// Its name.
    pub name: String,
    /// Its part now.
    pub role: HostRole,
    /// How it is.
    pub state: HostState,
    /// What other agents dial.
    pub address: String,
    /// What it can do.
    pub capabilities: BTreeMap<String, Value>,
    /// How busy it is.
    pub load: Load,
}

/// The part that a host takes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostRole {
    /// Leads the directory's voters.
    Leader,
    /// Votes.
    Voter,
    /// Follows.
    Member,
    /// Votes, hosts no actors.
    Witness,
}

impl HostRole {
    /// The word in lists.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Voter => "voter",
            Self::Member => "member",
            Self::Witness => "witness",
        }
    }
}

/// How a host is, as far as this agent knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostState {
    /// Known, not yet heard of.
    Joining,
    /// Alive.
    Up,
    /// Silent of late.
    Suspect,
    /// Silent for long, or its boot is known to be dead.
    Down,
    /// It takes no new actors.
    Draining,
    /// No longer a member.
    Left,
}

impl HostState {
    /// The word in lists.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Left => "left",
        }
    }
}

/// The convention at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its id.
    pub convention: ConventionId,
    /// Who leads, by name.
    pub leader: Option<String>,
    /// Who votes, by name.
    pub voters: Vec<String>,
    /// Who stands by to vote, by name.
    pub stand_bys: Vec<String>,
    /// Members.
    pub hosts: usize,
    /// Members alive.
    pub up: usize,
    /// Global names.
    pub names: usize,
    /// Whether any one host may fail without the convention losing its directory.
    pub failover: bool,
}

pub(super) fn hosts(shared: &Shared) -> Vec<HostView> {
    shared.copies.read(|directory| directory.hosts().map(|member| view(shared, member)).collect())
}

fn view(shared: &Shared, member: &Member) -> HostView {
    let mut view = HostView {
        node: member.node,
        boot: member.boot,
        name: member.name.clone(),
        address: member.address.clone(),
        role: member.role,
        witness: member.witness,
        liveness: if member.dead { Liveness::Down } else { shared.seen.liveness(member.node) },
        ..HostView::default()
    };
    shared.peers.facts().fill(&mut view);
    view
}

pub(super) fn members(shared: &Shared) -> Vec<HostStatus> {
    let (leader, voters) = (shared.leader(), shared.voters());
    let status = |member: &Member| {
        let view = view(shared, member);
        let role = match member.node {
            node if Some(node) == leader => HostRole::Leader,
            _ if member.witness => HostRole::Witness,
            node if voters.contains(&node) => HostRole::Voter,
            _ => HostRole::Member,
        };
        let state = match (member.standing, view.liveness) {
            (Standing::Left | Standing::Evicted, _) => HostState::Left,
            (Standing::In, Liveness::Up) if view.draining => HostState::Draining,
            (Standing::In, Liveness::Up) => HostState::Up,
            (Standing::In, Liveness::Suspect) => HostState::Suspect,
            (Standing::In, Liveness::Down) => HostState::Down,
            (Standing::In, Liveness::Unknown) => HostState::Joining,
        };
        let HostView { node, boot, name, address, capabilities, load, .. } = view;
        HostStatus { node, boot, name, role, state, address, capabilities, load }
    };
    shared.copies.read(|directory| directory.members().filter(|member| member.role.is_host()).map(status).collect())
}

pub(super) fn status(shared: &Shared) -> Status {
    let members = members(shared);
    let says = shared.leadership();
    let (voters, stand_bys) = (BTreeSet::from_iter(says.voters), BTreeSet::from_iter(says.stand_bys));
    let name_of = |node: NodeId| members.iter().find(|host| host.node == node).map(|host| host.name.clone());
    let up = |host: &&HostStatus| matches!(host.state, HostState::Up | HostState::Draining);
    let voters_up = members.iter().filter(up).filter(|host| voters.contains(&host.node)).count();
    let names_of = |nodes: &BTreeSet<NodeId>| nodes.iter().filter_map(|node| name_of(*node)).collect();
    Status {
        convention: shared.convention,
        leader: shared.leader().and_then(name_of),
        voters: names_of(&voters),
        stand_bys: names_of(&stand_bys),
        hosts: members.iter().filter(|host| host.state != HostState::Left).count(),
        up: members.iter().filter(up).count(),
        names: shared.copies.read(|directory| directory.names().len()),
        // A majority is left when any one of them fails.
        failover: voters_up >= voters.len() / 2 + 2,
    }
}
