//! Actors for one machine or many: what users write.

// The macros write `::odeon::…`, also here.
extern crate self as odeon;

mod actor;
#[doc(hidden)]
pub mod bench;
pub mod client;
mod context;
mod core;
mod error;
#[doc(hidden)]
pub mod fuzz;
#[doc(hidden)]
pub mod hidden;
mod json;
mod key;
mod link;
mod local;
mod message;
mod outside;
mod reference;
mod schema;
mod sending;
#[doc(hidden)]
pub mod simulation;
mod supervision;
mod system;
mod worker;

pub mod prelude;

pub use actor::{Actor, Calls, Deferred, Forwarded, Handler, HandlerTable, IntoOutcome, Outcome};
pub use context::{Context, Timer};
pub use core::ReplyTo;
pub use error::{AskError, Error, Result, TellError, chain};
pub use json::Json;
pub use key::FromKey;
pub use message::Message;
pub use odeon_macros::{actor, data, message};
pub use odeon_protocol::{Address, DeadLetter, ExitCause, Reason, frame::Codec};
pub use reference::{ActorRef, Recipient};
pub use schema::Schema;
pub use sending::{Ask, Call, Tell};
pub use supervision::{ChildExited, OnStop, Options, Restart, Returned, Troupe};
pub use system::{Capability, Create, Creation, DeadLetters, Host, HostChange, Hosts, ReturnedMessages, Stats, System};
pub use worker::Worker;

/// The examples of README and book, compiled.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../../../README.md")]
    struct Readme;
    #[doc = include_str!("../../../docs/your-own-crate.md")]
    struct YourOwnCrate;
    #[doc = include_str!("../../../docs/capabilities.md")]
    struct Capabilities;
}
