//! A program's way to its actors: alone in its process, or as part of a convention.

mod creation;
mod hosts;
mod inner;
mod letters;
mod returns;

pub use creation::{Create, Creation};
pub use hosts::{Host, HostChange, Hosts};
pub(crate) use inner::{Config, Inner, own_serial};
pub use letters::DeadLetters;
pub use returns::ReturnedMessages;

use crate::{
    actor::Actor,
    core::{ActorType, cell},
    error::{Error, Result},
    local::Alone,
    message::Message,
    reference::{ActorRef, RawRef, Recipient},
};
use odeon_protocol::{Address, Direct, control::Value};
use std::{
    fmt,
    future::Future,
    net::TcpListener,
    sync::{Arc, atomic::Ordering},
};

/// A program's way to its actors. Cheap to clone; all clones are one system.
///
/// It runs until [`System::stop`].
#[derive(Clone)]
pub struct System {
    pub(crate) inner: Arc<Inner>,
}

impl System {
    /// A system in this process, with no agent and nobody else.
    ///
    /// In debug builds every message takes its wire form on the way, so that what the wire cannot carry shows at once;
    /// [`System::restless`] sets it otherwise.
    ///
    /// # Panics
    /// If the operating system refuses threads or sockets.
    #[must_use]
    pub fn local() -> Self {
        let config = Config { restless: cfg!(debug_assertions), ..Config::default() };
        let inner = Inner::start(config).expect("the operating system gives a program its threads");
        inner.set_outside(Alone::new(&inner));
        Self { inner }
    }

    /// Gives this process's host a capability, which requirements are checked against.
    #[must_use]
    pub fn capability(self, key: &str, value: impl Into<Capability>) -> Self {
        self.inner.capabilities.write().insert(key.to_owned(), value.into().0);
        self
    }

    /// Makes an actor type known by its name, for references and creations that come from elsewhere.
    #[must_use]
    pub fn register<A: Actor>(self) -> Self {
        self.inner.know(ActorType::of::<A>());
        self
    }

    /// Whether every message takes its wire form on the way, inside the process too.
    #[must_use]
    pub fn restless(self, restless: bool) -> Self {
        self.inner.restless.store(restless, Ordering::Relaxed);
        self
    }

    /// The actor with that key: its global name is `<type>/<key>`, and its first message starts it.
    ///
    /// Does nothing by itself, and cannot fail.
    #[must_use]
    pub fn named<A: Actor>(&self, key: impl AsRef<str>) -> ActorRef<A> {
        self.inner.know(ActorType::of::<A>());
        let name = format!("{}/{}", A::TYPE, key.as_ref());
        ActorRef::from_raw(RawRef::bound(&self.inner, Address::named(name, true)))
    }

    /// Looks up the actor with that key, creating nothing.
    ///
    /// # Errors
    /// It could not be found out.
    pub async fn find<A: Actor>(&self, key: impl AsRef<str>) -> Result<Option<ActorRef<A>>> {
        self.find_name(&format!("{}/{}", A::TYPE, key.as_ref())).await
    }

    /// Looks up the actor with that whole global name, creating nothing.
    ///
    /// # Errors
    /// It could not be found out.
    pub async fn find_name<A: Actor>(&self, name: &str) -> Result<Option<ActorRef<A>>> {
        self.inner.know(ActorType::of::<A>());
        let placed = self.inner.outside().find(name.into()).await?;
        Ok(placed.map(|placed| ActorRef::from_raw(RawRef::bound(&self.inner, placed.address))))
    }

    /// Creates an actor; await it, or set more before.
    pub fn create<A: Actor>(&self, args: A::Args) -> Creation<A> {
        Creation::new(self.inner.clone(), None, args)
    }

    /// A reference to whoever has that address.
    #[must_use]
    pub fn reference<A: Actor>(&self, address: Address) -> ActorRef<A> {
        self.inner.know(ActorType::of::<A>());
        ActorRef::from_raw(RawRef::bound(&self.inner, address))
    }

    /// A reference to whoever has that address, for messages of one type.
    #[must_use]
    pub fn recipient<M: Message>(&self, address: Address) -> Recipient<M> {
        Recipient::from_raw(RawRef::bound(&self.inner, address))
    }

    /// The same reference within this system: for one that was decoded outside any.
    #[must_use]
    pub fn bind<A: Actor>(&self, reference: &ActorRef<A>) -> ActorRef<A> {
        self.reference(reference.address())
    }

    /// Stops or kills whoever has that address.
    pub fn end(&self, target: &Address, kill: bool) {
        RawRef::bound(&self.inner, target.clone()).end(kill);
    }

