//! `probe.counter`: a number, usually under a global name, and the epoch of the instance that keeps it.

use odeon::prelude::*;

/// Adds to the number.
#[message]
#[derive(Clone, Debug)]
pub struct Add {
    /// How much.
    pub by: i64,
}

/// Asks for the number.
#[message(reply = Count)]
#[derive(Clone, Debug)]
pub struct Get;

/// The answer to [`Get`].
#[data]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The number; a new instance begins at 0.
    pub value: i64,
    /// The instance's epoch; 0 without a global name.
    pub epoch: u64,
    /// The host that it lives on.
    pub host: String,
    /// The process that it lives in.
    pub pid: u32,
    /// The version of this crate that it runs.
    pub version: String,
}

/// The actor.
#[derive(Debug, Default)]
pub struct Counter {
    value: i64,
}

#[actor("probe.counter")]
impl Counter {
    fn add(&mut self, add: Add) {
        self.value = self.value.saturating_add(add.by);
    }

    fn get(&mut self, _: Get, ctx: &mut Context<Self>) -> Count {
        Count {
            value: self.value,
            epoch: ctx.epoch(),
            host: ctx.host().to_string(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}
