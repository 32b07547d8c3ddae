//! Everything that happens later: one thread, asleep unless something is due, and a heap per few threads.
//!
//! Asks come and go by the million, and nearly all are answered long before their deadline. So an entry is never taken
//! out when it is over; it is dropped when its time comes, or when over-ripe entries fill half of a heap.
//!
//! - **M-1.** Nothing is armed, and the thread sleeps without end, while all heaps are empty.

use super::{
    cell::{self, AnyCell},
    clock, current,
    envelope::{Entry, Origin},
};
use odeon_protocol::frame::Codec;
use parking_lot::{Condvar, Mutex};
use std::{
    cmp::Ordering as Order,
    collections::BinaryHeap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Waker,
    time::Duration,
};

/// Something that happens at a deadline, unless it is over by then.
pub(crate) trait Expire: Send + Sync {
    /// The time has come.
    fn expire(self: Arc<Self>);
    /// Whether it does not matter any more.
    fn is_over(&self) -> bool;
}

struct Due {
    at: u64,
    what: Arc<dyn Expire>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> Order {
        // The heap gives the greatest first, and the earliest is wanted.
        other.at.cmp(&self.at)
    }
}

const SHARDS: usize = 8;
/// Entries from which a heap is looked through for those that are over.
const SWEEP_FROM: usize = 1024;

struct Shard {
    heap: BinaryHeap<Due>,
    sweep_at: usize,
}

/// The timers of a system.
pub(crate) struct Timers {
    shards: [Mutex<Shard>; SHARDS],
    /// When the thread wakes; [`clock::NEVER`] while nothing is armed.
    next: AtomicU64,
    asleep: Mutex<()>,
    wake: Condvar,
    stopped: AtomicBool,
}

static THREADS: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
}

impl Timers {
    /// Starts the thread, which ends with [`Timers::stop`].
    pub(crate) fn start() -> std::io::Result<Arc<Self>> {
        let timers = Self::still();
        let running = timers.clone();
        std::thread::Builder::new().name("odeon-timers".to_owned()).spawn(move || running.run())?;
        Ok(timers)
    }

    /// Timers without a thread: what is due expires at [`Timers::turn`].
    pub(crate) fn still() -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::new(Shard { heap: BinaryHeap::new(), sweep_at: SWEEP_FROM })),
            next: AtomicU64::new(clock::NEVER),
            asleep: Mutex::new(()),
            wake: Condvar::new(),
            stopped: AtomicBool::new(false),
        })
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        drop(self.asleep.lock());
        self.wake.notify_all();
    }

    /// Lets something happen at a time of the monotonic clock.
    pub(crate) fn arm(&self, at: u64, what: Arc<dyn Expire>) {
        let shard = SHARD.try_with(|shard| *shard).unwrap_or(0);
        let mut over = Vec::new();
        {
            let mut shard = self.shards[shard].lock();
            shard.heap.push(Due { at, what });
            if shard.heap.len() >= shard.sweep_at {
                let all = std::mem::take(&mut shard.heap).into_vec();
                let (done, live): (Vec<_>, Vec<_>) = all.into_iter().partition(|due| due.what.is_over());
                over = done;
                shard.heap = live.into();
                shard.sweep_at = (shard.heap.len() * 2).max(SWEEP_FROM);
            }
        }
        // Outside the lock: what is dropped here may be a user's value.
        drop(over);
        if at < self.next.load(Ordering::SeqCst) {
            let asleep = self.asleep.lock();
            self.next.fetch_min(at, Ordering::SeqCst);
            drop(asleep);
            self.wake.notify_one();
        }
    }

    /// Lets happen what is due, if anything is; answers when the next is.
    pub(crate) fn turn(&self) -> u64 {
        let now = clock::fine();
        if now < self.next.load(Ordering::SeqCst) {
            return self.next.load(Ordering::SeqCst);
        }
        // Published before the heaps are read: whoever arms something earlier from here on lowers it again.
        self.next.store(clock::NEVER, Ordering::SeqCst);
        let (mut next, mut due) = (clock::NEVER, Vec::new());
        for shard in &self.shards {
            next = next.min(take_due(&mut shard.lock().heap, now, &mut due));
        }
        for what in due {
            // Whatever is over already takes no notice.
            what.expire();
        }
        self.next.fetch_min(next, Ordering::SeqCst).min(next)
    }

    fn run(&self) {
        while !self.stopped.load(Ordering::SeqCst) {
            self.turn();
            let mut asleep = self.asleep.lock();
            // Whatever was armed since then has lowered it.
            let next = self.next.load(Ordering::SeqCst);
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            if next == clock::NEVER {
                self.wake.wait(&mut asleep);
            } else {
                let span = next.saturating_sub(clock::fine());
                if span > 0 {
                    self.wake.wait_for(&mut asleep, Duration::from_nanos(span));
                }
            }
        }
    }
}

/// Takes what is due, and what is over at the top; answers when the next is due.
fn take_due(heap: &mut BinaryHeap<Due>, now: u64, due: &mut Vec<Arc<dyn Expire>>) -> u64 {
    while let Some(top) = heap.peek() {
        if top.at > now && !top.what.is_over() {
            return top.at;
        }
        due.extend(heap.pop().map(|top| top.what));
    }
    clock::NEVER
}

