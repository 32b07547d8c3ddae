//! Actors that this host no longer fits: they are stopped, and who is concerned learns what it lacks.
//!
//! - **U-1.** An actor has the time of a graceful stop; then it is killed.
//! - **U-2.** A host that fits again meanwhile changes nothing: the actor ends.
//! - **U-3.** A named one goes on under its name on a host that fits, now or once there is one. Troupes stay where they
//!   are kept; their members are placed anew when they are needed.

use super::{Controller, Record};
use odeon_cluster::{capability::Map, requirement::Requirement};
use odeon_protocol::{
    Serial,
    control::{Signal, encode},
    limits::STOP_GRACE,
};
use std::collections::BTreeMap;
use tracing::warn;

/// Actors named in one line of the log.
const SHOWN: usize = 5;

impl Controller {
    /// Stops the actors here that require what this host lacks.
    pub(super) fn end_unfit(&mut self) {
        if self.stopping {
            return;
        }
        let unfit = unfit(self.records.iter(), self.capabilities());
        if unfit.is_empty() {
            return;
        }
        self.warn_of(&unfit);
        let body = encode(&Signal::Stop);
        let serials: Vec<Serial> = unfit.iter().map(|(serial, _)| *serial).collect();
        for (serial, lacks) in unfit {
            if let Some(record) = self.records.get_mut(&serial) {
                record.unfit = Some(lacks);
            }
            self.parts.router.signal(self.place(serial), None, &body);
        }
        self.later(STOP_GRACE, move |controller| controller.kill_unfit(&serials));
    }

    fn kill_unfit(&self, serials: &[Serial]) {
        let body = encode(&Signal::Kill);
        let here =
            serials.iter().filter(|serial| self.records.get(serial).is_some_and(|record| record.unfit.is_some()));
        here.for_each(|serial| self.parts.router.signal(self.place(*serial), None, &body));
    }

    fn warn_of(&self, unfit: &[(Serial, String)]) {
        let shown = unfit.iter().take(SHOWN).filter_map(|(serial, lacks)| {
            let record = self.records.get(serial)?;
            Some(format!("{}: {lacks}", record.address(self.place(*serial))))
        });
        let shown = shown.collect::<Vec<_>>().join("; ");
        warn!(count = unfit.len(), "actors no longer fit this host and are stopped: {shown}");
    }
}

/// Those that are to be stopped, each with what the host lacks for it.
fn unfit<'a>(records: impl Iterator<Item = (&'a Serial, &'a Record)>, host: &Map) -> Vec<(Serial, String)> {
    let mut looked: BTreeMap<&str, Option<String>> = BTreeMap::new();
    let candidates = records.filter(|(_, record)| {
        let policy = &record.policy;
        !record.stopping && record.unfit.is_none() && policy.troupe.is_none() && !policy.requires.is_empty()
    });
    let unfit = candidates.filter_map(|(serial, record)| {
        let requires = record.policy.requires.as_str();
        let lacks = looked.entry(requires).or_insert_with(|| lacks(requires, host));
        Some((*serial, lacks.clone()?))
    });
    unfit.collect()
}

fn lacks(requires: &str, host: &Map) -> Option<String> {
    // One that does not parse was refused at the creation.
    requires.parse::<Requirement>().ok()?.explain(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_cluster::capability;
    use odeon_protocol::{
        Direct, ExitCause, WorkerId,
        control::{Policy, Troupe, WireCodec},
    };

    fn record(requires: &str) -> Record {
        Record {
            type_name: "probe.echo".into(),
            args: Vec::new(),
            codec: WireCodec::Json,
            name: None,
            epoch: 0,
            parent: Direct::NONE,
            worker: WorkerId(1),
            policy: Policy { requires: requires.into(), ..Policy::default() },
            on: None,
            stopping: false,
            unfit: None,
            restarts: Vec::new(),
        }
    }

    #[test]
    fn those_are_stopped_that_require_what_the_host_lacks() {
        let host: Map = [capability::parse("gpu=1").unwrap()].into();
        let mut troupe = record("ssd");
        troupe.policy.troupe = Some(Troupe { max: 2, idle: 1 });
        let records = [
            record("gpu >= 1"),
            record("gpu >= 2"),
            record(""),
            Record { stopping: true, ..record("ssd") },
            Record { unfit: Some("ssd".into()), ..record("ssd") },
            troupe,
            record("ssd"),
        ];
        let serials: Vec<Serial> = (0..records.len() as u64).map(Serial).collect();
        let unfit = unfit(serials.iter().zip(&records), &host);
        assert_eq!(unfit, [(Serial(1), "gpu >= 2: gpu is 1".to_owned()), (Serial(6), "ssd: no ssd".to_owned())]);
    }

    #[test]
    fn an_unfit_actor_ends_as_such_and_is_not_started_again() {
        let unfit = Record { unfit: Some("no ssd".into()), ..record("ssd") };
        assert_eq!(unfit.cause(ExitCause::Killed), ExitCause::Unfit("no ssd".into()));
        assert_eq!(unfit.cause(ExitCause::HostLost), ExitCause::HostLost);
        assert!(!unfit.may_go_on(&ExitCause::Panicked("text".into())));
        assert_eq!(record("ssd").cause(ExitCause::Stopped), ExitCause::Stopped);
    }
}
