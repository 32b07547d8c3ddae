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

use super::{
    cell::{AnyCell, State},
    envelope::MessageTable,
    run,
    scratch::Scratch,
};
use crossbeam_deque::{Injector, Steal, Stealer, Worker};
use odeon_protocol::limits::{HANDLER_BLOCKS, SPARE_RUNNERS_MAX};
use parking_lot::{Condvar, Mutex};
use std::{
    cell::{Cell, RefCell, UnsafeCell},
    ptr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread::Thread,
    time::{Duration, Instant},
};

type Task = Arc<dyn AnyCell>;

/// Turns in a row that cells scheduled by one another may take while others wait.
const SLOT_TURNS: u32 = 32;
/// Every so many activations the injector goes first.
const INJECTOR_EVERY: u64 = 64;
/// How often the monitor looks while something runs.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without work after which the monitor sleeps until it is woken.
const QUIET_TICKS: u32 = 20;
/// How long a spare runner sleeps before it ends.
const SPARE_LINGERS: Duration = Duration::from_secs(2);

/// What others see of a runner.
pub(crate) struct Seat {
    stealer: Stealer<Task>,
    /// Where the queue's own end waits while no thread sits here.
    queue: Mutex<Option<Worker<Task>>>,
    next: NextSlot,
    /// Counts activations; stands still while one lasts.
    activations: AtomicU64,
    /// Counts messages; stands still while one handler is polled.
    pub(crate) beats: AtomicU64,
    /// The message that is handled now.
    pub(crate) message: AtomicPtr<MessageTable>,
    /// The serial of the actor that is running; zero for none.
    pub(crate) serial: AtomicU64,
    /// The monitor has seen this activation last too long: it should let others run.
    pub(crate) hurry: AtomicBool,
    /// A spare was added for the handler that runs here.
    blocked: AtomicBool,
    taken: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

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
    /// Handlers that were found to block their thread.
    pub(crate) blocking_seen: AtomicU64,
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
    random: Cell<u64>,
}