    /// The name of the host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.inner.host
    }

    /// The listening socket of that name, which the agent or `worker!` has bound. Each can be taken once.
    ///
    /// # Errors
    /// There is none of that name, or it was taken.
    pub fn listener(&self, name: &str) -> Result<tokio::net::TcpListener> {
        let listener = self.inner.listeners.lock().remove(name).ok_or_else(|| {
            Error::other(format!("no listening socket {name:?}: declare it with `.listen({name:?}, ..)`, take it once"))
        })?;
        listener.set_nonblocking(true)?;
        let _tokio = self.inner.tokio.enter();
        Ok(tokio::net::TcpListener::from_std(listener)?)
    }

    /// Ready when the system begins to stop; for `with_graceful_shutdown`.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.inner.stopping.subscribe();
        async move {
            // An error means that the system is gone, which is even later.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
    }

    /// Stops all actors of this process after what they have queued, then the system.
    ///
    /// Actors that have not stopped after 10 s are killed.
    pub async fn stop(&self) {
        self.inner.stop().await;
    }

    /// Runs a future on this system's own I/O threads, until it is ready or the system has stopped.
    pub fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.inner.tokio.spawn(future)
    }

    /// What has happened so far, as numbers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    pub(crate) fn add_listener(&self, name: &str, listener: TcpListener) {
        self.inner.listeners.lock().insert(name.to_owned(), listener);
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Direct { node, boot, .. } = self.inner.place(Default::default());
        write!(f, "System({}, {node}.{boot})", self.inner.host)
    }
}

/// What has happened in a system so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Actors alive now.
    pub actors: u64,
    /// Messages waiting now.
    pub waiting: u64,
    /// Handlers that answered an error.
    pub failed: u64,
    /// Handlers and hooks that panicked.
    pub panics: u64,
    /// Actors started again.
    pub restarts: u64,
    /// Asks whose time ran out before their handler began.
    pub late: u64,
    /// Messages that came back to this process: not handled, or told and failed.
    pub dead_letters: u64,
    /// Of those, told ones of which no sender heard: it has ended, or nobody takes what [`System::returned`] gives.
    pub unheard: u64,
    /// Handlers found holding their thread.
    pub blocking: u64,
    /// Pairs of sender and receiver in two processes with messages under way, in both directions, and asks from other
    /// processes that are to be answered here.
    pub flows: u64,
    /// Messages sent to other processes so far: the sum of `settled`, `returned`, `unsettled` and `outstanding`.
    pub accepted: u64,
    /// Of those, messages that have ended at their receivers, or whose ask was answered.
    pub settled: u64,
    /// Of those, messages that came back.
    pub returned: u64,
    /// Of those, messages of which nobody will say what became of them: their receivers' process or host is gone.
    pub unsettled: u64,
    /// Of those, messages that have not ended.
    pub outstanding: u64,
    /// Messages received from other processes so far: those `handled`, those `given_back`, and those that have not ended.
    pub taken: u64,
    /// Of those, messages whose handler has ended, or whose ask was answered.
    pub handled: u64,
    /// Of those, messages that were sent back: not handled, or told and failed.
    pub given_back: u64,
}

/// A capability's value: a truth value, a number or a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability(pub(crate) Value);

impl From<bool> for Capability {
    fn from(value: bool) -> Self {
        Self(Value::Bool(value))
    }
}

impl Capability {
    /// The truth value, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(value) = self.0 { Some(value) } else { None }
    }

    /// The number, if it is one.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        if let Value::Micros(micros) = self.0 { Some(micros as f64 / 1e6) } else { None }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.0 { Some(text) } else { None }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl From<$number> for Capability {
            fn from(value: $number) -> Self {
                Self(Value::Micros(i64::from(value).saturating_mul(1_000_000)))
            }
        }
    )*};
}
numbers!(u8 u16 u32 i8 i16 i32 i64);

impl From<f64> for Capability {
    fn from(value: f64) -> Self {
        Self(Value::Micros((value * 1e6).round() as i64))
    }
}

impl From<&str> for Capability {
    fn from(value: &str) -> Self {
        Self(Value::Text(value.to_owned()))
    }
}

impl From<String> for Capability {
    fn from(value: String) -> Self {
        Self(Value::Text(value))
    }
}

/// Stops or kills a cell's actor.
pub(crate) fn end_all(inner: &Inner, kill: bool) {
    for found in inner.registry.all() {
        cell::end(&found, kill);
    }
}
