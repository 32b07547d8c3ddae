//! What the parts of a system share.

use super::{Stats, hosts::SeenHosts, letters::Letters, returns::Returns};
use crate::{
    core::{
        ActorType, AnyCell, cell, clock,
        gate::Gate,
        registry::Registry,
        replies::Replies,
        reply::{AskFacts, chain_places},
        scheduler::Scheduler,
        timers::Timers,
    },
    error::Error,
    outside::{Answer, Outside},
};
use odeon_protocol::{Boot, Direct, NodeId, Serial, control::Value, limits::STOP_GRACE};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::{BTreeMap, HashMap},
    net::TcpListener,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::SystemTime,
};
use tokio::sync::{Notify, watch};

/// How a system is to be.
pub(crate) struct Config {
    pub(crate) node: NodeId,
    pub(crate) boot: Boot,
    pub(crate) host: String,
    /// Threads that run actors.
    pub(crate) runners: usize,
    /// Threads for I/O.
    pub(crate) io_threads: usize,
    pub(crate) restless: bool,
    /// The first block of serials; more come by [`Inner::add_block`].
    pub(crate) block: u64,
}

impl Default for Config {
    /// A process on its own: a node id and a boot that nobody else is likely to have.
    fn default() -> Self {
        let nanos = SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64);
        let salt = u64::from(std::process::id()) << 32 ^ clock::fine();
        Self {
            node: NodeId((nanos ^ salt.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            boot: Boot(nanos),
            host: host_name(),
            runners: std::thread::available_parallelism().map_or(2, usize::from),
            io_threads: 2,
            restless: false,
            block: 1,
        }
    }
}

/// What the operating system calls this machine.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

/// What has happened so far.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) failed: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) restarts: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
    pub(crate) unheard: AtomicU64,
}

/// What the parts of a system share.
pub(crate) struct Inner {
    node: NodeId,
    boot: Boot,
    pub(crate) host: String,
    pub(crate) registry: Registry,
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) timers: Arc<Timers>,
    pub(crate) replies: Replies,
    pub(crate) gate: Gate,
    pub(crate) counters: Counters,
    pub(crate) tokio: tokio::runtime::Handle,
    pub(crate) restless: AtomicBool,
    pub(crate) capabilities: RwLock<BTreeMap<String, Value>>,
    pub(crate) listeners: Mutex<HashMap<String, TcpListener>>,
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) returns: Returns,
    pub(crate) letters: Letters,
    pub(crate) hosts: SeenHosts,
    types: RwLock<HashMap<&'static str, &'static ActorType>>,
    outside: OnceLock<Arc<dyn Outside>>,
    /// The blocks whose serials are of this process.
    blocks: RwLock<Vec<u64>>,
    serials: Mutex<Serials>,
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
    emptied: Notify,
    /// While the system stops: how many actors may be left before the next step.
    staying: AtomicUsize,
}

/// Numbers for new actors.
struct Serials {
    /// The next number and the end of its block.
    now: (u64, u64),
    blocks: Vec<u64>,
    /// Whether more were asked for and have not come.
    leasing: bool,
}

/// The number of a process whose first block this is. Zero is nobody's number.
pub(crate) fn own_serial(block: u64) -> Serial {
    Serial(Serial::first_of(block).0.max(1))
}

impl Serials {
    fn new(block: u64) -> Self {
        let first = own_serial(block).0 + 1;
        Self { now: (first, Serial::first_of(block + 1).0), blocks: Vec::new(), leasing: false }
    }

    fn next(&mut self) -> Option<Serial> {
        if self.now.0 == self.now.1 {
            let block = self.blocks.pop()?;
            self.now = (Serial::first_of(block).0, Serial::first_of(block + 1).0);
        }
        self.now.0 += 1;
        Some(Serial(self.now.0 - 1))
    }

    /// Whether more should be asked for now.
    fn run_low(&mut self) -> bool {
        let low = self.now.1 - self.now.0 < Serial::BLOCK / 2 && self.blocks.is_empty();
        low && !std::mem::replace(&mut self.leasing, true)
    }
}

