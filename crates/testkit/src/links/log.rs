//! What was seen of every message, and whether it adds up.
//!
//! - **K-1 (once).** No message is handled twice.
//! - **K-2 (order).** The messages of a flow are handled in the order of their numbers, over all instances of a name.
//! - **K-3 (one end).** What came back as not run was not handled, and comes back once.
//! - **K-4 (ledger).** What was accepted was handled, came back, or was told lost; where no process or host that had the
//!   receiver was lost, nothing is told lost.

use odeon_protocol::{Reason, hash::fnv1a};
use std::collections::{BTreeMap, BTreeSet};

/// Sender and receiver.
pub(super) type Flow = (u32, u32);

#[derive(Debug, Default)]
struct Seen {
    next: u64,
    accepted: BTreeSet<u64>,
    handled: Vec<u64>,
    back: BTreeMap<u64, bool>,
    /// Questions that failed, and whether they may have run.
    failed: BTreeMap<u64, bool>,
    lost: u64,
    /// Accepted before something was told lost: from then on none of them may turn up.
    written_off: BTreeSet<u64>,
    /// Tasks of the sender that are not through.
    tasks: u64,
    /// Its sender went down.
    over: bool,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Log {
    flows: BTreeMap<Flow, Seen>,
    /// Receivers by their addresses.
    pub(super) receivers: BTreeMap<String, u32>,
    /// Receivers whose process or host went down.
    lost_receivers: BTreeSet<u32>,
    sum: u64,
    /// Large messages that were handled.
    pub(super) large: u64,
    pub(super) faults: Vec<String>,
}

impl Log {
    fn flow(&mut self, flow: Flow) -> &mut Seen {
        self.flows.entry(flow).or_default()
    }

    /// Takes what happens into the sum by which runs are compared.
    fn note(&mut self, what: &str, flow: Flow, number: u64) {
        let text = format!("{}{what}{flow:?}{number}", self.sum);
        self.sum = fnv1a(&text);
    }

    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    pub(super) fn begin(&mut self, flow: Flow) {
        self.flow(flow).tasks += 1;
    }

    pub(super) fn next(&mut self, flow: Flow) -> u64 {
        let seen = self.flow(flow);
        seen.next += 1;
        seen.next
    }

    /// How many messages were given a number.
    pub(super) fn sent(&mut self, flow: Flow) -> u64 {
        self.flow(flow).next
    }

    pub(super) fn told(&mut self, flow: Flow, number: u64, accepted: bool) {
        self.note("told", flow, number);
        if accepted {
            self.flow(flow).accepted.insert(number);
        }
    }

    /// A question has been answered, or has failed and perhaps run.
    pub(super) fn answered(&mut self, flow: Flow, number: u64, failed: Option<bool>) {
        self.note("answered", flow, number);
        let seen = self.flow(flow);
        let handled = seen.handled.contains(&number);
        let fault = match failed {
            Some(may_have_run) => {
                seen.failed.insert(number, may_have_run);
                handled && !may_have_run
            }
            None => !handled,
        };
        if fault {
            self.faults.push(format!("K-3: {flow:?}: question {number}: failed {failed:?}, handled {handled}"));
        }
    }

    pub(super) fn finished(&mut self, flow: Flow) {
        self.flow(flow).tasks -= 1;
    }

    pub(super) fn handled(&mut self, flow: Flow, number: u64) {
        self.note("handled", flow, number);
        let seen = self.flow(flow);
        let last = seen.handled.last().copied().unwrap_or(0);
        let fault = if seen.handled.contains(&number) {
            Some(format!("K-1: {flow:?}: {number} was handled twice"))
        } else if number < last {
            Some(format!("K-2: {flow:?}: {number} was handled after {last}"))
        } else if seen.back.get(&number) == Some(&false) {
            Some(format!("K-3: {flow:?}: {number} came back as not run and was handled later"))
        } else if seen.written_off.contains(&number) {
            Some(format!("K-4: {flow:?}: {number} was told lost and was handled later"))
        } else if seen.failed.get(&number) == Some(&false) {
            Some(format!("K-3: {flow:?}: question {number} failed as not run and was handled later"))
        } else {
            None
        };
        seen.handled.push(number);
        self.faults.extend(fault);
    }

