//! Where the answer to an ask goes.
//!
//! An ask makes a *slot*; the message carries a [`ReplyHandle`] to it. A slot is answered at most once, and a handle that
//! is dropped fails its slot: no asker waits in vain.

use crate::{
    error::{Error, Result},
    message::Message,
    outside::Answer,
    system::Inner,
};
use odeon_protocol::{Address, Direct, Reason, frame::Codec};
use parking_lot::Mutex;
use std::{
    any::{Any, TypeId},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use super::{clock, current, wire};

/// What is known of an ask besides its message.
pub(crate) struct AskFacts {
    /// Who waits; [`Direct::NONE`] if no actor does.
    pub(crate) asker: Direct,
    /// Until when, by [`clock::coarse`].
    pub(crate) deadline: u64,
    /// Who waits for the asker.
    pub(crate) chain: Option<Arc<Chain>>,
    /// The message's name.
    pub(crate) message: &'static str,
}

/// Actors that wait for one another, innermost first.
pub(crate) struct Chain {
    /// One that waits.
    pub(crate) place: Direct,
    /// Who waits for it.
    pub(crate) up: Option<Arc<Self>>,
}

impl AskFacts {
    /// The asker and all who wait for it, innermost first.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = Direct> + '_ {
        let first = self.asker.some();
        first.into_iter().chain(chain_places(self.chain.as_deref()))
    }

    /// Milliseconds left, at least one; zero where there is no deadline.
    pub(crate) fn remaining_ms(&self) -> u32 {
        if self.deadline == clock::NEVER {
            return 0;
        }
        u32::try_from(self.deadline.saturating_sub(clock::coarse()) / 1_000_000).unwrap_or(u32::MAX).max(1)
    }
}

/// The places of a chain.
pub(crate) fn chain_places(chain: Option<&Chain>) -> impl Iterator<Item = Direct> + '_ {
    std::iter::successors(chain, |link| link.up.as_deref()).map(|link| link.place)
}

/// A slot, whatever the type of its reply.
pub(crate) trait AnySlot: Send + Sync {
    /// What is known of the ask.
    fn facts(&self) -> &AskFacts;
    /// The reply's type.
    fn reply_type(&self) -> TypeId;
    /// Answers, with an `Option<R>` that is taken; `false` if the type is another one.
    fn answer(&self, reply: &mut dyn Any) -> bool;
    /// Answers with a reply's bytes.
    fn answer_wire(&self, codec: Codec, bytes: &[u8]);
    /// Answers with an error.
    fn fail(&self, error: Error);
    /// Whether somebody still waits.
    fn is_open(&self) -> bool;
    /// Where the reply goes, if that is another process.
    fn remote(&self) -> Option<(Direct, u64, Codec)>;
}

/// The one end that has to answer.
#[derive(Default)]
pub(crate) struct ReplyHandle(Option<Arc<dyn AnySlot>>);

impl ReplyHandle {
    pub(crate) fn new(slot: Arc<dyn AnySlot>) -> Self {
        Self(Some(slot))
    }

    pub(crate) fn slot(&self) -> Option<&Arc<dyn AnySlot>> {
        self.0.as_ref()
    }

    /// Gives the slot away without answering: whoever takes it has to.
    pub(crate) fn take(&mut self) -> Option<Arc<dyn AnySlot>> {
        self.0.take()
    }

    /// Answers; with an error if the reply comes from an actor that bears a global name and may not act any more.
    pub(crate) fn answer<R: Send + 'static>(mut self, reply: R) {
        let Some(slot) = self.0.take() else { return };
        if let Some(fenced) = current::fenced(true) {
            slot.fail(fenced);
        } else if !slot.answer(&mut Some(reply)) {
            slot.fail(Error::Handler(format!("{} was answered with a reply of another type", slot.facts().message)));
        }
    }

    pub(crate) fn fail(mut self, error: Error) {
        if let Some(slot) = self.0.take() {
            slot.fail(error);
        }
    }
}

impl Drop for ReplyHandle {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.fail(Error::Handler(format!("{}: the handler ended without a reply", slot.facts().message)));
        }
    }
}

impl fmt::Debug for ReplyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyHandle").field("open", &self.0.is_some()).finish()
    }
}

/// A slot whose asker is in this process.
pub(crate) struct LocalSlot<R> {
    facts: AskFacts,
    /// Whether replies take their wire form on the way.
    restless: bool,
    state: Mutex<State<R>>,
}

enum State<R> {
    Waiting(Option<Waker>),
    Done(Result<R>),
    Closed,
}

