//! Messages of this host's processes by how they ended, as they last said.
//!
//! A process that has ended says nothing more: its last counts stay in the sums, and what was outstanding by them is
//! *unknown*. So is whatever it sent, took and handled after it last said so.

use crate::controller::Controller;
use odeon_protocol::{Counts, WorkerId};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use tracing::error;

/// How many processes that have ended are named.
const ENDED_NAMED: usize = 16;

/// What a process last said.
#[derive(Debug, Default)]
pub(in crate::controller) struct Said {
    counts: Counts,
    /// It was complained about; once is enough.
    unbalanced: bool,
}

impl Said {
    pub(in crate::controller) fn to_json(&self) -> Value {
        to_json(&self.counts).into()
    }
}

/// Sums over processes.
#[derive(Debug, Default)]
pub(in crate::controller) struct Messages {
    /// Of processes that have ended.
    ended: Counts,
    /// How many those are.
    processes: u64,
    /// The last of them that had messages.
    last: VecDeque<Value>,
    /// Whether anything has changed since the metrics were set.
    changed: bool,
}

impl Messages {
    /// A process has ended.
    pub(super) fn end(&mut self, process: WorkerId, (name, pid): (&str, u32), said: Said) {
        self.processes += 1;
        if said.counts == Counts::default() {
            return;
        }
        self.ended.add(&said.counts);
        self.changed = true;
        if self.last.len() == ENDED_NAMED {
            self.last.pop_front();
        }
        let (id, messages) = (process.to_string(), ended_to_json(&said.counts));
        self.last.push_back(json!({ "id": id, "name": name, "pid": pid, "messages": messages }));
    }
}

impl Controller {
    pub(in crate::controller) fn on_counts(&mut self, process: WorkerId, counts: &Counts) {
        let (name, said) = if let Some(worker) = self.workers.get_mut(&process) {
            (&worker.name, &mut worker.said)
        } else if let Some(client) = self.clients.get_mut(&process) {
            (&client.name, &mut client.said)
        } else {
            return;
        };
        // Each reason once, however often it was said.
        said.counts = Counts::default();
        said.counts.add(counts);
        self.messages.changed = true;
        if let Err(why) = said.counts.check()
            && !std::mem::replace(&mut said.unbalanced, true)
        {
            error!(%process, name, "its messages do not add up: {why}");
        }
    }

    /// Sets the metrics, if anything has changed.
    pub(in crate::controller) fn sum_messages(&mut self) {
        if std::mem::take(&mut self.messages.changed) {
            let mut living = self.clients_counts();
            self.workers.values().for_each(|worker| living.add(&worker.said.counts));
            self.parts.metrics.set_messages(&living, &self.messages.ended);
        }
    }

    fn clients_counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.clients.values().for_each(|client| counts.add(&client.said.counts));
        counts
    }

    /// Messages of this host besides those of its living workers.
    pub(in crate::controller) fn message_totals(&self) -> Value {
        let metrics = &self.parts.metrics;
        let returned: Map<_, _> = metrics.returned_for.all().map(|(reason, count)| word(reason, count)).collect();
        let mut ended = ended_to_json(&self.messages.ended);
        ended.insert("processes".to_owned(), self.messages.processes.into());
        ended.insert("last".to_owned(), self.messages.last.iter().cloned().collect());
        json!({
            "clients": to_json(&self.clients_counts()),
            "ended": ended,
            "agent": {
                "client_messages": metrics.client_messages.get(),
                "held": metrics.held.get(),
                "returned": returned,
            },
        })
    }
}

fn word(reason: odeon_protocol::Reason, count: u64) -> (String, Value) {
    (reason.word().to_owned(), count.into())
}

fn to_json(counts: &Counts) -> Map<String, Value> {
    let returned: Map<_, _> = counts.returned.iter().map(|(reason, count)| word(*reason, *count)).collect();
    let numbers = [
        ("accepted", counts.accepted),
        ("settled", counts.settled),
        ("unsettled", counts.unsettled),
        ("outstanding", counts.outstanding),
        ("doubtful", counts.doubtful),
        ("beside", counts.beside),
        ("taken", counts.taken),
        ("handled", counts.handled),
        ("given_back", counts.given_back),
        ("waiting", counts.waiting),
    ];
    let numbers = numbers.into_iter().map(|(name, count)| (name.to_owned(), count.into()));
    numbers.chain([("returned".to_owned(), returned.into())]).collect()
}

/// What was outstanding when a process ended is unknown.
fn ended_to_json(counts: &Counts) -> Map<String, Value> {
    let mut map = to_json(counts);
    if let Some(outstanding) = map.remove("outstanding") {
        map.insert("unknown".to_owned(), outstanding);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::Reason;

    #[test]
    fn what_an_ended_process_last_said_stays_in_the_sums() {
        let mut messages = Messages::default();
        let returned = vec![(Reason::Full, 2)];
        let counts = Counts { accepted: 9, settled: 3, returned, outstanding: 4, ..Counts::default() };
        for number in 0..20 {
            let said = Said { counts: counts.clone(), unbalanced: false };
            messages.end(WorkerId(number), ("w", 100 + number), said);
            messages.end(WorkerId(100 + number), ("silent", 1), Said::default());
        }
        assert_eq!((messages.processes, messages.last.len()), (40, ENDED_NAMED));
        assert_eq!((messages.ended.accepted, messages.ended.check()), (180, Ok(())));
        let (last, sums) = (&messages.last[ENDED_NAMED - 1], ended_to_json(&messages.ended));
        assert_eq!((&last["pid"], &last["messages"]["unknown"]), (&json!(119), &json!(4)));
        assert_eq!((&sums["unknown"], &sums["returned"]), (&json!(80), &json!({ "full": 40 })));
        assert!(!sums.contains_key("outstanding"));
    }
}
