//! Requests to the agent and their answers, and what the agent says of its own accord.

use super::{
    Link, State,
    flow::{End, FlowKey, Route, Target, Via},
    names::Names,
};
use crate::{
    core::{
        AnyCell, Origin,
        cell::{self, Birth, Extra, Identity},
    },
    error::Error,
    supervision::{ChildExited, Returned, ReturnedBody},
    system::Inner,
};
use odeon_protocol::{
    Address, Direct, ExitCause, Reason, Serial,
    control::{self, ActorInfo, FromAgent, Refusal, Signal, ToAgent},
    frame::Frame,
    planted::{self, Fault},
    simulated::RandomState,
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
};
use tokio::sync::oneshot;

/// Requests that are not answered yet.
#[derive(Default)]
pub(super) struct Requests {
    next: AtomicU64,
    open: Mutex<HashMap<u64, oneshot::Sender<FromAgent>, RandomState>>,
}

impl Requests {
    fn answer(&self, request: u64, message: FromAgent) {
        if let Some(waiting) = self.open.lock().remove(&request) {
            // Whoever asked may have given up.
            let _ = waiting.send(message);
        }
    }

    /// No answer will come any more.
    pub(super) fn lose(&self) {
        self.open.lock().clear();
    }
}

impl Link {
    /// Sends a request; the answer is of the kind that belongs to it.
    pub(super) fn request<F: FnOnce(u64) -> ToAgent>(
        self: &Arc<Self>,
        make: F,
    ) -> impl Future<Output = Result<FromAgent, Refusal>> + Send + 'static + use<F> {
        let number = self.requests.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.requests.open.lock().insert(number, sender);
        self.say(&make(number));
        let link = self.clone();
        if self.outbox.is_closed() {
            // The link was lost before the request was noted, or never knew of it.
            self.requests.lose();
        }
        async move {
            let _forget = Forget(&link, number);
            answer.await.map_err(|_| {
                let error = link.gone();
                Refusal { reason: Reason::Unreachable, text: error.to_string() }
            })
        }
    }

    /// A control frame has come.
    pub(super) fn control(self: &Arc<Self>, frame: &Frame) {
        match control::decode(&frame.body()) {
            Ok(message) => self.told(message),
            Err(error) => self.break_off(&error.to_string()),
        }
    }

    fn told(self: &Arc<Self>, message: FromAgent) {
        match message {
            FromAgent::Created { request, .. }
            | FromAgent::Found { request, .. }
            | FromAgent::Leased { request, .. }
            | FromAgent::Admin { request, .. } => self.requests.answer(request, message),
            FromAgent::Start(start) => self.start(start),
            FromAgent::Resolved { name, place, epoch } => {
                let woken = self.names.write().resolved(&name, place, epoch);
                woken.into_iter().for_each(Waker::wake);
            }
            FromAgent::Unresolved { name, epoch } => {
                let woken = self.names.write().unresolved(&name, epoch);
                woken.into_iter().for_each(Waker::wake);
            }
            FromAgent::List { request } => self.list(request),
            FromAgent::Stop => {
                self.state.send_if_modified(|state| {
                    let up = matches!(state, State::Up);
                    if up {
                        *state = State::Stop;
                    }
                    up
                });
            }
            FromAgent::ChildExited { parent, child, cause } => {
                let Some(system) = self.system() else { return };
                if let Some(cell) = system.registry.get(parent.serial) {
                    let exit = Box::new(ChildExited { child, cause });
                    // A parent that has ended has no use for it.
                    let _ = cell::push(&cell, crate::core::Entry::ChildExited(exit), true);
                }
            }
            FromAgent::Lost { node, boot, blocks, .. } => {
                let gone = |place: Direct| {
                    let whole = blocks.is_empty() && place.boot <= boot;
                    place.node == node && (whole || place.boot == boot && blocks.contains(&place.serial.block()))
                };
                self.lost(&gone, blocks.is_empty());
            }
            FromAgent::Lease { pause_at, .. } => self.run_until(pause_at),
            FromAgent::DeadLettersWanted { wanted } => {
                if let Some(system) = self.system() {
                    system.letters.want(wanted);
                }
            }
            FromAgent::DeadLetter(letter) => {
                if let Some(system) = self.system() {
                    system.letters.hear(&letter);
                }
            }
            FromAgent::Host(host) => {
                if let Some(system) = self.system() {
                    system.hosts.here(*host);
                }
            }
            FromAgent::HostGone { node } => {
                if let Some(system) = self.system() {
                    system.hosts.gone(node);
                }
            }
            FromAgent::PlaceLost { place, .. } => self.lost(&|at| at == place, true),
            FromAgent::Refused { text } => self.break_off(&text),
            other => tracing::debug!(?other, "the agent says something that this version has no use for"),
        }
    }

    /// A signal for an actor has come.
    pub(super) fn signal(&self, frame: &Frame) {
        let signal: Signal = match control::decode(&frame.body()) {
            Ok(signal) => signal,
            Err(error) => return self.break_off(&error.to_string()),
        };
        let Some(cell) = self.system().and_then(|system| system.registry.get(frame.header.to.serial)) else { return };
        cell::end(&cell, matches!(signal, Signal::Kill));
    }

    fn start(self: &Arc<Self>, start: control::Start) {
        let Some(system) = self.system() else { return };
        if let Some(name) = &start.global_name {
            let woken = self.names.write().begin(name, start.serial, start.epoch);
            woken.into_iter().for_each(Waker::wake);
        }
        let (serial, name, epoch) = (start.serial, start.global_name.clone(), start.epoch);
        let Err(error) = start_placed(&system, start) else { return };
        if let Some(name) = &name {
            let mut names = self.names.write();
            names.ending(name, serial);
            let woken = names.ended(name, epoch);
            drop(names);
            woken.into_iter().for_each(Waker::wake);
        }
        let not_found = matches!(error, Error::NotFound);
        self.say(&ToAgent::Ended { serial, cause: ExitCause::NeverStarted(error.to_string()), not_found });
    }

    fn list(&self, request: u64) {
        let Some(system) = self.system() else { return };
        let actors = system.registry.all().iter().map(info).collect();
        self.say(&ToAgent::Listed { request, actors });
    }

    /// Actors elsewhere are gone. What they had is lost; a fence tells it from what comes back or goes to a successor.
    /// `taken_back` if the agent has already taken back what was on its way to them.
    fn lost(&self, gone: &dyn Fn(Direct) -> bool, taken_back: bool) {
        for shard in &self.sending {
            let names = self.names.read();
            let fences = shard.lock().fence_where(|key, route| ways_to_lost(key, route, &names, gone, taken_back));
            drop(names);
            for fence in &fences {
                if planted::is(Fault::NoFence) {
                    self.settle(fence.numbers.flow, (fence.numbers.sequence, 1), End::Settled);
                } else {
                    self.send_fence(fence);
                }
            }
        }
        self.names.write().lose(gone);
    }

    /// Nobody will tell what became of these messages.
    pub(super) fn lost_for_good(&self, flow: u32, key: &FlowKey, count: u32) {
        let to = match &key.to {
            Target::Name(name) => Address::named(&**name, false),
            Target::Direct(place) => Address::Direct(*place),
            Target::Troupe(place) => Address::Troupe(*place),
        };
        let text = format!("{to} was lost with its process or host, and with it what it had in hand");
        let asks = self.asks.take_where(|ask| ask.flow == flow);
        let count = count.saturating_sub(asks.len() as u32);
        for ask in asks {
            ask.slot.fail(Error::from_wire(Reason::WorkerLost, text.as_str(), true));
        }
        if let (Some(system), 1..) = (self.system(), count) {
            self.count_lost(&system, key.from, (to, count), text);
        }
    }

    /// Tells a sender that so many of its messages are lost.
    pub(super) fn count_lost(&self, system: &Arc<Inner>, sender: Serial, (to, count): (Address, u32), text: String) {
        let body = ReturnedBody::Lost { count };
        let lost = Returned { body, reason: Reason::WorkerLost, text, to, may_have_run: true };
        let sender = Origin::of(system.sender(sender), false);
        system.give_back_to(sender, lost);
    }
}

