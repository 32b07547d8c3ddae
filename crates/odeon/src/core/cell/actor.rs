//! The cell of an actor of one type: what the run loop calls without knowing the type.

use super::{AnyCell, Birth, Head};
use crate::{
    actor::{Actor, Handler, Outcome},
    context::Context,
    core::{
        reply::ReplyHandle,
        scheduler,
        scratch::{End, Scratch, Step},
        types::ActorType,
        wire,
    },
    error::Error,
    message::Message,
    supervision::{ChildExited, Returned},
    system::Inner,
};
use std::{
    cell::UnsafeCell,
    future::Future,
    pin::Pin,
    ptr,
    sync::{Arc, atomic::Ordering},
    task::{self, Poll, Wake, Waker},
};

/// The actor itself.
enum Slot<A: Actor> {
    Args(A::Args),
    Live(A),
    Empty,
}

/// An actor of type `A`.
pub(crate) struct Cell<A: Actor> {
    head: Head,
    actor: UnsafeCell<Slot<A>>,
    ctx: UnsafeCell<Context<A>>,
}

// SAFETY: `actor` and `ctx` are touched only by the runner that set `Running` (C-1) and by the future that it polls;
// actors, arguments and contexts may change threads.
unsafe impl<A: Actor> Sync for Cell<A> {}
// SAFETY: as above.
unsafe impl<A: Actor> Send for Cell<A> {}

impl<A: Actor> Cell<A> {
    pub(crate) fn new(system: Arc<Inner>, kind: &'static ActorType, args: A::Args, birth: Birth) -> Arc<Self> {
        let mut cell = Arc::new(Self {
            head: Head::new(system, kind, birth),
            actor: UnsafeCell::new(Slot::Args(args)),
            ctx: UnsafeCell::new(Context::new(CellPtr(ptr::null()))),
        });
        let place = Arc::as_ptr(&cell);
        if let Some(cell) = Arc::get_mut(&mut cell) {
            *cell.ctx.get_mut() = Context::new(CellPtr(place));
        }
        cell
    }

    /// # Safety
    /// `cell` is as [`Envelope::start`] says.
    pub(crate) unsafe fn expect_reply(cell: *const (), handle: ReplyHandle) {
        // SAFETY: as the caller says.
        unsafe { (*cell.cast::<Self>()).head.current() }.reply = handle;
    }

    /// # Safety
    /// `cell` and the rights to it are as [`Envelope::start`] says.
    pub(crate) unsafe fn start_handler<M: Message>(
        cell: *const (),
        message: M,
        scratch: &mut Scratch,
        cx: &mut task::Context<'_>,
    ) -> Step
    where
        A: Handler<M>,
    {
        // SAFETY: as the caller says; the cell outlives the future, as it owns it.
        let cell = unsafe { &*cell.cast::<Self>() };
        // SAFETY: C-1: nobody else refers to the actor and its context until the future has ended or is dropped.
        let (actor, ctx) = unsafe { (&mut *cell.actor.get(), &mut *cell.ctx.get()) };
        let Slot::Live(actor) = actor else {
            return Step::Done(End::Failed(Box::new(("the actor is not live".to_owned(),))));
        };
        // SAFETY: as above; the handler's future is `Send` by its trait.
        unsafe { scratch.run(|| Handling { head: &cell.head, future: actor.handle(message, ctx) }, cx) }
    }

    /// # Safety
    /// See [`AnyCell::begin`].
    unsafe fn hook<'a, F>(
        &'a self,
        make: impl FnOnce(&'a mut A, &'a mut Context<A>) -> F,
        scratch: &mut Scratch,
        cx: &mut task::Context<'_>,
    ) -> Step
    where
        F: Future<Output = crate::error::Result> + Send + 'a,
    {
        // SAFETY: as the caller says.
        let (actor, ctx) = unsafe { (&mut *self.actor.get(), &mut *self.ctx.get()) };
        let Slot::Live(actor) = actor else { return Step::Done(End::Ok) };
        let run = || async move {
            match make(actor, ctx).await {
                Ok(()) => End::Ok,
                Err(error) => End::Failed(Box::new((error.to_string(),))),
            }
        };
        // SAFETY: the cell outlives the future, as it owns it; the hook's future is `Send` by its trait.
        unsafe { scratch.run(run, cx) }
    }
}

/// What a context holds: a pointer to the cell that the context lies in.
///
/// - **P-1.** Users have contexts by reference only, while the cell's runner holds the cell; so the pointer is good.
pub(crate) struct CellPtr<A: Actor>(*const Cell<A>);

