//! The control path of one agent: one loop that owns what is known of processes, actors, global names and troupes.
//!
//! ```text
//! router ────────┐                       ┌──▶ router (table, names, control messages)
//! units ─────────┼─▶ one queue ─▶ loop ──┼──▶ units (stop, restart)
//! other agents ──┤                ▲      └──▶ convention (proposals, requests to other agents)
//! HTTP, admin ───┘                └── continuations: what a proposal or request came to
//! ```
//!
//! - **C-1.** The loop never waits for anything but its queue: what takes long is begun, and goes on as a continuation.
//! - **C-2.** Whoever asked for something gets exactly one answer.
//! - **C-3.** A name is claimed before its actor is started, and a claim that came to nothing frees it.

pub(crate) mod admin;
mod capabilities;
mod children;
mod choosing;
mod create;
mod ends;
mod hosts;
mod letters;
mod losses;
mod names;
#[cfg(feature = "next-level")]
mod note;
mod peers;
mod processes;
mod records;
mod troupes;
mod types;
mod unfit;
mod untold;
mod watch;

use crate::{
    agent::Ended,
    config::Config,
    convention, doctor,
    event::{Continuation, Event},
    metrics::Metrics,
    queue::Queue,
    router,
    workers::{self, listeners::Listeners},
};
use odeon_cluster::{capability::Map, placement::Recent};
use odeon_protocol::{
    Address, Direct, NodeId, Reason, Serial, WorkerId,
    control::{Placed, Policy, Refusal, Spec, ToAgent, WireCodec, decode},
};
pub(crate) use peers::Seam;
use records::Records;
use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};
use tokio::{sync::watch as channel, time};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often slow matters are looked after: troupes, facts for other hosts.
const TICK: Duration = Duration::from_millis(500);
/// What a request to another agent may take unless its asker says less.
const CALL_WAIT: Duration = Duration::from_secs(5);
/// After so long another agent is told again what it did not take.
const AGAIN: Duration = Duration::from_millis(500);

/// Where an actor was placed.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    pub(crate) placed: Placed,
    /// Its place now.
    pub(crate) place: Direct,
    /// Its name's epoch; 0 without a name.
    pub(crate) epoch: u64,
}

/// How the loop ended.
pub(crate) struct Finish {
    pub(crate) ended: Result<(), Ended>,
    /// The host is to leave its convention.
    pub(crate) leaves: bool,
}

/// Called once, with what a creation came to.
pub(crate) type Reply = Box<dyn FnOnce(Result<Placement, Refusal>) + Send>;

/// Everything that outlives the loop or is shared with it.
pub(crate) struct Parts {
    pub(crate) config: Arc<Config>,
    pub(crate) convention: convention::Handle,
    pub(crate) router: router::Handle,
    pub(crate) kit: workers::Kit,
    pub(crate) metrics: Arc<Metrics>,
    /// Of this machine.
    pub(crate) cores: u32,
    /// Asked to stop.
    pub(crate) stop: CancellationToken,
    /// Every configured worker is registered, or why not.
    pub(crate) registered: channel::Sender<Option<String>>,
}

/// The loop's state; see the module's head.
pub(crate) struct Controller {
    parts: Parts,
    events: Arc<Queue<Event>>,
    listeners: Listeners,
    next_block: u64,
    next_unit: u32,
    next_request: u64,
    own: capabilities::Own,
    /// What this host can do, of all of that.
    can: Map,
    units: BTreeMap<u32, processes::Unit>,
    workers: BTreeMap<WorkerId, processes::Worker>,
    clients: BTreeMap<WorkerId, processes::Client>,
    messages: processes::Messages,
    types: types::Types,
    records: Records,
    names: names::Names,
    troupes: troupes::Troupes,
    dedicated: create::Dedicated,
    waiting_for_host: choosing::Waiting,
    children: children::Children,
    losses: losses::Losses,
    /// Lists of actors that workers were asked for.
    lists: BTreeMap<u64, processes::Listing>,
    recent: Recent,
    letters: letters::Letters,
    watchers: hosts::Watchers,
    watched: watch::Watched,
    /// Held while the disk is looked at.
    disk: doctor::Turn,
    stopping: bool,
    /// Names are handed over until then, at most; set once the workers of a stopping agent have ended.
    rest_until: Option<time::Instant>,
    /// The host is to leave the convention once everything has stopped.
    leaving: bool,
}

