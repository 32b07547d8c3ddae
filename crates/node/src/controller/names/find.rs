//! Looking names up; names that come from a lost host.

use super::{Step, Waiter, Want, Work, spec_of};
use crate::controller::{Controller, Reply};
use odeon_cluster::directory::NameRecord;
use odeon_protocol::{
    Address, Direct, WorkerId,
    control::{FromAgent, Placed, Refusal},
    peer::Adoption,
};
use std::sync::Arc;

impl Controller {
    pub(in crate::controller) fn on_find(&self, process: WorkerId, request: u64, name: &Arc<str>) {
        if let Some(serial) = self.names.held.get(name).copied() {
            let found = self.placement_of(serial, false).map(|placement| Some(placement.placed));
            return self.parts.router.control(process, &FromAgent::Found { request, result: found });
        }
        if let Some(record) = self.parts.convention.directory(|directory| directory.name(name).cloned()) {
            let result = Ok(Some(self.found(&record)));
            return self.parts.router.control(process, &FromAgent::Found { request, result });
        }
        let (convention, asked) = (self.parts.convention.clone(), name.clone());
        self.begin(async move { convention.linear_read_name(&asked).await }, move |controller, read| {
            let result = read.map(|record| record.map(|record| controller.found(&record))).map_err(Refusal::from);
            controller.parts.router.control(process, &FromAgent::Found { request, result });
        });
    }

    pub(in crate::controller) fn found(&self, record: &NameRecord) -> Placed {
        let (hint, epoch) = record.holder.map_or((Direct::NONE, 0), |holder| (holder, record.epoch));
        Placed {
            address: Address::Named { name: record.name.clone(), starts: false, hint, epoch },
            created: false,
            host: self.host_name(record.host),
        }
    }

    /// A name that the leader gives to this host because its own was lost. The record is claimed as the leader saw it; the
    /// directory says if it is another by now. One that was freed meanwhile is not started.
    pub(in crate::controller) fn adopt(&mut self, adoption: Adoption, reply: Reply) {
        let Adoption { name, epoch, declaration } = adoption;
        let spec = spec_of(&name, &declaration);
        let waiter = Waiter::creator(&spec, reply, true);
        if self.names.held.contains_key(&name) || self.names.work.contains_key(&name) {
            return self.want(&name, Want { spec: Some(spec), starts: false, stale: true, here: true }, waiter);
        }
        let work = Work { waiters: vec![waiter], here: true, ..Work::new(Step::Claiming) };
        self.names.work.insert(name.clone(), work);
        self.claim(&name, declaration, epoch);
    }
}
