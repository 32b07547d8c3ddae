//! A light client for tools: operators' requests, and messages as JSON, without linking any actor's code.

use crate::link::handshake::{control_frame, handshake, hello};
use odeon_protocol::{
    Address, Direct, Reason, Serial,
    control::{self, FromAgent, Placed, Refusal, Role, Spec, ToAgent, Welcome},
    frame::{Class, Codec, Extension, Frame, Header, Kind, flags},
};
use odeon_transport::{
    frame_io::{Gate, Inlet, Outbox, ReadError, read_frames, write_frames},
    socket::Socket,
    unix,
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    fmt, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

/// Why a message, or a request, was not answered as hoped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// The typed reason.
    pub reason: Reason,
    /// In words.
    pub text: String,
    /// Whether the handler may have run.
    pub may_have_run: bool,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self { reason: refusal.reason, text: refusal.text, may_have_run: false }
    }
}

/// The agent bounds its own waits; this one is for an agent that hangs.
const HANGS: Duration = Duration::from_secs(60);

type Answer = Result<Answered, Failure>;

enum Answered {
    Json(String),
    Placed(Placed),
    Found(Option<Placed>),
    Settled,
}

#[derive(Default)]
struct Waiting {
    /// By correlation, request or flow: one sequence of numbers serves all three.
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    lost: Option<Failure>,
}

struct Shared {
    outbox: Outbox,
    me: Direct,
    next: AtomicU64,
    waiting: Mutex<Waiting>,
}

/// A connection to an agent. Clones share it; it ends with the last one.
#[derive(Clone)]
pub struct Admin {
    shared: Arc<Shared>,
    welcome: Arc<Welcome>,
    _tasks: Arc<Tasks>,
}

struct Tasks(Outbox, JoinHandle<()>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.close();
        self.1.abort();
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("host", &self.welcome.host).finish_non_exhaustive()
    }
}

impl Admin {
    /// Connects to the agent that listens at `path`.
    ///
    /// # Errors
    /// [`Reason::Unreachable`] if there is none, [`Reason::Protocol`] if it speaks another version.
    pub async fn connect(path: &Path) -> Result<Self, Failure> {
        let stream = unix::connect(path).await.map_err(|error| no_agent(path, &error))?;
        Self::over(stream.into()).await
    }

    /// Connects over a link that is there already, such as one to an embedded agent.
    ///
    /// # Errors
    /// As [`Admin::connect`].
    pub async fn over(mut socket: Socket) -> Result<Self, Failure> {
        let admitted = handshake(&mut socket, hello(Role::Client)).await.map_err(|error| Failure {
            reason: error.reason(),
            text: error.to_string(),
            may_have_run: false,
        })?;
        let welcome = admitted.welcome;
        let serial = Serial(Serial::first_of(welcome.block).0.max(1));
        let shared = Arc::new(Shared {
            outbox: Outbox::default(),
            me: Direct { node: welcome.node, boot: welcome.boot, serial },
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
        });
        let (reader, writer) = socket.split();
        let writing = shared.outbox.clone();
        let inlet = Inlet::new(writing.clone(), Gate::default());
        tokio::spawn(async move { write_frames(&writing, writer).await });
        let reading = shared.clone();
        let task = tokio::spawn(async move {
            let end = read_frames(reader, inlet, |batch| {
                batch
                    .into_iter()
                    .filter_map(|bytes| Frame::read(bytes.freeze()).ok())
                    .for_each(|frame| reading.take(&frame));
            });
            reading.lose(&end.await);
        });
        let tasks = Tasks(shared.outbox.clone(), task);
        Ok(Self { shared, welcome: Arc::new(welcome), _tasks: Arc::new(tasks) })
    }

    /// What the agent said of itself.
    #[must_use]
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// An operator's request, JSON both ways.
    ///
    /// # Errors
    /// The agent's refusal, or [`Reason::Unreachable`] if it went away.
    pub async fn admin(&self, json: impl Into<String>) -> Result<String, Failure> {
        let json = json.into();
        match self.request(|request| ToAgent::Admin { request, json }).await? {
            Answered::Json(json) => Ok(json),
            _ => Err(odd()),
        }
    }