/// Which ways fences have to go, the last first, where some of a flow's messages may be with those who are gone.
fn ways_to_lost(
    key: &FlowKey,
    route: Route,
    names: &Names,
    gone: &dyn Fn(Direct) -> bool,
    taken_back: bool,
) -> Vec<Via> {
    let first = match route {
        Route::Place(first, _) => Some(first),
        Route::Agent => None,
    };
    let Target::Name(name) = &key.to else {
        // What members of a troupe had is told by the agent that picked them.
        return first.filter(|place| gone(*place)).map(Via::Place).into_iter().collect();
    };
    // Sent by the agent, or sent back and on, to wherever it said then that the name is: to all its places one after the
    // other, since some messages may be on their way back from any of them.
    let others = names.recent(name).into_iter().filter(|place| Some(*place) != first);
    let places: Vec<_> = others.chain(first).collect();
    if !places.iter().any(|place| gone(*place)) {
        return Vec::new();
    }
    let left = places.into_iter().filter(|place| !(taken_back && gone(*place)));
    [Via::Agent].into_iter().chain(left.map(Via::Place)).collect()
}

fn start_placed(system: &Arc<Inner>, start: control::Start) -> Result<(), Error> {
    let kind = system.kind(&start.type_name).ok_or_else(|| {
        Error::new(Reason::NoSuchType, format!("this worker runs no actors of type {}", start.type_name))
    })?;
    let here = system.is_mine(start.parent);
    let extra = Extra {
        policy: Some(Box::new(start.policy)),
        troupe: start.troupe,
        remote_parent: start.parent.some().filter(|_| !here),
        ..Extra::default()
    };
    let birth = Birth {
        serial: start.serial,
        parent: if here { start.parent.serial } else { Serial::default() },
        identity: start.global_name.map(|name| Box::new(Identity { name, epoch: start.epoch })),
        recorded: true,
        extra: Some(Box::new(extra)),
    };
    let cell = kind.make(system, start.codec, &start.args, birth)?;
    system.admit(cell)
}

