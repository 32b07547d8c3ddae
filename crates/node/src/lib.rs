//! The agent: what every host of a convention runs.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | what an agent is told at its start |
//! | `router` | the data path: frames between processes and other agents |
//! | `metrics` | what is counted |

pub mod config;
mod metrics;
mod queue;
mod router;

mod convention {
    pub(crate) mod clock;
}
