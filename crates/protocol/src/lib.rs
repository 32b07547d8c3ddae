//! What is said: ids, addresses, frames, control messages, limits.
//!
//! Nothing here does anything: no I/O, no clock, no runtime. A type that can be serialised is a promise to another
//! process, so all of them live here, at the bottom of the crate graph.
//!
//! | module | what |
//! |---|---|
//! | [`id`] | node, boot, serial, convention, worker |
//! | [`address`] | direct, named and troupe addresses and their text forms |
//! | [`frame`] | the fixed header that routers read, extensions |
//! | [`reason`] | why a message came back, why an actor ended |
//! | [`capability`] | how a capability's value is written |
//! | [`control`] | worker or client to agent and back |
//! | [`counts`] | messages of a process, by how they ended |
//! | [`dead_letter`] | a message that came back, for whoever listens |
//! | [`directory`] | what the voters agree on: members, names, tokens |
//! | [`host`] | a host, for processes that watch hosts |
//! | [`peer`] | agent to agent |
//! | [`ring`] | numbers of a flow, as a set |
//! | [`limits`] | every bound of the runtime |
//! | [`level`] | how agents of two builds go on together |

pub mod address;
pub mod capability;
pub mod control;
pub mod counts;
pub mod dead_letter;
pub mod directory;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod hash;
pub mod host;
pub mod id;
pub mod level;
pub mod limits;
pub mod peer;
#[doc(hidden)]
pub mod planted;
pub mod reason;
pub mod ring;
#[doc(hidden)]
pub mod simulated;
pub mod time;

pub use address::{Address, Direct, ParseAddressError};
pub use counts::Counts;
pub use dead_letter::DeadLetter;
pub use host::HostInfo;
pub use id::{Boot, ConventionId, NodeId, Serial, WorkerId};
pub use reason::{ExitCause, Reason};
pub use time::Time;

/// The version of everything in this crate that crosses a process boundary.
///
/// Two processes speak to each other only if theirs are equal; the `Hello` exchange says so in words.
/// With the Cargo feature `next-protocol` it is the next one, for tests of what two such builds say to each other.
pub const PROTOCOL_VERSION: u8 = if cfg!(feature = "next-protocol") { 2 } else { 1 };
