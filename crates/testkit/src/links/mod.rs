//! Messages under faults: the shipped runtime of workers, router of agents and lanes between them, on simulated time.
//!
//! [`run`] builds three hosts of two workers, has senders send numbered messages to receivers with and without a global
//! name, and breaks things: links are cut on one side or both, lose packets or close; agents and workers pause or are
//! killed; receivers are slow, stop, move. What the simulation itself does is carry bytes (`pipe`, `host`) and play
//! controller and directory (`world`). What it sees is checked by `log`. A run follows from its seed alone.

mod actors;
mod directory;
mod faults;
mod host;
mod log;
mod pipe;
mod stage;
mod world;

pub use faults::{FAULTS, Fault, PHASES, Phase};

use std::collections::BTreeMap;

/// What a run was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Simulated seconds.
    pub seconds: u64,
    /// Messages sent.
    pub messages: u64,
    /// Messages handled.
    pub handled: u64,
    /// Large ones of those.
    pub large: u64,
    /// Messages that came back.
    pub returned: u64,
    /// Messages told lost with their receiver.
    pub lost: u64,
    /// How often each fault met each phase.
    pub met: BTreeMap<(Fault, Phase), u64>,
    /// Faults injected.
    pub faults: u64,
    /// A sum over everything that was seen, in order.
    pub sum: u64,
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Broken {
    /// The seed that repeats it.
    pub seed: u64,
    /// What does not hold.
    pub faults: Vec<String>,
    /// What was done, in order.
    pub story: Vec<String>,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {}:", self.seed)?;
        self.faults.iter().take(8).try_for_each(|fault| writeln!(f, "  {fault}"))?;
        self.story.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// Runs one seed.
///
/// # Errors
/// What does not hold.
pub fn run(seed: u64) -> Result<Report, Broken> {
    world::World::new(seed).run()
}
