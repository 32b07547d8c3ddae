//! One host: its clocks, its disk, and its agent's process while there is one.

use super::{
    actors::Attempt,
    programs::{self, Program, Programs},
    stage,
};
use odeon_node::{
    Agent, Bind, Config, StartError, WorkerCommand,
    convention::{Disk, Handle, Lease, Simulated},
    identity::{Belonging, DataDir},
};
use odeon_protocol::{
    Time,
    planted::{self, Fault},
    simulated::{Clocks, set_clocks},
};
use odeon_transport::{quic::simulated::Network, tls::NodeKey};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    runtime::{Builder, RngSeed, Runtime},
    sync::watch,
    time::{Instant, advance, sleep_until},
};

/// The time of day at which every run begins: 2026-01-01.
const DAY: Duration = Duration::from_secs(1_767_225_600);

/// See the module's head.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) number: u64,
    pub(super) address: SocketAddr,
    pub(super) disk: Disk,
    /// Its clocks run so many millionths too fast.
    pub(super) fast: i64,
    pub(super) process: Option<Process>,
    /// Its agent does not run: `SIGSTOP`, or suspended as a whole.
    pub(super) stands: bool,
    /// Its worker processes do not.
    pub(super) workers_stand: bool,
    pub(super) programs: Programs,
    data: PathBuf,
    /// How often it has lost its disk; each time it got another key.
    wiped: u64,
    monotonic: Time,
    suspended: Duration,
}

/// The agent's process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) agent: Arc<Agent>,
    pub(super) handle: Handle,
    pub(super) lease: watch::Receiver<Lease>,
    /// Its own time at its start, by tokio and by the machine.
    origin: (Instant, Time),
    // Last: what runs on it holds the rest.
    runtime: Runtime,
}

/// What an agent keeps of messages on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Asks without an answer.
    pub(super) asks: usize,
    /// Messages that wait for names.
    pub(super) held: usize,
    /// Bytes for other agents.
    pub(super) bytes: usize,
}

/// The key of a host, PEM: PKCS #8 of an Ed25519 seed.
fn key(number: u64) -> String {
    const HEAD: [u8; 16] = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = HEAD.into_iter().chain([number as u8; 32]).collect();
    let quads = bytes.chunks(3).map(|three| three.iter().fold(0, |all, byte| all << 8 | usize::from(*byte)));
    let letters = quads.flat_map(|quad| [18, 12, 6, 0].map(|shift| char::from(LETTERS[quad >> shift & 63])));
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", letters.collect::<String>())
}

impl Machine {
    pub(super) fn new(number: u64, data: PathBuf, fast: i64) -> Self {
        Self {
            number,
            address: SocketAddr::from(([10, 0, 0, number as u8], 7400)),
            disk: Disk::default(),
            fast,
            process: None,
            stands: false,
            workers_stand: false,
            programs: Programs::default(),
            data,
            wiped: 0,
            monotonic: Time::ZERO + Duration::from_secs(1000 * number),
            suspended: Duration::ZERO,
        }
    }

    pub(super) fn name(&self) -> String {
        format!("h{}", self.number)
    }

    pub(super) fn key(&self) -> NodeKey {
        NodeKey::from_pem(&self.key_pem()).expect("a key")
    }

    fn key_pem(&self) -> String {
        key(self.number + 16 * self.wiped)
    }

    /// All that it has kept is lost.
    pub(super) fn wipe(&mut self) {
        self.disk = Disk::default();
        self.wiped += 1;
        // A host that has not started yet has no directory.
        let _ = std::fs::remove_dir_all(&self.data);
    }

    /// Prepares its data directory as joining does.
    pub(super) fn join(&self, belonging: Belonging) {
        let data = DataDir::open(&self.data, &self.name(), || Ok(self.key_pem())).expect("an own directory");
        data.update(|kept| *kept = Some(belonging)).expect("a directory that takes it");
        data.close();
    }

