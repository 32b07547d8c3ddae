//! Connections between agents: QUIC, TLS both ways, one UDP port.
//!
//! | protocol | connection | what travels |
//! |---|---|---|
//! | `odeon/1` | control | [`Control`]: requests and answers, subscriptions, datagrams (gossip) |
//! | `odeon-data/1` | data | [`Lanes`]: frames, in order per lane |
//! | `odeon-join/1` | short | the join protocol, the only one without a client certificate |
//!
//! Control is a connection of its own so that heartbeats never queue behind bulk data. Both ends of a pair may dial at
//! once; [`stays`] says which connection is kept.
//!
//! - **Q-1.** A connection is handed on only after the peer's certificate was verified and both sides greeted.
//! - **Q-2.** What breaks the protocol closes that one connection with a named reason, nothing else.
//! - **Q-3.** Everything runs on the runtime in which it was called; when an endpoint closes, its tasks end.
//! - **Q-4.** No stream is read or written inside a `select!`: a half-done write cannot be taken up again.

mod connection;
mod control;
mod endpoint;
pub(crate) mod fuzz;
mod greeting;
#[doc(hidden)]
pub mod lanes;
mod message;
mod settings;
#[doc(hidden)]
pub mod simulated;
mod socket;

pub use connection::{Closed, Code, Connection, Kind, Peer, Seen, stays};
pub use control::{Control, DatagramError, Publisher, RequestError, Serve, Subscription, Urgency};
pub use endpoint::{DialError, Door, Endpoint};
pub use lanes::{Lanes, Receive, SendError, Undelivered};
pub(crate) use settings::no_common_protocol;
pub use settings::{EndpointError, Settings};
pub(crate) use socket::endpoint_on;
pub use socket::{SocketFacts, try_socket};
