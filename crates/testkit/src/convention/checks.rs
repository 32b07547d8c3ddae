//! What has to hold at every instant, as seen by somebody who sees everything.
//!
//! - **CC-1.** A host may run named actors under a lease only as long as no voter has logged that lease's end.
//! - **CC-2.** Copies of the directory of the same version are equal, and epochs grow from version to version.
//! - **CC-3.** The start of an agent is given up only where its host was away for long.
//!
//! What actors do is held against the same: `bearers`, `asks`, `children`; and what agents keep: `memory`.

mod asks;
mod bearers;
mod children;
mod memory;

use super::{machine::Machine, stage::Seen};
use asks::Asks;
use bearers::Bearers;
use children::Children;
use memory::Memory;
use odeon_cluster::directory::Directory;
use odeon_protocol::{Boot, NodeId, Time};
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

/// A host that was away for less than this is not given up: the limit is 30 s.
const AWAY: Duration = Duration::from_secs(25);

/// What is looked at.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) now: Time,
    pub(super) machines: &'a [Machine],
    /// How long a host is away, or was just now.
    pub(super) absence: &'a dyn Fn(usize) -> Duration,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// The newest that any voter has logged of a member: its boot, its lease's generation, whether it is given up.
    newest: BTreeMap<NodeId, (Boot, u64, bool)>,
    /// The copies' contents and epochs, by version.
    versions: BTreeMap<u64, (u64, u64)>,
    /// Versions that were seen, by host, start of its agent, and whether it is what the log has or what is shown to readers.
    looked: BTreeMap<(u64, Boot, bool), u64>,
    bearers: Bearers,
    pub(super) asks: Asks,
    pub(super) children: Children,
    memory: Memory,
    pub(super) granted: u64,
    pub(super) leases_lost: u64,
    pub(super) boots_over: u64,
    pub(super) sum: u64,
}

/// Under which lease a host may run its named actors now.
pub(super) fn may_run(machine: &Machine) -> Option<(NodeId, Boot, u64)> {
    let process = machine.process.as_ref().filter(|_| !machine.workers_stand)?;
    let lease = *process.lease.borrow();
    let may = !lease.lost && machine.lease_clock() < lease.pause_at;
    may.then(|| (process.handle.me(), process.handle.boot(), lease.generation))
}

