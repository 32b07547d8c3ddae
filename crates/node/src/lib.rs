//! The agent: what every host of a convention runs.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | what an agent is told at its start |
//! | [`convention`] | everything between agents: members, directory, links |
//! | [`identity`] | the data directory: who this agent is |
//! | `router` | the data path: frames between processes and other agents |
//! | `metrics` | what is counted |

pub mod config;
pub mod convention;
pub mod identity;
mod metrics;
mod queue;
mod router;
