//! What the actors of a run share with it: the time, who sleeps, and what was seen.
//!
//! Everything of a run happens on one thread, so this is the thread's.

use super::log::Log;
use odeon_protocol::Time;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) now: Time,
    sleepers: BTreeMap<(Time, u64), Waker>,
    slept: u64,
    /// How long each receiver takes for a message.
    pub(super) slowness: BTreeMap<u32, Duration>,
    /// How long receivers take to start, and to stop.
    pub(super) start_takes: Duration,
    pub(super) stop_takes: Duration,
    /// Senders whose message waits to be accepted.
    pub(super) waiting: usize,
    pub(super) log: Log,
}

thread_local! {
    static STAGE: RefCell<Stage> = RefCell::default();
}

/// Looks at or changes the stage. Must not be called within itself.
pub(super) fn with<T>(change: impl FnOnce(&mut Stage) -> T) -> T {
    STAGE.with_borrow_mut(change)
}

/// Sets the time; wakes whoever slept until then.
pub(super) fn advance(now: Time) {
    let due: Vec<_> = with(|stage| {
        stage.now = now;
        let later = stage.sleepers.split_off(&(Time::from_nanos(now.as_nanos() + 1), 0));
        std::mem::replace(&mut stage.sleepers, later).into_values().collect()
    });
    due.into_iter().for_each(Waker::wake);
}

/// When the next sleeper wakes.
pub(super) fn next() -> Option<Time> {
    with(|stage| stage.sleepers.first_key_value().map(|((at, _), _)| *at))
}

/// Sleeps in simulated time.
pub(super) fn sleep(span: Duration) -> Sleep {
    Sleep { until: with(|stage| stage.now + span), key: None }
}

/// See [`sleep`].
#[derive(Debug)]
pub(super) struct Sleep {
    until: Time,
    key: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let until = self.until;
        with(|stage| {
            if stage.now >= until {
                return Poll::Ready(());
            }
            let key = *self.key.get_or_insert_with(|| {
                stage.slept += 1;
                stage.slept
            });
            stage.sleepers.insert((until, key), context.waker().clone());
            Poll::Pending
        })
    }
}
