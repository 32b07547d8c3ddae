//! `probe.claimant`: asks witnesses by key, steadily, and writes down when it asked, when the answer came, and what it was.
//!
//! ```text
//! claimant h3 4711                           the host, the process
//! invoke 88172 5029411005000 probe.witness/17    the message's number, when, to whom
//! return 88172 5029413207311 12 3            its number, when, the epoch and the value that came
//! failed 88173 5029419207311 true deadline   its number, when, whether it may have run, why
//! ```

use crate::{
    Claim, Witness,
    diary::{self, Diary},
    pace::steadily,
};
use odeon::prelude::*;
use std::{
    collections::BTreeSet,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Asks all of these witnesses in turn, at a rate that does not depend on the answers, each ask once. The next such
/// message goes on where this one ends.
#[message(reply = Claimed)]
#[derive(Clone, Debug)]
pub struct Claims {
    /// Whom, by their keys.
    pub keys: Vec<String>,
    /// Asks a second.
    pub per_second: f64,
    /// For how many seconds.
    pub seconds: f64,
    /// How long each ask may take, in milliseconds.
    pub timeout_ms: u64,
}

/// The answer to [`Claims`].
#[data]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// Asks that were answered.
    pub answered: u64,
    /// Why others were not, and how many.
    pub failed: BTreeMap<String, u64>,
    /// How many of the keys were answered for.
    pub names: u64,
}

/// The actor.
#[derive(Debug, Default)]
pub struct Claimant {
    /// How many asks there have been.
    asked: usize,
    diary: Option<Arc<Diary>>,
}

/// How one ask went: which key, and why it failed if it did.
type Outcome = (usize, Result<(), String>);

#[actor("probe.claimant")]
impl Claimant {
    async fn claims(&mut self, claims: Claims, ctx: &mut Context<Self>) -> Claimed {
        let diary = self.diary.get_or_insert_with(|| Arc::new(Diary::begin("claimant", ctx.host(), None))).clone();
        let witnesses: Vec<ActorRef<Witness>> = claims.keys.iter().map(|key| ctx.named::<Witness>(key)).collect();
        let timeout = Duration::from_millis(claims.timeout_ms);
        let (mut claimed, mut names) = (Claimed::default(), BTreeSet::new());
        if witnesses.is_empty() {
            return claimed;
        }
        let first = self.asked;
        let next = |number: usize| {
            let at = (first + number) % witnesses.len();
            ask(at, witnesses[at].clone(), timeout, diary.clone())
        };
        let ended = |outcome| claimed.take(outcome, &mut names);
        self.asked += steadily((claims.per_second, claims.seconds), next, ended).await;
        Claimed { names: names.len() as u64, ..claimed }
    }
}

async fn ask(at: usize, witness: ActorRef<Witness>, timeout: Duration, diary: Arc<Diary>) -> Outcome {
    let id = next_id();
    diary.note(format_args!("invoke {id} {} {}", diary::now(), witness.global_name().unwrap_or("-")));
    let answer = witness.ask(Claim { id }).timeout(timeout).await;
    let now = diary::now();
    match answer {
        Ok(held) => {
            diary.note(format_args!("return {id} {now} {} {}", held.epoch, held.value));
            (at, Ok(()))
        }
        Err(error) => {
            let kind = error.kind().to_string();
            diary.note(format_args!("failed {id} {now} {} {kind}", error.may_have_run()));
            (at, Err(kind))
        }
    }
}

/// A number that no other claim on this machine has: when the first one of this process was made, in microseconds, and
/// which of its claims it is.
fn next_id() -> u64 {
    static FIRST: OnceLock<u64> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    (FIRST.get_or_init(|| diary::now() / 1000) << 24) + NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Claimed {
    fn take(&mut self, (at, outcome): Outcome, names: &mut BTreeSet<usize>) {
        match outcome {
            Ok(()) => {
                self.answered += 1;
                names.insert(at);
            }
            Err(kind) => *self.failed.entry(kind).or_default() += 1,
        }
    }
}
