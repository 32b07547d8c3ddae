//! Programs that talk to actors and host none.

mod admin;

pub use admin::{Admin, Failure};
