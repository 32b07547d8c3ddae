//! `probe.namer`: creates counters under global names as fast as they are granted, and says how fast that was.

use crate::Counter;
use odeon::prelude::*;
use std::time::Instant;
use tokio::task::JoinSet;

/// So many creations wait for their grants at a time, unless another number is said, and at most so many.
const AT_ONCE: usize = 1000;
const AT_ONCE_MAX: usize = 16 << 10;

/// Creates a counter under each of the names `probe.counter/FROM` to `probe.counter/UNTIL`, the last one not among them.
#[message(reply = Granted)]
#[derive(Clone, Debug)]
pub struct Name {
    /// The first one's number.
    pub from: u64,
    /// The number after the last one's.
    pub until: u64,
    /// How many creations are under way at a time; 0 for a usual number.
    #[serde(default)]
    pub at_once: usize,
    /// On which host the counters are, if not on any.
    #[serde(default)]
    pub on: Option<String>,
}

/// The answer to [`Name`], when all are granted or refused.
#[data]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Granted {
    /// Names that are borne now.
    pub granted: u64,
    /// Creations that failed.
    pub failed: u64,
    /// Why the first of them did.
    pub why: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

/// The actor.
#[derive(Debug, Default)]
pub struct Namer;

#[actor("probe.namer")]
impl Namer {
    async fn name(&mut self, name: Name, ctx: &mut Context<Self>) -> Granted {
        let at_once = if name.at_once == 0 { AT_ONCE } else { name.at_once.min(AT_ONCE_MAX) };
        let (mut granted, mut creating, began) = (Granted::default(), JoinSet::new(), Instant::now());
        for number in name.from..name.until {
            if creating.len() >= at_once {
                creating.join_next().await.into_iter().flatten().for_each(|outcome| granted.take(outcome));
            }
            let creation = ctx.system().create::<Counter>(()).global_name(format!("probe.counter/{number}"));
            let creation = match &name.on {
                Some(host) => creation.on(host),
                None => creation,
            };
            creating.spawn(creation.into_future());
        }
        while let Some(last) = creating.join_next().await {
            last.into_iter().for_each(|outcome| granted.take(outcome));
        }
        granted.seconds = began.elapsed().as_secs_f64();
        granted
    }
}

impl Granted {
    fn take(&mut self, outcome: odeon::Result<ActorRef<Counter>>) {
        match outcome {
            Ok(_) => self.granted += 1,
            Err(error) => {
                self.failed += 1;
                self.why.get_or_insert_with(|| error.to_string());
            }
        }
    }
}
