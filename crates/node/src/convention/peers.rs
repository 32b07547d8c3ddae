//! The other agents: who is reached how, and who answers their requests.

use super::{
    error::CallError,
    facts::Facts,
    service::{Answering, Service},
    wire::{Reply, Request},
};
use bytes::Bytes;
use odeon_cluster::host::Liveness;
use odeon_protocol::{
    Boot, NodeId,
    peer::{PeerReply, PeerRequest},
};
use parking_lot::RwLock;
use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::timeout;

/// Answers requests of other agents, and this agent's own to itself.
pub(crate) trait Answers: Send + Sync + 'static {
    fn answer(&self, from: NodeId, request: Request) -> Answering<Reply>;
}

/// See the module's head.
pub(crate) struct Peers {
    me: NodeId,
    answers: OnceLock<Arc<dyn Answers>>,
    service: RwLock<Option<Arc<dyn Service>>>,
    facts: Facts,
    listens_on: SocketAddr,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("me", &self.me).field("listens_on", &self.listens_on).finish_non_exhaustive()
    }
}

impl Peers {
    pub(crate) fn new(me: NodeId, listens_on: SocketAddr) -> Self {
        let (answers, service) = (OnceLock::new(), RwLock::default());
        Self { me, answers, service, facts: Facts::new(me), listens_on }
    }

    pub(crate) fn listens_on(&self) -> SocketAddr {
        self.listens_on
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn serve(&self, service: Arc<dyn Service>) {
        *self.service.write() = Some(service);
    }

    pub(crate) fn service(&self) -> Option<Arc<dyn Service>> {
        self.service.read().clone()
    }

    /// Set once, before anything is asked.
    pub(crate) fn answer_by(&self, answers: Arc<dyn Answers>) {
        drop(self.answers.set(answers));
    }

    /// How that boot of a host seems to be.
    pub(crate) fn liveness(&self, node: NodeId, _boot: Boot) -> Liveness {
        if node == self.me { Liveness::Up } else { Liveness::Unknown }
    }

    /// Asks another agent, dialling it first if need be.
    pub(crate) async fn ask(&self, node: NodeId, request: Request, within: Duration) -> Result<Reply, CallError> {
        if node == self.me {
            return self.ask_myself(request, within).await;
        }
        Err(CallError::Unreachable { node, why: "it is not connected".into() })
    }

    /// Asks another agent over the connection that there is.
    pub(crate) async fn ask_connected(
        &self,
        node: NodeId,
        request: Request,
        within: Duration,
    ) -> Result<Reply, CallError> {
        self.ask(node, request, within).await
    }

    async fn ask_myself(&self, request: Request, within: Duration) -> Result<Reply, CallError> {
        let node = self.me;
        let unanswered = |why: &str| CallError::Unanswered { node, why: why.into() };
        let answers = self.answers.get().ok_or_else(|| unanswered("it is only starting"))?;
        timeout(within, answers.answer(node, request)).await.map_err(|_| unanswered("it took too long"))
    }

    pub(crate) async fn call(
        &self,
        node: NodeId,
        request: PeerRequest,
        within: Duration,
    ) -> Result<PeerReply, CallError> {
        match self.ask(node, Request::Peer(request), within).await? {
            Reply::Peer(PeerReply::Refused(refusal)) => Err(CallError::Refused(refusal)),
            Reply::Peer(reply) => Ok(reply),
            _ => Err(CallError::Unanswered { node, why: "its answer is to another question".into() }),
        }
    }

    pub(crate) fn send(&self, _node: NodeId, _frame: Bytes) -> bool {
        false
    }
}
