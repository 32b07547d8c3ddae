//! Joining a convention: a token, one round trip, a certificate.
//!
//! ```text
//! joiner                                             any agent
//!   dials `odeon-join/1`                       ──▶
//!                                              ◀──   leaf and root: the root's hash must be the token's pin
//!   JoinRequest { request for a certificate,   ──▶   the directory's leader commits the member, signs its public key
//!     name, address, role, proof }
//!                                              ◀──   JoinAnswer { leaf, roots, hosts } or why not
//! ```
//!
//! The proof is a keyed hash over the TLS exporter and everything that is asked for, so the secret never travels and
//! the proof is worth nothing on another connection. A member whose leaf has expired signs the same bytes with its
//! node key instead: *eviction keeps hosts out, expiry does not*.
//!
//! - **J-1.** The joiner says nothing before the agent has proved that it belongs to the pinned root.
//! - **J-2.** The secret is in nobody's message, log or debug text; the directory stores only what follows from it.
//! - **J-3.** Requests and answers are bounded; a malformed one closes that one connection.

mod client;
mod server;
mod token;
mod wire;

pub use client::{Ask, Credentials, JoinError, Joined, join};
pub(crate) use server::answer;
pub use server::{Admit, Attempt};
pub use token::{JoinToken, StoredSecret, TokenError};
pub(crate) use wire::fuzz_request;
pub use wire::{Grant, JoinAnswer, JoinHost, JoinRequest, Proof, Refused};

/// The ALPN name of the join protocol.
pub const PROTOCOL: &[u8] = b"odeon-join/1";
/// The label of the TLS exporter that binds a proof to its connection.
const EXPORTER_LABEL: &[u8] = b"EXPORTER odeon join v1";
