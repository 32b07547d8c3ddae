//! - **CB-1.** A bearer of a name handles a message, or goes on with one, only while its epoch is the newest that any voter
//!   has logged for the name.
//! - **CB-2.** It does so on the host that was granted that epoch.
//! - **CB-3.** An epoch has one instance.

use odeon_protocol::{Boot, NodeId};
use std::collections::BTreeMap;

/// The newest grant of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) epoch: u64,
    pub(super) node: NodeId,
    pub(super) boot: Boot,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Bearers {
    newest: BTreeMap<String, Grant>,
    instances: BTreeMap<(String, u64), u64>,
}

impl Bearers {
    /// A voter has logged a grant; whether it is news.
    pub(super) fn granted(&mut self, name: &str, grant: Grant) -> bool {
        match self.newest.get_mut(name) {
            Some(known) if known.epoch >= grant.epoch => false,
            Some(known) => {
                *known = grant;
                true
            }
            None => {
                self.newest.insert(name.to_owned(), grant);
                true
            }
        }
    }

    /// An instance handles a message, in that start of a host's agent.
    pub(super) fn handles(
        &mut self,
        (name, epoch, instance): (&str, u64, u64),
        (node, boot): (NodeId, Boot),
    ) -> Result<(), String> {
        let newest = self.newest.get(name).copied();
        if newest != Some(Grant { epoch, node, boot }) {
            return Err(format!(
                "{name} is at work on {node} under epoch {epoch}; the newest that is logged: {newest:?}"
            ));
        }
        let first = *self.instances.entry((name.to_owned(), epoch)).or_insert(instance);
        (first == instance).then_some(()).ok_or_else(|| format!("epoch {epoch} of {name} has two instances"))
    }
}
