//! A convention in one process, simulated network and clock, invariant checks.
//!
//! [`Simulation`] runs the shipped state machines of `odeon-cluster` (directory, leases, anti-entropy, placement) on many
//! simulated hosts: messages are lost, delayed and reordered, hosts are cut off, stopped, killed and started anew, leaders
//! deposed. A run is repeated exactly from its seed. After every step the guarantee of one instance a name is checked;
//! once the faults have ended, that everything has come to rest.
//!
//! The voters' log itself is not simulated: it is one [`odeon_cluster::Directory`] that only the true leader changes, and
//! only while it reaches a majority. Deposed leaders go on believing in themselves for a while.

pub mod balance;
#[cfg(feature = "simulation")]
pub mod convention;
#[cfg(feature = "simulation")]
pub mod crowd;
pub mod fuzz;
mod host;
mod leader;
#[cfg(feature = "simulation")]
pub mod links;
mod message;
mod random;
#[cfg(feature = "simulation")]
pub mod seeds;
mod simulation;
#[cfg(feature = "simulation")]
mod sleepers;

pub use random::Random;
pub use simulation::{Faults, Report, Simulation, Violation};
