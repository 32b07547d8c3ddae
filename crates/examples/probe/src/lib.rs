//! Actors for smoke tests, scenarios and operators: each does one thing that is worth watching from outside.
//!
//! | type | what it is for |
//! |---|---|
//! | `probe.echo` | round trips, time, sizes |
//! | `probe.alone` | an echo in a process of its own |
//! | `probe.counter` | state under a global name, and its epoch |
//! | `probe.crasher` | ends in every way there is |
//! | `probe.parent` | creates children and is told of their ends |
//! | `probe.sequence` | notices what is lost, doubled or out of order |
//! | `probe.relay` | sends at a rate and accounts for every message |
//! | `probe.steward` | changes what its host can do, and watches all hosts |
//! | `probe.crowd` | many relays at once, and the time that an ask takes meanwhile |
//! | `probe.namer` | creates global names as fast as they are granted |
//! | `probe.watch` | asks names steadily, and tells when each was answered by a new instance |
//! | `probe.witness` | bears a name, and writes down each message that it handles |
//! | `probe.claimant` | asks witnesses steadily, and writes down each answer |

mod alone;
mod claimant;
mod counter;
mod crasher;
mod crowd;
mod diary;
mod echo;
mod namer;
mod pace;
mod parent;
mod relay;
mod sequence;
mod steward;
mod watch;
mod witness;

pub use alone::{Alone, AloneCalls};
pub use claimant::{Claimant, ClaimantCalls, Claimed, Claims};
pub use counter::{Add, Count, Counter, CounterCalls, Get};
pub use crasher::{Abort, Alive, Crasher, CrasherCalls, Exit, Hang, Living, Panic};
pub use crowd::{Crowd, CrowdCalls, Flood, Time, Timing};
pub use echo::{Blob, Echo, Echoed, Echoer, EchoerCalls, Measured, Size, Sleep, Slept};
pub use namer::{Granted, Name, Namer, NamerCalls};
pub use parent::{Exited, Exits, Parent, ParentCalls, Spawn, StopChild};
pub use relay::{Relay, RelayCalls, Send, Sent};
pub use sequence::{Gaps, Next, Report, Sequence, SequenceCalls, Slow};
pub use steward::{Changes, Enable, Steward, StewardCalls};
pub use watch::{Bearer, Watch, Watched, Watcher, WatcherCalls};
pub use witness::{Claim, Held, Witness, WitnessCalls};

/// The worker with all of them.
pub fn worker() -> odeon::Worker {
    odeon::worker![
        Echoer, Alone, Counter, Crasher, Parent, Sequence, Relay, Crowd, Steward, Namer, Watcher, Witness, Claimant
    ]
}
