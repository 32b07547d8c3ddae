//! Where a frame goes: the table that the controller writes and the router reads. It decides; it sends nothing.
//!
//! - **T-1.** A serial of this boot belongs to the process that leases its block, unless it is an exception.
//! - **T-2.** An address of an earlier boot of this agent, or of a process that is gone, is nobody's, for ever.
//! - **T-3.** Every other node's address goes to that node's agent, unless it is a troupe's: that goes to a member.

use super::hash::Fast;
use odeon_protocol::{Boot, Direct, NodeId, Reason, Serial, WorkerId, simulated::RandomState};
use std::{collections::HashMap, sync::Arc};

/// Where one address is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// A worker or client of this host.
    Process(WorkerId),
    /// A process of this host in which the actor is stopping: what has a name waits for the next instance.
    Stopping(WorkerId),
    /// Another agent.
    Peer(NodeId),
    /// A troupe: a member of it.
    Troupe,
    /// Nobody, and why.
    Nobody(Reason),
}

/// Where a global name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The bearer's place.
    pub(crate) place: Direct,
    /// Its epoch.
    pub(crate) epoch: u64,
}

/// The routing table of one agent.
#[derive(Debug)]
pub(crate) struct Table {
    node: NodeId,
    boot: Boot,
    blocks: HashMap<u64, Owner, Fast>,
    stopping: HashMap<Serial, (), Fast>,
    names: HashMap<Arc<str>, Known, RandomState>,
    dead: HashMap<NodeId, Boot, Fast>,
    /// Places of other agents whose names were granted anew; until that start of the agent is over.
    gone: HashMap<Direct, (), Fast>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Process(WorkerId),
    Lost,
}

impl Table {
    pub(crate) fn new(node: NodeId, boot: Boot) -> Self {
        Self {
            node,
            boot,
            blocks: HashMap::default(),
            stopping: HashMap::default(),
            names: HashMap::default(),
            dead: HashMap::default(),
            gone: HashMap::default(),
        }
    }

    /// The block belongs to that process from now on.
    pub(crate) fn lease(&mut self, block: u64, process: WorkerId) {
        self.blocks.insert(block, Owner::Process(process));
    }

    /// The process is gone; returns its blocks.
    pub(crate) fn lose(&mut self, process: WorkerId) -> Vec<u64> {
        let mut lost = Vec::new();
        for (block, owner) in &mut self.blocks {
            if *owner == Owner::Process(process) {
                *owner = Owner::Lost;
                lost.push(*block);
            }
        }
        lost.sort_unstable();
        let (node, boot) = (self.node, self.boot);
        let is_lost = |place: Direct| place.node == node && place.boot == boot && lost.contains(&place.serial.block());
        self.names.retain(|_, known| !is_lost(known.place));
        self.stopping.retain(|serial, ()| !lost.contains(&serial.block()));
        lost
    }

    /// Forgets lost blocks: their serials are unknown from now on.
    pub(crate) fn forget_blocks(&mut self, blocks: &[u64]) {
        for block in blocks {
            if self.blocks.get(block) == Some(&Owner::Lost) {
                self.blocks.remove(block);
            }
        }
    }

    /// The actor is stopping: frames for its name wait.
    pub(crate) fn stop(&mut self, serial: Serial) {
        self.stopping.insert(serial, ());
    }

    /// The actor has stopped: frames for it are its process's again, which gives them back.
    pub(crate) fn stopped(&mut self, serial: Serial) {
        self.stopping.remove(&serial);
    }

    /// That boot of another agent is over for good, and every earlier one.
    pub(crate) fn host_dead(&mut self, node: NodeId, boot: Boot) {
        let last = self.dead.entry(node).or_insert(boot);
        *last = boot.max(*last);
        self.gone.retain(|place, ()| place.node != node || place.boot > boot);
        self.names.retain(|_, known| known.place.node != node || known.place.boot > boot);
    }

    /// Whether that boot of another agent is over for good.
    pub(crate) fn is_over(&self, node: NodeId, boot: Boot) -> bool {
        self.dead.get(&node).is_some_and(|dead| boot <= *dead)
    }

    /// Nobody is at that place of another agent any more, whether or not that agent knows.
    pub(crate) fn place_lost(&mut self, place: Direct) {
        if place.node != self.node {
            self.gone.insert(place, ());
        }
    }

    /// A name is there from now on. An older grant changes nothing.
    pub(crate) fn learn(&mut self, name: &Arc<str>, known: Known) {
        match self.names.get_mut(&**name) {
            Some(old) if old.epoch > known.epoch => {}
            Some(old) => *old = known,
            None => drop(self.names.insert(name.clone(), known)),
        }
    }

    /// The name is no longer where that grant put it.
    pub(crate) fn forget(&mut self, name: &str, epoch: u64) {
        if self.names.get(name).is_some_and(|known| known.epoch <= epoch) {
            self.names.remove(name);
        }
    }

    /// Where the name is, as far as is known.
    pub(crate) fn name(&self, name: &str) -> Option<Known> {
        self.names.get(name).copied()
    }