// SAFETY: it stands for a reference to a cell, which is `Sync`.
unsafe impl<A: Actor> Send for CellPtr<A> {}
// SAFETY: as above.
unsafe impl<A: Actor> Sync for CellPtr<A> {}

impl<A: Actor> CellPtr<A> {
    pub(crate) fn head(&self) -> &Head {
        // SAFETY: P-1.
        unsafe { &(*self.0).head }
    }

    /// The cell, for keeping.
    pub(crate) fn shared_any(&self) -> Arc<dyn AnyCell> {
        // SAFETY: P-1: the pointer came from an `Arc`, of which the runner holds a count.
        unsafe {
            Arc::increment_strong_count(self.0);
            Arc::from_raw(self.0)
        }
    }
}

impl<A: Actor> Wake for Cell<A> {
    fn wake(self: Arc<Self>) {
        scheduler::wake(self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        scheduler::wake_by_ref(self);
    }
}

impl<A: Actor> AnyCell for Cell<A> {
    fn head(&self) -> &Head {
        &self.head
    }

    fn waker(self: Arc<Self>) -> Waker {
        Waker::from(self)
    }

    unsafe fn begin(&self, scratch: &mut Scratch, cx: &mut task::Context<'_>) -> Step {
        // SAFETY: as the caller says.
        let (actor, ctx) = unsafe { (&mut *self.actor.get(), &mut *self.ctx.get()) };
        let Slot::Args(args) = std::mem::replace(actor, Slot::Empty) else {
            let error = Error::StartFailed("its arguments are gone".to_owned());
            return Step::Done(End::NotStarted(Box::new(error)));
        };
        let run = || async move {
            match A::start(args, ctx).await {
                Ok(started) => *actor = Slot::Live(started),
                Err(error) => return End::NotStarted(Box::new(error)),
            }
            let Slot::Live(started) = actor else { return End::Started };
            match started.started(ctx).await {
                Ok(()) => End::Started,
                Err(error) => End::NotStarted(Box::new(error)),
            }
        };
        // SAFETY: the cell outlives the future, as it owns it; the hooks' futures are `Send` by their trait.
        unsafe { scratch.run(run, cx) }
    }

    unsafe fn stopping(&self, scratch: &mut Scratch, cx: &mut task::Context<'_>) -> Step {
        // SAFETY: as the caller says.
        unsafe { self.hook(|actor, ctx| actor.stopping(ctx), scratch, cx) }
    }

    unsafe fn returned(&self, back: Returned, scratch: &mut Scratch, cx: &mut task::Context<'_>) -> Step {
        // SAFETY: as the caller says.
        unsafe { self.hook(|actor, ctx| actor.returned(back, ctx), scratch, cx) }
    }

    unsafe fn child_exited(&self, exit: ChildExited, scratch: &mut Scratch, cx: &mut task::Context<'_>) -> Step {
        // SAFETY: as the caller says.
        unsafe { self.hook(|actor, ctx| actor.child_exited(exit, ctx), scratch, cx) }
    }

    unsafe fn discard(&self, again: Option<&[u8]>) -> Result<(), Error> {
        let next = match again {
            Some(bytes) => Slot::Args(wire::read(odeon_protocol::frame::Codec::Postcard, bytes)?),
            None => Slot::Empty,
        };
        // SAFETY: as the caller says.
        *unsafe { &mut *self.actor.get() } = next;
        Ok(())
    }
}

/// A handler's future and what is done with its outcome.
struct Handling<'a, F> {
    head: &'a Head,
    future: F,
}

impl<R: Send + 'static, F: Future<Output = Outcome<R>>> Future for Handling<'_, F> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<End> {
        // SAFETY: `future` is pinned with `self` and never moved out; `head` is only read.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        let future = unsafe { Pin::new_unchecked(&mut this.future) };
        future.poll(cx).map(|outcome| {
            // SAFETY: this is polled by the runner of the cell only; the reference ends with the expression.
            let reply = unsafe { &mut this.head.current().reply };
            if reply.slot().is_none() {
                return match outcome {
                    Outcome::Failed(text) => End::Failed(Box::new((text,))),
                    Outcome::Reply(_) | Outcome::Forwarded | Outcome::Deferred => End::Ok,
                };
            }
            let handle = std::mem::take(reply);
            match outcome {
                Outcome::Reply(reply) => handle.answer(reply),
                Outcome::Forwarded | Outcome::Deferred => {}
                Outcome::Failed(text) => {
                    this.head.system.counters.failed.fetch_add(1, Ordering::Relaxed);
                    handle.fail(Error::Handler(format!("{}: {text}", this.head.label())));
                }
            }
            End::Ok
        })
    }
}
