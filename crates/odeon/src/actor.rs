//! What an actor is: state, the messages that it handles, and its life.

use crate::{
    context::Context,
    core::HandlerEntry,
    error::{Error, Result},
    message::Message,
    reference::RawRef,
    schema::Schema,
    supervision::{ChildExited, Options, Returned},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt::Display, future::Future, future::ready, marker::PhantomData};

/// State plus handlers, one message at a time.
///
/// `#[actor("type.name")]` on an `impl` block writes this and a [`Handler`] for each handler.
pub trait Actor: Sized + Send + 'static {
    /// What `start` takes.
    type Args: Schema + Serialize + DeserializeOwned + Send + 'static;
    /// The methods that references to this actor offer.
    type Calls: Calls<Self>;
    /// The type's name, the same in every process: `poll.question`.
    const TYPE: &'static str;

    /// What the type declares about itself.
    #[must_use]
    fn options() -> Options {
        Options::default()
    }

    /// Makes the arguments of the key of a global name, where a message starts the actor.
    ///
    /// # Errors
    /// The key does not fit, or these arguments cannot be made from a key.
    fn args_from_key(key: &str) -> Result<Self::Args> {
        Err(Error::StartFailed(format!(
            "{}/{key}: a message cannot start it, as its arguments cannot be made from a key; create it first",
            Self::TYPE
        )))
    }

    /// Makes the actor. An error ends it before its first message; [`Error::NotFound`] also forgets its global name.
    fn start(args: Self::Args, ctx: &mut Context<Self>) -> impl Future<Output = Result<Self>> + Send;

    /// Runs after `start`, before the first message.
    fn started(&mut self, ctx: &mut Context<Self>) -> impl Future<Output = Result> + Send {
        let _ = ctx;
        ready(Ok(()))
    }

    /// Runs after the last message of an actor that is stopped (not killed, not panicked).
    fn stopping(&mut self, ctx: &mut Context<Self>) -> impl Future<Output = Result> + Send {
        let _ = ctx;
        ready(Ok(()))
    }

    /// Takes a message that this actor told and that came back.
    fn returned(&mut self, back: Returned, ctx: &mut Context<Self>) -> impl Future<Output = Result> + Send {
        let _ = ctx;
        tracing::debug!(actor = Self::TYPE, to = %back.to(), reason = %back.reason(), text = back.text(), "a message came back");
        ready(Ok(()))
    }

    /// Takes the end of a child.
    fn child_exited(&mut self, exit: ChildExited, ctx: &mut Context<Self>) -> impl Future<Output = Result> + Send {
        let _ = (exit, ctx);
        ready(Ok(()))
    }

    /// Lists the handlers: `table.add::<M>()` for each message `M`.
    fn handlers(table: &mut HandlerTable<Self>);
}

/// An actor that takes messages of type `M`.
#[diagnostic::on_unimplemented(
    message = "actor `{Self}` does not handle `{M}`",
    label = "no handler for this message",
    note = "add a `fn(&mut self, {M})` to its `#[actor]` block"
)]
pub trait Handler<M: Message>: Actor {
    /// Handles one message.
    fn handle(&mut self, message: M, ctx: &mut Context<Self>) -> impl Future<Output = Outcome<M::Reply>> + Send;
}

/// The methods of the references to actor `A`, a generated struct around a [`RawRef`].
pub trait Calls<A>: Clone + Send + Sync + 'static {
    /// Wraps a reference.
    fn new(raw: RawRef) -> Self;
    /// The reference.
    fn raw(&self) -> &RawRef;
}

/// How a handler ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome<R> {
    /// With this reply.
    Reply(R),
    /// Another actor answers.
    Forwarded,
    /// A `ReplyTo` answers later.
    Deferred,
    /// With an error.
    Failed(String),
}

/// Proof that the message was forwarded: whoever asked gets the other actor's reply.
#[derive(Debug)]
#[must_use = "a handler that forwards returns it"]
pub struct Forwarded(pub(crate) ());

/// Proof that a `ReplyTo` was taken and answers later.
#[derive(Debug)]
#[must_use = "a handler that answers later returns it"]
pub struct Deferred(pub(crate) ());

/// What a handler may return: its reply, [`Forwarded`], [`Deferred`], or a `Result` of one of these.
///
/// `Marker` only tells the cases apart and is always inferred.
#[diagnostic::on_unimplemented(
    message = "a handler of a message with reply `{R}` cannot return `{Self}`",
    note = "return `{R}`, `Forwarded`, `Deferred`, or a `Result` of one of them whose error is `Display`"
)]
pub trait IntoOutcome<R, Marker> {
    /// The outcome.
    fn into_outcome(self) -> Outcome<R>;
}

/// Tells the cases of [`IntoOutcome`] apart.
#[doc(hidden)]
pub mod marker {
    #[derive(Debug)]
    pub struct Value;
    #[derive(Debug)]
    pub struct Elsewhere;
    #[derive(Debug)]
    pub struct Tried<K>(std::marker::PhantomData<K>);
}

impl<R> IntoOutcome<R, marker::Value> for R {
    fn into_outcome(self) -> Outcome<R> {
        Outcome::Reply(self)
    }
}

impl<R> IntoOutcome<R, marker::Elsewhere> for Forwarded {
    fn into_outcome(self) -> Outcome<R> {
        Outcome::Forwarded
    }
}

impl<R> IntoOutcome<R, marker::Elsewhere> for Deferred {
    fn into_outcome(self) -> Outcome<R> {
        Outcome::Deferred
    }
}

impl<R, K, T: IntoOutcome<R, K>, E: Display> IntoOutcome<R, marker::Tried<K>> for std::result::Result<T, E> {
    fn into_outcome(self) -> Outcome<R> {
        match self {
            Ok(value) => value.into_outcome(),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }
}

/// The messages that an actor type takes, filled by [`Actor::handlers`].
#[derive(Debug)]
pub struct HandlerTable<A> {
    pub(crate) entries: Vec<HandlerEntry>,
    actor: PhantomData<fn(A)>,
}

impl<A: Actor> HandlerTable<A> {
    pub(crate) fn of_actor() -> Self {
        let mut table = Self { entries: Vec::new(), actor: PhantomData };
        A::handlers(&mut table);
        table
    }

    /// Adds a message.
    pub fn add<M: Message>(&mut self) -> &mut Self
    where
        A: Handler<M>,
    {
        self.entries.push(HandlerEntry::of::<A, M>());
        self
    }
}
