//! What a host does while it believes to be the leader.

use odeon_cluster::{
    Directory,
    directory::Command,
    host::{HostView, Liveness},
    lease::Leases,
    placement::{Recent, Wanted, spread},
    requirement::Requirement,
};
use odeon_protocol::{NodeId, Time};
use std::{collections::BTreeSet, time::Duration};

const ADOPT_EVERY: Duration = Duration::from_millis(500);

/// A leader's own state; it lasts as long as its term, or its belief in it.
#[derive(Debug)]
pub(crate) struct Lead {
    pub(crate) term: u64,
    pub(crate) leases: Leases,
    adopt_at: Time,
}

/// A name and the host that is to take it over.
pub(crate) struct Takeover {
    pub(crate) name: std::sync::Arc<str>,
    pub(crate) epoch: u64,
    pub(crate) host: NodeId,
}

impl Lead {
    pub(crate) fn new(term: u64, leases: Leases) -> Self {
        Self { term, leases, adopt_at: Time::ZERO }
    }

    /// What the leader proposes by itself.
    pub(crate) fn expired(&mut self, directory: &Directory, clock: Time) -> Vec<Command> {
        self.leases.expired(directory, clock)
    }

    /// Spreads unplaced names over hosts that renew their leases.
    pub(crate) fn take_over(
        &mut self,
        directory: &Directory,
        clock: Time,
        random: u64,
        fill: impl Fn(&mut HostView),
    ) -> Vec<Takeover> {
        if clock < self.adopt_at || directory.unplaced().len() == 0 {
            return Vec::new();
        }
        self.adopt_at = clock + ADOPT_EVERY;
        let hosts: Vec<HostView> = directory
            .hosts()
            .filter(|member| member.hosts_actors())
            .map(|member| {
                let silent = self.leases.silent_for(member.node, clock);
                let liveness = if silent < Duration::from_secs(1) { Liveness::Up } else { Liveness::Down };
                let mut view = HostView {
                    node: member.node,
                    boot: member.boot,
                    name: member.name.clone(),
                    liveness,
                    ..HostView::default()
                };
                fill(&mut view);
                view
            })
            .collect();
        let (anywhere, nowhere) = (Requirement::anywhere(), BTreeSet::new());
        let records: Vec<_> = directory.unplaced().collect();
        let wanted: Vec<_> = records
            .iter()
            .map(|record| Wanted { not: &nowhere, ..Wanted::new(&record.declaration.type_name, &anywhere) })
            .collect();
        let chosen = spread(&wanted, &hosts, &mut Recent::default(), random);
        let pairs = records.into_iter().zip(chosen);
        pairs
            .filter_map(|(record, host)| {
                Some(Takeover { name: record.name.clone(), epoch: record.epoch, host: host.ok()?.node })
            })
            .collect()
    }
}