    /// Places and starts an actor.
    ///
    /// # Errors
    /// The refusal, with its reason.
    pub async fn create(&self, spec: Spec) -> Result<Placed, Failure> {
        let request = self.shared.number();
        let wait = HANGS + Duration::from_millis(u64::from(spec.remaining_ms));
        match self.shared.exchange(request, control_frame(&ToAgent::Create { request, spec }), wait).await? {
            Answered::Placed(placed) => Ok(placed),
            _ => Err(odd()),
        }
    }

    /// Looks a global name up, creating nothing.
    ///
    /// # Errors
    /// The refusal, with its reason.
    pub async fn find(&self, name: impl Into<Arc<str>>) -> Result<Option<Placed>, Failure> {
        let name = name.into();
        match self.request(|request| ToAgent::Find { request, name }).await? {
            Answered::Found(place) => Ok(place),
            _ => Err(odd()),
        }
    }

    /// Stops an actor after what is queued, or kills it at once. Nothing says when it has ended.
    ///
    /// # Errors
    /// [`Reason::Unreachable`] if the agent went away.
    pub fn end(&self, target: Address, kill: bool) -> Result<(), Failure> {
        self.shared.push(control_frame(&ToAgent::End { target, kill }))
    }

    /// Asks an actor, JSON both ways. `message` is a message's name, with or without its crate's.
    ///
    /// # Errors
    /// The failure, with its reason; [`Reason::Deadline`] after `wait`.
    pub async fn ask_json(
        &self,
        target: &Address,
        message: &str,
        json: &str,
        wait: Duration,
    ) -> Result<String, Failure> {
        let correlation = self.shared.number();
        let header = Header { correlation, ..self.header(Kind::Ask, target, wait) };
        match self.shared.exchange(correlation, frame(header, target, message, json), wait).await? {
            Answered::Json(json) => Ok(json),
            _ => Err(odd()),
        }
    }

    /// Tells an actor. Waits at most `wait` to see what becomes of it: true if it was handled, false if it is still on
    /// its way or waits its turn.
    ///
    /// # Errors
    /// It came back, with the reason.
    pub async fn tell_json(
        &self,
        target: &Address,
        message: &str,
        json: &str,
        wait: Duration,
    ) -> Result<bool, Failure> {
        let number = self.shared.number();
        let mut header = Header { flow: number as u32, ..self.header(Kind::Tell, target, Duration::ZERO) };
        header.flags |= flags::OPENS | flags::REPORT;
        match self.shared.exchange(number, frame(header, target, message, json), wait).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.reason == Reason::Deadline => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    fn header(&self, kind: Kind, target: &Address, wait: Duration) -> Header {
        let mut header = Header {
            codec: Codec::Json,
            from: self.shared.me,
            remaining_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            ..Header::new(kind)
        };
        match target {
            Address::Direct(place) => header.to = *place,
            Address::Troupe(place) => {
                header.to = *place;
                header.flags |= flags::TROUPE;
            }
            Address::Named { starts: true, .. } => header.flags |= flags::STARTS,
            Address::Named { .. } => {}
        }
        header
    }

    async fn request(&self, message: impl FnOnce(u64) -> ToAgent) -> Answer {
        let request = self.shared.number();
        self.shared.exchange(request, control_frame(&message(request)), HANGS).await
    }
}

fn frame(header: Header, target: &Address, message: &str, json: &str) -> Frame {
    let mut extensions = vec![Extension::Message(message)];
    if let Some(name) = target.name() {
        extensions.push(Extension::To(name));
    }
    Frame::new(header, &extensions, json.as_bytes())
}

impl Shared {
    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn push(&self, frame: Frame) -> Result<(), Failure> {
        self.outbox.try_push_bytes(Class::Urgent, frame.bytes()).map_err(|_| self.gone())
    }

