//! What is broken, and for how long.

use crate::Random;
use std::time::Duration;

/// A way to break something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A host neither hears the others nor is heard.
    Cut,
    /// A host does not hear the others.
    Deaf,
    /// A host is not heard.
    Mute,
    /// Two hosts do not reach each other; all others reach both.
    Split,
    /// A host's agent and its workers stand still, its clocks go on.
    Freeze,
    /// Its agent alone does.
    FreezeAgent,
    /// Its workers alone do.
    FreezeWorkers,
    /// A machine stands still, and one of its clocks with it.
    Suspend,
    /// An agent ends without a word, its workers with it, and is started anew.
    Kill,
    /// A worker does.
    KillWorker,
    /// A machine loses its power, and of what was not synced to its disk any part.
    PowerCut,
    /// An agent is stopped in order and started anew.
    Stop,
    /// Much of what a host sends and is sent is lost.
    Lossy,
    /// A disk takes long.
    SlowDisk,
    /// A disk has no room.
    FullDisk,
}

pub(super) const FAULTS: [Fault; 15] = [
    Fault::Cut,
    Fault::Deaf,
    Fault::Mute,
    Fault::Split,
    Fault::Freeze,
    Fault::FreezeAgent,
    Fault::FreezeWorkers,
    Fault::Suspend,
    Fault::Kill,
    Fault::KillWorker,
    Fault::PowerCut,
    Fault::Stop,
    Fault::Lossy,
    Fault::SlowDisk,
    Fault::FullDisk,
];

/// Those that no leader falls by.
pub(super) const LIGHT: [Fault; 4] = [Fault::Lossy, Fault::SlowDisk, Fault::FreezeWorkers, Fault::KillWorker];

impl Fault {
    /// How long it lasts where leaders last: long enough that a host is given up for it.
    pub(super) fn lasts_long(self, random: &mut Random) -> Duration {
        match self {
            Self::Cut | Self::Mute | Self::Deaf | Self::Freeze | Self::FreezeAgent | Self::Suspend => {
                Duration::from_millis(25_000 + random.below(18_000))
            }
            _ => self.lasts(random),
        }
    }

    /// Whether the host cannot do its part meanwhile.
    pub(super) const fn is_outage(self) -> bool {
        !matches!(
            self,
            Self::Lossy | Self::SlowDisk | Self::FullDisk | Self::Split | Self::FreezeWorkers | Self::KillWorker
        )
    }

    /// How long it lasts: mostly about as long as a lease, sometimes so long that a start of an agent is given up.
    pub(super) fn lasts(self, random: &mut Random) -> Duration {
        let millis = match (self, random.below(100)) {
            (Self::Cut | Self::Freeze | Self::FreezeAgent | Self::Suspend | Self::Deaf, 0..4) => {
                31_000 + random.below(6_000)
            }
            (Self::Kill | Self::PowerCut | Self::Stop, _) => 50 + random.below(6_000),
            (Self::Lossy | Self::SlowDisk | Self::FullDisk, _) => 2_000 + random.below(10_000),
            (_, 0..50) => 100 + random.below(2_900),
            _ => 2_000 + random.below(8_000),
        };
        Duration::from_millis(millis)
    }
}
