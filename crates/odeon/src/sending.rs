//! Telling and asking: the futures behind [`ActorRef`](crate::ActorRef)'s methods.

use crate::{
    actor::{Actor, Handler},
    core::{
        AnyCell, Envelope, Origin, ReplyHandle, cell, clock, current,
        reply::{self, AnySlot, SlotOf},
        timers::{Alarm, Expire},
    },
    error::{Error, TellError},
    message::Message,
    reference::{Kept, RawRef},
    system::Inner,
};
use odeon_protocol::limits::TELL_WAIT;
use std::{
    fmt,
    future::{Future, IntoFuture},
    marker::PhantomData,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// A `tell` on its way; ready when the runtime has accepted the message.
///
/// It waits up to 5 s while the receiver is behind, then fails with [`Error::Full`] and gives the message back. Dropped
/// before it is ready, it has sent nothing.
#[must_use = "nothing is sent until it is awaited"]
pub struct Tell<'a, M: Message> {
    to: &'a RawRef,
    make: fn(M, Origin) -> Envelope,
    message: Option<M>,
    waiting: Option<Box<Waiting>>,
}

/// A message that waits for room.
struct Waiting {
    envelope: Option<Envelope>,
    room: Room,
}

/// A place among those who wait for room, and the time until which they do.
#[derive(Default)]
struct Room {
    cell: Option<Arc<dyn AnyCell>>,
    key: Option<u64>,
    alarm: Option<Arc<Alarm>>,
}

impl Room {
    /// Notes where there was no room; whether the time for waiting is over.
    fn missed(&mut self, system: Option<&Arc<Inner>>, cell: Option<Arc<dyn AnyCell>>, cx: &Context<'_>) -> bool {
        self.cell = cell;
        let Some(system) = system else { return true };
        let alarm = self.alarm.get_or_insert_with(|| {
            let alarm = Alarm::new(cx.waker().clone());
            system.timers.arm(clock::fine() + clock::nanos(TELL_WAIT), alarm.clone());
            alarm
        });
        alarm.rang(cx.waker())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let (Some(cell), Some(key)) = (&self.cell, self.key) {
            cell::forget_waiter(cell, key);
        }
        if let Some(alarm) = &self.alarm {
            alarm.cancel();
        }
    }
}

impl<'a, M: Message> Tell<'a, M> {
    pub(crate) fn new(to: &'a RawRef, message: M, make: fn(M, Origin) -> Envelope) -> Self {
        Self { to, make, message: Some(message), waiting: None }
    }

    /// Sends at once or not at all.
    pub(crate) fn now(mut self) -> Result<(), TellError<M>> {
        let Some(message) = self.message.take() else { return Ok(()) };
        let envelope = (self.make)(message, origin(self.to));
        match self.to.push(envelope, false, None) {
            Ok(()) => Ok(()),
            Err(Kept::Full(envelope, _)) => Err(full(self.to, envelope)),
            Err(Kept::Refused(error, envelope)) => Err(given_back(error, envelope)),
        }
    }
}

fn origin(to: &RawRef) -> Origin {
    to.system().map_or(Origin::NOBODY, |system| current::origin(system, to.starts()))
}

fn full<M: Message>(to: &RawRef, envelope: Envelope) -> TellError<M> {
    given_back(Error::Full(to.to_string()), envelope)
}

fn given_back<M: Message>(error: Error, envelope: Envelope) -> TellError<M> {
    match envelope.into_message() {
        Ok(message) => TellError::new(message, error),
        Err(_) => unreachable!("an envelope comes back with the message that went in"),
    }
}

impl<M: Message> Unpin for Tell<'_, M> {}

