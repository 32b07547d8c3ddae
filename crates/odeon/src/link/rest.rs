//! Tells the agent that the named actors are at rest once the gate has closed, so that it need not end the whole process.
//!
//! - **RS-1.** What is said of a deadline holds until another one is set: the gate is closed, and no named actor is in the
//!   middle of anything.
//! - **RS-2.** A deadline that passes is said, once, as soon as that is true.

use super::Link;
use crate::{
    core::{clock, timers::Later},
    system::Inner,
};
use odeon_protocol::{Time, control::ToAgent};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};

/// Between two looks at named actors that are in the middle of something.
const AGAIN: Duration = Duration::from_millis(10);

/// What is known of the deadlines, by `CLOCK_BOOTTIME` in nanoseconds.
pub(super) struct Rest(Mutex<State>);

struct State {
    /// When the next look is due.
    next: u64,
    /// The deadline that was said last.
    said: u64,
}

impl Default for Rest {
    fn default() -> Self {
        Self(Mutex::new(State { next: clock::NEVER, said: clock::NEVER }))
    }
}

impl Link {
    /// Named actors may run until then, by `CLOCK_BOOTTIME`.
    pub(super) fn run_until(self: &Arc<Self>, pause_at: Time) {
        let Some(system) = self.system() else { return };
        system.gate.open_until(pause_at.as_nanos());
        self.look_at(&system, pause_at.as_nanos());
    }

    /// Looks at the gate then, unless it is looked at earlier: that look sees to the next one.
    fn look_at(self: &Arc<Self>, system: &Inner, at: u64) {
        let mut state = self.rest.0.lock();
        if at >= state.next {
            return;
        }
        state.next = at;
        let link = Arc::downgrade(self);
        let look = Later::new(move || {
            if let Some(link) = link.upgrade() {
                link.look();
            }
        });
        system.timers.arm(clock::fine().saturating_add(at.saturating_sub(clock::boot())), look);
    }

    fn look(self: &Arc<Self>) {
        let Some(system) = self.system() else { return };
        self.rest.0.lock().next = clock::NEVER;
        let (until, now) = (system.gate.until(), clock::boot());
        if now < until {
            return self.look_at(&system, until);
        }
        let runs = system.registry.any(|cell| cell.head().identity.is_some() && cell.head().is_running());
        if runs || system.gate.is_acting() {
            return self.look_at(&system, now + clock::nanos(AGAIN));
        }
        if std::mem::replace(&mut self.rest.0.lock().said, until) != until {
            self.say(&ToAgent::AtRest { pause_at: Time::from_nanos(until) });
        }
    }
}
