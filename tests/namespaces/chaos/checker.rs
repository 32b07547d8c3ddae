//! Whether a name had at most one bearer at any time. Knows diaries and no processes.
//!
//! - **CH-1 (no overlap).** Once a handling under an epoch has begun, none of an older epoch of that name begins, and none
//!   that is under way goes on beyond an `await`.
//! - **CH-2 (one instance).** An epoch has one instance.
//! - **CH-3 (once).** A message is handled at most once, and not at all if its sender is told that it cannot have been.
//! - **CH-4 (claims).** What the asks were answered is a history of one counter that starts again under each higher epoch:
//!   each takes effect at one moment between its begin and its end, epochs and, within one, values only grow, and each
//!   value is the answer of one ask, or of one whose answer was lost.
//! - **CH-5 (witnessed).** Each answer stands in the diary of its instance, with the same epoch and value, between its
//!   ask's begin and end: the diaries lack nothing.
//!
//! **A frozen handler.** A process can be stopped after the runtime has let a handler go on and before the handler looks at
//! the clock, which then says when it went on. No runtime can know. The guarantee allows this up to the next `await`, so the
//! checker does: where the process had been stopped since before the successor began, within [`THAW`] after it goes on, and
//! never for a handling that began too late and came past its `await` as well. A process is between the two looks for
//! microseconds, so this is rare: more than one in [`PAUSES_FOR_ONE`] pauses, beyond the first, is an overlap.

use super::history::{Ask, End, Handling, History, Name, Time};
use std::collections::{BTreeMap, HashMap};

/// When a process was stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pause {
    pub(crate) pid: u64,
    pub(crate) from: Time,
    pub(crate) until: Time,
}

/// How soon after a process goes on its frozen handlers do.
const THAW: Time = 100_000_000;
/// How many pauses there are for each frozen handler, at least.
const PAUSES_FOR_ONE: u64 = 20;

/// What a history broke, and what it consists of.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// CH-1 and CH-2.
    pub(crate) overlaps: Vec<String>,
    /// CH-3.
    pub(crate) repeated: Vec<String>,
    /// CH-4.
    pub(crate) claims: Vec<String>,
    /// CH-5.
    pub(crate) unwitnessed: Vec<String>,
    /// Handlers that were frozen, see the module's head.
    pub(crate) frozen: u64,
    pub(crate) handlings: usize,
    pub(crate) asks: usize,
    pub(crate) answered: usize,
}

/// Holds a history against the laws.
pub(crate) fn check(history: &History, pauses: &[Pause]) -> Findings {
    let mut findings = Findings::default();
    for (name, known) in &history.names {
        findings.handlings += known.handlings.len();
        findings.asks += known.asks.len();
        findings.answered += answers(known).count();
        findings.check_overlaps(name, &known.handlings, pauses);
        findings.check_instances(name, &known.handlings);
        findings.check_repeated(name, known);
        findings.claims.extend(order(known).or_else(|| gap(known)).map(|broken| format!("{name}: {broken}")));
        findings.check_witnessed(name, known);
    }
    if findings.frozen > 1 + pauses.len() as u64 / PAUSES_FOR_ONE {
        findings.overlaps.push(format!("{} handlers were frozen in {} pauses", findings.frozen, pauses.len()));
    }
    findings
}

impl Findings {
    fn check_overlaps(&mut self, name: &str, handlings: &[Handling], pauses: &[Pause]) {
        let successors = successors(handlings);
        for handling in handlings {
            let Some(&next) = successors.get(&handling.epoch) else { continue };
            let ended = handling.ended.map(|(at, _)| at);
            let late = match (handling.began > next, ended) {
                (true, Some(_)) => None,
                (true, None) => Some(handling.began),
                (false, Some(at)) if at > next => Some(at),
                (false, _) => continue,
            };
            if late.is_some_and(|at| was_frozen(pauses, handling.pid, next, at)) {
                self.frozen += 1;
            } else {
                self.overlaps.push(format!("{name}: a newer instance began at {next}, and after it {handling:?}"));
            }
        }
    }

    fn check_instances(&mut self, name: &str, handlings: &[Handling]) {
        let mut instances: HashMap<u64, usize> = HashMap::new();
        for handling in handlings {
            if *instances.entry(handling.epoch).or_insert(handling.instance) != handling.instance {
                self.overlaps.push(format!("{name}: the epoch has another instance: {handling:?}"));
            }
        }
    }

    fn check_repeated(&mut self, name: &str, known: &Name) {
        let denied = |ask: &&Ask| ask.end == End::Failed { may_have_run: false };
        let denied: HashMap<u64, &Ask> = known.asks.iter().filter(denied).map(|ask| (ask.id, ask)).collect();
        let mut handled: HashMap<u64, &Handling> = HashMap::new();
        for handling in known.handlings.iter().filter(|handling| handling.ask != 0) {
            if let Some(before) = handled.insert(handling.ask, handling) {
                self.repeated.push(format!("{name}: handled twice: {before:?}, {handling:?}"));
            }
            if let Some(ask) = denied.get(&handling.ask) {
                self.repeated.push(format!("{name}: handled, and said not to be: {ask:?}, {handling:?}"));
            }
        }
    }