impl<M: Message> Future for Tell<'_, M> {
    type Output = Result<(), TellError<M>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(message) = this.message.take() {
            if current::spend() {
                this.message = Some(message);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let envelope = (this.make)(message, origin(this.to));
            let mut key = None;
            let kept = match this.to.push(envelope, false, Some((&mut key, cx.waker()))) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(kept) => kept,
            };
            let mut waiting = Box::new(Waiting { envelope: None, room: Room::default() });
            waiting.room.key = key;
            this.waiting = Some(waiting);
            return this.keep(kept, cx);
        }
        let Some(waiting) = &mut this.waiting else { return Poll::Pending };
        let Some(envelope) = waiting.envelope.take() else { return Poll::Pending };
        match this.to.push(envelope, false, Some((&mut waiting.room.key, cx.waker()))) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(kept) => this.keep(kept, cx),
        }
    }
}

impl<M: Message> Tell<'_, M> {
    fn keep(&mut self, kept: Kept, cx: &Context<'_>) -> Poll<Result<(), TellError<M>>> {
        let (envelope, cell) = match kept {
            Kept::Full(envelope, cell) => (envelope, cell),
            Kept::Refused(error, envelope) => return Poll::Ready(Err(given_back(error, envelope))),
        };
        let Some(waiting) = &mut self.waiting else { return Poll::Ready(Err(full(self.to, envelope))) };
        if waiting.room.missed(self.to.system(), cell, cx) {
            return Poll::Ready(Err(full(self.to, envelope)));
        }
        waiting.envelope = Some(envelope);
        Poll::Pending
    }
}

impl<M: Message> fmt::Debug for Tell<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tell({} → {})", M::NAME, self.to)
    }
}

/// An `ask` on its way; ready with the reply.
///
/// Dropped before it is ready, nobody waits for the reply any more; the handler may run all the same.
#[must_use = "nothing is asked until it is awaited"]
pub struct Ask<A, M: Message> {
    to: RawRef,
    make: fn(M, ReplyHandle, Origin) -> Envelope,
    timeout: Option<Duration>,
    state: State<M>,
    actor: PhantomData<fn(A)>,
}

enum State<M: Message> {
    New(M),
    Waiting { slot: Arc<SlotOf<M>>, envelope: Option<Envelope>, room: Option<Box<Room>>, armed: bool },
    Over,
}

impl<A, M: Message> Ask<A, M> {
    pub(crate) fn new(to: RawRef, message: M, make: fn(M, ReplyHandle, Origin) -> Envelope) -> Self {
        Self { to, make, timeout: None, state: State::New(message), actor: PhantomData }
    }

    /// Waits no longer than this; the time left of an ask that is being handled bounds it too.
    pub fn timeout(mut self, span: Duration) -> Self {
        self.timeout = Some(span);
        self
    }

    /// Makes slot and envelope, or says that the ask would wait for itself.
    fn begin(&mut self, message: M) -> Result<(), Error> {
        let Some(system) = self.to.system() else {
            return Err(Error::Unbound(format!("{} was decoded outside any system", self.to)));
        };
        let facts = current::ask_facts(system, self.timeout.map(clock::nanos), M::NAME);
        if let Some(place) = self.to.place()
            && facts.waiting().any(|waits| waits == place)
        {
            return Err(Error::Cycle(system.cycle(&facts, place)));
        }
        let slot = SlotOf::<M>::new(facts, system.restless());
        let origin = current::origin(system, self.to.starts());
        let envelope = Some((self.make)(message, ReplyHandle::new(slot.clone()), origin));
        self.state = State::Waiting { slot, envelope, room: None, armed: false };
        Ok(())
    }
}

impl<A, M: Message> Unpin for Ask<A, M> {}

