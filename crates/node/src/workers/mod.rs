//! The worker processes of this host: started, admitted, watched, started again.
//!
//! A *unit* is one worker executable that the agent keeps running; each start of it is a process with a worker id of
//! its own. One task a unit does everything with its process; the controller decides whom it admits and tells the task
//! to stop or restart.

mod backoff;
pub(crate) mod listeners;
pub(crate) mod output;
mod process;
mod spawner;

use crate::{
    config::WorkerCommand,
    event::{Admission, Event, Greeting},
    queue::Queue,
    router,
};
use backoff::Backoff;
use odeon_protocol::{
    ExitCause, PROTOCOL_VERSION, WorkerId,
    control::{FromAgent, Hello, ToAgent, decode, encode},
    frame::{Class, Extension, Frame, Header, Kind},
    limits::{HELLO_WAIT, STOP_GRACE},
};
use odeon_transport::socket::Socket;
use output::Tail;
use process::Process;
pub use process::{Simulated, Spawn};
pub(crate) use spawner::Spawner;
use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{self, Instant},
};
use tracing::{info, warn};

/// From its start to the `Hello` of a process: debug builds on a busy machine take their time.
const START_WAIT: Duration = Duration::from_secs(20);

/// Everything a unit's task needs of the agent.
#[derive(Clone)]
pub(crate) struct Kit {
    pub(crate) spawner: Spawner,
    pub(crate) router: router::Handle,
    pub(crate) events: Arc<Queue<Event>>,
    pub(crate) ids: Arc<AtomicU32>,
}

impl Kit {
    /// An id for a process; never given twice.
    pub(crate) fn next_id(&self) -> WorkerId {
        WorkerId(self.ids.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a unit's task is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Stop the process gracefully and do not start it again.
    Stop,
    /// Stop it gracefully and start it again.
    Restart,
    /// End it now; it is started again.
    Kill,
}

/// How a process ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// What parents of its actors are told.
    pub(crate) cause: ExitCause,
    /// Whether it was asked to.
    pub(crate) asked: bool,
}

/// Starts a unit's task; orders go into the channel.
pub(crate) fn start(kit: &Kit, unit: u32, command: WorkerCommand) -> mpsc::Sender<Order> {
    let (orders, queue) = mpsc::channel(16);
    let task = Unit { kit: kit.clone(), unit, name: command.name(), command, orders: queue, after: None };
    tokio::spawn(task.run());
    orders
}

struct Unit {
    kit: Kit,
    unit: u32,
    name: String,
    command: WorkerCommand,
    orders: mpsc::Receiver<Order>,
    /// What is to be done once the process has ended, if that was ordered.
    after: Option<Order>,
}

impl Unit {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let begun = Instant::now();
            self.after = None;
            let why = self.run_once().await.err();
            if let Some(why) = &why {
                warn!(worker = self.name, "worker {}: {why}", self.command.path.display());
            }
            let for_good = matches!(self.after, Some(Order::Stop));
            let wait = if self.after == Some(Order::Restart) { Duration::ZERO } else { backoff.after(begun.elapsed()) };
            if for_good || !self.rest(why, wait).await {
                self.kit.events.push(Event::UnitEnded { unit: self.unit });
                return;
            }
        }
    }

    /// Waits before the next start; false if there is to be none.
    async fn rest(&mut self, why: Option<String>, wait: Duration) -> bool {
        if !wait.is_zero() {
            info!(worker = self.name, "starts again in {} ms", wait.as_millis());
        }
        self.kit.events.push(Event::UnitWaits { unit: self.unit, why });
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                () = time::sleep_until(until) => return true,
                order = self.orders.recv() => match order {
                    Some(Order::Restart) => return true,
                    Some(Order::Kill) => {}
                    Some(Order::Stop) | None => return false,
                },
            }
        }
    }

    /// One process from its start to its end. An error is one line: why, what to do.
    async fn run_once(&mut self) -> Result<(), String> {
        let id = self.kit.next_id();
        let tail = Tail::default();
        let started = self.kit.spawner.start_process(&self.command, (&self.name, &tail)).await;
        let mut process = started.map_err(|error| start_fault(&error))?;
        let pid = process.pid();
        self.kit.events.push(Event::UnitStarted { unit: self.unit, worker: id, pid });
        let admitted = self.admit(id, &mut process).await;
        let end = match &admitted {
            Ok(()) => self.watch(id, &mut process).await,
            Err(_) => {
                process.kill();
                End { cause: process.wait().await, asked: false }
            }
        };
        process.rest_of_output().await;
        let (asked, cause) = (end.asked, end.cause.clone());
        self.kit.events.push(Event::ProcessEnded { unit: self.unit, worker: id, admitted: admitted.is_ok(), end });
        let last = tail.last(3).join(" | ");
        match admitted {
            Err(why) if last.is_empty() => Err(why),
            Err(why) => Err(format!("{why} (it said: {last})")),
            Ok(()) if asked => Ok(()),
            Ok(()) => Err(format!(
                "{id} (pid {pid}) ended: {cause}{}",
                if last.is_empty() { last } else { format!(" (it said: {last})") }
            )),
        }
    }

    /// The first frame each way; then the process's link is the router's.
    async fn admit(&mut self, id: WorkerId, process: &mut Process) -> Result<(), String> {
        let socket = process.take_socket().ok_or("it has no socket")?;
        let (done, mut result) = oneshot::channel();
        let (unit, kit, pid) = (self.unit, self.kit.clone(), process.pid());
        self.kit.router.spawn(async move {
            let admitted = match socket.open() {
                Ok(socket) => greet(&kit, id, Greeting::Worker { unit, pid }, socket).await,
                Err(error) => Err(error.to_string()),
            };
            // The unit may have given up meanwhile.
            let _ = done.send(admitted);
        });
        let started = Instant::now();
        tokio::select! {
            result = &mut result => result.map_err(|_| "the agent is stopping".to_owned())?,
            cause = process.wait() => Err(format!("it ended before it said hello: {cause}: run it by hand to see why")),
            () = time::sleep_until(started + START_WAIT) => {
                Err(format!("it did not say hello within {} s: is it an Odeon worker?", START_WAIT.as_secs()))
            }
            () = ordered_to_end(&mut self.orders, &mut self.after) => Err("it was stopped while it started".to_owned()),
        }
    }

    async fn watch(&mut self, id: WorkerId, process: &mut Process) -> End {
        let mut grace = None;
        loop {
            let deadline = async {
                match grace {
                    Some(at) => time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                cause = process.wait() => return End { cause, asked: self.after.is_some_and(|order| order != Order::Kill) },
                () = deadline => {
                    warn!(worker = self.name, "did not stop within {} s and is killed", STOP_GRACE.as_secs());
                    process.kill();
                    grace = None;
                }
                order = self.orders.recv() => {
                    let order = order.unwrap_or(Order::Stop);
                    // Killed while it stops, it has stopped all the same.
                    if order != Order::Kill || self.after.is_none() {
                        self.after = Some(order);
                    }
                    match order {
                        Order::Stop | Order::Restart => {
                            self.kit.router.control(id, &FromAgent::Stop);
                            grace.get_or_insert(Instant::now() + STOP_GRACE);
                        }
                        Order::Kill => process.kill(),
                    }
                }
            }
        }
    }
}