    fn gone(&self) -> Failure {
        let unknown =
            || Failure { reason: Reason::Unreachable, text: "the agent went away".into(), may_have_run: false };
        self.waiting.lock().lost.clone().unwrap_or_else(unknown)
    }

    async fn exchange(&self, number: u64, frame: Frame, wait: Duration) -> Answer {
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().answers.insert(number, sender);
        let _forget = Forget(self, number);
        let sent_and_answered = async {
            self.outbox.push_bytes(Class::Normal, frame.bytes()).await.map_err(|_| self.gone())?;
            Ok(answer.await)
        };
        match timeout(wait, sent_and_answered).await {
            Ok(Ok(Ok(answer))) => answer,
            Ok(Ok(Err(_))) => Err(Failure { may_have_run: true, ..self.gone() }),
            Ok(Err(failure)) => Err(failure),
            Err(_) => {
                let text = format!("no answer within {wait:?}");
                Err(Failure { reason: Reason::Deadline, text, may_have_run: true })
            }
        }
    }

    fn answer(&self, number: u64, answer: Answer) {
        if let Some(waiting) = self.waiting.lock().answers.remove(&number) {
            // Nobody waits any more: the answer is late.
            let _ = waiting.send(answer);
        }
    }

    fn take(&self, frame: &Frame) {
        let header = &frame.header;
        let failure = || {
            let (reason, text) = frame.reason().unwrap_or((Reason::Protocol, "no reason was given"));
            Failure { reason, text: text.to_owned(), may_have_run: header.has(flags::MAY_HAVE_RUN) }
        };
        match header.kind {
            Kind::Reply => {
                let json = String::from_utf8_lossy(&frame.body()).into_owned();
                self.answer(header.correlation, Ok(Answered::Json(json)));
            }
            Kind::Failure => self.answer(header.correlation, Err(failure())),
            Kind::Returned if header.correlation != 0 => self.answer(header.correlation, Err(failure())),
            Kind::Returned => self.answer(u64::from(header.flow), Err(failure())),
            Kind::Settled => self.answer(u64::from(header.flow), Ok(Answered::Settled)),
            Kind::Control => match control::decode(&frame.body()) {
                Ok(message) => self.control(message),
                Err(error) => tracing::warn!(%error, "the agent's control message is not understood"),
            },
            Kind::Tell | Kind::Ask | Kind::Signal | Kind::Void | Kind::Chunk | Kind::Credit => {}
        }
    }

    fn control(&self, message: FromAgent) {
        match message {
            FromAgent::Admin { request, result } => {
                self.answer(request, result.map(Answered::Json).map_err(Into::into));
            }
            FromAgent::Created { request, result } => {
                self.answer(request, result.map(Answered::Placed).map_err(Into::into));
            }
            FromAgent::Found { request, result } => {
                self.answer(request, result.map(Answered::Found).map_err(Into::into));
            }
            _ => {}
        }
    }

    fn lose(&self, end: &Result<(), ReadError>) {
        let text = match end {
            Ok(()) => "the agent closed the connection".to_owned(),
            Err(error) => format!("the connection to the agent broke: {error}"),
        };
        self.outbox.close();
        let mut waiting = self.waiting.lock();
        waiting.lost = Some(Failure { reason: Reason::Unreachable, text, may_have_run: false });
        waiting.answers.clear();
    }
}

/// An answer that nobody waits for any more is not kept.
struct Forget<'a>(&'a Shared, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.waiting.lock().answers.remove(&self.1);
    }
}

fn odd() -> Failure {
    Failure {
        reason: Reason::Protocol,
        text: "the agent's answer is of another kind than the request".into(),
        may_have_run: true,
    }
}

fn no_agent(path: &Path, error: &io::Error) -> Failure {
    let text = format!(
        "no agent listens at {}: {error}: start one with `odeon agent`, or name its socket with ODEON_AGENT",
        path.display()
    );
    Failure { reason: Reason::Unreachable, text, may_have_run: false }
}