/// An actor that this agent knows of: it has a name, a parent elsewhere, or was placed here by request.
#[derive(Clone, Debug)]
struct Record {
    type_name: Arc<str>,
    args: Vec<u8>,
    codec: WireCodec,
    name: Option<Arc<str>>,
    epoch: u64,
    parent: Direct,
    worker: WorkerId,
    policy: Policy,
    on: Option<String>,
    stopping: bool,
    /// It was told to stop, as this host lacks that for it.
    unfit: Option<String>,
    /// When it was started again after a failure; for actors with a name, the name knows.
    restarts: Vec<time::Instant>,
}

impl Record {
    fn address(&self, place: Direct) -> Address {
        match &self.name {
            Some(name) => Address::Named { name: name.clone(), starts: false, hint: place, epoch: self.epoch },
            None => Address::Direct(place),
        }
    }
}

/// A refusal in one line.
pub(crate) fn refusal(reason: Reason, text: impl Into<String>) -> Refusal {
    Refusal { reason, text: text.into() }
}

impl Controller {
    pub(crate) fn new(parts: Parts, events: Arc<Queue<Event>>) -> Self {
        let listeners = Listeners::new(parts.config.worker_listen.clone(), parts.config.worker_host);
        let watched = watch::Watched::new(&parts.convention);
        let own = capabilities::Own::new(parts.config.capabilities.clone());
        let mut controller = Self {
            parts,
            events,
            listeners,
            next_block: Serial::TROUPES + 1,
            next_unit: 1,
            next_request: 1,
            can: own.at_first(),
            own,
            units: BTreeMap::new(),
            workers: BTreeMap::new(),
            clients: BTreeMap::new(),
            messages: processes::Messages::default(),
            types: types::Types::default(),
            records: Records::default(),
            names: names::Names::default(),
            troupes: troupes::Troupes::default(),
            dedicated: create::Dedicated::default(),
            waiting_for_host: choosing::Waiting::default(),
            children: children::Children::default(),
            losses: losses::Losses::default(),
            lists: BTreeMap::new(),
            recent: Recent::default(),
            letters: letters::Letters::default(),
            watchers: hosts::Watchers::default(),
            watched,
            disk: doctor::Turn::default(),
            stopping: false,
            rest_until: None,
            leaving: false,
        };
        controller.troupes.number_from(Serial::first_of(Serial::TROUPES));
        for command in controller.parts.config.clone().workers.clone() {
            controller.start_unit(command, false);
        }
        controller.report_registered();
        controller
    }

    /// Runs until the agent has stopped.
    pub(crate) async fn run(mut self) -> Finish {
        let (events, stop) = (self.events.clone(), self.parts.stop.clone());
        let mut ticks = time::interval(TICK);
        let mut watched = self.watched.take_receivers();
        while !(self.stopping && self.comes_to_rest()) {
            tokio::select! {
                () = stop.cancelled(), if !self.stopping => self.begin_stop(),
                batch = events.take() => batch.into_iter().for_each(|event| self.handle(event)),
                change = watched.next() => self.on_change(change),
                _ = ticks.tick() => self.on_tick(),
            }
        }
        let ended = match self.watched.over {
            // A host that leaves does not start again.
            Some(convention::Over::BootOver) if !self.leaving => Err(Ended::BootOver),
            Some(convention::Over::Failed) => Err(Ended::Failed),
            Some(convention::Over::Superseded) => Err(Ended::Superseded),
            Some(convention::Over::Outdated { has, needs }) => Err(Ended::Outdated { has, needs }),
            Some(_) if !self.leaving => Err(Ended::NotMember),
            _ => Ok(()),
        };
        Finish { ended, leaves: self.leaving }
    }