    pub(super) fn returned(&mut self, flow: Flow, number: u64, reason: Reason, may_have_run: bool) {
        self.note("returned", flow, number);
        let seen = self.flow(flow);
        if seen.back.insert(number, may_have_run).is_some() {
            self.faults.push(format!("K-3: {flow:?}: {number} came back twice"));
        } else if !may_have_run && seen.handled.contains(&number) {
            self.faults.push(format!("K-3: {flow:?}: {number} was handled and came back as not run: {reason}"));
        } else if seen.written_off.contains(&number) {
            self.faults.push(format!("K-4: {flow:?}: {number} was told lost and came back later: {reason}"));
        }
    }

    /// So many messages of a sender to that address are told lost.
    pub(super) fn lost(&mut self, from: u32, address: &str, count: u32) {
        let Some(to) = self.receivers.get(address).copied() else {
            return self.faults.push(format!("K-4: {count} messages of {from} to {address} are told lost"));
        };
        self.note("lost", (from, to), u64::from(count));
        let seen = self.flow((from, to));
        seen.lost += u64::from(count);
        // The sender has one message in hand at most, accepted perhaps since.
        let last = seen.accepted.last().copied().unwrap_or(0);
        let back = &seen.back;
        seen.written_off.extend(seen.accepted.iter().filter(|number| **number < last && !back.contains_key(number)));
    }

    /// The senders are gone.
    pub(super) fn over(&mut self, from: &[u32]) {
        for (_, seen) in self.flows.iter_mut().filter(|((sender, _), _)| from.contains(sender)) {
            seen.over = true;
        }
    }

    /// A process or host with that receiver is gone.
    pub(super) fn receiver_lost(&mut self, to: u32) {
        self.lost_receivers.insert(to);
    }

    pub(super) fn is_finished(&self) -> bool {
        self.flows.values().all(|seen| seen.tasks == 0 || seen.over)
    }

    /// What does not add up at rest.
    pub(super) fn check(&mut self) {
        for (flow, seen) in &self.flows {
            if seen.over {
                continue;
            }
            if seen.tasks > 0 {
                self.faults.push(format!("{flow:?}: its sender still waits, after {} messages", seen.next));
                continue;
            }
            let handled: BTreeSet<_> = seen.handled.iter().copied().collect();
            let unaccounted: Vec<_> = seen
                .accepted
                .iter()
                .filter(|number| !handled.contains(number) && !seen.back.contains_key(number))
                .collect();
            if unaccounted.len() as u64 > seen.lost {
                let text = format!(
                    "K-4: {flow:?}: {} accepted messages had no end ({unaccounted:?}), {} were told lost",
                    unaccounted.len(),
                    seen.lost
                );
                self.faults.push(text);
            }
            if seen.lost > 0 && !self.lost_receivers.contains(&flow.1) {
                self.faults.push(format!("K-4: {flow:?}: {} were told lost, and nothing was", seen.lost));
            }
            let most = seen.accepted.iter().filter(|number| !seen.back.contains_key(number)).count() as u64;
            if seen.lost > most {
                self.faults.push(format!("K-4: {flow:?}: {} were told lost of {most}", seen.lost));
            }
        }
    }

    /// Messages that were given a number.
    pub(super) fn messages(&self) -> u64 {
        self.flows.values().map(|seen| seen.next).sum()
    }

    /// Messages told lost, and messages that came back.
    pub(super) fn ends(&self) -> (u64, u64, u64) {
        let handled = self.flows.values().map(|seen| seen.handled.len() as u64).sum();
        let back = self.flows.values().map(|seen| seen.back.len() as u64).sum();
        (handled, back, self.flows.values().map(|seen| seen.lost).sum())
    }
}