fn info(cell: &Arc<dyn AnyCell>) -> ActorInfo {
    let head = cell.head();
    let remote = head.with_extra(|extra| extra.remote_parent);
    let local = (head.parent != Serial::default()).then(|| head.system.place(head.parent));
    ActorInfo {
        serial: head.serial,
        type_name: head.kind.name.to_owned(),
        global_name: head.identity.as_ref().map(|identity| identity.name.to_string()),
        epoch: head.identity.as_ref().map_or(0, |identity| identity.epoch),
        parent: local.or(remote).unwrap_or(Direct::NONE),
        mailbox: head.load().0 as u64,
        handled: head.handled.load(Ordering::Relaxed),
    }
}

/// An answer that nobody waits for any more is not kept.
struct Forget<'a>(&'a Link, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.requests.open.lock().remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::{Boot, NodeId};

    #[test]
    fn fences_go_wherever_an_agent_may_have_sent_what_came_back_from_a_lost_place() {
        let at = |serial| Direct { node: NodeId(serial), boot: Boot(1), serial: Serial(serial) };
        let (mut names, name) = (Names::default(), Arc::<str>::from("n"));
        let key = FlowKey { from: Serial(9), to: Target::Name(name.clone()), lane: 0 };
        let ways = |names: &Names, lost, taken_back| {
            let mut ways = ways_to_lost(&key, Route::Place(at(1), 1), names, &|place| place == at(lost), taken_back);
            ways.reverse();
            ways
        };
        drop(names.resolved(&name, at(1), 1));
        assert_eq!(ways(&names, 1, false), [Via::Place(at(1)), Via::Agent]);
        assert_eq!(ways(&names, 1, true), [Via::Agent]);
        assert_eq!(ways(&names, 2, true), []);
        drop(names.resolved(&name, at(2), 2));
        assert_eq!(ways(&names, 1, false), [Via::Place(at(1)), Via::Place(at(2)), Via::Agent]);
        assert_eq!(ways(&names, 1, true), [Via::Place(at(2)), Via::Agent]);
        assert_eq!(ways(&names, 2, true), [Via::Place(at(1)), Via::Agent]);
    }
}
