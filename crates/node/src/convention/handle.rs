//! The convention as the rest of the agent sees it.

use super::{
    backup::NoBackup,
    error::{CallError, ProposeError},
    lease::Lease,
    links::{LinkStatus, Unsent},
    proposals,
    service::Service,
    shared::Shared,
    status::{HostStatus, Status},
    tokens,
};
use crate::{doctor::Facts, recovery::Backup};
use bytes::Bytes;
use odeon_cluster::{
    capability,
    directory::{Answer, Command, Directory, NameRecord, RequestId, Role, Token, TokenId},
    host::{HostView, Load},
};
use odeon_protocol::{
    Boot, ConventionId, NodeId,
    peer::{PeerReply, PeerRequest},
};
use odeon_transport::quic::Undelivered;
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::watch;

/// The way into the convention for everything else on this host. Clones are the same.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

/// Why this agent's boot has ended, as the convention sees it: it has to stop its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Over {
    /// It was silent for too long. A new boot may begin.
    BootOver,
    /// It was evicted, or has left.
    NotMember,
    /// The directory was recovered without its log.
    Superseded,
    /// Its Odeon is too old for what the directory's log may hold.
    Outdated {
        /// Its feature level.
        has: u16,
        /// The directory's.
        needs: u16,
    },
    /// A part of it that it cannot do without has failed: the log says which.
    Failed,
}

