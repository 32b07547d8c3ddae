//! Threads that run cells: queues, waking, and the monitor.
//!
//! Each runner has a slot for the cell that its handler has just scheduled (it runs next, on the same core), a queue that
//! others steal from, and all share an injector. A runner without work sleeps; whoever makes work visible wakes one.
//!
//! - **R-1 (no lost wake).** A runner announces that it sleeps, then looks once more; a thread makes work visible, then
//!   looks for sleepers. Both with a `SeqCst` fence between, so at least one of them sees the other.
//! - **R-2 (nobody is stuck behind a neighbour).** What lies in the slot of a runner that does not get on is stolen once
//!   the monitor has seen it stand still for a tick, and a runner whose handler blocks gets a spare in its place.
//! - **R-3 (idle is free).** With nothing to do no thread of this module runs, the monitor included.
//! - **R-4 (nothing stays behind).** What a runner's cells left to be sent goes before the runner sleeps, after a few
//!   cells at the latest, and by the monitor where one cell holds the runner.

mod monitor;
mod runner;
mod seat;

pub(crate) use seat::Seat;

use super::{
    cell::{AnyCell, State},
    run,
    scratch::Scratch,
};
use crossbeam_deque::{Injector, Steal, Worker};
use odeon_protocol::limits::SPARE_RUNNERS_MAX;
use parking_lot::{Condvar, Mutex};
use std::{
    cell::{Cell, RefCell},
    ptr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    },
    time::Duration,
};

type Task = Arc<dyn AnyCell>;

/// Turns in a row that cells scheduled by one another may take while others wait.
const SLOT_TURNS: u32 = 32;
/// Every so many activations the injector goes first.
const INJECTOR_EVERY: u64 = 64;
/// Cells that may run between a message's way into the link's queue and the link being told.
const UNSENT_TURNS: u32 = 16;
/// How often the monitor looks while something runs.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without work after which the monitor sleeps until it is woken.
const QUIET_TICKS: u32 = 20;
/// How long a spare runner sleeps before it ends.
const SPARE_LINGERS: Duration = Duration::from_secs(2);

/// The scheduler of a system.
pub(crate) struct Scheduler {
    seats: Box<[Seat]>,
    injector: Injector<Task>,
    runners: usize,
    sleepers: Mutex<Vec<usize>>,
    sleeping: AtomicUsize,
    blocked: AtomicUsize,
    monitor: Monitor,
    stopped: AtomicBool,
    tokio: OnceLock<tokio::runtime::Handle>,
    /// Finds out what an actor is called, for warnings.
    label: OnceLock<Box<dyn Fn(u64) -> Option<String> + Send + Sync>>,
    /// The way out of the process, where messages gather until somebody says that they may go.
    outgoing: OnceLock<Outgoing>,
    /// Handlers that were found to block their thread.
    pub(crate) blocking_seen: AtomicU64,
}

/// A queue out of the process.
struct Outgoing {
    /// Which; only compared.
    id: usize,
    flush: Box<dyn Fn() + Send + Sync>,
}