/// Waits for an order that ends a process which is not admitted yet.
async fn ordered_to_end(orders: &mut mpsc::Receiver<Order>, after: &mut Option<Order>) {
    let order = orders.recv().await.unwrap_or(Order::Stop);
    *after = Some(order);
}

fn start_fault(error: &io::Error) -> String {
    let what = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file: give the path of an executable",
        io::ErrorKind::PermissionDenied => "it is not executable: chmod +x it",
        _ => return format!("it cannot be started: {error}"),
    };
    what.to_owned()
}

/// Reads a process's `Hello`, has the controller decide, answers, and hands the link to the router. Runs on the
/// router's thread, where the socket belongs. An error is one line: why, what to do.
pub(crate) async fn greet(kit: &Kit, id: WorkerId, greeting: Greeting, mut socket: Socket) -> Result<(), String> {
    let wait = match greeting {
        Greeting::Worker { .. } => START_WAIT,
        _ => HELLO_WAIT,
    };
    let hello = match time::timeout(wait, hello(&mut socket)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(why)) => {
            refuse(&mut socket, &why).await;
            return Err(why);
        }
        Err(_) => return Err(format!("no hello came within {} s", wait.as_secs())),
    };
    admit(kit, id, greeting, hello, socket).await
}

async fn admit(kit: &Kit, id: WorkerId, greeting: Greeting, hello: Hello, mut socket: Socket) -> Result<(), String> {
    let (reply, answer) = oneshot::channel();
    kit.events.push(Event::Hello { process: id, greeting, hello: Box::new(hello), reply });
    let admission = answer.await.map_err(|_| "the agent is stopping".to_owned())?;
    let Admission { welcome, name, descriptors } = match admission {
        Ok(admission) => admission,
        Err(why) => {
            refuse(&mut socket, &why).await;
            return Err(why);
        }
    };
    let blocks = [welcome.block, welcome.placed_block];
    let frame = control_frame(&FromAgent::Welcome(*welcome));
    let passed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let sent = time::timeout(HELLO_WAIT, socket.send_first(frame.bytes(), &passed)).await;
    match sent {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(format!("its socket: {error}")),
        Err(_) => return Err("it does not read its socket".to_owned()),
    }
    kit.router.attach((id, &name), socket, &blocks, || kit.events.push(Event::Admitted { process: id }));
    Ok(())
}

async fn hello(socket: &mut Socket) -> Result<Hello, String> {
    let (bytes, _) = socket.receive_first().await.map_err(|error| format!("what it says is no hello: {error}"))?;
    let frame = Frame::read(bytes.freeze()).map_err(|error| error.to_string())?;
    match decode::<ToAgent>(&frame.body()) {
        Ok(ToAgent::Hello(hello)) if hello.protocol == PROTOCOL_VERSION => Ok(hello),
        Ok(ToAgent::Hello(hello)) => Err(format!(
            "it speaks protocol version {} (Odeon {}), this agent {PROTOCOL_VERSION} (Odeon {}): build it with the agent's version",
            hello.protocol,
            hello.version,
            env!("CARGO_PKG_VERSION")
        )),
        Ok(_) => Err("its first message is no hello".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

async fn refuse(socket: &mut Socket, why: &str) {
    let frame = control_frame(&FromAgent::Refused { text: why.to_owned() });
    // Whoever sent garbage may not listen either.
    let _ = time::timeout(Duration::from_secs(1), socket.send_first(frame.bytes(), &[])).await;
}

fn control_frame(message: &FromAgent) -> Frame {
    const NONE: &[Extension<'_>] = &[];
    Frame::new(Header { class: Class::Urgent, ..Header::new(Kind::Control) }, NONE, &encode(message))
}
