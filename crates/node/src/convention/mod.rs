//! Everything between agents: who belongs, who leads, what the directory says, how others are reached.
//!
//! ```text
//!  router's thread                       the convention's thread (current-thread runtime)
//!  Handle ──┐                            ┌─ proposals ─── Raft group ─── storage thread (redb)
//!           ├─ Shared ── Peers ──────────┼─ lease, change stream, gossip, leader's duties
//!  data ────┘   (data connections here)  └─ control connections
//! ```
//!
//! The rest of the agent sees [`Handle`] and implements [`Service`].

mod admission;
mod backup;
mod certificates;
pub(crate) mod clock;
mod confirm;
mod copies;
mod doctor;
mod door;
mod error;
mod facts;
mod follow;
mod gossip;
mod handle;
mod joining;
mod leader;
mod lease;
mod links;
#[cfg(feature = "next-level")]
mod note;
mod peers;
mod proposals;
mod raft;
mod recovered;
mod runtime;
mod seek;
mod server;
mod service;
mod shared;
mod simulated;
mod start;
mod status;
pub(crate) mod store;
mod tasks;
mod token_out;
mod tokens;
mod voters;
pub(crate) mod wire;

pub use backup::NoBackup;
pub use clock::now;
pub(crate) use error::SUPERSEDED;
pub use error::{CallError, ProposeError, StartError};
pub use handle::{Handle, Over};
pub use lease::Lease;
pub(crate) use links::{DOWN_MAX, replaced};
pub use links::{LinkStatus, Unsent};
pub use service::{Answering, Service};
#[doc(hidden)]
pub use simulated::{Simulated, admit_simulated, start_simulated};
pub use start::start;
pub use status::{HostRole, HostState, HostStatus, Status};
#[doc(hidden)]
pub use store::Disk;