struct Monitor {
    asleep: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

/// What a runner's thread has to itself.
struct Runner {
    scheduler: Arc<Scheduler>,
    seat: usize,
    queue: Worker<Task>,
    turns: Cell<u32>,
    /// The last cell used up its turn, so others have waited for a while.
    turn_over: Cell<bool>,
    /// Cells run since something was left to be sent.
    unsent_turns: Cell<u32>,
    random: Cell<u64>,
}

thread_local! {
    /// The scheduler whose runners are to be woken later, and how many cells became ready meanwhile.
    static GATHERING: Cell<(*const Scheduler, usize)> = const { Cell::new((ptr::null(), 0)) };
    static RUNNER: Cell<*const Runner> = const { Cell::new(ptr::null()) };
    static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

impl Scheduler {
    /// Makes the scheduler; [`Scheduler::start`] starts its threads.
    pub(crate) fn new(runners: usize) -> Arc<Self> {
        let runners = runners.max(1);
        let seats = (0..runners + SPARE_RUNNERS_MAX).map(|_| Seat::new()).collect();
        Arc::new(Self {
            seats,
            injector: Injector::new(),
            runners,
            sleepers: Mutex::new(Vec::new()),
            sleeping: AtomicUsize::new(0),
            blocked: AtomicUsize::new(0),
            monitor: Monitor { asleep: AtomicBool::new(false), lock: Mutex::new(()), wake: Condvar::new() },
            stopped: AtomicBool::new(false),
            tokio: OnceLock::new(),
            label: OnceLock::new(),
            outgoing: OnceLock::new(),
            blocking_seen: AtomicU64::new(0),
        })
    }

    /// Starts runners and monitor. Their handlers find `tokio` for I/O and timers.
    pub(crate) fn start(
        self: &Arc<Self>,
        tokio: tokio::runtime::Handle,
        label: impl Fn(u64) -> Option<String> + Send + Sync + 'static,
    ) -> std::io::Result<()> {
        let _ = self.tokio.set(tokio);
        let _ = self.label.set(Box::new(label));
        for _ in 0..self.runners {
            self.add_runner(false)?;
        }
        let scheduler = self.clone();
        std::thread::Builder::new().name("odeon-monitor".to_owned()).spawn(move || scheduler.watch())?;
        Ok(())
    }

    /// Ends all threads once they are through with what they run.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.seats.iter().filter_map(|seat| seat.thread.lock().clone()).for_each(|thread| thread.unpark());
        drop(self.monitor.lock.lock());
        self.monitor.wake.notify_all();
    }

    /// Runs what is ready on this thread until nothing is, where [`Scheduler::start`] was never called. Answers how many
    /// turns it gave.
    pub(crate) fn run_ready(&self) -> usize {
        let mut turns = 0;
        loop {
            match self.injector.steal() {
                Steal::Success(task) => _ = run::run(task, None),
                Steal::Empty => return turns,
                Steal::Retry => continue,
            }
            turns += 1;
        }
    }

    fn add_runner(self: &Arc<Self>, spare: bool) -> std::io::Result<()> {
        let Some(seat) = self.seats.iter().position(|seat| !seat.taken.swap(true, Ordering::SeqCst)) else {
            return Ok(());
        };
        let scheduler = self.clone();
        let name = if spare { "odeon-spare" } else { "odeon-run" };
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _tokio = scheduler.tokio.get().map(tokio::runtime::Handle::enter);
            scheduler.clone().sit(seat, spare);
        });
        if let Err(error) = spawned {
            self.seats[seat].taken.store(false, Ordering::SeqCst);
            return Err(error);
        }
        Ok(())
    }

    /// A runner's thread, from beginning to end.
    fn sit(self: Arc<Self>, seat: usize, spare: bool) {
        let Some(queue) = self.seats[seat].queue.lock().take() else { return };
        *self.seats[seat].thread.lock() = Some(std::thread::current());
        let random = Cell::new(0x9e37_79b9_7f4a_7c15 ^ (seat as u64 + 1));
        let (turns, turn_over, unsent_turns) = (Cell::new(0), Cell::new(false), Cell::new(0));
        let runner = Runner { scheduler: self.clone(), seat, queue, turns, turn_over, unsent_turns, random };
        RUNNER.set(&raw const runner);
        while !self.stopped.load(Ordering::Relaxed) {
            match runner.next() {
                Some(task) => runner.activate(task),
                None => {
                    runner.send_off();
                    if !runner.sleep(spare) {
                        break;
                    }
                }
            }
        }
        runner.send_off();
        RUNNER.set(ptr::null());
        let here = &self.seats[seat];
        *here.thread.lock() = None;
        *here.queue.lock() = Some(runner.queue);
        here.taken.store(false, Ordering::SeqCst);
    }

    fn here(&self, seat: usize) -> &Seat {
        &self.seats[seat]
    }

    /// Wakes a runner, if one sleeps; the caller has made work visible before.
    fn wake_one(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) == 0 {
            return;
        }
        let seat = {
            let mut sleepers = self.sleepers.lock();
            let seat = sleepers.pop();
            self.sleeping.store(sleepers.len(), Ordering::SeqCst);
            seat
        };
        if let Some(seat) = seat
            && let Some(thread) = &*self.seats[seat].thread.lock()
        {
            thread.unpark();
        }
        self.wake_monitor();
    }

    fn wake_monitor(&self) {
        if self.monitor.asleep.load(Ordering::Relaxed) && self.monitor.asleep.swap(false, Ordering::SeqCst) {
            drop(self.monitor.lock.lock());
            self.monitor.wake.notify_one();
        }
    }

    /// Takes a cell to any runner.
    fn inject(&self, task: Task) {
        self.injector.push(task);
        let (gathering, ready) = GATHERING.get();
        if ptr::eq(gathering, self) {
            GATHERING.set((gathering, ready + 1));
        } else {
            self.wake_one();
        }
    }

    /// Wakes runners for what this thread makes ready only when the guard goes: one each at most, not once per message.
    pub(crate) fn gather(&self) -> Gathering<'_> {
        Gathering { scheduler: self, before: GATHERING.replace((self, 0)) }
    }

    /// Says how messages that left through queue `id` are sent off; the first call counts.
    pub(crate) fn set_outgoing(&self, id: usize, flush: impl Fn() + Send + Sync + 'static) {
        let _ = self.outgoing.set(Outgoing { id, flush: Box::new(flush) });
    }

    fn send_off(&self, seat: &Seat) {
        if seat.unsent.load(Ordering::Relaxed)
            && seat.unsent.swap(false, Ordering::AcqRel)
            && let Some(outgoing) = self.outgoing.get()
        {
            (outgoing.flush)();
        }
    }

    /// A mailbox fills up: its cell should not wait behind the sender's own runner.
    pub(crate) fn crowded(&self, cell: &Arc<dyn AnyCell>) {
        with_runner(self, |runner| {
            let is_it = |task: &Task| ptr::addr_eq(Arc::as_ptr(task), Arc::as_ptr(cell));
            if let Some(task) = self.here(runner.seat).next.take_if(is_it) {
                runner.queue.push(task);
                self.wake_one();
            }
        });
    }
}

