//! Everything of a process that is beyond the process.

pub(crate) mod flow;
pub(crate) mod handshake;
mod names;
