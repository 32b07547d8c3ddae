//! What changes without being asked for: the directory, the lease, other hosts; and what is done at every tick.

use super::{Controller, Record};
use crate::{
    convention::{self, Lease, Over},
    router::{Known, Why},
};
use odeon_cluster::{
    Liveness, Load,
    directory::{Directory, NameState, Standing},
};
use odeon_protocol::{
    Boot, Direct, NodeId, Reason, Serial, Time, WorkerId,
    control::{FromAgent, Signal, encode},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, time};
use tracing::{error, info, warn};

/// Changes of the directory are looked through together.
const GATHER: Duration = Duration::from_millis(20);
/// What workers said of their named actors before the lease's end is read within this time, also after this agent
/// was held up itself.
const LAST_WORDS: Duration = Duration::from_millis(20);
/// Names that are compared with the directory at a time.
const LOOKED_AT_ONCE: usize = 1 << 10;
/// Names remembered for the next look; beyond, all are looked at.
const NEWS_MAX: usize = 16 << 10;

/// What the controller watches.
pub(super) struct Watched {
    receivers: Option<Receivers>,
    /// A look through the directory is due.
    dirty: bool,
    /// The directory's version at the last look.
    looked_at: u64,
    /// Names that something was learned of since; nothing if all are to be looked at.
    news: Option<BTreeSet<Arc<str>>>,
    /// The newest boot of each member that is known to be over.
    dead: BTreeMap<NodeId, Boot>,
    boots: BTreeMap<NodeId, Boot>,
    /// The lease generation of each other host, as last seen.
    generations: BTreeMap<NodeId, u64>,
    /// The names of this host are lost: what still runs under them is being ended.
    lost: bool,
    /// Why the convention gave this boot up.
    pub(super) over: Option<Over>,
}

/// See [`Receivers::next`].
pub(super) struct Receivers {
    directory: watch::Receiver<u64>,
    lease: watch::Receiver<Lease>,
    over: watch::Receiver<Option<Over>>,
    hosts: watch::Receiver<u64>,
    /// The lease that was told last: none may be left out, as what workers say of its end is compared with it.
    told: Lease,
    /// The lease whose end was told.
    ended: Option<Lease>,
}

/// What has changed.
pub(super) enum Change {
    Directory,
    /// The time has come to end what does not rest.
    LeaseEnded(Lease),
    /// It was renewed, or `lost` to other hosts.
    Lease {
        now: Lease,
        lost: bool,
    },
    Over(Over),
    /// What hosts can do or run.
    Hosts,
}

impl Watched {
    pub(super) fn new(convention: &convention::Handle) -> Self {
        let mut lease = convention.lease();
        let told = *lease.borrow_and_update();
        let (directory, over) = (convention.changes(), convention.over());
        let hosts = convention.host_changes();
        let receivers = Receivers { directory, lease, over, hosts, told, ended: None };
        Self {
            receivers: Some(receivers),
            dirty: false,
            looked_at: 0,
            news: None,
            dead: BTreeMap::new(),
            boots: BTreeMap::new(),
            generations: BTreeMap::new(),
            lost: false,
            over: None,
        }
    }

    /// The name is to be compared with the directory at the next look.
    pub(super) fn news(&mut self, name: &Arc<str>) {
        if let Some(news) = &mut self.news {
            news.insert(name.clone());
        }
        // Nothing changes for long, and much is learned.
        self.news.take_if(|news| news.len() > NEWS_MAX);
    }

    pub(super) fn take_receivers(&mut self) -> Receivers {
        // Taken once, by the loop.
        self.receivers.take().expect("the loop runs once")
    }
}

impl Receivers {
    /// The next change; may be dropped and called again at any time.
    pub(super) async fn next(&mut self) -> Change {
        loop {
            let told = self.told;
            let ends = async {
                if told.kill_at == Time::ZERO || self.ended == Some(told) {
                    return pending().await;
                }
                let left = told.kill_at.since(convention::now());
                time::sleep(left).await;
            };
            tokio::select! {
                Ok(()) = self.directory.changed() => return Change::Directory,
                Ok(()) = self.hosts.changed() => return Change::Hosts,
                Ok(()) = self.lease.changed() => {
                    self.told = *self.lease.borrow_and_update();
                    // One loss may follow another before the first one's end was seen: its generation tells.
                    let known = told.lost && told.generation == self.told.generation;
                    return Change::Lease { now: self.told, lost: self.told.lost && !known };
                }
                Ok(()) = self.over.changed() => {
                    if let Some(over) = *self.over.borrow_and_update() {
                        return Change::Over(over);
                    }
                }
                () = ends => {
                    self.ended = Some(told);
                    return Change::LeaseEnded(told);
                }
                else => return pending().await,
            }
        }
    }
}

