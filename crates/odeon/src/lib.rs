//! Actors for one machine or many: what users write.

// The macros write `::odeon::…`, also here.
extern crate self as odeon;

pub mod client;
mod error;
#[doc(hidden)]
pub mod hidden;
mod json;
mod key;
mod link;
mod message;
mod schema;

pub use error::{AskError, Error, Result, TellError, chain};
pub use json::Json;
pub use key::FromKey;
pub use message::Message;
pub use odeon_macros::{actor, data, message};
pub use schema::Schema;
