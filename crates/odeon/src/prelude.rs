//! What an actor crate needs, by one `use`.
//!
//! ```
//! use odeon::prelude::*;
//! ```

pub use crate::{
    Actor, ActorRef, Calls, ChildExited, Context, Error, Forwarded, FromKey, Handler, HandlerTable, Message, Options,
    Outcome, Recipient, ReplyTo, Returned, Schema, System, actor, data, message,
};
pub use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
