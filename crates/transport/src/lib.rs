//! How bytes move: QUIC between agents, Unix sockets within a host, memory for tests.
//!
//! | module | what |
//! |---|---|
//! | [`frame_io`] | frames in and out of a byte stream, many at a time |
//! | [`socket`] | one end of a link between a process and its agent, over [`unix`] or [`memory`] |
//! | [`tls`] | keys, certificates, the convention's authority (feature `quic`) |
//! | [`join`] | tokens and the join protocol (feature `quic`) |
//! | [`quic`] | connections between agents (feature `quic`) |

#[cfg(feature = "quic")]
mod base32;
pub mod frame_io;
#[cfg(feature = "quic")]
#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "quic")]
pub mod join;
pub mod memory;
#[cfg(feature = "quic")]
pub mod quic;
pub mod socket;
#[cfg(feature = "quic")]
pub mod tls;
pub mod unix;

/// A future whose type is forgotten.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// An error whose type is forgotten.
#[cfg(feature = "quic")]
type BoxError = Box<dyn std::error::Error + Send + Sync>;
