//! What actors are sent.

use crate::schema::Schema;
use odeon_protocol::hash::fnv1a;

/// A message: what an actor may be told or asked.
///
/// Written by `#[message]` and `#[message(reply = T)]`; by hand it looks like this:
///
/// ```
/// use odeon::{Message, Schema, hidden::Fingerprint};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Add { amount: u32 }
///
/// impl Schema for Add {
///     const FINGERPRINT: u64 = Fingerprint::new("struct").part("amount", u32::FINGERPRINT).finish();
/// }
/// impl Message for Add {
///     type Reply = u32;
///     const NAME: &'static str = "calculator.Add";
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no message",
    note = "write `#[message]` on it, or `#[message(reply = T)]` if it is answered",
    note = "a function of an `#[actor]` block that handles no message goes to a plain `impl` block"
)]
pub trait Message: Schema + Send + 'static {
    /// What answers it; `()` where nothing does.
    type Reply: Schema + Send + 'static;
    /// Its name on the wire: crate and struct, `poll.Response`.
    const NAME: &'static str;
    /// The hash of its name, by which frames say what they carry.
    const TYPE_ID: u64 = fnv1a(Self::NAME);
    /// Whether it may be handled twice, so that the runtime may send it again where it does not know if it ran.
    const IDEMPOTENT: bool = false;
}
