//! How bytes move: QUIC between agents, Unix sockets within a host, memory for tests.
//!
//! | module | what |
//! |---|---|
//! | [`frame_io`] | frames in and out of a byte stream, many at a time |
//! | [`socket`] | one end of a link between a process and its agent, over [`unix`] or [`memory`] |

pub mod frame_io;
pub mod memory;
pub mod socket;
pub mod unix;
