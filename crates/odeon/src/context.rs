//! What an actor's handlers have besides its state.

use crate::{
    actor::{Actor, Deferred, Forwarded, Handler},
    core::{AnyCell, CellPtr, Envelope, Origin, ReplyHandle, ReplyTo, cell, clock, current, timers, wire},
    error::{Error, Result},
    message::Message,
    reference::{ActorRef, Kept, RawRef, Recipient},
    system::{Creation, System},
};
use odeon_protocol::{Address, frame::Codec};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

/// What an actor's handlers have besides its state: itself, its system, the message's sender, others.
pub struct Context<A: Actor> {
    cell: CellPtr<A>,
}

/// A timer of an actor, to cancel it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timer(u64);

impl<A: Actor> Context<A> {
    pub(crate) fn new(cell: CellPtr<A>) -> Self {
        Self { cell }
    }

    /// A reference to this actor; by its global name, if it bears one.
    #[must_use]
    pub fn me(&self) -> ActorRef<A> {
        ActorRef::from_raw(RawRef::of_cell(self.cell.shared_any()))
    }

    /// The system that this actor runs in.
    #[must_use]
    pub fn system(&self) -> System {
        System { inner: self.cell.head().system.clone() }
    }

    /// The key of this actor: its global name without the type.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let name = self.global_name()?;
        Some(name.strip_prefix(A::TYPE).and_then(|rest| rest.strip_prefix('/')).unwrap_or(name))
    }

    /// The whole global name of this actor.
    #[must_use]
    pub fn global_name(&self) -> Option<&str> {
        self.cell.head().identity.as_ref().map(|identity| &*identity.name)
    }

    /// The epoch under which this instance bears its global name; zero without one. Larger for every later instance, so
    /// it guards writes to the outside.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.cell.head().identity.as_ref().map_or(0, |identity| identity.epoch)
    }

    /// Who sent the message that is being handled, if an actor did.
    #[must_use]
    pub fn sender(&self) -> Option<Address> {
        current::sender(self.cell.head())
    }

    /// Who created this actor, if an actor did.
    #[must_use]
    pub fn parent(&self) -> Option<Address> {
        let head = self.cell.head();
        if let Some(parent) = head.system.registry.get(head.parent) {
            return Some(parent.head().address());
        }
        head.extra.lock().as_ref()?.remote_parent.map(Address::Direct)
    }

    /// The name of the host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.cell.head().system.host
    }

    /// What is left of the time of the ask that is being handled; nothing for a tell.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let deadline = current::deadline(self.cell.head())?;
        Some(Duration::from_nanos(deadline.saturating_sub(clock::coarse())))
    }

    /// See [`System::named`].
    #[must_use]
    pub fn named<B: Actor>(&self, key: impl AsRef<str>) -> ActorRef<B> {
        self.system().named(key)
    }

    /// See [`System::find`].
    ///
    /// # Errors
    /// It could not be found out.
    pub async fn find<B: Actor>(&self, key: impl AsRef<str> + Send) -> Result<Option<ActorRef<B>>> {
        self.system().find(key).await
    }

    /// See [`System::find_name`].
    ///
    /// # Errors
    /// It could not be found out.
    pub async fn find_name<B: Actor>(&self, name: &str) -> Result<Option<ActorRef<B>>> {
        self.system().find_name(name).await
    }

    /// Creates a child: an actor whose end this one learns of by `child_exited`. Without a global name it ends when this
    /// actor does.
    pub fn create<B: Actor>(&self, args: B::Args) -> Creation<B> {
        let head = self.cell.head();
        Creation::new(head.system.clone(), Some(head.serial), args)
    }

    /// See [`System::recipient`].
    #[must_use]
    pub fn recipient<M: Message>(&self, address: Address) -> Recipient<M> {
        self.system().recipient(address)
    }

    /// Sends this actor a message again and again; the first after one period. It ends with the actor.
    ///
    /// An actor that is behind gets no second tick before it has handled the first.
    pub fn every<M: Message>(&mut self, period: Duration, message: M) -> Timer
    where
        A: Handler<M>,
    {
        let period = clock::nanos(period).max(1);
        self.set_timer(period, period, &message)
    }

    /// Sends this actor a message after a while, unless it has ended by then.
    pub fn after<M: Message>(&mut self, span: Duration, message: M) -> Timer
    where
        A: Handler<M>,
    {
        self.set_timer(clock::nanos(span), 0, &message)
    }

    fn set_timer<M: Message>(&self, span: u64, period: u64, message: &M) -> Timer {
        match wire::write(Codec::Postcard, message) {
            Ok(body) => Timer(timers::set(&self.cell.shared_any(), M::TYPE_ID, body, span, period)),
            Err(error) => {
                tracing::error!(actor = A::TYPE, message = M::NAME, %error, "no timer is set");
                Timer(0)
            }
        }
    }

    /// Cancels a timer. A message of it that waits already is not handled either.
    pub fn cancel(&mut self, timer: Timer) {
        self.cell.head().with_extra(|extra| extra.timers.cancel(timer.0));
    }

    /// Runs a future beside this actor, on the system's I/O threads; it is ended with the actor. What it tells comes from
    /// this actor.
    pub fn spawn<F>(&mut self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cell = self.cell.shared_any();
        let head = self.cell.head();
        let task = head.system.tokio.spawn(Belonging { cell, future: Box::pin(future) });
        head.with_extra(|extra| {
            if extra.tasks.len() == extra.tasks.capacity() {
                extra.tasks.retain(|task| !task.is_finished());
            }
            extra.tasks.push(task.abort_handle());
        });
    }

    /// Stops this actor after what is queued.
    pub fn stop(&mut self) {
        cell::end(&self.cell.shared_any(), false);
    }

    /// Lets another actor answer the message that is being handled, by sending it another (or the same) one.
    ///
    /// It never waits: whoever asked does already.
    pub fn forward<B, M>(&mut self, to: &ActorRef<B>, message: M) -> Forwarded
    where
        B: Handler<M>,
        M: Message,
    {
        let head = self.cell.head();
        let handle = current::take_reply(head);
        let origin = Origin::of(Some(head.serial), to.raw().starts());
        let envelope = match handle.slot() {
            Some(_) => Envelope::ask::<B, M>(message, handle, origin),
            None => Envelope::tell::<B, M>(message, origin),
        };
        match to.raw().push(envelope, true, None) {
            Ok(()) => {}
            Err(Kept::Full(envelope, _)) => {
                head.system.give_back(to.address(), envelope, &Error::Full(format!("{to:?}")))
            }
            Err(Kept::Refused(error, envelope)) => head.system.give_back(to.address(), envelope, &error),
        }
        Forwarded(())
    }

    /// Takes the reply away, to be sent later, from anywhere: return the second part from the handler.
    pub fn defer<R>(&mut self) -> (ReplyTo<R>, Deferred)
    where
        R: serde::Serialize + Send + 'static,
    {
        let handle: ReplyHandle = current::take_reply(self.cell.head());
        (ReplyTo::new(handle), Deferred(()))
    }

    /// Lets other actors run before the handler goes on.
    pub fn yield_now(&mut self) -> impl Future<Output = ()> + Send + use<A> {
        YieldNow { yielded: false }
    }
}

impl<A: Actor> fmt::Debug for Context<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({})", self.cell.head().label())
    }
}

struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A future that belongs to an actor.
struct Belonging {
    cell: Arc<dyn AnyCell>,
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Belonging {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let head = this.cell.head();
        let _acting = match head.identity.is_some() {
            true => match head.system.gate.enter(cx.waker()) {
                Some(acting) => Some(acting),
                None => return Poll::Pending,
            },
            false => None,
        };
        let _here = current::enter_task(head);
        this.future.as_mut().poll(cx)
    }
}
