//! Creating actors: one verb, with what it may say.

use super::Inner;
use crate::{
    actor::Actor,
    core::{
        ActorType, Cell,
        cell::{Birth, Extra, State},
        current, scheduler, wire,
    },
    error::{Error, Result},
    outside::BoxFuture,
    reference::{ActorRef, RawRef},
};
use odeon_protocol::{
    Direct, Serial,
    address::check_name,
    control::{OnStop, Placed, Policy, Refusal, Restart, Spec, Troupe, WireCodec},
    frame::Codec,
    limits::{ARGS_BYTES_MAX, TELL_WAIT},
};
use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// A creation; await it, or say more before.
#[must_use = "nothing is created until it is awaited"]
pub struct Creation<A: Actor> {
    system: Arc<Inner>,
    parent: Option<Serial>,
    args: A::Args,
    name: Option<String>,
    on: Option<String>,
    near: Option<Direct>,
    requires: Option<String>,
    restart: Option<Restart>,
    on_stop: Option<OnStop>,
    troupe: Option<Troupe>,
    wait: Duration,
}

impl<A: Actor> Creation<A> {
    pub(crate) fn new(system: Arc<Inner>, parent: Option<Serial>, args: A::Args) -> Self {
        Self {
            system,
            parent,
            args,
            name: None,
            on: None,
            near: None,
            requires: None,
            restart: None,
            on_stop: None,
            troupe: None,
            wait: Duration::ZERO,
        }
    }

    /// Gives it a global name. If an actor bears it already, the creation answers a reference to that one.
    pub fn global_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only on a host with these capabilities: `gpu >= 1 && zone == "eu-1"`.
    pub fn requires(mut self, requirement: impl Into<String>) -> Self {
        self.requires = Some(requirement.into());
        self
    }

    /// Only on the host of that name.
    pub fn on(mut self, host: impl Into<String>) -> Self {
        self.on = Some(host.into());
        self
    }

    /// On that actor's host, if it fits.
    pub fn near<B: Actor>(mut self, other: &ActorRef<B>) -> Self {
        self.near = other.raw().place();
        self
    }

    /// Starts it again after a panic or a hook's error, at most `max` times in `within`.
    pub fn restart(mut self, max: u32, within: Duration) -> Self {
        let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
        self.restart = Some(Restart::UpTo { max, within_ms });
        self
    }

    /// What stopping does to its global name.
    pub fn on_stop(mut self, on_stop: OnStop) -> Self {
        self.on_stop = Some(on_stop);
        self
    }

    /// Makes it a troupe: at most `max` members, of which `idle` stay when there is nothing to do.
    pub fn troupe(mut self, max: u32, idle: u32) -> Self {
        self.troupe = Some(Troupe { max: max.max(1), idle });
        self
    }

    /// Waits so long for a host that fits, where there is none now: until one comes, or its capabilities change. Without
    /// it such a creation fails after about a second, in which what was just changed becomes known everywhere.
    ///
    /// A system on its own has no host to wait for.
    pub fn wait_for_host(mut self, span: Duration) -> Self {
        self.wait = span;
        self
    }

    /// Whether this process can do it alone: nobody else has to know of the actor.
    fn is_private(&self, kind: &ActorType) -> bool {
        let anywhere = self.on.is_none() && self.near.is_none() && self.requires.is_none();
        let plain = kind.options.requires.is_empty() && kind.options.troupe.is_none() && !kind.options.own_process;
        anywhere && plain && self.name.is_none() && self.troupe.is_none()
    }

    /// The policy, where it is not the type's.
    fn policy(&self, kind: &ActorType) -> Option<Policy> {
        let said = self.requires.is_some() || self.restart.is_some() || self.on_stop.is_some() || self.troupe.is_some();
        said.then(|| {
            let declared = kind.policy();
            Policy {
                on_stop: self.on_stop.unwrap_or(declared.on_stop),
                restart: self.restart.unwrap_or(declared.restart),
                own_process: declared.own_process,
                requires: self.requires.clone().unwrap_or(declared.requires),
                troupe: self.troupe.or(declared.troupe),
            }
        })
    }