/// See [`Scheduler::gather`].
pub(crate) struct Gathering<'a> {
    scheduler: &'a Scheduler,
    before: (*const Scheduler, usize),
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        let (_, ready) = GATHERING.replace(self.before);
        for _ in 0..ready.min(self.scheduler.runners) {
            self.scheduler.wake_one();
        }
    }
}

/// Whether this thread is a runner of the system that sends through queue `id`.
pub(crate) fn gathers_for(id: usize) -> bool {
    // SAFETY: `sit` sets the pointer to a runner on its own stack and clears it before that ends.
    let runner = unsafe { RUNNER.get().as_ref() };
    runner.and_then(|runner| runner.scheduler.outgoing.get()).is_some_and(|outgoing| outgoing.id == id)
}

/// Has what was queued just now sent off soon. Call it where [`gathers_for`] says so, after queueing.
pub(crate) fn send_off_later() {
    // SAFETY: as above.
    if let Some(runner) = unsafe { RUNNER.get().as_ref() } {
        runner.scheduler.here(runner.seat).unsent.store(true, Ordering::Release);
    }
}

/// Calls with this thread's runner, if it is one of that scheduler.
fn with_runner(scheduler: *const Scheduler, call: impl FnOnce(&Runner)) {
    // SAFETY: `sit` sets the pointer to a runner on its own stack and clears it before that ends.
    if let Some(runner) = unsafe { RUNNER.get().as_ref() }
        && ptr::eq(Arc::as_ptr(&runner.scheduler), scheduler)
    {
        call(runner);
    }
}

/// Puts a cell whose state has become `Queued` into a run queue.
pub(crate) fn schedule(task: Task) {
    queue(task, Runner::schedule_next);
}

/// Puts a cell that has used up its turn behind all others.
pub(crate) fn schedule_last(task: Task) {
    queue(task, Runner::schedule_last);
}

fn queue(task: Task, here: fn(&Runner, Task)) {
    let head = task.head();
    if head.kind.options.blocking {
        run::run_blocking(task);
        return;
    }
    let scheduler = Arc::as_ptr(&head.system.scheduler);
    let mut task = Some(task);
    with_runner(scheduler, |runner| {
        if let Some(task) = task.take() {
            here(runner, task);
        }
    });
    if let Some(task) = task {
        let scheduler = task.head().system.scheduler.clone();
        scheduler.inject(task);
    }
}

/// Wakes a cell whose future waits.
pub(crate) fn wake<C: AnyCell + 'static>(cell: Arc<C>) {
    if woken(&*cell) {
        schedule(cell);
    }
}

/// As [`wake`], without giving the reference up.
pub(crate) fn wake_by_ref<C: AnyCell + 'static>(cell: &Arc<C>) {
    if woken(&**cell) {
        schedule(cell.clone());
    }
}

/// As [`wake_by_ref`], whatever the actor's type.
pub(crate) fn wake_any(cell: &Task) {
    if woken(&**cell) {
        schedule(cell.clone());
    }
}

/// Whether the cell has become `Queued`.
fn woken(cell: &dyn AnyCell) -> bool {
    let mut inbox = cell.head().inbox.lock();
    match inbox.state {
        State::Suspended => {
            inbox.state = State::Queued;
            true
        }
        State::Running => {
            inbox.state = State::Notified;
            false
        }
        State::Idle | State::Queued | State::Notified | State::Dead => false,
    }
}

/// This thread's scratch buffer, for the length of a call.
pub(crate) fn with_scratch<T>(call: impl FnOnce(&mut Scratch) -> T) -> T {
    let mut scratch = SCRATCH.with(|kept| kept.borrow_mut().take()).unwrap_or_else(Scratch::new);
    let result = call(&mut scratch);
    SCRATCH.with(|kept| *kept.borrow_mut() = Some(scratch));
    result
}
