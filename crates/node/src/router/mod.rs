//! The data path: frames between the processes of this host and to other agents, on a thread of its own.
//!
//! [`Handle`] is how the rest of the agent reaches it. Its state is behind one lock, which is held for one batch of
//! frames or one change of the table, never across an await.

mod asks;
mod back;
mod bounced;
mod budget;
mod forward;
#[cfg(test)]
mod forward_tests;
mod handed;
mod hash;
mod holds;
mod pace;
mod table;
mod troupes;
mod written_off;

use crate::{event::Event, metrics::Metrics, queue::Queue};
pub(crate) use back::Why;
use bytes::{Bytes, BytesMut};
pub(crate) use forward::Router;
use odeon_protocol::limits::{HELD_BYTES, UNREAD_BYTES};
use odeon_protocol::{
    Boot, Direct, NodeId, Serial, Time, WorkerId,
    control::FromAgent,
    frame::{Class, Extension, Header, Kind, write},
};
use odeon_transport::{
    frame_io::{Gate, Inlet, Outbox, read_frames, write_frames},
    quic::Undelivered,
    socket::{Reader, Socket},
};
pub(crate) use pace::Waits;
use pace::{Pace, Paced};
use parking_lot::Mutex;
use std::{collections::BTreeSet, future::Future, io, sync::Arc, thread, time::Duration};
pub(crate) use table::Known;
use tokio::{runtime, sync::Notify, time};
use tokio_util::sync::CancellationToken;

/// How often waiting frames and unanswered asks are looked through.
const TICK: Duration = Duration::from_millis(500);
/// A process whose end no longer takes frames has this long to finish what it is saying.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where frames for other agents go.
pub(crate) trait Peers: Send + Sync + 'static {
    /// Queues a frame; `false` if too much waits for that agent. Never waits, never calls back.
    fn send(&self, node: NodeId, frame: Bytes) -> bool;

    /// Bytes that wait for other agents.
    fn queued(&self) -> usize;

    /// Takes back the frames that fit, of those that the other agent has not confirmed. Never waits, never calls back.
    fn take_back(&self, node: NodeId, fits: &dyn Fn(&[u8]) -> bool) -> Undelivered;
}

/// Reaches the router from any thread.
#[derive(Clone)]
pub(crate) struct Handle {
    state: Arc<Mutex<Router>>,
    runtime: runtime::Handle,
    events: Arc<Queue<Event>>,
    me: Direct,
}

/// The router's thread, before there is anything to route, and one beside it for large frames.
pub(crate) struct Thread {
    runtime: runtime::Handle,
    large: runtime::Handle,
    stop: CancellationToken,
}

impl Thread {
    /// Starts both.
    pub(crate) fn start() -> io::Result<Self> {
        let stop = CancellationToken::new();
        let runtime = run_thread("odeon-router", runtime::Builder::new_current_thread(), stop.clone())?;
        // What moves large frames never lacks work: the others go first after each step, not after each time slice.
        let mut yielding = runtime::Builder::new_current_thread();
        yielding.on_after_task_poll(|_| thread::yield_now());
        let large = run_thread("odeon-large", yielding, stop.clone())?;
        Ok(Self { runtime, large, stop })
    }

    /// The current runtime in place of both: nothing is started.
    pub(crate) fn current() -> Self {
        let runtime = runtime::Handle::current();
        Self { large: runtime.clone(), runtime, stop: CancellationToken::new() }
    }

    /// Runs a task on the thread.
    pub(crate) fn runtime(&self) -> &runtime::Handle {
        &self.runtime
    }

    /// Runs a task on the thread for large frames.
    pub(crate) fn large(&self) -> &runtime::Handle {
        &self.large
    }
}

