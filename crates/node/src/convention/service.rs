//! What the rest of the agent does for its convention.

use bytes::BytesMut;
use odeon_protocol::{
    NodeId,
    peer::{PeerReply, PeerRequest},
};
use odeon_transport::{frame_io::Gate, quic::Undelivered};
use std::{future::Future, pin::Pin};

/// A future that a [`Service`] answers with.
pub type Answering<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the rest of the agent implements for its convention.
///
/// `call` runs on the convention's thread and must not block it; spawn elsewhere what takes long. `frames`,
/// `undelivered`, `unreachable` and `reachable` are called on the runtime on which the convention was started, the router's.
pub trait Service: Send + Sync + 'static {
    /// Another agent asks. `Propose`, `ReadName`, `Renew` and `Facts` never come here.
    fn call(&self, from: NodeId, request: PeerRequest) -> Answering<PeerReply>;

    /// Data frames from another agent, in the order in which they were sent within each lane.
    fn frames(&self, from: NodeId, frames: Vec<BytesMut>);

    /// While this is shut no large frames are taken from other agents.
    fn gate(&self) -> Gate {
        Gate::default()
    }

    /// Frames that were not brought to their host, because that start of its agent is over.
    fn undelivered(&self, node: NodeId, frames: Undelivered);

    /// The link has been down for 10 s or longer; told four times a second while that is so. Frames for the host wait on
    /// unless they are taken back.
    fn unreachable(&self, node: NodeId);

    /// Whether the agent is reached over its data connection; told at each change.
    fn reachable(&self, node: NodeId, reachable: bool);
}
