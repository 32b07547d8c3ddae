//! `#[message]`, `#[data]` and `#[actor]`, re-exported by `odeon`.
//!
//! Thin: each macro reads, checks and writes code that could be written by hand; its documentation shows that code.
//! What it writes refers to `::odeon` alone, so that a user's `Cargo.toml` needs nothing else.
//!
//! - **M-1.** A mistake is reported at the user's tokens, says what is wrong and what to write instead.
//! - **M-2.** After a mistake the rest is still written, so that one mistake is one error.

mod actor;
mod attribute;
mod data;
mod errors;
mod message;
mod serde_rules;

use proc_macro::TokenStream;

/// Makes a struct or enum a message.
///
/// ```text
/// #[message]                            told, or asked for the reply `()`, which says that it was handled
/// #[message(reply = Tally)]             asked; `Tally` is `#[data]`, a standard type, or another message
/// #[message(name = "bank.Deposit")]     the name on the wire; else the crate's and the struct's, `bank.Deposit`
/// #[message(idempotent)]                may be handled twice: redelivered where it may have run
/// #[message(opaque = "v1")]             its fields need no `Schema`; change "v1" whenever their shape changes
/// ```
///
/// `opaque` also goes on one field, `#[message(opaque = "v1")] at: foreign::Moment`.
///
/// # What it writes
///
/// ```
/// # use odeon::hidden::Fingerprint;
/// // #[message(reply = u64)]
/// // pub struct Add { by: u64 }
/// #[derive(::odeon::hidden::serde::Serialize, ::odeon::hidden::serde::Deserialize)]
/// #[serde(crate = "::odeon::hidden::serde")]
/// pub struct Add { by: u64 }
///
/// impl ::odeon::Schema for Add {
///     const FINGERPRINT: u64 = Fingerprint::new("struct").part("by", u64::FINGERPRINT).finish();
/// }
/// impl ::odeon::Message for Add {
///     type Reply = u64;
///     const NAME: &'static str = concat!(env!("CARGO_CRATE_NAME"), ".", "Add");
/// }
/// # use odeon::Schema;
/// ```
///
/// # What it refuses
///
/// Between processes messages travel in postcard, which has no field names and cannot skip: serde's
/// `skip_serializing_if`, `skip`, `untagged`, `tag`, `content` and `flatten` do not compile here. `rename`, `alias`,
/// `default` and `deny_unknown_fields` concern JSON at the edges only and are welcome.
#[proc_macro_attribute]
pub fn message(attribute: TokenStream, item: TokenStream) -> TokenStream {
    message::expand(attribute.into(), item.into()).into()
}

/// Makes a struct or enum part of messages: a field, a reply, an actor's arguments.
///
/// It derives serde's traits and [`Schema`](https://docs.rs/odeon), and refuses what messages cannot carry, as `#[message]` does.
/// A type that contains itself needs a fingerprint by hand; of types that contain each other, one does:
///
/// ```
/// #[odeon::data(opaque = "v1")]
/// pub struct Tree { name: String, children: Vec<Tree> }
/// ```
///
/// # What it writes
///
/// ```
/// # use odeon::{Schema, hidden::Fingerprint};
/// // #[data]
/// // pub enum Shape { Point, Circle { radius: f64 } }
/// #[derive(::odeon::hidden::serde::Serialize, ::odeon::hidden::serde::Deserialize)]
/// #[serde(crate = "::odeon::hidden::serde")]
/// pub enum Shape { Point, Circle { radius: f64 } }
///
/// impl ::odeon::Schema for Shape {
///     const FINGERPRINT: u64 = Fingerprint::new("enum")
///         .part("Point", Fingerprint::new("variant").finish())
///         .part("Circle", Fingerprint::new("variant").part("radius", f64::FINGERPRINT).finish())
///         .finish();
/// }
/// ```
#[proc_macro_attribute]
pub fn data(attribute: TokenStream, item: TokenStream) -> TokenStream {
    data::expand(attribute.into(), item.into()).into()
}

/// Makes a struct an actor; goes on an `impl` block that holds its handlers.
///
/// ```text
/// #[actor("poll.question")]                         the type's name, one for the whole convention
/// #[actor("..", on_stop = dormant)]                 its global name starts it again; `free` (the default) frees the name
/// #[actor("..", restart(max = 3, within = "10s"))]  after a panic or failure, so often in so long
/// #[actor("..", troupe(max = 16, idle = 2))]        created as a troupe: at most 16 members, 2 of them kept when idle
/// #[actor("..", mailbox = 256)]                     messages that may wait
/// #[actor("..", blocking)]                          its handlers block their thread: they run on a pool
/// #[actor("..", isolation = "process")]             each in a process of its own
/// #[actor("..", requires = "gpu >= 1")]             on hosts that can do that only
/// #[actor("..", stops = last)]                      others save to it while they stop: it outlives them
/// ```
///
/// In the block these names are reserved, each `fn` or `async fn`:
///
/// | | |
/// |---|---|
/// | `fn start(args[, ctx]) -> Result<Self>` | makes the actor; without it `Default` does, and the arguments are `()` |
/// | `fn started(&mut self[, ctx])` | before its first message; may answer `Result` |
/// | `fn stopping(&mut self[, ctx])` | after its last; may answer `Result` |
/// | `fn returned(&mut self, back: Returned[, ctx])` | a message that it told came back |
/// | `fn child_exited(&mut self, exit: ChildExited[, ctx])` | an actor that it created ended |
///
/// Every other `fn(&mut self, Message[, ctx])` handles that message. It may answer the message's reply, nothing,
/// `Forwarded`, `Deferred`, or a `Result` of any of these. Helpers go to a plain `impl` block.
///
/// # What it writes
///
/// The block itself, as a plain `impl`, and beside it:
///
/// ```text
/// // #[actor("shop.counter", mailbox = 256)]
/// // impl Counter { fn add(&mut self, add: Add) -> u64 { self.value += add.by; self.value } }
///
/// /// What `Counter` takes, as methods of its references.
/// pub struct CounterCalls(RawRef);
/// impl CounterCalls { pub fn add(&self, message: Add) -> Call<Counter, Add> { .. } }
/// impl Calls<Counter> for CounterCalls { .. }
///
/// impl Actor for Counter {
///     type Args = ();
///     type Calls = CounterCalls;
///     const TYPE: &'static str = "shop.counter";
///     fn options() -> Options { .. }
///     fn args_from_key(key: &str) -> Result<()> { .. }
///     async fn start(args: (), ctx: &mut Context<Self>) -> Result<Self> { Ok(Self::default()) }
///     fn handlers(table: &mut HandlerTable<Self>) { table.add::<Add>(); }
/// }
/// impl Handler<Add> for Counter {
///     async fn handle(&mut self, message: Add, ctx: &mut Context<Self>) -> Outcome<u64> {
///         IntoOutcome::into_outcome(Self::add(self, message))
///     }
/// }
/// ```
#[proc_macro_attribute]
pub fn actor(attribute: TokenStream, item: TokenStream) -> TokenStream {
    actor::expand(attribute.into(), item.into()).into()
}