    /// All names that are known, with their grants.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&Arc<str>, Known)> {
        self.names.iter().map(|(name, known)| (name, *known))
    }

    /// Where the address is reached.
    pub(crate) fn route(&self, to: Direct) -> Route {
        if to.node != self.node {
            return match self.dead.get(&to.node) {
                Some(dead) if to.boot <= *dead => Route::Nobody(Reason::HostLost),
                _ if to.node == NodeId::default() => Route::Nobody(Reason::NoSuchActor),
                _ if self.gone.contains_key(&to) => Route::Nobody(Reason::HostLost),
                _ if to.serial.is_troupe() => Route::Troupe,
                _ => Route::Peer(to.node),
            };
        }
        if to.boot != self.boot {
            return Route::Nobody(Reason::HostLost);
        }
        if to.serial.is_troupe() {
            return Route::Troupe;
        }
        match self.blocks.get(&to.serial.block()) {
            Some(Owner::Process(process)) if self.stopping.contains_key(&to.serial) => Route::Stopping(*process),
            Some(Owner::Process(process)) => Route::Process(*process),
            Some(Owner::Lost) => Route::Nobody(Reason::WorkerLost),
            None => Route::Nobody(Reason::NoSuchActor),
        }
    }

    /// Whether a frame with that sender may come from that process.
    pub(crate) fn owns(&self, process: WorkerId, from: Direct) -> bool {
        from.node == self.node
            && from.boot == self.boot
            && self.blocks.get(&from.serial.block()) == Some(&Owner::Process(process))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(1);
    const BOOT: Boot = Boot(10);
    const W1: WorkerId = WorkerId(1);

    fn here(block: u64, offset: u64) -> Direct {
        Direct { node: ME, boot: BOOT, serial: Serial(Serial::first_of(block).0 + offset) }
    }

    fn table() -> Table {
        let mut table = Table::new(ME, BOOT);
        table.lease(2, W1);
        table.lease(3, W1);
        table
    }

    #[test]
    fn blocks_say_which_process() {
        let table = table();
        assert_eq!(table.route(here(1, 0)), Route::Troupe);
        assert_eq!(table.route(here(2, 5)), Route::Process(W1));
        assert_eq!(table.route(here(9, 5)), Route::Nobody(Reason::NoSuchActor));
        assert_eq!(table.route(Direct::NONE), Route::Nobody(Reason::NoSuchActor));
    }

    #[test]
    fn an_earlier_boot_is_nobody() {
        let old = Direct { boot: Boot(9), ..here(2, 5) };
        assert_eq!(table().route(old), Route::Nobody(Reason::HostLost));
    }

    #[test]
    fn another_node_is_its_agents_until_that_boot_is_dead() {
        let mut table = table();
        let there = |boot| Direct { node: NodeId(2), boot: Boot(boot), serial: Serial(7) };
        table.learn(&"n".into(), Known { place: there(5), epoch: 1 });
        assert_eq!(table.route(there(5)), Route::Peer(NodeId(2)));
        table.host_dead(NodeId(2), Boot(5));
        table.host_dead(NodeId(2), Boot(4));
        assert_eq!(table.route(there(5)), Route::Nobody(Reason::HostLost));
        assert_eq!(table.route(there(6)), Route::Peer(NodeId(2)));
        assert_eq!(table.name("n"), None, "its names are looked up anew");
    }

    #[test]
    fn a_lost_place_is_nobodys_until_its_host_is() {
        let mut table = table();
        let there = |serial| Direct { node: NodeId(2), boot: Boot(5), serial: Serial(serial) };
        table.place_lost(there(7));
        assert_eq!(table.route(there(7)), Route::Nobody(Reason::HostLost));
        assert_eq!(table.route(there(8)), Route::Peer(NodeId(2)));
        table.host_dead(NodeId(2), Boot(5));
        assert!(table.gone.is_empty());
    }

    #[test]
    fn a_lost_process_takes_its_blocks_and_names_along() {
        let mut table = table();
        table.learn(&"mine".into(), Known { place: here(2, 1), epoch: 4 });
        table.learn(&"other".into(), Known { place: Direct { node: NodeId(2), ..here(2, 1) }, epoch: 5 });
        assert_eq!(table.lose(W1), [2, 3]);
        assert_eq!(table.route(here(2, 5)), Route::Nobody(Reason::WorkerLost));
        assert_eq!(table.name("mine"), None);
        assert!(table.name("other").is_some());
        assert!(!table.owns(W1, here(2, 5)));
    }

    #[test]
    fn only_the_owner_of_a_block_speaks_for_it() {
        let table = table();
        assert!(table.owns(W1, here(2, 5)));
        assert!(!table.owns(WorkerId(2), here(2, 5)));
        assert!(!table.owns(W1, Direct { boot: Boot(9), ..here(2, 5) }));
        assert!(!table.owns(W1, here(1, 0)), "a troupe sends nothing");
        assert!(!table.owns(W1, Direct::NONE));
    }

    #[test]
    fn a_stopping_actor_is_marked_until_it_has_stopped() {
        let mut table = table();
        table.stop(here(2, 5).serial);
        assert_eq!(table.route(here(2, 5)), Route::Stopping(W1));
        table.stopped(here(2, 5).serial);
        assert_eq!(table.route(here(2, 5)), Route::Process(W1));
    }

    #[test]
    fn an_older_grant_never_replaces_a_newer_one() {
        let mut table = table();
        let name: Arc<str> = "n".into();
        let (old, new) = (Known { place: here(2, 1), epoch: 4 }, Known { place: here(3, 1), epoch: 5 });
        table.learn(&name, new);
        table.learn(&name, old);
        assert_eq!(table.name("n"), Some(new));
        table.forget("n", 4);
        assert_eq!(table.name("n"), Some(new));
        table.forget("n", 5);
        assert_eq!(table.name("n"), None);
    }
}