/// A runtime on a thread of its own, until `stop`.
fn run_thread(name: &str, mut runtime: runtime::Builder, stop: CancellationToken) -> io::Result<runtime::Handle> {
    let runtime = runtime.enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        runtime.block_on(stop.cancelled());
        // Links end with their tasks; their processes see the end of the stream.
        runtime.shutdown_background();
    })?;
    Ok(handle)
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Handle {
    /// A router on that thread.
    pub(crate) fn new(
        thread: &Thread,
        (node, boot): (NodeId, Boot),
        peers: Arc<dyn Peers>,
        (events, metrics): (Arc<Queue<Event>>, Arc<Metrics>),
    ) -> Self {
        let me = Direct { node, boot, serial: Serial(0) };
        let state = Arc::new(Mutex::new(Router::new(me, peers, events.clone(), metrics)));
        let handle = Self { state, runtime: thread.runtime.clone(), events, me };
        let ticking = handle.clone();
        handle.spawn(async move { ticking.tick().await });
        handle
    }

    /// Runs a task on the router's thread; sockets are to be made there.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// A process was admitted: its frames are taken after `then` has run, frames for it before.
    pub(crate) fn attach(&self, (id, name): (WorkerId, &str), socket: Socket, blocks: &[u64], then: impl FnOnce()) {
        let outbox = Outbox::with_urgent_limit(HELD_BYTES, UNREAD_BYTES);
        let (pace, deaf) = self.with(|router| router.attach(id, name.to_owned(), outbox.clone(), blocks));
        let gate = self.with(|router| router.budget.processes.clone());
        then();
        let (state, events) = (self.state.clone(), self.events.clone());
        self.spawn(async move {
            let why = serve(&state, (id, pace), socket, (&outbox, gate), &deaf).await;
            let mut router = state.lock();
            router.now = crate::convention::now();
            router.lost(id, outbox.take_unsent());
            drop(router);
            events.push(Event::Closed { process: id, why });
        });
    }

    /// Closes a process's link once what is queued for it was written; what it still says is taken for a moment.
    pub(crate) fn detach(&self, id: WorkerId) {
        if let Some(outbox) = self.with(|router| router.outbox(id).cloned()) {
            outbox.close();
        }
    }

    /// The block belongs to that process; `false` if it has as many as it may.
    pub(crate) fn lease(&self, block: u64, process: WorkerId) -> bool {
        self.with(|router| router.lease(block, process))
    }

    /// Until then what bearers of global names send is taken.
    pub(crate) fn names_until(&self, pause_at: Time) {
        self.with(|router| router.names_until = Some(pause_at));
    }

    /// A control message to a process, in order with the frames towards it.
    pub(crate) fn control(&self, to: WorkerId, message: &FromAgent) {
        self.with(|router| router.control(to, message));
    }

    /// A control message to every process.
    pub(crate) fn control_all(&self, message: &FromAgent) {
        self.with(|router| router.control_all(message));
    }

    /// Whether somebody, on any host, listens for messages that come back; see [`Event::CameBack`].
    pub(crate) fn want_letters(&self, wanted: bool) {
        self.with(|router| router.want_letters(wanted));
    }

    /// A control message to a process, left out if too much waits for it; whether it was queued.
    pub(crate) fn control_if_room(&self, to: WorkerId, message: &FromAgent) -> bool {
        self.with(|router| router.control_if_room(to, message))
    }

    /// A lifecycle signal on the way that messages take.
    pub(crate) fn signal(&self, to: Direct, name: Option<&str>, body: &[u8]) {
        // Behind large messages that are on their way to the actor's process.
        let header = Header { to, from: self.me, class: Class::Bulk, ..Header::new(Kind::Signal) };
        let extension = name.map(Extension::To);
        let mut frame = BytesMut::new();
        write(&mut frame, &header, extension.as_slice(), body);
        self.with(|router| router.send(frame));
    }

    /// Frames from another agent.
    pub(crate) fn take_from_peer(&self, peer: NodeId, frames: Vec<BytesMut>) {
        self.with(|router| router.take_from_peer(peer, frames));
    }

    /// Frames that could not be brought to another agent.
    pub(crate) fn undelivered(&self, frames: Undelivered, why: &Why) {
        self.with(|router| router.undelivered(frames, why));
    }

    /// Another agent was not reached for so long that nothing waits for it any more but answers.
    pub(crate) fn peer_unreachable(&self, node: NodeId, why: &Why) {
        self.with(|router| router.peer_unreachable(node, why));
    }

    /// Asks of whatever lived there fail.
    pub(crate) fn place_lost(&self, place: Direct, why: &Why) {
        self.with(|router| router.place_lost(place, why));
    }

    /// That boot of another agent is over for good.
    pub(crate) fn host_dead(&self, node: NodeId, boot: Boot, why: &Why) {
        self.with(|router| router.host_dead(node, boot, why));
    }

    /// A name is there: what waits for it goes on.
    pub(crate) fn resolved(&self, name: &Arc<str>, known: Known) {
        self.with(|router| router.resolved(name, known));
    }

    /// A name is nobody's: what waits for it goes back.
    pub(crate) fn missing(&self, name: &str, was_start: bool, why: &Why) {
        self.with(|router| router.missing(name, was_start, why));
    }

    /// That grant of the name is over.
    pub(crate) fn unresolved(&self, name: &Arc<str>, epoch: u64) {
        self.with(|router| router.unresolved(name, epoch));
    }

    /// The actor is stopping: what comes for its name waits.
    pub(crate) fn stopping(&self, name: &Arc<str>, epoch: u64, serial: Serial) {
        self.with(|router| {
            router.table.stop(serial);
            router.unresolved(name, epoch);
        });
    }

    /// The actor has stopped.
    pub(crate) fn stopped(&self, serial: Serial) {
        self.with(|router| router.table.stopped(serial));
    }

    /// The names that the router knows, with their grants: those of these, or all.
    pub(crate) fn names(&self, of: Option<&BTreeSet<Arc<str>>>) -> Vec<(Arc<str>, Known)> {
        self.with(|router| match of {
            Some(names) => names.iter().filter_map(|name| Some((name.clone(), router.table.name(name)?))).collect(),
            None => router.table.names().map(|(name, known)| (name.clone(), known)).collect(),
        })
    }

    /// The members of a troupe.
    pub(crate) fn troupe(&self, troupe: Direct, members: &[Direct], room: bool) {
        self.with(|router| router.troupe(troupe, members, room));
    }

    /// There is no such troupe.
    pub(crate) fn troupe_missing(&self, troupe: Direct, why: &Why) {
        self.with(|router| router.troupe_missing(troupe, why));
    }

    /// The members of a troupe that were used here since this was asked last, or have something in hand.
    pub(crate) fn troupe_used(&self, troupe: Direct) -> Vec<Direct> {
        self.with(|router| router.troupes.take_used(troupe))
    }

    /// The troupes that are used here; others are forgotten.
    pub(crate) fn troupes_in_use(&self) -> Vec<Direct> {
        self.with(|router| router.troupes.in_use(router.now))
    }

    /// The process that an address of this host belongs to.
    pub(crate) fn process_of(&self, place: Direct) -> Option<WorkerId> {
        self.with(|router| match router.table.route(place) {
            table::Route::Process(process) | table::Route::Stopping(process) => Some(process),
            _ => None,
        })
    }

    /// The asks without an answer that are known, and the messages that wait for their names.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        self.with(|router| router.waiting())
    }

    /// The blocks of a client that is gone: nothing has to be remembered of them.
    pub(crate) fn forget_blocks(&self, blocks: &[u64]) {
        self.with(|router| router.table.forget_blocks(blocks));
    }

    /// Processes of another agent are gone.
    pub(crate) fn blocks_lost(&self, node: NodeId, boot: Boot, blocks: Vec<u64>) {
        self.with(|router| router.blocks_lost(node, boot, blocks));
    }

    fn with<T>(&self, change: impl FnOnce(&mut Router) -> T) -> T {
        let mut router = self.state.lock();
        router.now = crate::convention::now();
        change(&mut router)
    }

    /// Large frames of other agents pass it.
    pub(crate) fn gate_of_peers(&self) -> Gate {
        self.with(|router| router.budget.peers.clone())
    }

    async fn tick(&self) {
        let shut = self.with(|router| router.budget.shut.clone());
        loop {
            let pause = self.with(|router| {
                router.tick();
                router.budget.pause()
            });
            tokio::select! {
                () = time::sleep(pause) => {}
                () = shut.notified() => {}
            }
        }
    }
}

