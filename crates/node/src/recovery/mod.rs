//! What is left when a majority of the voters is lost for ever.
//!
//! | what | when |
//! |---|---|
//! | [`Survivor`] | one voter's data directory is left: makes a new group of it |
//! | [`Backup`] | a file of the whole directory, taken while all is well |
//! | [`restore()`] | nothing but such a file is left |
//!
//! Both ways end in a group of one voter that goes by a *recovery*, a number of its own, later than every earlier one.
//! What is new there is decided by [`Directory::recovered`](odeon_cluster::directory::Directory::recovered); who meets an
//! agent of a later recovery follows it or ends (`convention::recovered`).

mod backup;
mod restore;
mod survivor;

pub use backup::{Backup, BackupError};
pub use restore::{RestoreError, Restored, restore};
pub use survivor::{Kept, RecoverError, Recovered, Survivor};

pub(crate) use backup::fuzz;

use crate::convention::clock::wall;
use std::time::UNIX_EPOCH;

/// The number of a recovery that is made now: the time, in milliseconds since 1970, so that the later of two wins.
fn later_than(before: u64) -> u64 {
    let now = wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    now.max(before.saturating_add(1))
}
