//! What the actors of a run share with it: whose turn it is, and what was seen.
//!
//! Everything of a run happens on one thread, so this is the thread's.

use std::{cell::RefCell, mem};

/// Something that an actor did.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Seen {
    /// The bearer of a name begins to handle a message, or goes on with it.
    Handles {
        name: String,
        epoch: u64,
        /// Which of all instances of the run.
        instance: u64,
        /// On which host.
        host: u64,
        /// The message and who sent it, where it begins.
        begins: Option<(u64, u64)>,
    },
    /// Somebody asks.
    Asks { id: u64, process: u32 },
    /// The answer: or whether the message may have been handled.
    Answered { id: u64, failed: Option<(bool, String)> },
    /// Somebody tells.
    Tells { id: u64 },
    /// It came back: whether it may have been handled, and why.
    Returned { id: u64, why: (bool, String) },
    /// An actor has created another one.
    Born { child: String, process: u32 },
    /// It is told of that one's end.
    Ended { child: String, process: u32 },
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Stage {
    numbers: u64,
    /// The host and the process whose actors run now.
    pub(super) turn: (u64, u32),
    seen: Vec<Seen>,
}

thread_local! {
    static STAGE: RefCell<Stage> = RefCell::default();
}

fn with<T>(change: impl FnOnce(&mut Stage) -> T) -> T {
    STAGE.with_borrow_mut(change)
}

/// An empty stage.
pub(super) fn clear() {
    STAGE.replace(Stage::default());
}

/// A number that no other thing of the run has.
pub(super) fn number() -> u64 {
    with(|stage| {
        stage.numbers += 1;
        stage.numbers
    })
}

/// From now on actors of that process run.
pub(super) fn set_turn(turn: (u64, u32)) {
    with(|stage| stage.turn = turn);
}

/// Whose actors run now.
pub(super) fn turn() -> (u64, u32) {
    with(|stage| stage.turn)
}

/// An actor says what it does.
pub(super) fn saw(what: Seen) {
    with(|stage| stage.seen.push(what));
}

/// What was seen since the last call.
pub(super) fn take_seen() -> Vec<Seen> {
    with(|stage| mem::take(&mut stage.seen))
}
