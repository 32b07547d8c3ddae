//! The lease: until when this host's named actors may run.

use odeon_protocol::Time;

/// See the module's head. Times are those of [`super::now`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The generation that claims have to name; 0 before the first lease.
    pub generation: u64,
    /// From here on no handler of a named actor may start, and nothing to or from one is passed on.
    pub pause_at: Time,
    /// From here on workers that have not put their named actors to rest are killed.
    pub kill_at: Time,
}
