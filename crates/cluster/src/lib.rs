//! What is decided: membership, capabilities, directory, placement. No I/O, no clock.
//!
//! Everything here is a function of its arguments: time is a [`odeon_protocol::Time`] given by the caller, randomness an
//! argument, and collections are walked in key order. So a run is repeated exactly from its inputs, and the simulator
//! drives the shipped code.
//!
//! | module | what |
//! |---|---|
//! | [`directory`] | members, global names, tokens: the state machine behind the voters' log |

pub mod directory;
#[cfg(test)]
mod testing;

pub use directory::Directory;
