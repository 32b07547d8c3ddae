//! Hosts that come, change and go, for whoever watches them; and what this host can do, changed while it runs.

use super::{Capability, Inner, System};
use crate::error::{Error, Result};
use odeon_cluster::capability;
use odeon_protocol::{HostInfo, NodeId, limits::HOST_WATCHERS_MAX};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    sync::{Arc, Weak},
};
use tokio::sync::Notify;

/// A host of the convention.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The start of its agent: larger for every later one.
    pub boot: u64,
    /// It was silent of late: it may be about to go.
    pub suspect: bool,
    /// It takes no new actors: it stops, or is being drained.
    pub draining: bool,
    /// What it can do.
    pub capabilities: BTreeMap<String, Capability>,
}

impl From<HostInfo> for Host {
    fn from(info: HostInfo) -> Self {
        let capabilities = info.capabilities.into_iter().map(|(key, value)| (key, Capability(value)));
        Self {
            name: info.name,
            boot: info.boot.0,
            suspect: info.suspect,
            draining: info.draining,
            capabilities: capabilities.collect(),
        }
    }
}

/// What [`Hosts`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostChange {
    /// A host is there, and like this: from the first, since now, or changed.
    Here(Host),
    /// A host is gone, which was last like this: it left, was removed, or is silent for so long that it is taken for down.
    Gone(Host),
}

impl System {
    /// Hears of the hosts of the convention: of each that is there, this one among them, then of each that comes, changes
    /// its capabilities, or goes.
    ///
    /// A change is heard of within about a second; of several changes of a host that was not asked for meanwhile only the
    /// last is given, so that what waits here is never more than the hosts. Under [`System::local`] there is one host.
    ///
    /// An actor watches by a task of its own: `ctx.spawn(async move { while let Some(change) = hosts.next().await {..} })`.
    ///
    /// # Errors
    /// 64 watch in this process already, or the system has stopped or lost its agent.
    pub fn hosts(&self) -> Result<Hosts> {
        let hosts = {
            let mut seen = self.inner.hosts.0.lock();
            let Some(seen) = seen.as_mut() else {
                return Err(Error::other("hosts: the system has stopped, or lost its agent"));
            };
            seen.watchers.retain(|watcher| watcher.strong_count() > 0);
            if seen.watchers.len() == HOST_WATCHERS_MAX {
                let text = format!("hosts: {HOST_WATCHERS_MAX} watch in this process already: drop some");
                return Err(Error::other(text));
            }
            let waiting = Mutex::new(seen.there.keys().copied().collect());
            let watcher = Arc::new(Watcher { waiting, news: Notify::new() });
            seen.watchers.push(Arc::downgrade(&watcher));
            Hosts { watcher, told: BTreeMap::new(), system: Arc::downgrade(&self.inner) }
        };
        self.inner.outside().watch_hosts();
        Ok(hosts)
    }

    /// Gives this host a capability, in place of what it had under that key, until the next start of its agent: as
    /// `odeon capability set` does. The other hosts know within a second, actors here whose requirement no longer holds are
    /// stopped with [`ExitCause::Unfit`](crate::ExitCause::Unfit), and creations that wait for such a host go on.
    ///
    /// Under [`System::local`] later creations see it; what runs goes on.
    ///
    /// # Errors
    /// The key or value is not fit, there are too many, or the agent is gone.
    pub fn set_capability<V: Into<Capability>>(
        &self,
        key: &str,
        value: V,
    ) -> impl Future<Output = Result> + Send + use<V> {
        self.inner.clone().change_capability(key.to_owned(), Some(value.into()))
    }

    /// Takes a capability away from this host, wherever it has it from, until the next start of its agent; see
    /// [`System::set_capability`].
    ///
    /// # Errors
    /// It has no such capability, or the agent is gone.
    pub fn unset_capability(&self, key: &str) -> impl Future<Output = Result> + Send + use<> {
        self.inner.clone().change_capability(key.to_owned(), None)
    }
}