    /// As [`Controller::create`], for the HTTP interface.
    pub(crate) fn create_for_http(&mut self, spec: Spec, reply: Reply) {
        self.create(spec, reply);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Control { process, body, waits } => {
                self.on_control(process, &body);
                drop(waits);
            }
            Event::Missed { name, starts, stale } => self.on_missed(&name, starts, stale),
            Event::TroupeMissed { troupe } => self.on_troupe_missed(troupe),
            Event::TroupeSignal { troupe, body } => self.on_troupe_signal(troupe, &body),
            Event::TroupeBusy { troupe } => self.on_troupe_busy(troupe),
            Event::CameBack { frame, missed } => self.on_came_back(&frame, missed),
            Event::AnswersDropped { node } => {
                let host = self.host_name(node);
                warn!(host, %node, "answers to this host are dropped, as later ones are without a word: too much waits for it");
            }
            Event::Closed { process, why } => self.on_closed(process, why.as_deref()),
            Event::Lost { process, blocks } => self.on_blocks_lost(process, blocks),
            Event::Hello { process, greeting, hello, reply } => {
                // A process that went away meanwhile needs no answer.
                let _ = reply.send(self.on_hello(process, greeting, *hello));
            }
            Event::Admitted { process } => self.on_admitted(process),
            Event::UnitStarted { unit, worker, pid } => self.on_unit_started(unit, worker, pid),
            Event::ProcessEnded { unit, worker, admitted, end } => self.on_process_ended(unit, worker, admitted, end),
            Event::UnitWaits { unit, why } => self.on_unit_waits(unit, why),
            Event::UnitEnded { unit } => self.on_unit_ended(unit),
            Event::Peer { from, request, reply } => self.on_peer_request(from, request, reply),
            Event::Reachable { node, reachable } => self.on_reachable(node, reachable),
            Event::Done(Continuation(then)) => then(self),
        }
    }

    fn on_control(&mut self, process: WorkerId, body: &[u8]) {
        match decode(body) {
            Ok(message) => self.on_message(process, message),
            Err(error) => {
                warn!(%process, %error, "link closed");
                self.parts.router.detach(process);
            }
        }
    }

    fn on_message(&mut self, process: WorkerId, message: ToAgent) {
        match message {
            ToAgent::Create { request, spec } => {
                let reply = self.reply_to(process, request);
                self.create(spec, reply);
            }
            ToAgent::Find { request, name } => self.on_find(process, request, &name),
            ToAgent::Lease { request } => self.on_lease(process, request),
            ToAgent::Started { serial } => self.on_started(process, serial),
            ToAgent::Stopping { serial } => self.on_stopping(process, serial),
            ToAgent::Ended { serial, cause, not_found } => self.on_ended(process, serial, cause, not_found),
            ToAgent::ChildEnded { parent, child, cause } => self.child_exited(parent, child, cause),
            ToAgent::End { target, kill } => self.end(&target, kill),
            ToAgent::Admin { request, json } => self.on_admin(process, request, &json),
            ToAgent::Capabilities(capabilities) => self.on_capabilities(process, capabilities),
            ToAgent::Load { actors, waiting } => self.on_load(process, actors, waiting),
            ToAgent::Counts(counts) => self.on_counts(process, &counts),
            ToAgent::Listed { request, actors } => self.on_listed(process, request, actors),
            ToAgent::ListenDeadLetters { listen } => self.on_listen(process, listen),
            ToAgent::DeadLetter(letter) => self.on_dead_letter(*letter),
            ToAgent::Listening => self.on_listening(process),
            ToAgent::WatchHosts => self.on_watch_hosts(process),
            ToAgent::AtRest { pause_at } => self.on_at_rest(process, pause_at),
            ToAgent::Hello(_) | ToAgent::Stopped => {}
            other => warn!(%process, ?other, "a message that this agent does not know"),
        }
    }

    /// Begins something that takes long; `then` goes on with its outcome.
    fn begin<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        then: impl FnOnce(&mut Self, T) + Send + 'static,
    ) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let outcome = work.await;
            events.push(Event::Done(Continuation(Box::new(move |controller| then(controller, outcome)))));
        });
    }

    /// Goes on after a while.
    fn later(&self, wait: Duration, then: impl FnOnce(&mut Self) + Send + 'static) {
        self.begin(time::sleep(wait), |controller, ()| then(controller));
    }

    fn me(&self) -> NodeId {
        self.parts.convention.me()
    }

    fn place(&self, serial: Serial) -> Direct {
        Direct { node: self.me(), boot: self.parts.convention.boot(), serial }
    }

    fn is_here(&self, place: Direct) -> bool {
        place.node == self.me() && place.boot == self.parts.convention.boot()
    }

    fn host_name(&self, node: NodeId) -> String {
        self.parts.convention.directory(|directory| {
            directory.member(node).map_or_else(|| format!("node {node}"), |member| member.name.clone())
        })
    }

    fn new_block(&mut self) -> u64 {
        self.next_block += 1;
        self.next_block - 1
    }

    fn new_request(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request - 1
    }
}
