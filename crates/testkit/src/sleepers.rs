//! Actors of a simulation that sleep in its time.
//!
//! Everything of a run happens on one thread, so this is the thread's.

use odeon_protocol::Time;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

#[derive(Debug, Default)]
struct Sleepers {
    now: Time,
    asleep: BTreeMap<(Time, u64), Waker>,
    slept: u64,
}

thread_local! {
    static SLEEPERS: RefCell<Sleepers> = RefCell::default();
}

/// Begins anew; whoever sleeps is forgotten.
pub(crate) fn clear() {
    // What sleeps is dropped outside: it may be woken by that.
    drop(SLEEPERS.replace(Sleepers::default()));
}

/// Sets the time; wakes whoever slept until then.
pub(crate) fn advance(now: Time) {
    let due: Vec<_> = SLEEPERS.with_borrow_mut(|sleepers| {
        sleepers.now = now;
        let later = sleepers.asleep.split_off(&(Time::from_nanos(now.as_nanos() + 1), 0));
        mem::replace(&mut sleepers.asleep, later).into_values().collect()
    });
    due.into_iter().for_each(Waker::wake);
}

/// When the next sleeper wakes.
pub(crate) fn next() -> Option<Time> {
    SLEEPERS.with_borrow(|sleepers| sleepers.asleep.first_key_value().map(|((at, _), _)| *at))
}

/// Sleeps in simulated time.
pub(crate) fn sleep(span: Duration) -> Sleep {
    Sleep { until: SLEEPERS.with_borrow(|sleepers| sleepers.now + span), key: None }
}

/// See [`sleep`].
#[derive(Debug)]
pub(crate) struct Sleep {
    until: Time,
    key: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let until = self.until;
        SLEEPERS.with_borrow_mut(|sleepers| {
            if sleepers.now >= until {
                return Poll::Ready(());
            }
            let key = *self.key.get_or_insert_with(|| {
                sleepers.slept += 1;
                sleepers.slept
            });
            sleepers.asleep.insert((until, key), context.waker().clone());
            Poll::Pending
        })
    }
}
