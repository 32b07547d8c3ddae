//! A host, as processes that watch hosts are told of it.

use crate::{
    control::Value,
    id::{Boot, NodeId},
};
use serde::{Deserialize, Serialize};

/// A host that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInfo {
    /// Its agent.
    pub node: NodeId,
    /// That agent's start.
    pub boot: Boot,
    /// Its name.
    pub name: String,
    /// It was silent of late.
    pub suspect: bool,
    /// It takes no new actors.
    pub draining: bool,
    /// What it can do, by key.
    pub capabilities: Vec<(String, Value)>,
}
