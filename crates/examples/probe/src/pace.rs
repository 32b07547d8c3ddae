//! Asking at a rate that does not depend on the answers.

use std::{
    future::Future,
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

/// Asks that are due go together this often.
const BURST: Duration = Duration::from_millis(5);

/// Asks so often a second, for so many seconds, whether or not earlier asks have ended. `ask` gets each one's number, from
/// 0 on, `ended` how each went. Answers, once all have ended, how many there were.
pub(crate) async fn steadily<F>(
    (per_second, seconds): (f64, f64),
    ask: impl Fn(usize) -> F,
    mut ended: impl FnMut(F::Output),
) -> usize
where
    F: Future<Output: Send> + Send + 'static,
{
    let (mut asking, mut asked, began) = (JoinSet::new(), 0, Instant::now());
    let mut ticks = interval(BURST);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while began.elapsed().as_secs_f64() < seconds {
        tokio::select! {
            _ = ticks.tick() => {
                let due = (began.elapsed().as_secs_f64() * per_second) as usize;
                for number in asked..due {
                    asking.spawn(ask(number));
                }
                asked = due;
            }
            Some(Ok(outcome)) = asking.join_next() => ended(outcome),
        }
    }
    while let Some(last) = asking.join_next().await {
        last.into_iter().for_each(&mut ended);
    }
    asked
}
