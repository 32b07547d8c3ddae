//! Whole agents under faults: the shipped agent (Raft group, leases, gossip, change stream, voters, controller, router) and
//! the shipped runtime of its workers (link, gate, actors), of several hosts, on simulated time, network and disks.
//!
//! Each host has clocks of its own and a runtime of its own, whose time stands still while nobody moves it (`machine`).
//! What agents say to each other lies in a network that delays, loses and cuts (`paths`). Each agent has a worker process,
//! which runs when its turn comes and speaks with the agent over a pipe (`programs`); its actors use global names, and bear
//! them (`actors`), and say on a `stage` what they do. [`run`] forms a convention of three or five voters and breaks things
//! (`faults`): hosts are cut off on one side or both, frozen, suspended, killed and started anew; agents and workers are
//! frozen and killed apart from each other; disks are slow or full, clocks run fast. After every step the guarantees are
//! checked (`checks`); once the faults have ended, that everybody agrees again and every name answers. A run follows from
//! its seed alone.
//!
//! Lanes, flows and large messages under faults of their own: see [`crate::links`].

mod actors;
mod checks;
mod faults;
mod machine;
mod paths;
mod programs;
mod stage;
mod world;

pub use faults::Fault;

use std::{collections::BTreeMap, fmt, time::Duration};

/// What a run was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Hosts.
    pub hosts: u64,
    /// Simulated seconds.
    pub seconds: u64,
    /// Names granted.
    pub grants: u64,
    /// Leases lost, as the directory has it.
    pub leases_lost: u64,
    /// Changes of the leader.
    pub leaders: u64,
    /// Starts of agents that were given up.
    pub boots_over: u64,
    /// Asks of names that were answered.
    pub answered: u64,
    /// Asks that failed.
    pub failed: u64,
    /// Faults injected.
    pub faults: BTreeMap<Fault, u64>,
    /// A sum over everything that was seen, in order.
    pub sum: u64,
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Broken {
    /// The seed that repeats it.
    pub seed: u64,
    /// What does not hold.
    pub what: String,
    /// What was done, in order.
    pub story: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.what)?;
        self.story.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// An outage of the whole network for so long, and nothing else.
///
/// # Errors
/// What does not hold.
pub fn outage(seed: u64, lasts: Duration) -> Result<Report, Broken> {
    world::World::new(seed).run(|world| world.outage(lasts))
}

/// Every host ends at once, without a word, and all start again so much later.
///
/// # Errors
/// What does not hold.
pub fn down_and_up(seed: u64, lasts: Duration) -> Result<Report, Broken> {
    world::World::new(seed).run(|world| world.down_and_up(lasts))
}

/// The leader's disk is full for so long, and nothing else happens.
///
/// # Errors
/// What does not hold.
pub fn full_disk(seed: u64, lasts: Duration) -> Result<Report, Broken> {
    world::World::new(seed).run(|world| world.full_disk(lasts))
}

/// Four hosts of three zones, of which two are lost for ever, one after the other.
///
/// # Errors
/// What does not hold.
pub fn voters_lost(seed: u64) -> Result<Report, Broken> {
    world::World::of(seed, crate::Random::new(seed), 4).run(world::World::voters_lost)
}

/// Four hosts: the disk of a voter is full for so long that a stand-by takes its vote.
///
/// # Errors
/// What does not hold.
pub fn voter_full(seed: u64) -> Result<Report, Broken> {
    world::World::of(seed, crate::Random::new(seed), 4).run(world::World::voter_full)
}

/// Each host in turn loses its disk and comes back as a new one.
///
/// # Errors
/// What does not hold.
pub fn disks_lost(seed: u64) -> Result<Report, Broken> {
    world::World::new(seed).run(world::World::disks_lost)
}

/// Runs one seed with so many hosts, of which not all vote.
///
/// # Errors
/// What does not hold.
pub fn run_of(seed: u64, hosts: u64) -> Result<Report, Broken> {
    world::World::of(seed, crate::Random::new(seed), hosts).run(world::World::live)
}

/// Runs one seed.
///
/// # Errors
/// What does not hold.
pub fn run(seed: u64) -> Result<Report, Broken> {
    world::World::new(seed).run(world::World::live)
}