    fn here(self, kind: &'static ActorType) -> Result<ActorRef<A>> {
        let policy = self.policy(kind);
        let restart = policy.as_ref().map_or(kind.options.restart, |policy| policy.restart);
        let mut args = self.args;
        let mut extra = None;
        if restart != Restart::Never || self.system.restless() {
            let bytes = wire::write(Codec::Postcard, &args)?;
            if self.system.restless() {
                let _here = current::enter_system(&self.system);
                args = wire::read(Codec::Postcard, &bytes)?;
            }
            if restart != Restart::Never {
                let policy = policy.map(Box::new);
                extra = Some(Box::new(Extra { args: Some(bytes.into()), policy, ..Extra::default() }));
            }
        }
        let serial = self.system.next_serial()?;
        let parent = self.parent.unwrap_or_default();
        let birth = Birth { serial, parent, extra, ..Birth::default() };
        let cell = Cell::<A>::new(self.system.clone(), kind, args, birth);
        self.system.admit(cell.clone())?;
        Ok(ActorRef::from_raw(RawRef::of_cell(cell)))
    }

    fn spec(&self, kind: &'static ActorType) -> Result<Spec> {
        let args = wire::write(Codec::Postcard, &self.args)?;
        if args.len() > ARGS_BYTES_MAX {
            let text =
                format!("the arguments of {} have {} bytes, {ARGS_BYTES_MAX} are allowed", kind.name, args.len());
            return Err(Error::TooBig { text, may_have_run: false });
        }
        if let Some(name) = &self.name {
            check_name(name).map_err(Error::other)?;
        }
        Ok(Spec {
            type_name: kind.name.into(),
            args,
            codec: WireCodec::Postcard,
            global_name: self.name.as_deref().map(Into::into),
            on: self.on.clone(),
            near: self.near,
            policy: self.policy(kind),
            parent: self.parent.map_or(Direct::NONE, |serial| self.system.place(serial)),
            remaining_ms: u32::try_from(TELL_WAIT.saturating_add(self.wait).as_millis()).unwrap_or(u32::MAX),
        })
    }

    fn begin(self) -> Stage<A> {
        let kind = ActorType::of::<A>();
        if self.is_private(kind) {
            return Stage::Done(Some(self.here(kind)));
        }
        self.system.know(kind);
        match self.spec(kind) {
            Ok(spec) => Stage::Placing(self.system.outside().create(spec), self.system),
            Err(error) => Stage::Done(Some(Err(error))),
        }
    }
}

impl<A: Actor> fmt::Debug for Creation<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Creation").field("type", &A::TYPE).field("global_name", &self.name).finish_non_exhaustive()
    }
}

impl<A: Actor> IntoFuture for Creation<A> {
    type Output = Result<ActorRef<A>>;
    type IntoFuture = Create<A>;

    fn into_future(self) -> Create<A> {
        Create { stage: Stage::New(Some(self)) }
    }
}

/// A creation on its way; ready when the actor is placed, before it has started.
#[must_use = "nothing is created until it is awaited"]
pub struct Create<A: Actor> {
    stage: Stage<A>,
}

enum Stage<A: Actor> {
    New(Option<Creation<A>>),
    Done(Option<Result<ActorRef<A>>>),
    Placing(BoxFuture<'static, Result<Placed, Refusal>>, Arc<Inner>),
}

impl<A: Actor> Unpin for Create<A> {}

impl<A: Actor> Future for Create<A> {
    type Output = Result<ActorRef<A>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Stage::New(creation) = &mut self.stage
            && let Some(creation) = creation.take()
        {
            self.stage = creation.begin();
        }
        match &mut self.stage {
            Stage::New(_) => Poll::Pending,
            Stage::Done(result) => result.take().map_or(Poll::Pending, Poll::Ready),
            Stage::Placing(placing, system) => placing.as_mut().poll(cx).map(|placed| {
                let placed = placed?;
                Ok(ActorRef::from_raw(RawRef::bound(system, placed.address)))
            }),
        }
    }
}

impl<A: Actor> fmt::Debug for Create<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Create({})", A::TYPE)
    }
}

impl Inner {
    /// Takes a new cell in and lets it start.
    pub(crate) fn admit(&self, cell: Arc<dyn crate::core::AnyCell>) -> Result<()> {
        let head = cell.head();
        if *self.stopping.borrow() {
            return Err(Error::ActorStopped { text: "the system is stopping".to_owned(), may_have_run: false });
        }
        if head.parent != Serial::default() {
            let Some(parent) = self.registry.get(head.parent) else {
                let text = format!("the parent of a new {}", head.kind.name);
                return Err(Error::ActorStopped { text, may_have_run: false });
            };
            parent.head().with_extra(|extra| extra.children.insert(head.serial));
        }
        self.registry.insert(head.serial, cell.clone());
        {
            let mut inbox = head.inbox.lock();
            if inbox.state != State::Idle {
                // A message was faster.
                return Ok(());
            }
            inbox.state = State::Queued;
        }
        scheduler::schedule(cell);
        Ok(())
    }
}