/// Wakes a task at a time.
pub(crate) struct Alarm {
    state: Mutex<AlarmState>,
}

enum AlarmState {
    Set(Waker),
    Rang,
    Cancelled,
}

impl Alarm {
    pub(crate) fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(AlarmState::Set(waker)) })
    }

    /// Whether the time has come; if not, this waker is woken when it does.
    pub(crate) fn rang(&self, waker: &Waker) -> bool {
        match &mut *self.state.lock() {
            AlarmState::Rang => true,
            AlarmState::Set(set) => {
                set.clone_from(waker);
                false
            }
            AlarmState::Cancelled => false,
        }
    }

    pub(crate) fn cancel(&self) {
        *self.state.lock() = AlarmState::Cancelled;
    }
}

impl Expire for Alarm {
    fn expire(self: Arc<Self>) {
        let mut state = self.state.lock();
        if let AlarmState::Set(_) = &*state
            && let AlarmState::Set(waker) = std::mem::replace(&mut *state, AlarmState::Rang)
        {
            drop(state);
            waker.wake();
        }
    }

    fn is_over(&self) -> bool {
        !matches!(*self.state.lock(), AlarmState::Set(_))
    }
}

/// Calls a function at a time.
pub(crate) struct Later<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send> Later<F> {
    pub(crate) fn new(call: F) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(call))))
    }
}

impl<F: FnOnce() + Send> Expire for Later<F> {
    fn expire(self: Arc<Self>) {
        let call = self.0.lock().take();
        if let Some(call) = call {
            call();
        }
    }

    fn is_over(&self) -> bool {
        self.0.lock().is_none()
    }
}

/// The timers of one actor, as data: messages that it will get.
#[derive(Default)]
pub(crate) struct ActorTimers {
    next: u64,
    list: Vec<ActorTimer>,
}

/// One timer of an actor.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ActorTimer {
    /// Its number within the actor.
    pub(crate) id: u64,
    /// The message's type.
    pub(crate) type_id: u64,
    /// The message.
    pub(crate) body: Vec<u8>,
    /// When it is due next.
    pub(crate) at: u64,
    /// After how many nanoseconds again; zero for once.
    pub(crate) period: u64,
}

impl ActorTimers {
    pub(crate) fn list(&self) -> &[ActorTimer] {
        &self.list
    }

    pub(crate) fn cancel(&mut self, id: u64) {
        self.list.retain(|timer| timer.id != id);
    }
}

/// Sets a timer of an actor; answers its number.
pub(crate) fn set(cell: &Arc<dyn AnyCell>, type_id: u64, body: Vec<u8>, span: u64, period: u64) -> u64 {
    let at = clock::fine().saturating_add(span);
    let id = cell.head().with_extra(|extra| {
        extra.timers.next += 1;
        let id = extra.timers.next;
        extra.timers.list.push(ActorTimer { id, type_id, body, at, period });
        id
    });
    arm_actor(cell, id, at);
    id
}

fn arm_actor(cell: &Arc<dyn AnyCell>, id: u64, at: u64) {
    cell.head().system.timers.arm(at, Arc::new(ActorDue { cell: Arc::downgrade(cell), id }));
}

struct ActorDue {
    cell: Weak<dyn AnyCell>,
    id: u64,
}

impl Expire for ActorDue {
    fn expire(self: Arc<Self>) {
        if let Some(cell) = self.cell.upgrade() {
            // A closed mailbox belongs to an actor that needs no timers any more.
            let _ = cell::push(&cell, Entry::Tick(self.id), true);
        }
    }

    fn is_over(&self) -> bool {
        self.cell.strong_count() == 0
    }
}

/// Makes the message of a timer whose turn has come in the mailbox, and sets it again if it repeats.
///
/// It is set again only here, so a slow actor has at most one tick of each timer in its mailbox.
pub(crate) fn ring(cell: &Arc<dyn AnyCell>, id: u64) -> Option<super::envelope::Envelope> {
    let head = cell.head();
    let now = clock::fine();
    let (type_id, body, again) = head.with_extra(|extra| {
        let place = extra.timers.list.iter().position(|timer| timer.id == id)?;
        let timer = &mut extra.timers.list[place];
        if timer.period == 0 {
            let timer = extra.timers.list.swap_remove(place);
            return Some((timer.type_id, timer.body, None));
        }
        // A late tick does not bring the next one closer than half a period.
        timer.at = (timer.at + timer.period).max(now + timer.period / 2);
        Some((timer.type_id, timer.body.clone(), Some(timer.at)))
    })?;
    if let Some(at) = again {
        arm_actor(cell, id, at);
    }
    let _here = current::enter_system(&head.system);
    let read = head.kind.find(type_id)?.read(Codec::Postcard, &body, Origin::of(Some(head.serial), false), None);
    read.inspect_err(
        |unread| tracing::error!(actor = head.kind.name, error = %unread.error, "a timer's message is lost"),
    )
    .ok()
}
