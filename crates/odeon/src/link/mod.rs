//! Everything of a process that is beyond the process: one link to the host's agent.

pub(crate) mod flow;
pub(crate) mod handshake;
mod names;