impl<A, M: Message> Future for Ask<A, M> {
    type Output = Result<M::Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if matches!(this.state, State::New(_))
            && let State::New(message) = mem::replace(&mut this.state, State::Over)
            && let Err(error) = this.begin(message)
        {
            return Poll::Ready(Err(error));
        }
        let State::Waiting { slot, envelope, room, armed } = &mut this.state else { return Poll::Pending };
        if let Some(unsent) = envelope.take() {
            let mut key = room.as_mut().and_then(|room| room.key);
            match this.to.push(unsent, false, Some((&mut key, cx.waker()))) {
                Ok(()) => *room = None,
                Err(Kept::Full(unsent, cell)) => {
                    let room = room.get_or_insert_default();
                    room.key = key;
                    if room.missed(this.to.system(), cell, cx) {
                        disarm(unsent);
                        return this.over(Err(Error::Full(this.to.to_string())));
                    }
                    *envelope = Some(unsent);
                }
                Err(Kept::Refused(error, unsent)) => {
                    disarm(unsent);
                    return this.over(Err(error));
                }
            }
        }
        match slot.poll(cx) {
            Poll::Ready(result) => this.over(result),
            Poll::Pending => {
                if !mem::replace(armed, true)
                    && let Some(system) = this.to.system()
                {
                    system.timers.arm(slot.facts().deadline, slot.clone());
                }
                Poll::Pending
            }
        }
    }
}

/// Drops an envelope that was not sent without failing its slot: the asker answers itself.
fn disarm(mut envelope: Envelope) {
    if let Some(handle) = envelope.handle() {
        handle.take();
    }
}

impl<A, M: Message> Ask<A, M> {
    fn over(&mut self, result: Result<M::Reply, Error>) -> Poll<Result<M::Reply, Error>> {
        let unsent = matches!(&self.state, State::Waiting { envelope: Some(_), .. });
        self.state = State::Over;
        Poll::Ready(match result {
            // The timer knows the message only; here it is known for whom it was, and whether it was sent.
            Err(Error::Deadline { may_have_run, text }) if text.is_empty() => {
                Err(reply::too_late(&self.to.address(), M::NAME, may_have_run && !unsent))
            }
            other => other,
        })
    }
}

impl<A, M: Message> Drop for Ask<A, M> {
    fn drop(&mut self) {
        if let State::Waiting { slot, .. } = &self.state {
            slot.close();
        }
    }
}

impl<A, M: Message> fmt::Debug for Ask<A, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ask({} → {})", M::NAME, self.to)
    }
}

impl<R> Expire for reply::LocalSlot<R>
where
    R: serde::Serialize + serde::de::DeserializeOwned + Send + 'static,
{
    fn expire(self: Arc<Self>) {
        self.fail(Error::Deadline { text: String::new(), may_have_run: true });
    }

    fn is_over(&self) -> bool {
        !self.is_open()
    }
}

/// A message for an actor, to be asked (`.await`) or told: what the methods on references return.
#[must_use = "nothing is sent until it is awaited"]
pub struct Call<A, M: Message> {
    to: RawRef,
    message: M,
    actor: PhantomData<fn(A)>,
}

impl<A: Handler<M>, M: Message> Call<A, M> {
    pub(crate) fn new(to: RawRef, message: M) -> Self {
        Self { to, message, actor: PhantomData }
    }

    /// Sends it without waiting for a reply. See [`ActorRef::tell`](crate::ActorRef::tell).
    ///
    /// # Errors
    /// The message comes back.
    pub async fn tell(self) -> Result<(), TellError<M>> {
        Tell::new(&self.to, self.message, Envelope::tell::<A, M>).await
    }

    /// Asks, and waits no longer than this.
    pub fn timeout(self, span: Duration) -> Ask<A, M> {
        self.into_future().timeout(span)
    }
}

impl<A: Handler<M> + Actor, M: Message> IntoFuture for Call<A, M> {
    type Output = Result<M::Reply, Error>;
    type IntoFuture = Ask<A, M>;

    fn into_future(self) -> Ask<A, M> {
        Ask::new(self.to, self.message, Envelope::ask::<A, M>)
    }
}

impl<A, M: Message> fmt::Debug for Call<A, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({} → {})", M::NAME, self.to)
    }
}