fn hashed(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

impl Checks {
    /// Something was seen.
    pub(super) fn note(&mut self, what: impl Hash) {
        self.sum = hashed((self.sum, what));
    }

    /// An actor did something; `start` says which start of its agent that host has.
    pub(super) fn saw(
        &mut self,
        (seen, now): (&Seen, Time),
        start: impl FnOnce(u64) -> Result<(NodeId, Boot), &'static str>,
    ) -> Result<(), String> {
        self.note(seen);
        tracing::debug!(?seen, "seen");
        match seen {
            Seen::Handles { name, epoch, instance, host, begins } => {
                self.bearers.handles((name, *epoch, *instance), start(*host)?)?;
                begins.map_or(Ok(()), |(id, by)| self.asks.handled(id, (name, by)))
            }
            Seen::Asks { id, process } => {
                self.memory.sent(true, now);
                self.asks.begins(*id, Some(*process));
                Ok(())
            }
            Seen::Answered { id, failed } => self.asks.ended(*id, failed.clone()),
            Seen::Tells { id } => {
                self.memory.sent(false, now);
                self.asks.begins(*id, None);
                Ok(())
            }
            Seen::Returned { id, why } => self.asks.returned(*id, why),
            Seen::Born { child, process } => {
                self.children.born(child, *process);
                Ok(())
            }
            Seen::Ended { child, process } => self.children.ended(child, *process),
        }
    }

    /// A copy shows who was granted names.
    fn look_at_names(&mut self, names: Vec<(Arc<str>, bearers::Grant)>) {
        for (name, grant) in names {
            if self.bearers.granted(&name, grant) {
                self.granted += 1;
                self.note((&name, grant.epoch, grant.node));
            }
        }
    }

    /// Looks at everything.
    pub(super) fn look(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        let machines = scene.machines;
        for index in 0..machines.len() {
            self.look_at_copy(scene, index, true)?;
            self.look_at_copy(scene, index, false)?;
        }
        self.memory.look(machines, scene.now)?;
        let running: Vec<_> = machines.iter().map(may_run).collect();
        for (machine, (node, boot, generation)) in machines.iter().zip(&running).filter_map(|(m, r)| Some((m, (*r)?))) {
            if let Some((newest, now, _)) =
                self.newest.get(&node).filter(|newest| (newest.0, newest.1) > (boot, generation))
            {
                let name = machine.name();
                return Err(format!(
                    "{name} may run its named actors under boot {boot}, generation {generation}; logged are {newest}, {now}"
                ));
            }
        }
        Ok(())
    }

    fn look_at_copy(&mut self, scene: &Scene<'_>, index: usize, is_log: bool) -> Result<(), String> {
        let Scene { now, machines, absence } = *scene;
        let machine = &machines[index];
        let Some(process) = machine.process.as_ref().filter(|_| machine.runs()) else { return Ok(()) };
        let before = self.looked.entry((machine.number, process.handle.boot(), is_log)).or_default();
        let look = |directory: &Directory| {
            let version = directory.version();
            if version == *before {
                return (version, 0, 0, Vec::new(), Vec::new());
            }
            let of =
                |member: &odeon_cluster::directory::Member| (member.node, member.boot, member.generation, member.dead);
            let members: Vec<_> = directory.members().map(of).collect();
            let names = directory.names().map(|name| (&name.name, name.state, name.holder, name.epoch));
            let content = hashed((&members, names.collect::<Vec<_>>(), directory.epoch()));
            let granted = directory.names().filter_map(|name| {
                let holder = name.holder?;
                Some((name.name.clone(), bearers::Grant { epoch: name.epoch, node: holder.node, boot: holder.boot }))
            });
            let granted = granted.collect();
            (version, directory.epoch(), content, members, granted)
        };
        let found = if is_log { process.handle.logged(look) } else { process.handle.directory(look) };
        let (version, epoch, content, members, granted) = found;
        if version == *before {
            return Ok(());
        }
        if version < *before {
            return Err(format!("the copy of {} went from version {before} to {version}", machine.name()));
        }
        *before = version;
        self.look_at_names(granted);
        self.note((now.as_nanos(), index, version, content));
        for (node, boot, generation, dead) in members {
            let newest = self.newest.entry(node).or_insert((boot, generation, dead));
            if newest.0 == boot && newest.1 < generation {
                self.leases_lost += generation - newest.1;
            }
            let given_up = dead && newest.0 == boot && !newest.2;
            *newest = (*newest).max((boot, generation, dead));
            if given_up {
                self.boots_over += 1;
                let same = |machine: &Machine| {
                    machine
                        .process
                        .as_ref()
                        .is_some_and(|process| (process.handle.me(), process.handle.boot()) == (node, boot))
                };
                if let Some(host) = machines.iter().position(same).filter(|host| absence(*host) < AWAY) {
                    return Err(format!("{} was given up after {:?} of absence", machines[host].name(), absence(host)));
                }
            }
        }
        self.look_at_version(version, epoch, content, &machine.name())
    }

    fn look_at_version(&mut self, version: u64, epoch: u64, content: u64, name: &str) -> Result<(), String> {
        if self.versions.get(&version).is_some_and(|known| *known != (content, epoch)) {
            return Err(format!("the copy of {name} differs from another one of version {version}"));
        }
        let earlier = self.versions.range(..version).next_back().map(|(_, (_, epoch))| *epoch);
        let later = self.versions.range(version + 1..).next().map(|(_, (_, epoch))| *epoch);
        if earlier.is_some_and(|earlier| earlier > epoch) || later.is_some_and(|later| later < epoch) {
            return Err(format!("the epoch {epoch} of version {version} is not between those before and after"));
        }
        self.versions.insert(version, (content, epoch));
        Ok(())
    }
}
