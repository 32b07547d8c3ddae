//! A tiny agent for tests: admits processes over memory links, assigns serials, routes their frames to each other,
//! starts named actors, and does unkind things on request. It hands out no two places for one name, and that is all
//! it knows of conventions.

use bytes::BytesMut;
use odeon_protocol::{
    Boot, ConventionId, Direct, ExitCause, NodeId, PROTOCOL_VERSION, Reason, Serial, WorkerId,
    control::{self, FromAgent, OnStop, Placed, Refusal, Spec, Start, ToAgent, TypeInfo, Welcome, WireCodec},
    frame::{self, Class, Extension, Frame, Header, Kind, flags},
};
use odeon_transport::{
    frame_io::{Gate, Inlet, Outbox, read_frames, write_frames},
    socket::Socket,
};
use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::runtime::{Builder, Handle};

pub(crate) const NODE: NodeId = NodeId(0xa9);
pub(crate) const BOOT: Boot = Boot(1);
const NONE: &[Extension<'_>] = &[];

/// Waits until `condition` holds, and fails after a long time.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it did not come to be: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[derive(Clone)]
pub(crate) struct Agent {
    state: Arc<Mutex<State>>,
    handle: Handle,
    _stop: Arc<tokio::sync::watch::Sender<()>>,
}

#[derive(Default)]
struct State {
    processes: Vec<Process>,
    names: HashMap<String, Name>,
    next_block: u64,
    epoch: u64,
    said: Vec<(usize, ToAgent)>,
    frames: HashMap<Kind, u64>,
    /// The epochs of those that sent replies.
    reply_epochs: Vec<u64>,
    listens_at: Option<SocketAddr>,
    /// Creates and sends without a name go to this process.
    place_at: Option<usize>,
}

struct Process {
    outbox: Outbox,
    types: Vec<TypeInfo>,
    block: u64,
    placed_block: u64,
    next_placed: u64,
    reading: Option<tokio::task::JoinHandle<()>>,
    alive: bool,
}

struct Name {
    at: Option<(usize, Direct)>,
    stopping: bool,
    epoch: u64,
    type_name: Arc<str>,
    on_stop: OnStop,
    held: Vec<BytesMut>,
    /// How many of them, at the front, had been at the last bearer.
    returned: usize,
}

impl Agent {
    pub(crate) fn new() -> Self {
        let (stop, mut stopped) = tokio::sync::watch::channel(());
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(async move { stopped.changed().await }));
        Self { state: Arc::default(), handle, _stop: Arc::new(stop) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A link for another process; its number is that of the call, from 0.
    pub(crate) fn socket(&self) -> Socket {
        let (ours, theirs) = Socket::memory();
        let agent = self.clone();
        self.handle.spawn(async move { agent.admit(ours).await });
        theirs
    }

    /// The same for a child process, to be inherited.
    pub(crate) fn descriptor(&self) -> OwnedFd {
        let _runtime = self.handle.enter();
        let (ours, theirs) = odeon_transport::unix::pair().unwrap();
        let agent = self.clone();
        self.handle.spawn(async move { agent.admit(ours.into()).await });
        theirs
    }

    /// Where the first listening socket was bound that a process asked for.
    pub(crate) fn listens_at(&self) -> Option<SocketAddr> {
        self.lock().listens_at
    }

    async fn admit(self, mut socket: Socket) {
        let (bytes, _) = socket.receive_first().await.unwrap();
        let frame = Frame::read(bytes.freeze()).unwrap();
        let ToAgent::Hello(hello) = control::decode(&frame.body()).unwrap() else { panic!("no hello") };
        assert_eq!(hello.protocol, PROTOCOL_VERSION);
        let outbox = Outbox::default();
        let names: Vec<_> = hello.listeners.iter().map(|(name, _)| name.clone()).collect();
        let bound: Vec<_> = names.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        self.lock().listens_at = bound.first().map(|listener| listener.local_addr().unwrap());
        let (number, welcome) = {
            let mut state = self.lock();
            let (number, block) = (state.processes.len(), state.next_block + 1);
            state.next_block += 2;
            let process = Process {
                outbox: outbox.clone(),
                types: hello.types,
                block,
                placed_block: block + 1,
                next_placed: Serial::first_of(block + 1).0,
                reading: None,
                alive: true,
            };
            state.processes.push(process);
            let welcome = Welcome {
                convention: ConventionId(1),
                host: "test".into(),
                node: NODE,
                boot: BOOT,
                worker: WorkerId(number as u32),
                block,
                placed_block: block + 1,
                listeners: names,
                capabilities: Vec::new(),
            };
            (number, welcome)
        };
        let passed: Vec<_> = bound.iter().map(AsFd::as_fd).collect();
        socket.send_first(from_agent(&FromAgent::Welcome(welcome)).bytes(), &passed).await.unwrap();
        let (reader, writer) = socket.split();
        let inlet = Inlet::new(outbox.clone(), Gate::default());
        tokio::spawn(async move { write_frames(&outbox, writer).await });
        let agent = self.clone();
        let reading = tokio::spawn(async move {
            let end =
                read_frames(reader, inlet, |batch| batch.into_iter().for_each(|bytes| agent.take(number, bytes))).await;
            drop(end);
            agent.lost(number);
        });
        self.lock().processes[number].reading = Some(reading);
    }

    /// How many frames of a kind have been routed.
    pub(crate) fn frames(&self, kind: Kind) -> u64 {
        self.lock().frames.get(&kind).copied().unwrap_or(0)
    }

    /// Under which epochs replies were sent, in order.
    pub(crate) fn reply_epochs(&self) -> Vec<u64> {
        self.lock().reply_epochs.clone()
    }

    /// Where the actors that are created go from now on.
    pub(crate) fn place_at(&self, process: usize) {
        self.lock().place_at = Some(process);
    }

    /// Whether a process said something that fits.
    pub(crate) fn was_told(&self, fits: impl Fn(usize, &ToAgent) -> bool) -> bool {
        self.lock().said.iter().any(|(process, message)| fits(*process, message))
    }

    pub(crate) fn say(&self, process: usize, message: &FromAgent) {
        self.lock().say(process, message);
    }

    pub(crate) fn push_raw(&self, process: usize, bytes: &[u8]) {
        self.lock().processes[process].outbox.try_push_bytes(Class::Urgent, bytes).unwrap();
    }

    /// Breaks the link to a process, as if the agent had ended.
    pub(crate) fn cut(&self, process: usize) {
        let reading = {
            let mut state = self.lock();
            state.processes[process].outbox.close();
            state.processes[process].reading.take()
        };
        reading.unwrap().abort();
        self.lost(process);
    }

    fn lost(&self, process: usize) {
        let mut state = self.lock();
        state.processes[process].alive = false;
        for name in state.names.values_mut().filter(|name| name.at.is_some_and(|(at, _)| at == process)) {
            name.at = None;
        }
        let blocks = vec![state.processes[process].block, state.processes[process].placed_block];
        let others: Vec<_> = (0..state.processes.len()).filter(|other| *other != process).collect();
        for other in others {
            let reason = Reason::WorkerLost;
            state.say(other, &FromAgent::Lost { node: NODE, boot: BOOT, blocks: blocks.clone(), reason });
        }
    }

    fn take(&self, from: usize, bytes: BytesMut) {
        let frame = Frame::read(bytes.clone().freeze()).unwrap();
        let mut state = self.lock();
        *state.frames.entry(frame.header.kind).or_default() += 1;
        if frame.header.kind == Kind::Reply {
            state.reply_epochs.push(frame.header.from_epoch);
        }
        if frame.header.kind == Kind::Control {
            let message: ToAgent = control::decode(&frame.body()).unwrap();
            state.said.push((from, message.clone()));
            return state.control(from, message);
        }
        assert_eq!(frame.header.from.node, NODE, "a frame without a sender: {:?}", frame.header);
        state.route(from, &frame, bytes);
    }
}

fn from_agent(message: &FromAgent) -> Frame {
    Frame::new(Header { class: Class::Urgent, ..Header::new(Kind::Control) }, NONE, &control::encode(message))
}

impl State {
    fn say(&self, process: usize, message: &FromAgent) {
        let _ = self.processes[process].outbox.try_push_bytes(Class::Urgent, from_agent(message).bytes());
    }

    fn owner(&self, place: Direct) -> Option<usize> {
        let block = place.serial.block();
        self.processes
            .iter()
            .position(|process| process.alive && (process.block == block || process.placed_block == block))
    }

    fn push(&self, process: usize, bytes: &[u8]) {
        let _ = self.processes[process].outbox.try_push_bytes(Class::Urgent, bytes);
    }

    fn route(&mut self, from: usize, frame: &Frame, bytes: BytesMut) {
        let header = frame.header;
        let message = matches!(header.kind, Kind::Tell | Kind::Ask);
        let may_go_again = matches!(frame.reason(), Some((Reason::ActorStopped | Reason::NoSuchActor, _)))
            && header.kind == Kind::Returned
            && header.bounced() < 8
            && !header.has(flags::MAY_HAVE_RUN);
        if let Some(name) = frame.to_name().filter(|_| may_go_again).map(str::to_owned) {
            return self.again(from, &name, frame);
        }
        if message && let Some(name) = frame.to_name().map(str::to_owned) {
            if let Some(process) = self.owner(header.to).filter(|_| !header.to.is_none()) {
                return self.push(process, &bytes);
            }
            return self.route_name(from, &name, bytes, header);
        }
        match self.owner(header.to) {
            Some(process) => self.push(process, &bytes),
            None if message => self.give_back(frame, Reason::NoSuchActor),
            None => {}
        }
    }

    /// A message that its bearer did not handle: waits before all that has not been there yet.
    fn again(&mut self, from: usize, name: &str, back: &Frame) {
        let mut extensions: Vec<_> = back.extensions().flatten().collect();
        extensions.retain(|extension| !matches!(extension, Extension::Reason { .. }));
        let header = Header {
            kind: if back.header.correlation == 0 { Kind::Tell } else { Kind::Ask },
            to: Direct::NONE,
            from: back.header.to,
            to_epoch: 0,
            from_epoch: back.header.to_epoch,
            flags: back.header.flags.saturating_add(flags::BOUNCED_LOW),
            ..back.header
        };
        let again = Frame::new(header, &extensions, &back.body());
        let bytes: BytesMut = again.bytes().as_ref().into();
        let waits = |record: &Name| record.stopping || record.at.is_some_and(|(_, place)| place == back.header.from);
        match self.names.get_mut(name) {
            Some(record) if waits(record) => {
                record.held.insert(record.returned, bytes);
                record.returned += 1;
            }
            _ => self.route_name(from, name, bytes, header),
        }
    }

    fn route_name(&mut self, from: usize, name: &str, mut bytes: BytesMut, header: Header) {
        let starts = header.has(flags::STARTS);
        match self.names.get_mut(name) {
            Some(record) if record.stopping => record.held.push(bytes),
            Some(Name { at: Some((process, place)), epoch, .. }) => {
                let (process, place, epoch) = (*process, *place, *epoch);
                frame::set_to(&mut bytes, place, epoch);
                self.push(process, &bytes);
                self.say(from, &FromAgent::Resolved { name: name.into(), place, epoch });
            }
            Some(Name { on_stop, .. }) if starts || *on_stop == OnStop::Dormant => self.start_name(from, name, bytes),
            None if starts => self.start_name(from, name, bytes),
            _ => self.give_back(&Frame::read(bytes.freeze()).unwrap(), Reason::NoSuchActor),
        }
    }

    fn start_name(&mut self, from: usize, name: &str, bytes: BytesMut) {
        let (type_name, key) = name.split_once('/').unwrap();
        let spec = Spec {
            type_name: type_name.into(),
            args: key.as_bytes().to_vec(),
            codec: WireCodec::Key,
            global_name: Some(name.into()),
            on: None,
            near: None,
            policy: None,
            parent: Direct::NONE,
            remaining_ms: 0,
        };
        match self.create(spec) {
            Ok(_) => {
                let header = Frame::read(bytes.clone().freeze()).unwrap().header;
                self.route_name(from, name, bytes, header);
            }
            Err(refusal) => self.give_back(&Frame::read(bytes.freeze()).unwrap(), refusal.reason),
        }
    }

    fn give_back(&self, frame: &Frame, reason: Reason) {
        let text = Extension::Reason { reason, text: "the agent gives it back" };
        let mut extensions: Vec<_> = frame.extensions().flatten().collect();
        extensions.push(text);
        let kind = if frame.header.kind == Kind::Ask { Kind::Failure } else { Kind::Returned };
        let header = Header { kind, to: frame.header.from, from: frame.header.to, ..frame.header };
        let back = Frame::new(header, &extensions, &frame.body());
        if let Some(process) = self.owner(header.to) {
            self.push(process, back.bytes());
        }
    }

    fn create(&mut self, spec: Spec) -> Result<Placed, Refusal> {
        let has = |process: &Process| process.alive && process.types.iter().any(|info| *info.name == *spec.type_name);
        let candidate = self.place_at.filter(|at| has(&self.processes[*at]));
        let Some(process) = candidate.or_else(|| self.processes.iter().position(has)) else {
            return Err(Refusal { reason: Reason::NoSuchType, text: format!("nobody runs {}", spec.type_name) });
        };
        if let Some(name) = &spec.global_name
            && let Some(Name { at: Some((_, place)), .. }) = self.names.get(&**name)
        {
            return Ok(Placed { address: (*place).into(), created: false, host: "test".into() });
        }
        let serial = Serial(self.processes[process].next_placed);
        self.processes[process].next_placed += 1;
        let place = Direct { node: NODE, boot: BOOT, serial };
        let declared = self.processes[process].types.iter().find(|info| *info.name == *spec.type_name).unwrap();
        let policy = spec.policy.unwrap_or_else(|| declared.policy.clone());
        let epoch = if spec.global_name.is_some() {
            self.epoch += 1;
            self.epoch
        } else {
            0
        };
        if let Some(name) = &spec.global_name {
            let held = self.names.remove(&**name).map(|name| name.held).unwrap_or_default();
            let record = Name {
                at: Some((process, place)),
                stopping: false,
                epoch,
                type_name: spec.type_name.clone(),
                on_stop: policy.on_stop,
                held,
                returned: 0,
            };
            self.names.insert(name.to_string(), record);
        }
        let start = Start {
            serial,
            type_name: spec.type_name,
            args: spec.args,
            codec: spec.codec,
            global_name: spec.global_name.clone(),
            epoch,
            parent: spec.parent,
            policy,
            troupe: None,
        };
        self.say(process, &FromAgent::Start(start));
        let held = spec.global_name.as_ref().and_then(|name| self.names.get_mut(&**name)).map(|name| &mut name.held);
        for mut bytes in held.map(std::mem::take).unwrap_or_default() {
            frame::set_to(&mut bytes, place, epoch);
            self.push(process, &bytes);
        }
        let address = match spec.global_name {
            Some(name) => odeon_protocol::Address::Named { name, starts: false, hint: place, epoch },
            None => place.into(),
        };
        Ok(Placed { address, created: true, host: "test".into() })
    }

    fn control(&mut self, from: usize, message: ToAgent) {
        match message {
            ToAgent::Create { request, spec } => {
                let result = self.create(spec);
                self.say(from, &FromAgent::Created { request, result });
            }
            ToAgent::Find { request, name } => {
                let place = self.names.get(&*name).and_then(|record| record.at);
                let placed =
                    place.map(|(_, place)| Placed { address: place.into(), created: false, host: "test".into() });
                self.say(from, &FromAgent::Found { request, result: Ok(placed) });
            }
            ToAgent::Lease { request } => {
                self.next_block += 1;
                let block = self.next_block;
                self.say(from, &FromAgent::Leased { request, block });
            }
            ToAgent::Admin { request, json } => self.say(from, &FromAgent::Admin { request, result: Ok(json) }),
            ToAgent::Stopping { serial } => {
                if let Some(name) = self.name_of(serial) {
                    self.names.get_mut(&name).unwrap().stopping = true;
                }
            }
            ToAgent::Ended { serial, cause, .. } => self.ended(serial, &cause),
            ToAgent::End { target, kill } => {
                let place = match &target {
                    odeon_protocol::Address::Named { name, .. } => self.names.get(&**name).and_then(|name| name.at),
                    odeon_protocol::Address::Direct(place) | odeon_protocol::Address::Troupe(place) => {
                        self.owner(*place).map(|owner| (owner, *place))
                    }
                };
                if let Some((process, place)) = place {
                    let signal = if kill { control::Signal::Kill } else { control::Signal::Stop };
                    let header = Header { to: place, class: Class::Urgent, ..Header::new(Kind::Signal) };
                    self.push(process, Frame::new(header, NONE, &control::encode(&signal)).bytes());
                }
            }
            ToAgent::ChildEnded { parent, child, cause } => {
                if let Some(process) = self.owner(parent) {
                    self.say(process, &FromAgent::ChildExited { parent, child, cause });
                }
            }
            _ => {}
        }
    }

    fn name_of(&self, serial: Serial) -> Option<String> {
        let bears = |name: &Name| name.at.is_some_and(|(_, place)| place.serial == serial);
        self.names.iter().find(|(_, name)| bears(name)).map(|(name, _)| name.clone())
    }

    fn ended(&mut self, serial: Serial, _cause: &ExitCause) {
        let Some(key) = self.name_of(serial) else { return };
        let name = self.names.get_mut(&key).unwrap();
        (name.at, name.stopping) = (None, false);
        let (epoch, again) = (name.epoch, !name.held.is_empty());
        let dormant = name.on_stop == OnStop::Dormant;
        assert!(key.starts_with(&*name.type_name));
        for process in 0..self.processes.len() {
            self.say(process, &FromAgent::Unresolved { name: key.as_str().into(), epoch });
        }
        if again && dormant {
            let (type_name, args) = key.split_once('/').unwrap();
            let spec = Spec {
                type_name: type_name.into(),
                args: args.as_bytes().to_vec(),
                codec: WireCodec::Key,
                global_name: Some(key.as_str().into()),
                on: None,
                near: None,
                policy: None,
                parent: Direct::NONE,
                remaining_ms: 0,
            };
            self.create(spec).unwrap();
        } else if again {
            let held = std::mem::take(&mut self.names.get_mut(&key).unwrap().held);
            for bytes in held {
                self.give_back(&Frame::read(bytes.freeze()).unwrap(), Reason::NoSuchActor);
            }
            self.names.remove(&key);
        } else if !dormant {
            self.names.remove(&key);
        }
    }
}