    /// Starts the agent.
    pub(super) fn start(&mut self, now: Time, network: &Network, bootstrap: bool) -> Result<(), StartError> {
        let seed = RngSeed::from_bytes(&[now.as_nanos(), self.number].map(u64::to_le_bytes).concat());
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).rng_seed(seed).build().expect("a runtime");
        let mut config = Config::new(self.name(), &self.data);
        (config.listen, config.bootstrap, config.http) = (Bind::asked(self.address), bootstrap, None);
        config.advertise = Some(self.address.to_string());
        config.workers = vec![WorkerCommand { path: "sim".into(), args: Vec::new() }];
        let simulated = Simulated { network: network.clone(), disk: self.disk.clone(), key: self.key_pem() };
        let origin = (runtime.block_on(async { Instant::now() }), self.monotonic);
        self.keep_time(origin);
        let spawn = programs::spawn(&self.programs);
        let agent = Arc::new(runtime.block_on(Agent::start_simulated(config, simulated, spawn))?);
        // Where a file would be: without it a voter does not start again.
        std::fs::write(self.data.join("directory.redb"), []).expect("an own directory");
        let handle = agent.convention().clone();
        let lease = handle.lease();
        self.process = Some(Process { agent, handle, lease, origin, runtime });
        Ok(())
    }

    /// Its clocks are those that everything on this thread reads, as long as it runs.
    fn keep_time(&self, (origin, began): (Instant, Time)) {
        let suspended = self.suspended;
        set_clocks(Some(Box::new(move || {
            let monotonic = began + Instant::now().duration_since(origin);
            let boot = monotonic + suspended;
            let wall = DAY + boot.since(Time::ZERO);
            Clocks { boot, monotonic, wall }
        })));
    }

    /// The clock on which leases are counted.
    pub(super) fn lease_clock(&self) -> Time {
        if planted::is(Fault::ClockStandsInSuspend) { self.monotonic } else { self.monotonic + self.suspended }
    }

    /// Whether its agent runs now.
    pub(super) fn runs(&self) -> bool {
        self.process.is_some() && !self.stands
    }

    /// Time passes, nothing runs; a machine that is suspended does not count it on one of its clocks.
    pub(super) fn stand(&mut self, span: Duration, suspended: bool) {
        let span = self.own(span);
        if suspended {
            self.suspended += span;
        } else {
            self.monotonic = self.monotonic + span;
        }
    }

    fn own(&self, span: Duration) -> Duration {
        let nanos = span.as_nanos() as i64;
        Duration::from_nanos((nanos + nanos / 1_000_000 * self.fast) as u64)
    }

    /// Its agent runs for a while.
    pub(super) fn run(&mut self, span: Duration) {
        self.stand(span, false);
        let Some(process) = &self.process else { return };
        let _host = tracing::info_span!("host", number = self.number).entered();
        self.keep_time(process.origin);
        let (began, until) = (process.origin.0, self.monotonic.since(process.origin.1));
        process.runtime.block_on(async move {
            // After it stood still all timers are late at once.
            let late = until.saturating_sub(began.elapsed());
            if late > span * 3 {
                advance(late.saturating_sub(span)).await;
            }
            sleep_until(began + until).await;
        });
    }

    /// As long as its workers run, its clocks are those that everything on this thread reads.
    fn show_time(&self) {
        let (monotonic, suspended) = (self.monotonic, self.suspended);
        set_clocks(Some(Box::new(move || {
            let boot = monotonic + suspended;
            Clocks { boot, monotonic, wall: DAY + boot.since(Time::ZERO) }
        })));
    }

    /// The actors of its worker processes run until all wait.
    pub(super) fn run_programs(&self, now: Time) {
        let Some(process) = &self.process else { return };
        let _host = tracing::info_span!("host", number = self.number).entered();
        self.show_time();
        let _runtime = process.runtime.enter();
        let (number, stand) = (self.number, self.workers_stand);
        self.programs.lock().retain_mut(|program| {
            stage::set_turn((number, program.pid));
            let lives = if stand { !program.is_killed() } else { program.run(now) };
            if !lives {
                program.end();
            }
            lives
        });
    }

    /// Does something as the agent's process does it.
    pub(super) fn within<T>(&self, what: impl FnOnce(&Handle) -> T) -> Option<T> {
        let process = self.process.as_ref()?;
        let _host = tracing::info_span!("host", number = self.number).entered();
        self.keep_time(process.origin);
        let _runtime = process.runtime.enter();
        Some(what(&process.handle))
    }

    /// Has one of its users ask for a name; false where nobody can now.
    pub(super) fn attempt(&self, user: u64, attempt: Attempt) -> bool {
        let Some(process) = self.process.as_ref().filter(|_| !self.workers_stand) else { return false };
        self.show_time();
        let _runtime = process.runtime.enter();
        let programs = self.programs.lock();
        programs.first().is_some_and(|program| program.attempt(user, attempt))
    }

    /// Whether somebody can use a name.
    pub(super) fn has_users(&self) -> bool {
        !self.workers_stand && self.programs.lock().first().is_some_and(Program::has_users)
    }

    /// Its worker processes.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.programs.lock().iter().map(|program| program.pid).collect()
    }

    /// What its agent keeps of messages on their way: asks without an answer, messages that wait for names, bytes for others.
    pub(super) fn kept(&self) -> Kept {
        let Some(agent) = self.process.as_ref().map(|process| &process.agent) else { return Kept::default() };
        let kept = self.within(|handle| (agent.waiting(), handle.queued()));
        kept.map_or(Kept::default(), |((asks, held), bytes)| Kept { asks, held, bytes })
    }

    /// What its worker processes have outstanding.
    pub(super) fn flows(&self) -> u64 {
        self.programs.lock().iter().map(Program::flows).sum()
    }

    /// What its links to other agents hold, in words.
    pub(super) fn full_links(&self) -> Vec<String> {
        let links = self.within(|handle| handle.links()).unwrap_or_default().into_iter();
        links.filter(|link| link.queued > 0).map(|link| format!("{} has {link:?}", self.name())).collect()
    }

    /// What its worker processes have outstanding, in words.
    pub(super) fn open_flows(&self) -> Vec<String> {
        self.programs.lock().iter().flat_map(Program::open_flows).collect()
    }

    /// Asks its agent to stop.
    pub(super) fn stop(&self) {
        if let Some(agent) = self.process.as_ref().map(|process| process.agent.clone()) {
            self.within(|_| tokio::spawn(async move { agent.stop().await }));
        }
    }

    /// Its agent ends without a word, and its worker processes with it.
    pub(super) fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            self.keep_time(process.origin);
            let programs = std::mem::take(&mut *self.programs.lock());
            programs.iter().for_each(Program::end);
            process.handle.abandon();
            drop(programs);
            drop(process);
        }
        (self.stands, self.workers_stand) = (false, false);
    }
}
