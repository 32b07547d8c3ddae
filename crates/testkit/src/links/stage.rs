//! What the actors of a run share with it: who is slow, and what was seen.
//!
//! Everything of a run happens on one thread, so this is the thread's.

use super::log::Log;
use std::{cell::RefCell, collections::BTreeMap, time::Duration};

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Stage {
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