thread_local! {
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
        let runner = Runner { scheduler: self.clone(), seat, queue, turns: Cell::new(0), turn_over: Cell::new(false), random };
        RUNNER.set(&raw const runner);
        while !self.stopped.load(Ordering::Relaxed) {
            match runner.next() {
                Some(task) => runner.activate(task),
                None if !runner.sleep(spare) => break,
                None => {}
            }
        }
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
        self.wake_one();
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

/// Room for one cell, behind a lock whose opening is a plain store: it is taken twice for every message of an ask, and
/// held for a few instructions.
///
/// - **S-1.** `task` is touched only between `lock` and the store that opens it again.
#[derive(Default)]
struct NextSlot {
    locked: AtomicBool,
    task: UnsafeCell<Option<Task>>,
}

// SAFETY: S-1.
unsafe impl Sync for NextSlot {}

impl NextSlot {
    fn with<T>(&self, change: impl FnOnce(&mut Option<Task>) -> T) -> T {
        while self.locked.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        // SAFETY: S-1; `change` is one of the four below, which do not panic.
        let result = change(unsafe { &mut *self.task.get() });
        self.locked.store(false, Ordering::Release);
        result
    }

    fn replace(&self, task: Task) -> Option<Task> {
        self.with(|slot| slot.replace(task))
    }

    fn take(&self) -> Option<Task> {
        self.with(Option::take)
    }

    fn take_if(&self, is_it: impl FnOnce(&Task) -> bool) -> Option<Task> {
        self.with(|slot| if slot.as_ref().is_some_and(is_it) { slot.take() } else { None })
    }

    fn is_some(&self) -> bool {
        self.with(|slot| slot.is_some())
    }
}

impl Seat {
    fn new() -> Self {
        let queue = Worker::new_fifo();
        Self {
            stealer: queue.stealer(),
            queue: Mutex::new(Some(queue)),
            next: NextSlot::default(),
            activations: AtomicU64::new(0),
            beats: AtomicU64::new(0),
            message: AtomicPtr::new(ptr::null_mut()),
            serial: AtomicU64::new(0),
            hurry: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            taken: AtomicBool::new(false),
            thread: Mutex::new(None),
        }
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

impl Runner {
    /// Runs it after the cell that runs now. Alone it waits for that on a warm core; the monitor sees to it if that takes
    /// long. With company, another runner is woken.
    fn schedule_next(&self, task: Task) {
        let displaced = self.scheduler.here(self.seat).next.replace(task);
        if let Some(displaced) = displaced {
            self.schedule_last(displaced);
        }
    }

    fn schedule_last(&self, task: Task) {
        self.queue.push(task);
        self.scheduler.wake_one();
    }

    fn activate(&self, task: Task) {
        let here = self.scheduler.here(self.seat);
        here.activations.store(here.activations.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.turn_over.set(run::run(task, Some(here)));
        if here.hurry.load(Ordering::Relaxed) {
            here.hurry.store(false, Ordering::Relaxed);
        }
        if here.blocked.load(Ordering::Relaxed) && here.blocked.swap(false, Ordering::SeqCst) {
            self.scheduler.blocked.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The next cell to run: that which the last one scheduled, own queue, injector, others' queues.
    fn next(&self) -> Option<Task> {
        let scheduler = &*self.scheduler;
        let here = scheduler.here(self.seat);
        let due = here.activations.load(Ordering::Relaxed).is_multiple_of(INJECTOR_EVERY);
        if (due || self.turn_over.replace(false))
            && let Some(task) = self.injected()
        {
            return Some(task);
        }
        if self.turns.get() < SLOT_TURNS || self.queue.is_empty() {
            let next = here.next.take();
            if next.is_some() {
                self.turns.set(self.turns.get() + 1);
                return next;
            }
        }
        self.turns.set(0);
        self.queue.pop().or_else(|| self.injected()).or_else(|| self.stolen()).or_else(|| here.next.take())
    }

    fn injected(&self) -> Option<Task> {
        loop {
            match self.scheduler.injector.steal_batch_with_limit_and_pop(&self.queue, 16) {
                Steal::Success(task) => return Some(task),
                Steal::Empty => return None,
                Steal::Retry => {}
            }
        }
    }

    fn stolen(&self) -> Option<Task> {
        let seats = &self.scheduler.seats;
        let from = self.random() as usize % seats.len();
        let others = || (0..seats.len()).map(|step| (from + step) % seats.len()).filter(|seat| *seat != self.seat);
        for seat in others().map(|seat| &seats[seat]).filter(|seat| seat.taken.load(Ordering::Relaxed)) {
            loop {
                match seat.stealer.steal_batch_with_limit_and_pop(&self.queue, 16) {
                    Steal::Success(task) => return Some(task),
                    Steal::Empty => break,
                    Steal::Retry => {}
                }
            }
        }
        let stuck = |seat: &&Seat| seat.hurry.load(Ordering::Relaxed) || seat.blocked.load(Ordering::Relaxed);
        others().map(|seat| &seats[seat]).filter(stuck).find_map(|seat| seat.next.take())
    }

    fn random(&self) -> u64 {
        let mut state = self.random.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random.set(state);
        state
    }

    fn anything(&self) -> bool {
        let scheduler = &*self.scheduler;
        !scheduler.injector.is_empty()
            || !self.queue.is_empty()
            || scheduler.seats.iter().any(|seat| seat.taken.load(Ordering::Relaxed) && !seat.stealer.is_empty())
    }

    /// Sleeps until there may be work; `false` if this runner is not needed any more.
    fn sleep(&self, spare: bool) -> bool {
        let scheduler = &*self.scheduler;
        {
            let mut sleepers = scheduler.sleepers.lock();
            if !sleepers.contains(&self.seat) {
                sleepers.push(self.seat);
            }
            scheduler.sleeping.store(sleepers.len(), Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
        let mut needed = true;
        if !self.anything() && !scheduler.stopped.load(Ordering::SeqCst) {
            if spare {
                std::thread::park_timeout(SPARE_LINGERS);
                needed = scheduler.blocked.load(Ordering::SeqCst) > 0 || self.anything();
            } else {
                std::thread::park();
            }
        }
        let mut sleepers = scheduler.sleepers.lock();
        // Whoever woke this runner has taken it off the list; if nobody did, it does so itself.
        let woken = !sleepers.contains(&self.seat);
        sleepers.retain(|seat| *seat != self.seat);
        scheduler.sleeping.store(sleepers.len(), Ordering::SeqCst);
        needed || woken
    }
}

/// What the monitor remembers of a runner.
#[derive(Clone, Copy)]
struct Seen {
    activations: u64,
    beats: u64,
    since: Instant,
}

impl Scheduler {
    /// The monitor's thread.
    fn watch(self: Arc<Self>) {
        let now = Instant::now();
        let mut seen = vec![Seen { activations: 0, beats: 0, since: now }; self.seats.len()];
        let mut quiet = 0;
        while !self.stopped.load(Ordering::SeqCst) {
            quiet = if self.inspect(&mut seen) { 0 } else { quiet + 1 };
            let mut lock = self.monitor.lock.lock();
            if quiet < QUIET_TICKS {
                self.monitor.wake.wait_for(&mut lock, TICK);
                continue;
            }
            self.monitor.asleep.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            // Looked at once more after saying so: whoever begins to work from here on wakes the monitor.
            if !self.busy() && !self.stopped.load(Ordering::SeqCst) {
                self.monitor.wake.wait(&mut lock);
            }
            self.monitor.asleep.store(false, Ordering::SeqCst);
            quiet = 0;
        }
    }

    fn busy(&self) -> bool {
        let seated = self.seats.iter().filter(|seat| seat.taken.load(Ordering::SeqCst)).count();
        self.sleeping.load(Ordering::SeqCst) < seated || !self.injector.is_empty()
    }

    /// Looks at every runner; whether any is at work.
    fn inspect(self: &Arc<Self>, seen: &mut [Seen]) -> bool {
        if !self.busy() {
            return false;
        }
        let now = Instant::now();
        let mut waiting = false;
        for (seat, seen) in self.seats.iter().zip(seen) {
            if seat.serial.load(Ordering::Relaxed) == 0 {
                seen.since = now;
                continue;
            }
            let (activations, beats) = (seat.activations.load(Ordering::Relaxed), seat.beats.load(Ordering::Relaxed));
            if seen.activations == activations {
                // It has been at one actor since the last tick at least.
                seat.hurry.store(true, Ordering::Relaxed);
                waiting |= seat.next.is_some() || !seat.stealer.is_empty();
            }
            if seen.beats != beats || seen.activations != activations {
                *seen = Seen { activations, beats, since: now };
            } else if now.duration_since(seen.since) >= HANDLER_BLOCKS && !seat.blocked.swap(true, Ordering::SeqCst) {
                self.replace(seat);
            }
        }
        if waiting {
            self.wake_one();
        }
        true
    }

    /// Adds a runner for one whose handler holds its thread, and says who that is.
    fn replace(self: &Arc<Self>, seat: &Seat) {
        self.blocked.fetch_add(1, Ordering::SeqCst);
        self.blocking_seen.fetch_add(1, Ordering::Relaxed);
        let serial = seat.serial.load(Ordering::Relaxed);
        let actor = self.label.get().and_then(|label| label(serial)).unwrap_or_else(|| format!("actor {serial}"));
        // SAFETY: only tables, which are static, are stored there.
        let message =
            unsafe { seat.message.load(Ordering::Relaxed).as_ref() }.map_or("its lifecycle", |table| table.name);
        tracing::warn!(
            %actor,
            handler = message,
            "a handler has held its thread for 50 ms; another thread takes its place. \
             Declare the actor `blocking`, or await instead of blocking"
        );
        let free = self.sleeping.load(Ordering::SeqCst);
        let spare = if free == 0 { self.add_runner(true) } else { Ok(()) };
        if let Err(error) = spare {
            tracing::error!(%error, "no spare thread could be started");
        }
        self.wake_one();
    }
}
