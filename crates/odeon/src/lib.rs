//! Actors for one machine or many: what users write.

// The macros write `::odeon::…`, also here.
extern crate self as odeon;

mod error;
#[doc(hidden)]
pub mod hidden;
mod json;
mod key;
mod schema;

pub use error::{AskError, Error, Result, TellError, chain};
pub use json::Json;
pub use key::FromKey;
pub use schema::Schema;
