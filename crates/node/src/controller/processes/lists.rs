//! Lists of workers and actors.

use super::{EMBEDDED, LIST_WAIT, Listing};
use crate::{controller::Controller, workers::Order};
use odeon_protocol::{
    WorkerId,
    control::{ActorInfo, FromAgent},
    limits::STOP_GRACE,
    peer::WorkerInfo,
};
use std::time::Duration;
use tokio::{sync::oneshot, time::Instant};
use tracing::info;

/// How long a stopping agent, once its workers have ended, goes on handing names over. It covers an election; names
/// that are not handed over by then, as the other hosts stop too, are free when this host's lease ends.
const HAND_OVER_WAIT: Duration = Duration::from_secs(2);

impl Controller {
    /// This host's workers.
    pub(in crate::controller) fn worker_infos(&self) -> Vec<WorkerInfo> {
        let infos = self.units.iter().filter_map(|(id, unit)| {
            let worker = unit.worker.and_then(|worker| self.workers.get(&worker));
            Some(WorkerInfo {
                worker: unit.worker?,
                name: worker.map_or_else(|| unit.command.name(), |worker| worker.name.clone()),
                pid: unit.pid,
                actors: worker.map_or(0, |worker| worker.actors),
                types: worker
                    .map(|worker| worker.types.iter().map(|info| info.name.clone()).collect())
                    .unwrap_or_default(),
                listeners: self.listeners.of(*id),
                starts: unit.starts,
            })
        });
        infos.collect()
    }

    /// Asks every worker for its actors.
    pub(in crate::controller) fn list_actors(&mut self) -> oneshot::Receiver<Vec<(WorkerId, ActorInfo)>> {
        let (reply, answer) = oneshot::channel();
        let missing: Vec<_> = self.workers.iter().filter(|(_, worker)| worker.admitted).map(|(id, _)| *id).collect();
        let request = self.new_request();
        missing.iter().for_each(|worker| self.parts.router.control(*worker, &FromAgent::List { request }));
        self.lists.insert(request, Listing { missing, found: Vec::new(), reply });
        self.finish_listing(request, false);
        self.later(LIST_WAIT, move |controller| controller.finish_listing(request, true));
        answer
    }

    pub(in crate::controller) fn on_listed(&mut self, process: WorkerId, request: u64, actors: Vec<ActorInfo>) {
        if let Some(worker) = self.workers.get_mut(&process) {
            worker.reported = actors.len() as u64;
        }
        if let Some(listing) = self.lists.get_mut(&request) {
            listing.missing.retain(|worker| *worker != process);
            listing.found.extend(actors.into_iter().map(|actor| (process, actor)));
        }
        self.finish_listing(request, false);
    }

    pub(super) fn forget_listing(&mut self, process: WorkerId) {
        for request in self.lists.keys().copied().collect::<Vec<_>>() {
            if let Some(listing) = self.lists.get_mut(&request) {
                listing.missing.retain(|worker| *worker != process);
            }
            self.finish_listing(request, false);
        }
    }

    fn finish_listing(&mut self, request: u64, at_once: bool) {
        if self.lists.get(&request).is_some_and(|listing| at_once || listing.missing.is_empty())
            && let Some(mut listing) = self.lists.remove(&request)
        {
            listing.found.sort_by_key(|(worker, actor)| (*worker, actor.serial));
            // Whoever asked may have gone.
            let _ = listing.reply.send(listing.found);
        }
    }

    /// Whether nothing runs any more, and the names are handed over or had their time for it.
    pub(in crate::controller) fn comes_to_rest(&mut self) -> bool {
        if !self.workers.is_empty() || !self.units.is_empty() {
            return false;
        }
        let until = *self.rest_until.get_or_insert_with(|| Instant::now() + HAND_OVER_WAIT);
        self.names.is_at_rest() || until <= Instant::now()
    }

    /// Stops every unit; what is named is released as its actor ends.
    pub(in crate::controller) fn begin_stop(&mut self) {
        self.stopping = true;
        self.publish_facts();
        info!("stopping: {} workers", self.units.len());
        for unit in self.units.keys().copied().collect::<Vec<_>>() {
            self.order(unit, Order::Stop);
        }
        let embedded: Vec<_> =
            self.workers.iter().filter(|(_, worker)| worker.unit == EMBEDDED).map(|(id, _)| *id).collect();
        for worker in embedded {
            self.parts.router.control(worker, &FromAgent::Stop);
            self.later(STOP_GRACE, move |controller| controller.parts.router.detach(worker));
        }
    }
}
