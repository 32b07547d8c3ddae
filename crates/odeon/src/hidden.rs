//! What the macros' code refers to. Not part of the public interface: it may change in any release.

pub use crate::{
    actor::marker,
    key::{KeyProbe, ViaFromKey, WithoutFromKey},
    reference::RawRef,
    schema::Fingerprint,
};
pub use odeon_protocol::hash::fnv1a;
pub use serde;

use crate::error::{Error, Result};

/// Makes an actor whose block has no `start`. The name is what the compiler shows where there is no `Default` either.
#[must_use]
pub fn default_as_there_is_no_start_fn<T: Default>() -> T {
    T::default()
}

/// What `start` answered.
///
/// # Errors
/// What `start` says.
pub fn started<T, E: Into<Error>>(result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(Into::into)
}

/// What a hook may answer: nothing, or a `Result`.
#[diagnostic::on_unimplemented(
    message = "a hook cannot answer `{Self}`",
    note = "answer nothing, or a `Result<(), E>` such as `odeon::Result`"
)]
pub trait HookOutcome {
    /// As a result.
    ///
    /// # Errors
    /// What the hook says.
    fn into_result(self) -> Result;
}

impl HookOutcome for () {
    fn into_result(self) -> Result {
        Ok(())
    }
}

impl<E: Into<Error>> HookOutcome for std::result::Result<(), E> {
    fn into_result(self) -> Result {
        self.map_err(Into::into)
    }
}

/// What a hook answered.
///
/// # Errors
/// What the hook says.
pub fn hook(outcome: impl HookOutcome) -> Result {
    outcome.into_result()
}

/// A message that nobody can send; see `decoys` in the macros.
#[crate::message(name = "odeon.Nothing")]
#[derive(Debug)]
pub enum Nothing {}

/// See [`Nothing`].
#[crate::message(name = "odeon.NothingElse")]
#[derive(Debug)]
pub enum NothingElse {}
