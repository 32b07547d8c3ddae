//! Answers to those who want a name.

use super::{REVIVE_PAUSE, Step, Waiter, taken};
use crate::{
    controller::{Controller, Placement, Reply, refusal},
    convention::{self, ProposeError},
    router::{Known, Why},
};
use odeon_protocol::{
    Reason, Serial,
    control::{Placed, Refusal},
};
use std::sync::Arc;
use tokio::time::Instant;

impl Controller {
    pub(super) fn placement_of(&self, serial: Serial, created: bool) -> Result<Placement, Refusal> {
        let Some(record) = self.records.get(&serial) else {
            return Err(refusal(Reason::NoSuchActor, "it ended just now"));
        };
        let place = self.place(serial);
        let placed = Placed { address: record.address(place), created, host: self.parts.config.name.clone() };
        Ok(Placement { placed, place, epoch: record.epoch })
    }

    pub(in crate::controller) fn finish(&mut self, name: &Arc<str>, outcome: &Result<Placement, Refusal>) {
        let Some(work) = self.names.work.remove(name) else { return };
        if let Ok(placement) = outcome {
            self.names.heard.of(placement.epoch);
        }
        tracing::debug!(name = &**name, outcome = ?outcome.as_ref().map(|p| (p.place, p.epoch)), waiters = work.waiters.len(), "done");
        let mut outcome = outcome.clone();
        for waiter in work.waiters {
            let is_creator = matches!(waiter, Waiter::Create { .. });
            self.answer(name, waiter, &outcome);
            if let (true, Ok(placement)) = (is_creator, &mut outcome) {
                // One request made it; the others found it.
                placement.placed.created = false;
            }
        }
        if let Ok(placement) = &outcome
            && self.is_here(placement.place)
        {
            // Frames that came while it started may not have been asked for yet.
            self.know(name, placement);
        }
    }

    pub(in crate::controller) fn fail(&mut self, name: &Arc<str>, why: Refusal) {
        let revives = why.reason == Reason::NoQuorum
            && !self.stopping
            && self.names.work.get(name).is_some_and(|work| work.revives);
        self.finish(name, &Err(why));
        if revives {
            // The name is still this host's, or the leader gives it to another: look again until that is known.
            self.step_or_new(name, Step::Looking);
            self.revives(name);
            let name = name.clone();
            self.later(REVIVE_PAUSE, move |controller| controller.look(&name, true));
        }
    }

    /// Creators whose time has run out learn so; the name is cared for all the same.
    pub(in crate::controller) fn expire_creators(&mut self) {
        let (now, lease) = (Instant::now(), *self.parts.convention.lease().borrow());
        // Its lease was not renewed for seconds: nobody who could grant a name is reached.
        let alone = lease.lost || lease.pause_at <= convention::now();
        for (name, work) in &mut self.names.work {
            let (late, waiters): (Vec<_>, Vec<_>) = std::mem::take(&mut work.waiters)
                .into_iter()
                .partition(|waiter| matches!(waiter, Waiter::Create { until, .. } if *until <= now));
            work.waiters = waiters;
            for waiter in late {
                if let Waiter::Create { reply, .. } = waiter {
                    reply(Err(match alone {
                        true => refusal(Reason::NoQuorum, format!("{name}: {}", ProposeError::NoQuorum)),
                        false => refusal(
                            Reason::Deadline,
                            format!("{name}: it was not started in time: see `odeon names` and the worker's output"),
                        ),
                    }));
                }
            }
        }
    }

    /// The router learns where a name is.
    fn know(&mut self, name: &Arc<str>, placement: &Placement) {
        self.watched.news(name);
        self.parts.router.resolved(name, Known { place: placement.place, epoch: placement.epoch });
    }

    pub(super) fn answer(&mut self, name: &Arc<str>, waiter: Waiter, outcome: &Result<Placement, Refusal>) {
        match (waiter, outcome) {
            (Waiter::Create { type_name, reply, .. }, Ok(placement)) => {
                let bearer = self.records.get(&placement.place.serial).filter(|_| self.is_here(placement.place));
                match bearer.filter(|record| record.type_name != type_name) {
                    Some(record) => reply(Err(taken(name, &record.type_name))),
                    None => reply(Ok(placement.clone())),
                }
            }
            (Waiter::Create { reply, .. }, Err(why)) => reply(Err(why.clone())),
            (Waiter::Frames { .. }, Ok(placement)) => {
                self.know(name, placement);
            }
            (Waiter::Frames { was_start }, Err(why)) => {
                self.parts.router.missing(name, was_start, &Why::not_run(why.reason, why.text.clone()));
            }
        }
    }

    pub(super) fn take_creators_of_other_type(&mut self, name: &str, bearer: &str) -> Vec<Reply> {
        let Some(work) = self.names.work.get_mut(name) else { return Vec::new() };
        let (wrong, right): (Vec<_>, Vec<_>) = std::mem::take(&mut work.waiters)
            .into_iter()
            .partition(|waiter| matches!(waiter, Waiter::Create { type_name, .. } if **type_name != *bearer));
        work.waiters = right;
        let reply_of = |waiter| match waiter {
            Waiter::Create { reply, .. } => Some(reply),
            Waiter::Frames { .. } => None,
        };
        wrong.into_iter().filter_map(reply_of).collect()
    }
}
