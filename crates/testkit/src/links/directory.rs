//! Where the receivers are, as the convention's directory would say, and how they come to be somewhere.

use odeon_protocol::{Direct, NodeId, WorkerId};
use std::{collections::BTreeMap, sync::Arc};

/// Where a global name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: the next message starts it.
    Dormant,
    Starting(NodeId, WorkerId, Direct),
    Live(NodeId, WorkerId, Direct),
    Stopping(NodeId, WorkerId, Direct),
}

impl Place {
    /// Where it is in some state.
    pub(super) fn at(self) -> Option<(NodeId, WorkerId, Direct)> {
        match self {
            Self::Dormant => None,
            Self::Starting(node, worker, place)
            | Self::Live(node, worker, place)
            | Self::Stopping(node, worker, place) => Some((node, worker, place)),
        }
    }
}

/// A name.
#[derive(Clone, Debug)]
pub(super) struct Name {
    /// The receiver's number.
    pub(super) receiver: u32,
    pub(super) place: Place,
    pub(super) epoch: u64,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) names: BTreeMap<Arc<str>, Name>,
    /// Receivers without a name.
    pub(super) anonymous: BTreeMap<Direct, u32>,
    epoch: u64,
}

impl Directory {
    pub(super) fn next_epoch(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }

    /// The name whose bearer is there.
    pub(super) fn bearer(&self, at: Direct) -> Option<(Arc<str>, Name)> {
        let mut names = self.names.iter();
        names
            .find(|(_, name)| name.place.at().is_some_and(|(.., place)| place == at))
            .map(|(key, name)| (key.clone(), name.clone()))
    }

    /// The receivers of which something may go down with a worker, or with a whole host: those without a name that live
    /// there, and all with one, as an earlier instance or its agent may have their messages.
    pub(super) fn receivers_at(&self, node: NodeId, blocks: Option<&[u64]>) -> Vec<u32> {
        let fits =
            |place: Direct| place.node == node && blocks.is_none_or(|blocks| blocks.contains(&place.serial.block()));
        let anonymous = self.anonymous.iter().filter(|(place, _)| fits(**place)).map(|(_, receiver)| *receiver);
        self.names.values().map(|name| name.receiver).chain(anonymous).collect()
    }
}
