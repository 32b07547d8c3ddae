//! A process as its agent sees it, written by hand: it answers starts, remembers messages, and says what it is told to.

#![allow(dead_code, reason = "each test uses its part")]
#![expect(clippy::unwrap_used, reason = "only tests use it")]
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "only tests use it")]

use odeon_node::{Agent, Bind, Config};
use odeon_protocol::{
    DeadLetter, Direct, ExitCause, PROTOCOL_VERSION, Reason, Serial,
    control::{FromAgent, Hello, MessageInfo, Policy, Role, Start, ToAgent, TypeInfo, Welcome, decode, encode},
    frame::{Class, Codec, Extension, Frame, Header, Kind, flags},
    hash::fnv1a,
};
use odeon_transport::{
    frame_io::{Gate, Inlet, Outbox, read_frames, write_frames},
    socket::Socket,
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, ReadBuf},
    task::JoinHandle,
    time::{Instant, sleep},
};

pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` gives something.
pub async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// An agent that forms a convention of its own.
pub async fn agent(name: &str) -> (Agent, TempDir) {
    let dir = TempDir::new().unwrap();
    let mut config = Config::new(name, dir.path());
    config.listen = Bind::asked(([127, 0, 0, 1], 0).into());
    config.http = Some(Bind::asked(([127, 0, 0, 1], 0).into()));
    config.bootstrap = true;
    let agent = Agent::start(config).await.unwrap();
    assert!(agent.ready().await);
    (agent, dir)
}

/// One host of several.
pub struct Host {
    pub agent: Agent,
    _dir: TempDir,
}

impl Host {
    pub fn new(agent: Agent, dir: TempDir) -> Self {
        Self { agent, _dir: dir }
    }

    /// Waits until a host with workers of that type is known here.
    pub async fn sees_type(&self, type_name: &str) {
        self.sees_hosts_with_type(type_name, 1).await;
    }

    pub async fn sees_hosts_with_type(&self, type_name: &str, count: usize) {
        until("the type to be known", || {
            let hosts = self.agent.convention().hosts();
            (hosts.iter().filter(|host| host.types.contains(type_name)).count() >= count).then_some(())
        })
        .await;
    }

    pub async fn sees_name_in_state(&self, name: &str, state: odeon_protocol::directory::NameState) {
        until("the name's state", || {
            let known = self.agent.convention().directory(|directory| directory.name(name).map(|record| record.state));
            (known == Some(state)).then_some(())
        })
        .await;
    }

    /// The host falls silent: to the others it is as if it had lost its power.
    pub async fn fall_silent(&self) {
        self.agent.convention().stop().await;
    }
}

/// A host more, which is not ready yet.
pub async fn join(through: &Host, name: &str, token: &str) -> Host {
    let dir = TempDir::new().unwrap();
    let mut config = Config::new(name, dir.path());
    config.listen = Bind::asked(([127, 0, 0, 1], 0).into());
    config.http = None;
    config.join = vec![through.agent.convention().listens_on().to_string()];
    config.token = Some(token.to_owned());
    Host { agent: Agent::start(config).await.unwrap(), _dir: dir }
}

/// Hosts of one convention, `h1`, `h2`, …, all voters.
pub async fn hosts(count: usize) -> Vec<Host> {
    let (first, dir) = agent("h1").await;
    let token = first
        .convention()
        .create_token(odeon_protocol::directory::Role::Voter, Duration::from_secs(600), None)
        .await
        .unwrap();
    let mut hosts = vec![Host { agent: first, _dir: dir }];
    for number in 2..=count {
        let host = join(&hosts[0], &format!("h{number}"), &token).await;
        hosts.push(host);
    }
    for host in &hosts {
        assert!(host.agent.ready().await);
    }
    hosts
}

/// What an actor of a [`Process`] does with messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// Keeps tells, answers asks with its serial as JSON.
    Answers,
    /// Keeps everything, answers nothing.
    Hangs,
}

/// A message as it came.
#[derive(Clone, Debug)]
pub struct Got {
    pub frame: Frame,
    pub by: Serial,
}

#[derive(Default)]
struct State {
    starts: Vec<Start>,
    got: Vec<Got>,
    answers: HashMap<u64, FromAgent>,
    control: Vec<FromAgent>,
    frames: Vec<Frame>,
    /// Starts fail with this.
    refuse: Option<(String, bool)>,
    /// Starts are not answered.
    slow: bool,
    does: Option<Does>,
    closed: bool,
    ended: Vec<Serial>,
}

/// See the module's head.
pub struct Process {
    pub welcome: Welcome,
    outbox: Outbox,
    state: Arc<Mutex<State>>,
    next: AtomicU64,
    frozen: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

/// The link of a process that may stop reading.
struct Freezing<R> {
    reader: R,
    frozen: Arc<AtomicBool>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Freezing<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.frozen.load(Ordering::Acquire) {
            // Looked at again as often as the runtime likes: nothing else wakes it.
            let waker = context.waker().clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(5)).await;
                waker.wake();
            });
            return Poll::Pending;
        }
        Pin::new(&mut self.reader).poll_read(context, into)
    }
}

pub fn type_info(name: &str, policy: Policy) -> TypeInfo {
    let message =
        MessageInfo { name: "test.Message".into(), type_id: fnv1a("test.Message"), fingerprint: 7, reply: Some(8) };
    TypeInfo { name: name.into(), messages: vec![message], policy }
}

impl Process {
    pub async fn client(agent: &Agent) -> Self {
        Self::join(agent, Role::Client, Vec::new()).await
    }

    pub async fn worker(agent: &Agent, types: &[(&str, Policy)]) -> Self {
        let types = types.iter().map(|(name, policy)| type_info(name, policy.clone())).collect();
        Self::join(agent, Role::Worker, types).await
    }

    /// What the agent says to a worker of another protocol version.
    pub async fn of_version(agent: &Agent, protocol: u8) -> String {
        match Self::greet(agent, protocol, (Role::Worker, Vec::new())).await.0 {
            FromAgent::Refused { text } => text,
            other => panic!("{other:?}"),
        }
    }

    async fn join(agent: &Agent, role: Role, types: Vec<TypeInfo>) -> Self {
        match Self::greet(agent, PROTOCOL_VERSION, (role, types)).await {
            (FromAgent::Welcome(welcome), socket) => Self::run(welcome, socket),
            (other, _) => panic!("{other:?}"),
        }
    }

    async fn greet(agent: &Agent, protocol: u8, (role, types): (Role, Vec<TypeInfo>)) -> (FromAgent, Socket) {
        let mut socket = agent.connect();
        let hello = Hello {
            protocol,
            version: "test".into(),
            role,
            name: "test".into(),
            pid: std::process::id(),
            types,
            listeners: Vec::new(),
            capabilities: Vec::new(),
        };
        socket.send_first(control(&ToAgent::Hello(hello)).bytes(), &[]).await.unwrap();
        let (bytes, _) = socket.receive_first().await.unwrap();
        (decode(&Frame::read(bytes.freeze()).unwrap().body()).unwrap(), socket)
    }

    /// An admitted process of which nothing is run yet.
    pub async fn raw(agent: &Agent, role: Role, types: Vec<TypeInfo>) -> (Welcome, Socket) {
        match Self::greet(agent, PROTOCOL_VERSION, (role, types)).await {
            (FromAgent::Welcome(welcome), socket) => (welcome, socket),
            (other, _) => panic!("{other:?}"),
        }
    }

    fn run(welcome: Welcome, socket: Socket) -> Self {
        let (outbox, state) = (Outbox::default(), Arc::<Mutex<State>>::default());
        let frozen = Arc::<AtomicBool>::default();
        let (reader, writer) = socket.split();
        let reader = Freezing { reader, frozen: frozen.clone() };
        let inlet = Inlet::new(outbox.clone(), Gate::default());
        let (writing, reading, answering) = (outbox.clone(), state.clone(), outbox.clone());
        let me = Direct { node: welcome.node, boot: welcome.boot, serial: Serial(0) };
        let tasks = vec![
            tokio::spawn(async move { drop(write_frames(&writing, writer).await) }),
            tokio::spawn(async move {
                let taking = |batch: Vec<bytes::BytesMut>| {
                    for bytes in batch {
                        take(&mut reading.lock(), &answering, me, Frame::read(bytes.freeze()).unwrap());
                    }
                };
                drop(read_frames(reader, inlet, taking).await);
                reading.lock().closed = true;
            }),
        ];
        Self { welcome, outbox, state, next: AtomicU64::new(1), frozen, tasks }
    }

    /// The process dies: its link is cut. It reads nothing that is sent from now on.
    pub async fn die(self) {
        for task in self.tasks {
            task.abort();
            drop(task.await);
        }
    }

    pub fn actors_do(&self, does: Does) {
        self.state.lock().does = Some(does);
    }

    pub fn refuse_starts(&self, text: &str, not_found: bool) {
        self.state.lock().refuse = Some((text.into(), not_found));
    }

    pub fn slow_starts(&self, slow: bool) {
        self.state.lock().slow = slow;
    }

    pub fn me(&self) -> Direct {
        let serial = Serial(Serial::first_of(self.welcome.block).0 + 1);
        Direct { node: self.welcome.node, boot: self.welcome.boot, serial }
    }

    pub fn place(&self, serial: Serial) -> Direct {
        Direct { serial, ..self.me() }
    }

    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub fn say(&self, message: &ToAgent) {
        self.outbox.try_push_bytes(Class::Urgent, control(message).bytes()).unwrap();
    }

    pub fn send(&self, frame: &Frame) {
        self.outbox.try_push_bytes(Class::Urgent, frame.bytes()).unwrap();
    }

    /// A message to a name.
    pub fn named(&self, kind: Kind, name: &str, starts: bool, correlation: u64) -> Frame {
        let flags = if starts { flags::STARTS } else { 0 };
        let header = Header { flags, codec: Codec::Postcard, from: self.me(), correlation, ..Header::new(kind) };
        Frame::new(header, &[Extension::To(name)], b"body")
    }

    /// A message to a place.
    pub fn direct(&self, kind: Kind, to: Direct, correlation: u64) -> Frame {
        let header = Header { to, codec: Codec::Postcard, from: self.me(), correlation, ..Header::new(kind) };
        const NONE: &[Extension<'_>] = &[];
        Frame::new(header, NONE, b"body")
    }

    pub fn stop(&self, serial: Serial) {
        self.say(&ToAgent::Stopping { serial });
    }

    pub fn ended(&self, serial: Serial, cause: ExitCause) {
        self.state.lock().ended.push(serial);
        self.say(&ToAgent::Ended { serial, cause, not_found: false });
    }

    pub async fn answer(&self, request: u64) -> FromAgent {
        until("an answer to a request", || self.state.lock().answers.remove(&request)).await
    }

    pub async fn admin(&self, json: &str) -> Result<serde_json::Value, odeon_protocol::control::Refusal> {
        let request = self.number();
        self.say(&ToAgent::Admin { request, json: json.into() });
        match self.answer(request).await {
            FromAgent::Admin { result, .. } => result.map(|json| serde_json::from_str(&json).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// The frame with that correlation: a reply, failure or returned message.
    pub async fn back(&self, correlation: u64) -> Frame {
        until("an answer to an ask", || {
            let mut state = self.state.lock();
            let at = state.frames.iter().position(|frame| frame.header.correlation == correlation)?;
            Some(state.frames.remove(at))
        })
        .await
    }

    pub async fn reason(&self, correlation: u64) -> (Reason, bool) {
        let back = self.back(correlation).await;
        assert!(matches!(back.header.kind, Kind::Failure | Kind::Returned), "{:?}", back.header);
        (back.reason().unwrap().0, back.header.has(flags::MAY_HAVE_RUN))
    }

    /// The start with that number, counted from 0.
    pub async fn start(&self, number: usize) -> Start {
        until("an actor's start", || self.state.lock().starts.get(number).cloned()).await
    }

    /// The actor that was started so manieth.
    pub fn started(&self, number: usize) -> Serial {
        self.state.lock().starts[number].serial
    }

    pub fn starts(&self) -> usize {
        self.state.lock().starts.len()
    }

    pub async fn got(&self, number: usize) -> Got {
        until("a message", || self.state.lock().got.get(number).cloned()).await
    }

    pub fn all_got(&self) -> Vec<Got> {
        self.state.lock().got.clone()
    }

    pub async fn told(&self, what: &str, wanted: impl Fn(&FromAgent) -> bool) -> FromAgent {
        until(what, || self.state.lock().control.iter().find(|message| wanted(message)).cloned()).await
    }

    /// The dead letter with that number, counted from 0.
    pub async fn letter(&self, number: usize) -> DeadLetter {
        until("a dead letter", || self.letters().get(number).cloned()).await
    }

    pub fn letters(&self) -> Vec<DeadLetter> {
        let letter = |message: &FromAgent| match message {
            FromAgent::DeadLetter(letter) => Some((**letter).clone()),
            _ => None,
        };
        self.state.lock().control.iter().filter_map(letter).collect()
    }

    /// Waits until the process was told so as often as `times`.
    pub async fn letters_wanted(&self, wanted: bool, times: usize) {
        let told = FromAgent::DeadLettersWanted { wanted };
        until("whether dead letters are wanted", || {
            (self.state.lock().control.iter().filter(|message| **message == told).count() >= times).then_some(())
        })
        .await;
    }

    /// It reads no more until what is returned is dropped.
    pub fn freeze(&self) -> impl Drop + use<> {
        struct Frozen(Arc<AtomicBool>);
        impl Drop for Frozen {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Release);
            }
        }
        self.frozen.store(true, Ordering::Release);
        Frozen(self.frozen.clone())
    }

    /// Sends when there is room towards the agent.
    pub async fn send_when_room(&self, frame: &Frame) {
        self.outbox.push_bytes(Class::Normal, frame.bytes()).await.unwrap();
    }

    /// A message or ask that came back for that reason.
    pub fn any_back(&self, reason: Reason) -> Option<Frame> {
        let state = self.state.lock();
        state.frames.iter().find(|frame| frame.reason().is_some_and(|(why, _)| why == reason)).cloned()
    }

    /// How many messages came.
    pub fn count(&self) -> usize {
        self.state.lock().got.len()
    }

    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}

pub fn control(message: &ToAgent) -> Frame {
    const NONE: &[Extension<'_>] = &[];
    Frame::new(Header::new(Kind::Control), NONE, &encode(message))
}

fn take(state: &mut State, outbox: &Outbox, me: Direct, frame: Frame) {
    let answer = |message: &ToAgent| outbox.try_push_bytes(Class::Urgent, control(message).bytes()).unwrap();
    match frame.header.kind {
        Kind::Control => match decode(&frame.body()).unwrap() {
            FromAgent::Start(start) => {
                let serial = start.serial;
                state.starts.push(start);
                match state.refuse.clone() {
                    _ if state.slow => {}
                    Some((text, not_found)) => {
                        answer(&ToAgent::Ended { serial, cause: ExitCause::NeverStarted(text), not_found });
                    }
                    None => answer(&ToAgent::Started { serial }),
                }
            }
            FromAgent::List { request } => answer(&ToAgent::Listed { request, actors: Vec::new() }),
            message @ (FromAgent::Created { request, .. }
            | FromAgent::Found { request, .. }
            | FromAgent::Leased { request, .. }
            | FromAgent::Admin { request, .. }) => drop(state.answers.insert(request, message)),
            FromAgent::Stop => outbox.close(),
            other => state.control.push(other),
        },
        Kind::Tell | Kind::Ask | Kind::Signal => {
            let header = frame.header;
            if state.ended.contains(&header.to.serial) {
                return give_back(outbox, &frame);
            }
            state.got.push(Got { frame, by: header.to.serial });
            if header.kind == Kind::Ask && state.does.unwrap_or(Does::Answers) == Does::Answers {
                let reply = Header {
                    to: header.from,
                    from: Direct { serial: header.to.serial, ..me },
                    correlation: header.correlation,
                    codec: Codec::Json,
                    ..Header::new(Kind::Reply)
                };
                const NONE: &[Extension<'_>] = &[];
                let reply = Frame::new(reply, NONE, header.to.serial.to_string().as_bytes());
                outbox.try_push_bytes(Class::Urgent, reply.bytes()).unwrap();
            }
        }
        _ => state.frames.push(frame),
    }
}

fn give_back(outbox: &Outbox, frame: &Frame) {
    let header = Header { kind: Kind::Returned, to: frame.header.from, from: frame.header.to, ..frame.header };
    let mut extensions: Vec<_> = frame.extensions().map(Result::unwrap).collect();
    extensions.push(Extension::Reason { reason: Reason::NoSuchActor, text: "it has ended" });
    outbox.try_push_bytes(Class::Urgent, Frame::new(header, &extensions, &frame.body()).bytes()).unwrap();
}

/// A creation of an actor.
pub fn spec(type_name: &str, name: Option<&str>) -> odeon_protocol::control::Spec {
    odeon_protocol::control::Spec {
        type_name: type_name.into(),
        args: Vec::new(),
        codec: odeon_protocol::control::WireCodec::Postcard,
        global_name: name.map(Into::into),
        on: None,
        near: None,
        policy: None,
        parent: Direct::NONE,
        remaining_ms: 5000,
    }
}