impl Controller {
    pub(super) fn on_change(&mut self, change: Change) {
        match change {
            Change::Directory if self.watched.dirty => {}
            Change::Directory => {
                self.watched.dirty = true;
                self.later(GATHER, Self::look_through);
            }
            Change::Hosts => {
                self.look_for_hosts();
                self.tell_of_hosts();
            }
            Change::Lease { now, lost } => {
                if now.pause_at != Time::ZERO {
                    self.parts.router.names_until(now.pause_at);
                    self.workers.keys().for_each(|worker| self.tell_lease(*worker, now));
                }
                if lost {
                    self.watched.lost = true;
                    self.end_named();
                    self.rest_if_quiet();
                }
            }
            Change::LeaseEnded(lease) => self.later(LAST_WORDS, move |controller| {
                if controller.parts.convention.lease().borrow().pause_at == lease.pause_at {
                    controller.kill_restless(lease.pause_at);
                }
            }),
            Change::Over(over) => {
                let why = match over {
                    Over::BootOver => "the convention has given this start of the agent up: it was silent for too long",
                    Over::Failed => "a part of the agent has failed",
                    Over::Superseded => "the convention's directory was recovered without this host",
                    Over::Outdated { .. } => "this Odeon is too old for what the convention uses by now",
                    _ => "this host is no longer a member of its convention",
                };
                error!("{why}: the agent stops");
                self.watched.over = Some(over);
                if over == Over::BootOver {
                    // Behind the closed gate they could not stop.
                    self.end_named();
                }
                self.parts.stop.cancel();
            }
        }
    }

    /// Tells a worker until when its named actors may run.
    pub(super) fn tell_lease(&self, worker: WorkerId, lease: Lease) {
        // Before the first lease they may not run at all.
        let message = FromAgent::Lease { pause_at: lease.pause_at, kill_at: lease.kill_at };
        self.parts.router.control(worker, &message);
    }

    /// Whether names of this host are lost to others, and not all of their actors have ended.
    pub(super) fn names_are_lost(&self) -> bool {
        self.watched.lost
    }

    /// Tells the convention once no actor runs under a name of the lost lease.
    pub(super) fn rest_if_quiet(&mut self) {
        if self.watched.lost && self.records.named().next().is_none() {
            self.watched.lost = false;
            info!("every named actor of the lost lease is at rest");
            self.parts.convention.rested();
        }
    }

    /// Compares what is known here with this agent's copy of the directory, which may be behind what was heard: the names
    /// that either of the two says something new of. With a million names, a look at all takes most of a second.
    fn look_through(&mut self) {
        self.watched.dirty = false;
        self.look_for_dead_hosts();
        let lost_leases = self.lost_leases();
        let names = self.names_to_look_at().filter(|_| lost_leases.is_empty());
        let known = self.parts.router.names(names.as_ref());
        let look = |directory: &Directory, (name, known): &(Arc<str>, Known)| {
            let record = directory.name(name);
            let is_over = match record {
                Some(record) if record.epoch == known.epoch => record.holder != Some(known.place),
                Some(record) => record.epoch > known.epoch,
                None => directory.epoch() >= known.epoch,
            };
            let is_lost = lost_leases.contains(&known.place.node)
                || record.is_some_and(|record| record.state == NameState::Unplaced);
            is_over.then(|| (name.clone(), *known, is_lost))
        };
        let over = self.look_at_each(&known, look);
        for (name, known, is_lost) in over {
            if self.is_here(known.place) && self.names.is_held(&name) {
                // What this host says of its own names goes first; see `end_fenced`.
                self.watched.news(&name);
                continue;
            }
            if is_lost {
                // Before the place is forgotten: what was sent there by the name alone is lost as well.
                let text = format!("{name} was lost with its host");
                let why = Why { reason: Reason::Unreachable, text, may_have_run: true };
                self.parts.router.place_lost(known.place, &why);
            }
            self.parts.router.unresolved(&name, known.epoch);
        }
        self.end_fenced(names.as_ref());
    }

    /// Compares each of these with the directory; writers wait for some of them at a time only.
    fn look_at_each<T, F>(&self, these: &[T], look: impl Fn(&Directory, &T) -> Option<F>) -> Vec<F> {
        let some = |some: &[T]| -> Vec<F> {
            self.parts.convention.directory(|directory| some.iter().filter_map(|one| look(directory, one)).collect())
        };
        these.chunks(LOOKED_AT_ONCE).flat_map(some).collect()
    }

    /// The names of which the directory, or what is known here, says something new; nothing if that may be any.
    fn names_to_look_at(&mut self) -> Option<BTreeSet<Arc<str>>> {
        let (version, changed) = self.parts.convention.names_changed_after(self.watched.looked_at);
        self.watched.looked_at = version;
        let mut news = self.watched.news.replace(BTreeSet::new())?;
        news.append(&mut changed?);
        Some(news)
    }

