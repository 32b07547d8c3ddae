//! Faults that are built in on purpose, to prove that the simulations find them. Without the feature `simulation`, which
//! only the test kit asks for, there are none.

/// A fault, named for what is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A message is reported settled when it arrives.
    SettleOnReceipt,
    /// What a lane received before is taken again after a reconnect.
    DedupeOff,
    /// A host sends on what is for an actor that has moved away.
    ForwardInsteadOfBounce,
    /// What waited for an older start of an agent is sent to the newer one.
    ResendToNewerBoot,
    /// What is outstanding is written off as soon as a loss is heard of, with no fence.
    NoFence,
    /// After a long cut answers are given up with the messages.
    AnswersGivenUp,
    /// A leader answers renewals without asking a majority whether it still leads.
    RenewWithoutQuorum,
    /// A new leader takes hosts that have not renewed with it for silent.
    LeadWithoutWaiting,
    /// Leases are counted on a clock that stands still while the machine is suspended.
    ClockStandsInSuspend,
    /// Named actors do not rest when their lease has run out.
    GateOff,
    /// A named actor is started before its claim is answered.
    ClaimAfterStart,
    /// A name that is granted anew keeps its epoch.
    EpochNotRaised,
}

/// Those of the path of a message.
pub const OF_MESSAGES: [Fault; 6] = [
    Fault::SettleOnReceipt,
    Fault::DedupeOff,
    Fault::ForwardInsteadOfBounce,
    Fault::ResendToNewerBoot,
    Fault::NoFence,
    Fault::AnswersGivenUp,
];

/// Those of leases, leaders and names.
pub const OF_LEASES: [Fault; 6] = [
    Fault::RenewWithoutQuorum,
    Fault::LeadWithoutWaiting,
    Fault::ClockStandsInSuspend,
    Fault::GateOff,
    Fault::ClaimAfterStart,
    Fault::EpochNotRaised,
];

#[cfg(feature = "simulation")]
mod chosen {
    use super::Fault;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// Builds a fault into everything that runs on this thread, instead of the one before.
    pub fn plant(fault: Option<Fault>) {
        PLANTED.set(fault);
    }

    /// Whether that fault is built in.
    #[must_use]
    pub fn is(fault: Fault) -> bool {
        PLANTED.get() == Some(fault)
    }
}

#[cfg(feature = "simulation")]
pub use chosen::{is, plant};

/// Whether that fault is built in.
#[cfg(not(feature = "simulation"))]
#[must_use]
pub const fn is(_: Fault) -> bool {
    false
}