impl Inner {
    /// Makes a system and starts its threads. [`Inner::set_outside`] comes before its first actor.
    pub(crate) fn start(config: Config) -> std::io::Result<Arc<Self>> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.io_threads)
            .thread_name("odeon-io")
            .enable_all()
            .build()?;
        let inner = Self::new(config, runtime.handle().clone(), Timers::start()?);
        *inner.runtime.lock() = Some(runtime);
        let weak = Arc::downgrade(&inner);
        inner.scheduler.start(inner.tokio.clone(), move |serial| {
            weak.upgrade()?.registry.get(Serial(serial)).map(|cell| cell.head().label())
        })?;
        Ok(inner)
    }

    /// A system without threads of its own: its actors run when [`Scheduler::run_ready`] is called.
    pub(crate) fn new(config: Config, tokio: tokio::runtime::Handle, timers: Arc<Timers>) -> Arc<Self> {
        // Set, the variable decides, so that suites can be run both ways.
        let restless = std::env::var("ODEON_RESTLESS").map_or(config.restless, |value| value != "0");
        Arc::new(Self {
            node: config.node,
            boot: config.boot,
            host: config.host,
            registry: Registry::new(),
            scheduler: Scheduler::new(config.runners),
            timers,
            replies: Replies::default(),
            gate: Gate::default(),
            counters: Counters::default(),
            tokio,
            restless: AtomicBool::new(restless),
            capabilities: RwLock::default(),
            listeners: Mutex::default(),
            stopping: watch::Sender::new(false),
            returns: Returns::default(),
            letters: Letters::default(),
            hosts: SeenHosts::default(),
            types: RwLock::default(),
            outside: OnceLock::new(),
            blocks: RwLock::new(vec![config.block]),
            serials: Mutex::new(Serials::new(config.block)),
            runtime: Mutex::default(),
            emptied: Notify::new(),
            staying: AtomicUsize::new(usize::MAX),
        })
    }

    /// Says who does what this process cannot; once.
    pub(crate) fn set_outside(&self, outside: Arc<dyn Outside>) {
        let _ = self.outside.set(outside);
    }

    pub(crate) fn outside(&self) -> &Arc<dyn Outside> {
        self.outside.get().expect("set before the first actor and the first reference")
    }

    /// The process itself, as whoever sends what no actor sends: the first number of its first block.
    pub(crate) fn me(&self) -> Direct {
        let first = self.blocks.read().first().copied().unwrap_or_default();
        self.place(own_serial(first))
    }

    /// The place of a serial of this system.
    pub(crate) fn place(&self, serial: Serial) -> Direct {
        Direct { node: self.node, boot: self.boot, serial }
    }

    /// Whether a place is of this process: of its agent and boot, and of a block that this process has.
    pub(crate) fn is_mine(&self, place: Direct) -> bool {
        place.node == self.node && place.boot == self.boot && self.blocks.read().contains(&place.serial.block())
    }

    /// Another block's serials are of this process, and given out by its agent.
    pub(crate) fn own_block(&self, block: u64) {
        self.blocks.write().push(block);
    }

    pub(crate) fn restless(&self) -> bool {
        self.restless.load(Ordering::Relaxed)
    }

    /// Makes an actor type known by its name.
    pub(crate) fn know(&self, kind: &'static ActorType) {
        if !self.types.read().contains_key(kind.name) {
            self.types.write().insert(kind.name, kind);
        }
    }

    /// The actor type of that name.
    pub(crate) fn kind(&self, name: &str) -> Option<&'static ActorType> {
        self.types.read().get(name).copied()
    }

    /// A number for a new actor.
    pub(crate) fn next_serial(&self) -> Result<Serial, Error> {
        let (serial, low) = {
            let mut serials = self.serials.lock();
            (serials.next(), serials.run_low())
        };
        if low {
            self.outside().lease();
        }
        serial.ok_or_else(|| Error::Full("no numbers for new actors are left; the agent leases more".to_owned()))
    }

    /// Takes another block of serials.
    pub(crate) fn add_block(&self, block: u64) {
        self.own_block(block);
        let mut serials = self.serials.lock();
        serials.blocks.push(block);
        serials.leasing = false;
    }

    /// Sends the answer to an ask from elsewhere, or answers it here if its asker is here.
    pub(crate) fn answer(&self, answer: Answer) {
        if self.is_mine(answer.to)
            && let Some(slot) = self.replies.take(answer.correlation)
        {
            match answer.result {
                Ok(bytes) => slot.answer_wire(answer.codec, &bytes),
                Err(error) => slot.fail(error),
            }
            return;
        }
        self.outside().answer(answer);
    }

    /// A circle of asks in words.
    pub(crate) fn cycle(&self, facts: &AskFacts, target: Direct) -> String {
        let mut names: Vec<_> = facts.asker.some().into_iter().chain(chain_places(facts.chain.as_deref())).collect();
        // Those that wait for the target have nothing to do with the circle.
        if let Some(end) = names.iter().position(|place| *place == target) {
            names.truncate(end + 1);
        }
        names.reverse();
        let mut text = String::new();
        for place in &names {
            text += &self.label(*place);
            text += " → ";
        }
        text + &self.label(target)
    }

    fn label(&self, place: Direct) -> String {
        let cell = self.is_mine(place).then(|| self.registry.get(place.serial)).flatten();
        cell.map_or_else(|| format!("odeon:{place}"), |cell| cell.head().label())
    }

    /// An actor has ended.
    pub(crate) fn ended(&self) {
        if *self.stopping.borrow() && self.registry.len() <= self.staying.load(Ordering::SeqCst) {
            self.emptied.notify_waiters();
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let cells = self.registry.all();
        let beyond = self.outside().figures();
        let counts = &beyond.counts;
        Stats {
            flows: beyond.flows,
            accepted: counts.accepted,
            settled: counts.settled,
            returned: counts.all_returned(),
            unsettled: counts.unsettled,
            outstanding: counts.outstanding,
            taken: counts.taken,
            handled: counts.handled,
            given_back: counts.given_back,
            actors: cells.len() as u64,
            waiting: cells.iter().map(|cell| cell.head().load().0 as u64).sum(),
            failed: load(&self.counters.failed),
            panics: load(&self.counters.panics),
            restarts: load(&self.counters.restarts),
            late: load(&self.counters.late),
            dead_letters: load(&self.counters.dead_letters),
            unheard: load(&self.counters.unheard),
            blocking: load(&self.scheduler.blocking_seen),
        }
    }

    /// Stops all actors, those that stop last after the others, then the threads.
    pub(crate) async fn stop(self: &Arc<Self>) {
        self.stopping.send_replace(true);
        self.outside().close().await;
        let waves = [(Wave::Most, STOP_GRACE / 4 * 3), (Wave::All, STOP_GRACE / 4), (Wave::Killed, STOP_GRACE / 10)];
        for (wave, span) in waves {
            within(span, self.end_wave(wave), &self.tokio).await;
            if self.registry.len() == 0 {
                break;
            }
        }
        self.shut_down();
    }

    async fn end_wave(&self, wave: Wave) {
        loop {
            let ended = self.emptied.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            let stays = |cell: &Arc<dyn AnyCell>| wave == Wave::Most && cell.head().kind.options.stops_last;
            let (staying, going): (Vec<_>, Vec<_>) = self.registry.all().into_iter().partition(stays);
            self.staying.store(staying.len(), Ordering::SeqCst);
            if going.is_empty() {
                return;
            }
            going.iter().for_each(|cell| cell::end(cell, wave == Wave::Killed));
            ended.await;
        }
    }

    /// Ends the threads; actors that still live are forgotten.
    pub(crate) fn shut_down(&self) {
        self.scheduler.stop();
        self.timers.stop();
        if let Some(outside) = self.outside.get() {
            outside.closed();
        }
        self.returns.close();
        self.letters.close();
        self.hosts.close();
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}

/// The steps in which a system ends its actors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wave {
    /// All but those that stop last.
    Most,
    All,
    /// What has not stopped by itself.
    Killed,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Dropped plainly, a runtime waits for its threads, which is not allowed on another runtime's.
        if let Some(runtime) = self.runtime.get_mut().take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits for a future, on whatever runtime, by the clock of `tokio`.
async fn within(span: std::time::Duration, future: impl Future<Output = ()>, tokio: &tokio::runtime::Handle) -> bool {
    let (done, over) = tokio::sync::oneshot::channel();
    let alarm = tokio.spawn(async move {
        tokio::time::sleep(span).await;
        let _ = done.send(());
    });
    let in_time = tokio::select! {
        () = future => true,
        _ = over => false,
    };
    alarm.abort();
    in_time
}
