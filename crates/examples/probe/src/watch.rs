//! `probe.watch`: asks counters by key, steadily, and tells when each was answered by a new instance.

use crate::{Counter, Get, pace::steadily};
use odeon::prelude::*;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Asks all of these counters in turn, at a rate that does not depend on the answers, each ask once.
#[message(reply = Watched)]
#[derive(Clone, Debug)]
pub struct Watch {
    /// Whom, by their keys.
    pub keys: Vec<String>,
    /// Asks a second.
    pub per_second: f64,
    /// For how many seconds.
    pub seconds: f64,
    /// How long each ask may take, in milliseconds.
    pub timeout_ms: u64,
}

/// The answer to [`Watch`].
#[data]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watched {
    /// Asks that were answered.
    pub answered: u64,
    /// Why others were not, and how many.
    pub failed: BTreeMap<String, u64>,
    /// The slowest answer, in milliseconds.
    pub slowest_ms: f64,
    /// The newest instance of each, in the order of the keys; nothing for one that never answered.
    pub bearers: Vec<Option<Bearer>>,
}

/// Who answered for a name.
#[data]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Its host.
    pub host: String,
    /// Its epoch.
    pub epoch: u64,
    /// When its first answer came, in microseconds since 1970.
    pub since_us: u64,
}

/// The actor.
#[derive(Debug, Default)]
pub struct Watcher;

/// How one ask went: which name, how long it took, and what came.
type Outcome = (usize, Duration, Result<(u64, String), String>);

#[actor("probe.watch")]
impl Watcher {
    async fn watch(&mut self, watch: Watch, ctx: &mut Context<Self>) -> Watched {
        let counters: Vec<ActorRef<Counter>> = watch.keys.iter().map(|key| ctx.named::<Counter>(key)).collect();
        let mut seen = Watched { bearers: vec![None; counters.len()], ..Watched::default() };
        if counters.is_empty() {
            return seen;
        }
        let timeout = Duration::from_millis(watch.timeout_ms);
        let next = |number: usize| ask(number % counters.len(), counters[number % counters.len()].clone(), timeout);
        steadily((watch.per_second, watch.seconds), next, |outcome| seen.take(outcome)).await;
        seen
    }
}

async fn ask(at: usize, counter: ActorRef<Counter>, timeout: Duration) -> Outcome {
    let began = Instant::now();
    let answer = counter.ask(Get).timeout(timeout).await;
    (at, began.elapsed(), answer.map(|count| (count.epoch, count.host)).map_err(|error| error.kind().to_string()))
}

impl Watched {
    fn take(&mut self, (at, took, answer): Outcome) {
        let (epoch, host) = match answer {
            Ok(came) => came,
            Err(kind) => return *self.failed.entry(kind).or_default() += 1,
        };
        self.answered += 1;
        self.slowest_ms = self.slowest_ms.max(took.as_secs_f64() * 1e3);
        if self.bearers[at].as_ref().is_none_or(|bearer| bearer.epoch < epoch) {
            let since_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
            self.bearers[at] = Some(Bearer { host, epoch, since_us });
        }
    }
}