/// Reads and writes a process's link until it ends; says why if that was not the process's wish.
async fn serve(
    state: &Mutex<Router>,
    (id, pace): (WorkerId, Arc<Pace>),
    socket: Socket,
    (outbox, gate): (&Outbox, Gate),
    deaf: &Notify,
) -> Option<String> {
    let (reader, writer) = socket.split();
    let inlet = Inlet::new(outbox.clone(), gate);
    let mut reading = Box::pin(read(state, id, Paced { reader, pace }, inlet));
    tokio::select! {
        why = &mut reading => return why,
        () = deaf.notified() => {
            return Some(format!("it does not read what it is sent: {} MiB wait", outbox.queued() >> 20));
        }
        // The process may have ended with words on the way to us: they are read to their end.
        _ = write_frames(outbox, writer) => {}
    }
    time::timeout(LAST_WORDS, reading).await.unwrap_or(None)
}

async fn read(state: &Mutex<Router>, id: WorkerId, reader: Paced<Reader>, inlet: Inlet) -> Option<String> {
    let (fault, stop) = (Mutex::new(None), Notify::new());
    let reading = read_frames(reader, inlet, |frames| {
        let mut router = state.lock();
        router.now = crate::convention::now();
        if let Err(why) = router.take(id, frames) {
            *fault.lock() = Some(why);
            stop.notify_one();
        }
    });
    let ended = tokio::select! {
        ended = reading => ended.err().map(|error| error.to_string()),
        () = stop.notified() => None,
    };
    fault.into_inner().or(ended)
}
