//! The gateway's own place among the actors: a client inside the agent's process, which speaks JSON.

use odeon_protocol::{
    Address, Direct, PROTOCOL_VERSION, Reason, Serial,
    control::{FromAgent, Hello, Refusal, Role, ToAgent, decode, encode},
    frame::{Class, Codec, Extension, Frame, Header, Kind, flags},
};
use odeon_transport::{
    frame_io::{Gate, Inlet, Outbox, read_frames, write_frames},
    socket::Socket,
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{sync::oneshot, time};

/// How long a tell is watched for coming back before it is called accepted.
const TELL_LOOK: Duration = Duration::from_millis(250);

/// Why a message was not handled, or not known to be.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub(super) reason: Reason,
    pub(super) text: String,
    pub(super) may_have_run: bool,
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self { reason: refusal.reason, text: refusal.text, may_have_run: false }
    }
}

type Outcome = Result<Vec<u8>, Failed>;

/// Sends messages as JSON.
pub(super) struct Gateway {
    outbox: Outbox,
    me: Direct,
    next: AtomicU32,
    waiting: Arc<Mutex<HashMap<u32, oneshot::Sender<Outcome>>>>,
}

impl Gateway {
    /// Says hello over the link and begins to read it.
    pub(super) async fn connect(mut socket: Socket) -> io::Result<Self> {
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: Role::Client,
            name: "http".to_owned(),
            pid: std::process::id(),
            types: Vec::new(),
            listeners: Vec::new(),
            capabilities: Vec::new(),
        };
        const NONE: &[Extension<'_>] = &[];
        let greeting = Frame::new(Header::new(Kind::Control), NONE, &encode(&ToAgent::Hello(hello)));
        socket.send_first(greeting.bytes(), &[]).await?;
        let (bytes, _) = socket.receive_first().await?;
        let frame = Frame::read(bytes.freeze()).map_err(io::Error::other)?;
        let welcome = match decode(&frame.body()) {
            Ok(FromAgent::Welcome(welcome)) => welcome,
            Ok(FromAgent::Refused { text }) => return Err(io::Error::other(text)),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let serial = Serial(Serial::first_of(welcome.block).0.max(1));
        let gateway = Self {
            outbox: Outbox::default(),
            me: Direct { node: welcome.node, boot: welcome.boot, serial },
            next: AtomicU32::new(1),
            waiting: Arc::default(),
        };
        let (reader, writer) = socket.split();
        let (outbox, waiting) = (gateway.outbox.clone(), gateway.waiting.clone());
        let inlet = Inlet::new(outbox.clone(), Gate::default());
        tokio::spawn(async move { write_frames(&outbox, writer).await });
        tokio::spawn(async move {
            let taken = read_frames(reader, inlet, |frames| {
                frames
                    .into_iter()
                    .filter_map(|bytes| Frame::read(bytes.freeze()).ok())
                    .for_each(|frame| take(&waiting, &frame));
            });
            if let Err(error) = taken.await {
                tracing::warn!(%error, "the gateway's link broke");
            }
            waiting.lock().clear();
        });
        Ok(gateway)
    }

    /// Asks; the reply is JSON.
    pub(super) async fn ask(&self, target: &Address, message: &str, body: &[u8], wait: Duration) -> Outcome {
        let number = self.number();
        let header = Header {
            correlation: u64::from(number),
            remaining_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            ..self.header(Kind::Ask, target)
        };
        self.exchange(number, (header, target, message, body), wait).await
    }

    /// Tells; an error if it came back while it was watched.
    pub(super) async fn tell(&self, target: &Address, message: &str, body: &[u8]) -> Result<(), Failed> {
        let number = self.number();
        let header = self.header(Kind::Tell, target);
        let header = Header { flow: number, flags: header.flags | flags::OPENS | flags::REPORT, ..header };
        match self.exchange(number, (header, target, message, body), TELL_LOOK).await {
            Err(failed) if failed.reason != Reason::Deadline => Err(failed),
            _ => Ok(()),
        }
    }

    /// Tells, and answers once the message was handled: it goes out as an ask whose reply is dropped, so that it ends as
    /// every ask does, with its handler, an error, or the time.
    pub(super) async fn settle(
        &self,
        target: &Address,
        message: &str,
        body: &[u8],
        wait: Duration,
    ) -> Result<(), Failed> {
        self.ask(target, message, body, wait).await.map(drop)
    }

    fn header(&self, kind: Kind, target: &Address) -> Header {
        let header = Header { codec: Codec::Json, from: self.me, ..Header::new(kind) };
        match target {
            Address::Direct(place) => Header { to: *place, ..header },
            Address::Troupe(troupe) => Header { to: *troupe, flags: flags::TROUPE, ..header },
            Address::Named { starts, .. } => Header { flags: if *starts { flags::STARTS } else { 0 }, ..header },
        }
    }

    fn number(&self) -> u32 {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number != 0 {
                return number;
            }
        }
    }

    async fn exchange(
        &self,
        number: u32,
        (header, target, message, body): (Header, &Address, &str, &[u8]),
        wait: Duration,
    ) -> Outcome {
        let mut extensions = vec![Extension::Message(message)];
        extensions.extend(target.name().map(|name| Extension::To(name)));
        let frame = Frame::new(header, &extensions, body);
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().insert(number, sender);
        let gone =
            || Failed { reason: Reason::Unreachable, text: "the agent is stopping".to_owned(), may_have_run: true };
        if self.outbox.push_bytes(Class::Normal, frame.bytes()).await.is_err() {
            return Err(gone());
        }
        let outcome = time::timeout(wait, answer).await;
        self.waiting.lock().remove(&number);
        match outcome {
            Ok(answer) => answer.unwrap_or_else(|_| Err(gone())),
            Err(_) => {
                Err(Failed { reason: Reason::Deadline, text: format!("no answer within {wait:?}"), may_have_run: true })
            }
        }
    }
}

fn take(waiting: &Mutex<HashMap<u32, oneshot::Sender<Outcome>>>, frame: &Frame) {
    let header = &frame.header;
    let (number, outcome) = match header.kind {
        Kind::Reply => (header.correlation, Ok(frame.body().to_vec())),
        Kind::Settled => (u64::from(header.flow), Ok(Vec::new())),
        Kind::Failure | Kind::Returned => {
            let (reason, text) = frame.reason().unwrap_or((Reason::Protocol, "no reason was given"));
            let may_have_run = header.has(flags::MAY_HAVE_RUN);
            let number = if header.correlation == 0 { u64::from(header.flow) } else { header.correlation };
            (number, Err(Failed { reason, text: text.to_owned(), may_have_run }))
        }
        _ => return,
    };
    let Ok(number) = u32::try_from(number) else { return };
    if let Some(sender) = waiting.lock().remove(&number) {
        // The request may have been dropped.
        let _ = sender.send(outcome);
    }
}
