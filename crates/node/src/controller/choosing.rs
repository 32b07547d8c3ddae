//! The host of an actor: chosen at once, once more is known of hosts, or once one fits.
//!
//! - **W-1.** Creations that wait for a host are in one list, which is gone through when what hosts can do or run changes.

use super::{
    CALL_WAIT, Controller,
    create::{may_try_another, wait_of},
    refusal,
};
use crate::convention;
use odeon_cluster::{
    HostView, Liveness,
    placement::{self, NoHost, Wanted},
};
use odeon_protocol::{
    NodeId, Reason,
    control::{Refusal, Spec},
    limits::{CREATIONS_WAITING_MAX, TELL_WAIT},
};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

/// Facts of hosts spread within about a second; for so long they are looked at, with these pauses.
const FACTS_WAIT: Duration = Duration::from_millis(1200);
const FACTS_PAUSE: Duration = Duration::from_millis(100);

/// What a host is sought for.
pub(super) struct Wish {
    pub(super) spec: Spec,
    /// Hosts that refused it.
    pub(super) not: BTreeSet<NodeId>,
    /// For members of troupes, which prefer it.
    pub(super) own: Option<NodeId>,
    pub(super) since: Instant,
}

impl Wish {
    pub(super) fn new(spec: Spec, not: BTreeSet<NodeId>) -> Self {
        Self { spec, not, own: None, since: Instant::now() }
    }

    /// What is left of its creator's time after the wait for a host.
    fn spent(mut self) -> Self {
        let left = wait_of(&self.spec).saturating_sub(self.since.elapsed());
        if !host_wait(&self.spec).is_zero() {
            self.spec.remaining_ms = u32::try_from(left.max(TELL_WAIT).as_millis()).unwrap_or(u32::MAX);
        }
        self
    }
}

/// What goes on when there is a host for an actor, or none.
type WithHost = Box<dyn FnOnce(&mut Controller, Result<(NodeId, Wish), Refusal>) + Send>;

/// Creations that wait for a host that fits.
#[derive(Default)]
pub(super) struct Waiting(Vec<(Wish, WithHost)>);

impl Controller {
    /// Goes on with the host for an actor. What hosts can do takes a moment to spread, and an agent that has just started
    /// may not have its own place yet: where no host fits, that is waited for, and longer if the creator wants to wait.
    pub(super) fn choose_host(&mut self, wanted: Wish, then: WithHost) {
        let hosts = self.hosts();
        match self.choose(&wanted, &hosts) {
            Err(why) if may_try_another(&why) && self.may_learn(&wanted, &hosts) => {
                self.later(FACTS_PAUSE, move |controller| controller.choose_host(wanted, then));
            }
            chosen => self.chosen(wanted, chosen, then),
        }
    }

    /// Hosts have changed, or may have: looks for those that creations wait for.
    pub(super) fn look_for_hosts(&mut self) {
        if self.waiting_for_host.0.is_empty() {
            return;
        }
        let hosts = self.hosts();
        for (mut wanted, then) in std::mem::take(&mut self.waiting_for_host.0) {
            // Those that refused it may have changed.
            wanted.not.clear();
            let chosen = self.choose(&wanted, &hosts);
            self.chosen(wanted, chosen, then);
        }
    }

    fn chosen(&mut self, wanted: Wish, chosen: Result<NodeId, Refusal>, then: WithHost) {
        match chosen {
            Err(why) if may_try_another(&why) && self.may_wait(&wanted) => self.waiting_for_host.0.push((wanted, then)),
            chosen => then(self, chosen.map(|host| (host, wanted.spent()))),
        }
    }

    /// Whether more may be learned of hosts than is known now.
    fn may_learn(&self, wanted: &Wish, hosts: &[HostView]) -> bool {
        let (waited, me) = (wanted.since.elapsed(), self.me());
        if !hosts.iter().any(|host| host.node == me) {
            return waited < CALL_WAIT;
        }
        waited < FACTS_WAIT && hosts.iter().filter(|host| host.liveness != Liveness::Down).count() > 1
    }

    /// Whether the creator waits for a host to change.
    fn may_wait(&self, wanted: &Wish) -> bool {
        let room = self.waiting_for_host.0.len() < CREATIONS_WAITING_MAX;
        room && !self.stopping && wanted.since.elapsed() < host_wait(&wanted.spec)
    }

    fn choose(&mut self, wish: &Wish, hosts: &[HostView]) -> Result<NodeId, Refusal> {
        let Wish { spec, not, own, .. } = wish;
        let requires = self.requires_of(spec)?;
        let near = spec.near.map(|near| near.node);
        let (type_name, on) = (&spec.type_name, spec.on.as_deref());
        let wanted = Wanted { type_name, requires: &requires, on, near, own: *own, not };
        match placement::choose(&wanted, hosts, &self.recent, convention::clock::random()) {
            Ok(host) => {
                self.recent.placed(host.node, host.load_version);
                Ok(host.node)
            }
            Err(none) => Err(self.no_host(spec, &none, hosts)),
        }
    }

    fn no_host(&self, spec: &Spec, none: &NoHost, hosts: &[HostView]) -> Refusal {
        let type_name = &spec.type_name;
        let known = hosts.iter().any(|host| host.types.contains(type_name)) || self.types.policy(type_name).is_some();
        if known {
            return none.clone().into();
        }
        let text = format!("no worker of any host runs the type {type_name}: see `odeon types`");
        refusal(Reason::NoSuchType, text)
    }

    /// The hosts as placement sees them; this one as it is now.
    pub(super) fn hosts(&self) -> Vec<HostView> {
        let mut hosts = self.parts.convention.hosts();
        let me = self.me();
        if let Some(own) = hosts.iter_mut().find(|host| host.node == me) {
            own.types = if self.stopping { BTreeSet::new() } else { self.types.names() };
            own.capabilities = self.capabilities().clone();
        }
        hosts
    }
}

/// How long a creation waits for a host that fits: what its creator waits beyond the usual.
fn host_wait(spec: &Spec) -> Duration {
    wait_of(spec).saturating_sub(TELL_WAIT)
}