    fn check_witnessed(&mut self, name: &str, known: &Name) {
        let handled: HashMap<u64, &Handling> =
            known.handlings.iter().map(|handling| (handling.ask, handling)).collect();
        for answer in answers(known) {
            let fits = |handling: &&&Handling| {
                let (ended, value) = handling.ended.unwrap_or_default();
                (handling.epoch, value) == answer.key && answer.invoked <= handling.began && ended <= answer.at
            };
            if handled.get(&answer.id).filter(fits).is_none() {
                self.unwitnessed.push(format!("{name}: {answer:?}, and {:?}", handled.get(&answer.id)));
            }
        }
    }
}

/// Epoch → when the first handling under a higher one began.
fn successors(handlings: &[Handling]) -> BTreeMap<u64, Time> {
    let mut firsts: BTreeMap<u64, Time> = BTreeMap::new();
    for handling in handlings {
        firsts.entry(handling.epoch).and_modify(|at| *at = handling.began.min(*at)).or_insert(handling.began);
    }
    let mut next: Option<Time> = None;
    let with_next = firsts.into_iter().rev().map(|(epoch, first)| {
        let successor = next;
        next = Some(next.map_or(first, |next| next.min(first)));
        (epoch, successor)
    });
    with_next.filter_map(|(epoch, successor)| Some((epoch, successor?))).collect()
}

/// Whether a process that did something at that time had been stopped since before the successor began.
fn was_frozen(pauses: &[Pause], pid: u64, successor: Time, at: Time) -> bool {
    pauses
        .iter()
        .any(|pause| pause.pid == pid && pause.from <= successor && pause.until <= at && at - pause.until <= THAW)
}

/// An ask that was answered.
#[derive(Clone, Copy, Debug)]
struct Answer {
    id: u64,
    invoked: Time,
    at: Time,
    /// The epoch and the value: where in the one order of all claims it stands.
    key: (u64, u64),
}

fn answers(known: &Name) -> impl Iterator<Item = Answer> {
    known.asks.iter().filter_map(|ask| match ask.end {
        End::Answered { at, epoch, value } => {
            Some(Answer { id: ask.id, invoked: ask.invoked, at, key: (epoch, value) })
        }
        End::Failed { .. } | End::Open => None,
    })
}

/// Two answers that are the same, or in the wrong order: one had come before the other was asked for.
fn order(known: &Name) -> Option<String> {
    let mut by_invocation: Vec<Answer> = answers(known).collect();
    let mut by_end = by_invocation.clone();
    by_invocation.sort_unstable_by_key(|answer| answer.invoked);
    by_end.sort_unstable_by_key(|answer| answer.at);
    let mut ended = by_end.into_iter().peekable();
    let mut highest: Option<Answer> = None;
    for answer in by_invocation {
        while let Some(before) = ended.next_if(|before| before.at < answer.invoked) {
            highest = Some(highest.filter(|highest| highest.key > before.key).unwrap_or(before));
        }
        if let Some(before) = highest.filter(|highest| highest.key >= answer.key) {
            return Some(format!("it goes back: {before:?}, then {answer:?}"));
        }
    }
    let mut keys: HashMap<(u64, u64), Answer> = HashMap::new();
    answers(known).find_map(|answer| {
        keys.insert(answer.key, answer).map(|other| format!("two have one answer: {other:?}, {answer:?}"))
    })
}

/// A value that no ask can have been answered: those without an answer are too few, or began too late.
///
/// A missing value was the answer of an ask that began before whatever got a higher one ended. The higher the value, the
/// later that is, so the missing values and the open asks, each in order, are matched one by one.
fn gap(known: &Name) -> Option<String> {
    let mut sorted: Vec<Answer> = answers(known).collect();
    sorted.sort_unstable_by_key(|answer| answer.key);
    let mut first = Time::MAX;
    let mut firsts: Vec<Time> = Vec::new();
    for answer in sorted.iter().rev() {
        first = first.min(answer.at);
        firsts.push(first);
    }
    let may_have_run = |ask: &&Ask| matches!(ask.end, End::Open | End::Failed { may_have_run: true });
    let mut open: Vec<Time> = known.asks.iter().filter(may_have_run).map(|ask| ask.invoked).collect();
    open.sort_unstable();
    let mut open = open.into_iter();
    let mut before = (0, 0);
    for (answer, first) in sorted.iter().zip(firsts.into_iter().rev()) {
        let (epoch, value) = answer.key;
        let from = if before.0 == epoch { before.1 + 1 } else { 1 };
        for missing in from..value {
            if open.next().is_none_or(|invoked| invoked > first) {
                return Some(format!("nobody can have got {missing} under epoch {epoch}, before {answer:?}"));
            }
        }
        before = answer.key;
    }
    None
}

#[cfg(test)]
#[path = "checker_tests.rs"]
mod tests;