impl<R: Send + 'static> LocalSlot<R> {
    pub(crate) fn new(facts: AskFacts, restless: bool) -> Arc<Self> {
        Arc::new(Self { facts, restless, state: Mutex::new(State::Waiting(None)) })
    }

    /// Takes the answer, or leaves a waker for it.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Result<R>> {
        let mut state = self.state.lock();
        match &mut *state {
            State::Waiting(Some(waker)) if waker.will_wake(cx.waker()) => Poll::Pending,
            State::Waiting(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Done(_) => match std::mem::replace(&mut *state, State::Closed) {
                State::Done(result) => Poll::Ready(result),
                _ => Poll::Pending,
            },
            State::Closed => Poll::Pending,
        }
    }

    /// The asker gives up.
    pub(crate) fn close(&self) {
        *self.state.lock() = State::Closed;
    }

    fn complete(&self, result: Result<R>) {
        let mut state = self.state.lock();
        let waker = match &mut *state {
            State::Waiting(waker) => waker.take(),
            State::Done(_) | State::Closed => return,
        };
        *state = State::Done(result);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<R> AnySlot for LocalSlot<R>
where
    R: serde::Serialize + serde::de::DeserializeOwned + Send + 'static,
{
    fn facts(&self) -> &AskFacts {
        &self.facts
    }

    fn reply_type(&self) -> TypeId {
        TypeId::of::<R>()
    }

    fn answer(&self, reply: &mut dyn Any) -> bool {
        let Some(reply) = reply.downcast_mut::<Option<R>>().and_then(Option::take) else { return false };
        if self.restless {
            self.complete(wire::write(Codec::Postcard, &reply).and_then(|bytes| wire::read(Codec::Postcard, &bytes)));
        } else {
            self.complete(Ok(reply));
        }
        true
    }

    fn answer_wire(&self, codec: Codec, bytes: &[u8]) {
        self.complete(wire::read(codec, bytes).map_err(|error| error.having_run(true)));
    }

    fn fail(&self, error: Error) {
        self.complete(Err(error));
    }

    fn is_open(&self) -> bool {
        matches!(*self.state.lock(), State::Waiting(_))
    }

    fn remote(&self) -> Option<(Direct, u64, Codec)> {
        None
    }
}

/// A slot whose asker is in another process.
pub(crate) struct RemoteSlot<R> {
    facts: AskFacts,
    to: Direct,
    correlation: u64,
    codec: Codec,
    open: AtomicBool,
    system: Arc<Inner>,
    reply: std::marker::PhantomData<fn(R)>,
}

impl<R> RemoteSlot<R>
where
    R: serde::Serialize + Send + 'static,
{
    pub(crate) fn new(facts: AskFacts, destination: (Direct, u64, Codec), system: Arc<Inner>) -> Arc<Self> {
        let (to, correlation, codec) = destination;
        let open = AtomicBool::new(true);
        Arc::new(Self { facts, to, correlation, codec, open, system, reply: std::marker::PhantomData })
    }

    fn send(&self, result: Result<Vec<u8>>) {
        if self.open.swap(false, Ordering::AcqRel) {
            self.system.answer(Answer { to: self.to, correlation: self.correlation, codec: self.codec, result });
        }
    }
}

impl<R> AnySlot for RemoteSlot<R>
where
    R: serde::Serialize + Send + 'static,
{
    fn facts(&self) -> &AskFacts {
        &self.facts
    }

    fn reply_type(&self) -> TypeId {
        TypeId::of::<R>()
    }

    fn answer(&self, reply: &mut dyn Any) -> bool {
        let Some(reply) = reply.downcast_mut::<Option<R>>().and_then(Option::take) else { return false };
        self.send(wire::write(self.codec, &reply).map_err(|error| error.having_run(true)));
        true
    }

    fn answer_wire(&self, _: Codec, bytes: &[u8]) {
        self.send(Ok(bytes.to_vec()));
    }

    fn fail(&self, error: Error) {
        self.send(Err(error));
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    fn remote(&self) -> Option<(Direct, u64, Codec)> {
        Some((self.to, self.correlation, self.codec))
    }
}

/// The error of an ask whose time ran out.
pub(crate) fn too_late(to: &Address, message: &str, may_have_run: bool) -> Error {
    Error::from_wire(Reason::Deadline, format!("{to} did not answer {message} in time"), may_have_run)
}

/// The type of an ask's slot.
pub(crate) type SlotOf<M> = LocalSlot<<M as Message>::Reply>;
