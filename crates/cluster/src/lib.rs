//! What is decided: membership, capabilities, directory, placement. No I/O, no clock.
//!
//! Everything here is a function of its arguments: time is a [`odeon_protocol::Time`] given by the caller, randomness an
//! argument, and collections are walked in key order. So a run is repeated exactly from its inputs, and the simulator
//! drives the shipped code.
//!
//! | module | what |
//! |---|---|
//! | [`directory`] | members, global names, tokens: the state machine behind the voters' log |
//! | [`capability`], [`requirement`] | what hosts can do, what actors ask of them |
//! | [`host`], [`placement`] | hosts as others see them, and which of them an actor gets |
//! | [`troupe`] | which member takes a message, when troupes grow and shrink |
//! | [`voters`] | who votes on the directory, and who stands by to |
//! | [`lease`] | until when a host may run named actors |
//! | [`gossip`] | who seems alive |
//! | [`anti_entropy`] | how capabilities and load spread |
//! | [`rate`] | so many a second |

pub mod anti_entropy;
pub mod capability;
pub mod directory;
#[doc(hidden)]
pub mod fuzz;
pub mod gossip;
pub mod host;
pub mod lease;
pub mod placement;
pub mod rate;
pub mod requirement;
#[cfg(test)]
mod testing;
pub mod troupe;
pub mod voters;

pub use directory::Directory;
pub use host::{HostView, Liveness, Load};
pub use rate::Rate;
pub use requirement::Requirement;
