//! The agent: what every host of a convention runs.
//!
//! | module | what |
//! |---|---|
//! | [`Agent`] | one agent from its start to its end |
//! | [`config`] | what an agent is told at its start |
//! | [`convention`] | everything between agents: members, directory, links |
//! | [`identity`] | the data directory: who this agent is |
//! | [`recovery`] | what is left when a majority of the voters is lost: recovering, backing up, restoring |
//! | `router` | the data path: frames between processes and other agents |
//! | `controller` | the control path: processes, actors, global names, troupes |
//! | `workers` | worker processes: started, admitted, watched |
//! | `clients`, `http` | the ways in for people and programs |
//! | `metrics` | what is counted |
//! | [`doctor`] | what an agent finds when it looks at itself |

mod agent;
mod clients;
pub mod config;
mod controller;
pub mod convention;
pub mod doctor;
mod event;
#[doc(hidden)]
pub mod fuzz;
mod http;
pub mod identity;
mod links;
mod metrics;
mod queue;
pub mod recovery;
mod router;
#[doc(hidden)]
pub mod simulation;
mod workers;

pub use agent::{Agent, Ended, StartError};
pub use config::{Bind, Config, WorkerCommand};
pub use odeon_cluster::capability;
#[doc(hidden)]
pub use workers::{Simulated as SimulatedWorker, Spawn};