impl Handle {
    /// This agent.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.shared.me
    }

    /// This start of it.
    #[must_use]
    pub fn boot(&self) -> Boot {
        self.shared.boot
    }

    /// The convention.
    #[must_use]
    pub fn id(&self) -> ConventionId {
        self.shared.convention
    }

    /// The host's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared.data.host()
    }

    /// The UDP address that this agent listens on.
    #[must_use]
    pub fn listens_on(&self) -> SocketAddr {
        self.shared.peers.listens_on()
    }

    /// A number for [`RequestId`], never used twice in this boot.
    #[must_use]
    pub fn next_request(&self) -> RequestId {
        let number = self.shared.requests.fetch_add(1, Ordering::Relaxed);
        RequestId { node: self.shared.me, boot: self.shared.boot, number }
    }

    /// From now on requests and frames of other agents go to `service`.
    pub fn serve(&self, service: Arc<dyn Service>) {
        self.shared.peers.serve(service);
    }

    /// Has the command logged by the voters and carried out; for at most 5 s.
    ///
    /// It is repeated with the same content while the leader changes: claims carry a request id for that.
    ///
    /// # Errors
    /// No majority answers in time (the command may still be carried out later), or the directory denies it.
    pub async fn propose(&self, command: Command) -> Result<Answer, ProposeError> {
        self.shared.proposals.propose(command).await
    }

    /// Reads this agent's copy of the directory, which may be a little behind. Keep it short: writers wait.
    pub fn directory<T>(&self, read: impl FnOnce(&Directory) -> T) -> T {
        self.shared.copies.read(read)
    }

    /// The names of which this agent's copy of the directory says something new since it had that version, and its version
    /// now; nothing if that may be any name.
    pub(crate) fn names_changed_after(&self, version: u64) -> (u64, Option<BTreeSet<Arc<str>>>) {
        self.shared.copies.names_changed_after(version)
    }

    /// A name as the leader knows it, confirmed by a majority.
    ///
    /// # Errors
    /// No majority answers in time.
    pub async fn linear_read_name(&self, name: &str) -> Result<Option<NameRecord>, ProposeError> {
        proposals::read_name(&self.shared, name).await
    }

    /// The directory's version, as this agent's copy moves on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.copies.changes()
    }

    /// This agent's lease: until when its named actors may run.
    #[must_use]
    pub fn lease(&self) -> watch::Receiver<Lease> {
        self.shared.lease.subscribe()
    }

    /// The named actors of the lost lease are at rest: goes on under the new generation.
    pub fn rested(&self) {
        self.shared.rested.notify_one();
    }

    /// Set when the convention has given this boot up.
    #[must_use]
    pub fn over(&self) -> watch::Receiver<Option<Over>> {
        self.shared.over.subscribe()
    }

    /// Returns once this agent has its place: it is a member, its copy of the directory is fresh, it holds a lease,
    /// and if its arrival completes three or five voters, that change is made.
    pub async fn ready(&self) {
        let mut ready = self.shared.ready.subscribe();
        tokio::select! {
            _ = ready.wait_for(|ready| *ready) => {}
            () = self.shared.stop.cancelled() => {}
        }
    }

    /// Whether it has; see [`Handle::ready`].
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.shared.ready.borrow()
    }

    /// The hosts that belong, with what is known of them: liveness, capabilities, types, load. For placement.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostView> {
        super::status::hosts(&self.shared)
    }

    /// Counts changes of what hosts can do and run, as this agent learns of them; not of their load.
    #[must_use]
    pub fn host_changes(&self) -> watch::Receiver<u64> {
        self.shared.peers.facts().changes()
    }

    /// Every member that is remembered, for lists.
    #[must_use]
    pub fn members(&self) -> Vec<HostStatus> {
        super::status::members(&self.shared)
    }

    /// For people.
    #[must_use]
    pub fn status(&self) -> Status {
        super::status::status(&self.shared)
    }

    /// What this agent finds when it looks at its place in the convention: asks the other hosts, and has some of them
    /// dial back. Takes 7 s at most.
    pub async fn examine(&self) -> Facts {
        super::doctor::examine(&self.shared).await
    }

    /// What this host can do, replacing what was said before; spreads to every agent.
    pub fn set_capabilities(&self, capabilities: capability::Map) {
        self.shared.peers.facts().set(|mine| mine.set_capabilities(&capabilities));
    }

    /// The actor types that this host's workers run; spreads to every agent.
    pub fn set_types(&self, types: BTreeSet<Arc<str>>) {
        self.shared.peers.facts().set(|mine| mine.set_types(types));
    }

    /// Whether this host takes no new actors; spreads to every agent.
    pub fn set_draining(&self, draining: bool) {
        self.shared.peers.facts().set(|mine| mine.set_draining(draining));
    }

    /// Whether somebody on this host wants to hear of messages that come back; spreads to every agent.
    pub fn set_hears_dead_letters(&self, hears: bool) {
        self.shared.peers.facts().set(|mine| mine.set_hears_dead_letters(hears));
    }

    /// How busy this host is; spreads to every agent.
    pub fn set_load(&self, load: Load) {
        self.shared.peers.facts().set(|mine| mine.set_load(load));
    }

    /// Asks another agent; answered by its [`Service`]. Asking oneself works, too.
    ///
    /// # Errors
    /// It is not reached, does not answer within `within`, or refuses.
    pub async fn call(&self, node: NodeId, request: PeerRequest, within: Duration) -> Result<PeerReply, CallError> {
        self.shared.peers.call(node, request, within).await
    }

    /// Queues a data frame towards another agent, on the lane of its flow.
    ///
    /// Frames wait for a broken link for 10 s; then they come back by [`Service::undelivered`].
    ///
    /// # Errors
    /// Too much is queued (frames of class urgent are taken nevertheless), or there is no such host; the frame is in
    /// the error.
    pub fn send(&self, node: NodeId, frame: Bytes) -> Result<(), Unsent> {
        self.shared.peers.links.send(node, frame)
    }

    /// How often a host was suspected to be down, by this one or by others that told it.
    #[must_use]
    pub fn suspicions(&self) -> u64 {
        self.shared.seen.suspicions()
    }

    /// Bytes that other agents have not confirmed.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.peers.links.queued()
    }

    /// Takes back the frames that fit, of those that the host's agent has not confirmed. All others stay.
    #[must_use]
    pub fn take_back(&self, node: NodeId, fits: &dyn Fn(&[u8]) -> bool) -> Undelivered {
        self.shared.peers.links.take_back(node, fits)
    }

    /// Gives links to boots that are over up now: what is sent from now on goes over links to the next ones.
    pub fn renew_links(&self) {
        self.shared.peers.links.look(&|node, boot| self.shared.may_live(node, boot));
    }

    /// Waits until a frame like this one may be taken. Others may be quicker: send again in a loop.
    pub async fn room(&self, node: NodeId, like: &[u8]) {
        self.shared.peers.links.room(node, like).await;
    }

    /// The data links to other agents that were needed so far.
    #[must_use]
    pub fn links(&self) -> Vec<LinkStatus> {
        self.shared.peers.links.list()
    }

    /// Closes the data connection to another agent, as a fault would: the next one carries on. Whether there was one.
    #[must_use]
    pub fn close_link(&self, node: NodeId) -> bool {
        self.shared.peers.links.close(node)
    }

    /// Makes a join token; answers its text.
    ///
    /// # Errors
    /// No majority answers in time, or the directory denies it.
    pub async fn create_token(&self, role: Role, life: Duration, uses: Option<u32>) -> Result<String, ProposeError> {
        tokens::create(&self.shared, role, life, uses).await
    }

    /// Every token that is not yet revoked or forgotten.
    #[must_use]
    pub fn tokens(&self) -> Vec<Token> {
        self.directory(|directory| directory.tokens().cloned().collect())
    }

    /// Makes a token useless.
    ///
    /// # Errors
    /// As [`Handle::propose`]; an unknown token is denied.
    pub async fn revoke_token(&self, token: TokenId) -> Result<(), ProposeError> {
        self.propose(Command::RevokeToken { token }).await.map(drop)
    }

    /// Keeps a host out from now on.
    ///
    /// # Errors
    /// As [`Handle::propose`]; an unknown host is denied.
    pub async fn evict(&self, node: NodeId) -> Result<(), ProposeError> {
        self.propose(Command::Evict { node }).await.map(drop)
    }

    /// A consistent copy of the directory with its secrets, and whether it is known to be no more than 2 s old: if a
    /// majority confirms this agent as leader, or its leader feeds it.
    ///
    /// # Errors
    /// This host is no voter.
    pub async fn backup(&self) -> Result<(Backup, bool), NoBackup> {
        super::backup::take(&self.shared).await
    }

    /// Leaves the convention for good. The agent has stopped its actors and released their names before.
    ///
    /// # Errors
    /// As [`Handle::propose`].
    pub async fn leave(&self) -> Result<(), ProposeError> {
        self.propose(Command::Leave { node: self.shared.me }).await?;
        // From here on a start needs a token again; the log stays, for the votes that were given.
        if let Err(error) = self.shared.data.update(|belonging| *belonging = None) {
            tracing::error!(%error, "the convention was left, but the data directory still names it");
        }
        Ok(())
    }

    /// Hands a leadership over, closes every connection and ends; the data directory is free afterwards.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.stopped.cancelled().await;
    }
}
