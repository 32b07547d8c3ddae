//! The worker processes of one host: the shipped runtime and link in each, and the pipe between it and its agent.

use super::{
    actors::{Attempt, Bearer, Child, User},
    stage,
};
use bytes::BytesMut;
use odeon::{ActorRef, simulation::Process};
use odeon_node::{SimulatedWorker, Spawn};
use odeon_protocol::{ExitCause, Time, frame::Splitter};
use odeon_transport::socket::{Reader, Socket, Writer};
use parking_lot::Mutex;
use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Handle,
    sync::{Notify, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// From its start until it says hello.
const START: Duration = Duration::from_millis(60);
/// What a socket holds.
const SOCKET_BYTES: usize = 64 << 10;
/// How long a report may wait for company.
const LAZY: Duration = Duration::from_millis(2);
/// Users in each process.
const USERS: usize = 4;
/// `SIGKILL`.
const KILLED: ExitCause = ExitCause::WorkerKilled { signal: 9 };

/// The processes of one host.
pub(super) type Programs = Arc<Mutex<Vec<Program>>>;

/// One of them.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) pid: u32,
    process: Arc<Process>,
    pipe: Arc<Pipe>,
    users: Arc<Mutex<Vec<ActorRef<User>>>>,
    kill: CancellationToken,
    ended: watch::Sender<Option<ExitCause>>,
    /// Carries the pipe's bytes, and stops the process when its agent wants that.
    _tasks: JoinSet<()>,
    report_at: Option<Time>,
}

/// Bytes between a process and its agent's tasks.
#[derive(Debug, Default)]
struct Pipe {
    incoming: Mutex<Vec<BytesMut>>,
    outgoing: Mutex<BytesMut>,
    more: Notify,
    /// All its actors have stopped, as its agent wanted.
    stopped: AtomicBool,
}

/// Starts processes among these.
pub(super) fn spawn(programs: &Programs) -> Spawn {
    let programs = programs.clone();
    Spawn(Arc::new(move |_| {
        let (socket, theirs) = Socket::memory();
        let (kill, (ended, end), pid) = (CancellationToken::new(), watch::channel(None), stage::number() as u32);
        let killed = kill.clone();
        tokio::spawn(join(programs.clone(), theirs, (pid, kill.clone(), ended)));
        SimulatedWorker { pid, socket, kill: killed, ended: end }
    }))
}

async fn join(
    programs: Programs,
    mut socket: Socket,
    (pid, kill, ended): (u32, CancellationToken, watch::Sender<Option<ExitCause>>),
) {
    let worker = odeon::Worker::new().register::<Bearer>().register::<User>().register::<Child>();
    let joining = async {
        sleep(START).await;
        Process::join(&mut socket, worker, Handle::current()).await
    };
    let joined = tokio::select! {
        joined = joining => joined,
        () = kill.cancelled() => return,
    };
    // Without one the agent sees that it has ended: it was refused.
    let Ok(process) = joined.map(Arc::new) else { return };
    let (pipe, users) = (Arc::<Pipe>::default(), Arc::<Mutex<Vec<_>>>::default());
    let (reader, writer) = socket.split();
    let mut tasks = JoinSet::new();
    tasks.spawn(read(reader, pipe.clone()));
    tasks.spawn(write(writer, pipe.clone()));
    tasks.spawn(create_users(process.clone(), users.clone()));
    let (stopping, told) = (process.clone(), pipe.clone());
    tasks.spawn(async move {
        stopping.stop_when_told().await;
        told.stopped.store(true, Ordering::Relaxed);
    });
    programs.lock().push(Program { pid, process, pipe, users, kill, ended, _tasks: tasks, report_at: None });
}

async fn read(mut reader: Reader, pipe: Arc<Pipe>) {
    let mut splitter = Splitter::default();
    while reader.read_buf(splitter.buffer()).await.is_ok_and(|bytes| bytes > 0) {
        while let Some(frame) = splitter.next_frame().expect("an agent writes frames") {
            pipe.incoming.lock().push(frame);
        }
    }
}

async fn write(mut writer: Writer, pipe: Arc<Pipe>) {
    loop {
        pipe.more.notified().await;
        let bytes = mem::take(&mut *pipe.outgoing.lock());
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn create_users(process: Arc<Process>, users: Arc<Mutex<Vec<ActorRef<User>>>>) {
    for _ in 0..USERS {
        if let Ok(user) = process.system().create::<User>(()).await {
            users.lock().push(user);
        }
    }
}

impl Program {
    /// Its actors run until all wait; false once it has ended.
    pub(super) fn run(&mut self, now: Time) -> bool {
        if self.kill.is_cancelled() {
            return false;
        }
        let frames = mem::take(&mut *self.pipe.incoming.lock());
        if !frames.is_empty() {
            self.process.take(frames);
        }
        self.process.turn();
        self.process.run();
        if self.report_at.is_some_and(|at| at <= now) {
            self.report_at = None;
            self.process.report();
        }
        if self.report_at.is_none() && self.process.has_reports() {
            self.report_at = Some(now + LAZY);
        }
        let mut outgoing = self.pipe.outgoing.lock();
        let bytes = self.process.outgoing(SOCKET_BYTES.saturating_sub(outgoing.len()));
        if !bytes.is_empty() {
            outgoing.extend_from_slice(&bytes);
            self.pipe.more.notify_one();
        }
        !(outgoing.is_empty() && self.pipe.stopped.load(Ordering::Relaxed))
    }

    /// Whether it was killed: that happens to one that stands still, too.
    pub(super) fn is_killed(&self) -> bool {
        self.kill.is_cancelled()
    }

    /// Kills it.
    pub(super) fn kill(&self) {
        self.kill.cancel();
    }

    /// It is over: its agent learns how.
    pub(super) fn end(&self) {
        let cause = if self.kill.is_cancelled() { KILLED } else { ExitCause::WorkerExited { code: 0 } };
        self.process.end();
        // Its agent may have ended.
        let _ = self.ended.send(Some(cause));
    }

    /// Has a name used; false where nobody can now.
    pub(super) fn attempt(&self, user: u64, attempt: Attempt) -> bool {
        let users = self.users.lock();
        let user = users.get(user as usize % USERS);
        user.is_some_and(|user| user.try_tell(attempt).is_ok())
    }

    /// Whether all of its users are there.
    pub(super) fn has_users(&self) -> bool {
        !self.is_killed() && self.users.lock().len() == USERS
    }

    /// Its flows with something outstanding, in words.
    pub(super) fn open_flows(&self) -> Vec<String> {
        self.process.open_flows()
    }

    /// Flows that it knows, and asks that it owes an answer.
    pub(super) fn flows(&self) -> u64 {
        self.process.system().stats().flows
    }
}