impl Inner {
    async fn change_capability(self: Arc<Self>, key: String, value: Option<Capability>) -> Result {
        let value = value.map(|Capability(value)| value);
        if let Some(value) = &value {
            capability::collect([(key.clone(), value.clone())]).map_err(Error::other)?;
        }
        Ok(self.outside().change_capability(key, value).await?)
    }
}

/// The hosts of the convention, one change after the other; see [`System::hosts`].
pub struct Hosts {
    watcher: Arc<Watcher>,
    /// The hosts that were given as there.
    told: BTreeMap<NodeId, Host>,
    system: Weak<Inner>,
}

impl Hosts {
    /// The next change; nothing once the system has stopped or lost its agent. May be dropped before it is ready, and
    /// called again.
    pub async fn next(&mut self) -> Option<HostChange> {
        loop {
            match self.look() {
                Look::Change(change) => return Some(change),
                // What has come since the look wakes at once.
                Look::Nothing => self.watcher.news.notified().await,
                Look::Over => return None,
            }
        }
    }

    /// The next change, if there is one.
    pub fn try_next(&mut self) -> Option<HostChange> {
        match self.look() {
            Look::Change(change) => Some(change),
            Look::Nothing | Look::Over => None,
        }
    }

    fn look(&mut self) -> Look {
        let Some(system) = self.system.upgrade() else { return Look::Over };
        let seen = system.hosts.0.lock();
        let Some(seen) = seen.as_ref() else { return Look::Over };
        let mut waiting = self.watcher.waiting.lock();
        while let Some(node) = waiting.pop_first() {
            match seen.there.get(&node) {
                Some(host) if self.told.get(&node) != Some(host) => {
                    self.told.insert(node, host.clone());
                    return Look::Change(HostChange::Here(host.clone()));
                }
                Some(_) => {}
                None => {
                    if let Some(host) = self.told.remove(&node) {
                        return Look::Change(HostChange::Gone(host));
                    }
                }
            }
        }
        Look::Nothing
    }
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosts").field("told", &self.told.len()).finish_non_exhaustive()
    }
}

enum Look {
    Change(HostChange),
    Nothing,
    Over,
}

struct Watcher {
    /// Hosts to be given as they are when they are asked for.
    waiting: Mutex<BTreeSet<NodeId>>,
    news: Notify,
}

/// What this process knows of hosts; nothing once it hears no more of them.
pub(crate) struct SeenHosts(Mutex<Option<Seen>>);

#[derive(Default)]
struct Seen {
    there: BTreeMap<NodeId, Host>,
    watchers: Vec<Weak<Watcher>>,
}

impl Default for SeenHosts {
    fn default() -> Self {
        Self(Mutex::new(Some(Seen::default())))
    }
}

impl SeenHosts {
    /// A host is there, and like this.
    pub(crate) fn here(&self, info: HostInfo) {
        let node = info.node;
        self.change(node, |there| drop(there.insert(node, info.into())));
    }

    /// A host is gone.
    pub(crate) fn gone(&self, node: NodeId) {
        self.change(node, |there| drop(there.remove(&node)));
    }

    fn change(&self, node: NodeId, change: impl FnOnce(&mut BTreeMap<NodeId, Host>)) {
        let mut seen = self.0.lock();
        let Some(seen) = seen.as_mut() else { return };
        change(&mut seen.there);
        for watcher in seen.watchers.iter().filter_map(Weak::upgrade) {
            watcher.waiting.lock().insert(node);
            watcher.news.notify_one();
        }
    }

    /// Nothing is heard of hosts any more.
    pub(crate) fn close(&self) {
        let seen = self.0.lock().take();
        for watcher in seen.iter().flat_map(|seen| &seen.watchers).filter_map(Weak::upgrade) {
            watcher.news.notify_one();
        }
    }
}