    /// Other hosts whose lease was lost since the last look. A name may have a new place already: its state alone does
    /// not tell a lost instance from one that has stopped.
    fn lost_leases(&mut self) -> BTreeSet<NodeId> {
        let me = self.me();
        let now: BTreeMap<NodeId, u64> = self.parts.convention.directory(|directory| {
            directory
                .members()
                .filter(|member| member.node != me)
                .map(|member| (member.node, member.generation))
                .collect()
        });
        let before = std::mem::replace(&mut self.watched.generations, now);
        let grown = |(node, generation): (&NodeId, &u64)| {
            before.get(node).is_some_and(|before| before < generation).then_some(*node)
        };
        self.watched.generations.iter().filter_map(grown).collect()
    }

    /// Ends actors of this host whose names were granted anew elsewhere; of these names, or of all. They are looked at again
    /// until they have ended.
    fn end_fenced(&mut self, names: Option<&BTreeSet<Arc<str>>>) {
        let me = self.me();
        let epoch_of = |(serial, record): (&Serial, &Record)| Some((*serial, record.name.clone()?, record.epoch));
        let here: Vec<_> = match names {
            Some(names) => names.iter().flat_map(|name| self.records.of_name(name)).filter_map(epoch_of).collect(),
            None => self.records.named().filter_map(epoch_of).collect(),
        };
        let fenced = self.look_at_each(&here, |directory, (serial, name, epoch): &(Serial, Arc<str>, u64)| {
            let newer = directory.name(name)?;
            (newer.epoch > *epoch && newer.host != me).then(|| (*serial, newer.name.clone()))
        });
        for (serial, name) in fenced {
            warn!(name = &*name, "a newer instance lives elsewhere: this one is ended");
            self.parts.router.signal(self.place(serial), None, &encode(&Signal::Kill));
            self.watched.news(&name);
        }
    }

    /// Starts of other agents that are over for good.
    fn look_for_dead_hosts(&mut self) {
        let me = self.me();
        let members: Vec<_> = self.parts.convention.directory(|directory| {
            let others = directory.members().filter(|member| member.node != me);
            others.map(|member| (member.node, member.boot, member.dead || member.standing != Standing::In)).collect()
        });
        for (node, boot, dead) in members {
            let is_new = self.watched.boots.insert(node, boot).is_some_and(|before| before < boot);
            if is_new {
                // What could be said to nobody.
                self.send_lost(node);
            }
            let Some(over) = over_of(boot, is_new, dead) else { continue };
            if self.watched.dead.get(&node).is_none_or(|known| *known < over) {
                self.watched.dead.insert(node, over);
                self.host_dead(node, over);
            }
        }
    }

    fn host_dead(&mut self, node: NodeId, boot: Boot) {
        let text = format!("host {} is lost", self.host_name(node));
        info!(%node, %boot, "{text}");
        self.parts.router.host_dead(node, boot, &Why { reason: Reason::HostLost, text, may_have_run: true });
        self.parts.convention.renew_links();
        let lost = |place: Direct| place.node == node && place.boot <= boot;
        self.members_lost(lost);
        self.keepers_lost(lost);
        self.children_lost(node, boot);
    }

    /// Whether it is known that this start of another agent is over for good.
    pub(super) fn is_dead(&self, node: NodeId, boot: Boot) -> bool {
        self.watched.dead.get(&node).is_some_and(|dead| *dead >= boot)
    }

    pub(super) fn on_reachable(&self, node: NodeId, reachable: bool) {
        info!(host = self.host_name(node), reachable, "link");
    }

    pub(super) fn on_tick(&mut self) {
        self.count_actors();
        let load = Load {
            actors: self.workers.values().map(|worker| worker.actors).sum(),
            waiting: self.workers.values().map(|worker| worker.waiting).sum(),
            workers: u32::try_from(self.workers.len()).unwrap_or(u32::MAX),
            cores: self.parts.cores,
        };
        self.parts.convention.set_load(load);
        let hosts = self.parts.convention.hosts();
        let up = hosts.iter().filter(|host| host.liveness == Liveness::Up).count();
        self.parts.metrics.hosts_up.set(up as u64);
        self.parts.metrics.suspicions.set(self.parts.convention.suspicions());
        self.recent.keep_only(&hosts);
        self.say_who_is_down(&hosts);
        self.sum_messages();
        self.look_after_troupes();
        self.look_for_listeners();
        self.look_for_hosts();
        self.tell_of_hosts();
        self.expire_creators();
    }
}

/// The last start of an agent that is over for good, where another one follows or it is given up. Between two starts that the
/// directory has known there may be others, that ended before they were known: actors may live there all the same.
fn over_of(boot: Boot, is_new: bool, dead: bool) -> Option<Boot> {
    if dead { Some(boot) } else { is_new.then(|| Boot(boot.0.saturating_sub(1))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_starts_before_the_one_that_is_known_are_over() {
        assert_eq!(over_of(Boot(30), false, false), None);
        // Another one may have begun and ended since 10.
        assert_eq!(over_of(Boot(30), true, false), Some(Boot(29)));
        assert_eq!([true, false].map(|is_new| over_of(Boot(30), is_new, true)), [Some(Boot(30)); 2]);
    }
}
