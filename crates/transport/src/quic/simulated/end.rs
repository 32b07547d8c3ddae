//! One end of a simulated connection: what it waits for, and what it serves.

use super::{Body, Inner};
use crate::quic::{Closed, Code, Peer, Publisher, RequestError, Serve};
use bytes::Bytes;
use odeon_protocol::NodeId;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    sync::{Arc, Weak},
};
use tokio::sync::{Notify, oneshot, watch};

/// One end of a connection.
pub(in crate::quic) struct End {
    pub(super) line: u64,
    pub(super) port: Weak<Inner>,
    pub(super) peer: Peer,
    pub(super) closed: watch::Sender<Option<Closed>>,
    pub(super) streams: Mutex<BTreeMap<u64, Stream>>,
    pub(super) next: Mutex<u64>,
    pub(super) serve: Mutex<Option<Arc<dyn Serve>>>,
    pub(super) early: Mutex<Vec<Body>>,
    /// What lanes send, each behind its stream's number.
    pub(super) carried: Inbox<(u64, Bytes)>,
}

/// What this end waits for, or serves.
pub(super) enum Stream {
    Answer(oneshot::Sender<Bytes>),
    Subscription(Arc<Inbox>),
    Served(Arc<Notify>),
}

pub(super) struct Inbox<T = Bytes> {
    came: Notify,
    bodies: Mutex<(VecDeque<T>, bool)>,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self { came: Notify::new(), bodies: Mutex::default() }
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "End({} to {})", self.line, self.peer.node)
    }
}

/// A connection that was not taken into use closes with its last handle.
#[derive(Debug)]
pub(in crate::quic) struct Held(pub(in crate::quic) Arc<End>);

impl Drop for Held {
    fn drop(&mut self) {
        if self.0.serve.lock().is_none() {
            self.0.close(Code::Done, "not taken into use");
        }
    }
}

impl End {
    pub(in crate::quic) const fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(in crate::quic) fn is_open(&self) -> bool {
        self.closed.borrow().is_none()
    }

    pub(in crate::quic) async fn closed(&self) -> Closed {
        let mut closed = self.closed.subscribe();
        let ended = closed.wait_for(Option::is_some).await.ok().and_then(|closed| closed.clone());
        ended.unwrap_or_else(|| Closed { code: None, by_peer: false, text: "the agent is stopping".into() })
    }

    pub(in crate::quic) fn close(&self, code: Code, text: &str) {
        if self.is_open() {
            self.send(Body::Close { code, text: text.into() });
            self.end(Closed { code: Some(code), by_peer: false, text: text.into() });
        }
    }

    fn send(&self, body: Body) {
        if let Some(port) = self.port.upgrade().filter(|_| self.is_open()) {
            port.send(self.peer.address, self.line, body);
        }
    }

    /// Everything that waits fails.
    pub(super) fn end(&self, why: Closed) {
        self.closed.send_if_modified(|closed| {
            let first = closed.is_none();
            closed.get_or_insert(why);
            first
        });
        for stream in std::mem::take(&mut *self.streams.lock()).into_values() {
            match stream {
                Stream::Answer(_) => {}
                Stream::Subscription(inbox) => inbox.came.notify_one(),
                Stream::Served(gone) => gone.notify_one(),
            }
        }
        self.carried.came.notify_one();
        *self.serve.lock() = None;
        if let Some(port) = self.port.upgrade() {
            port.ends.lock().remove(&self.line);
        }
    }

    /// Begins to answer the peer; what came before is answered now.
    pub(in crate::quic) fn serve(self: &Arc<Self>, serve: Arc<dyn Serve>) {
        if self.is_open() {
            *self.serve.lock() = Some(serve);
            let early = std::mem::take(&mut *self.early.lock());
            early.into_iter().for_each(|body| self.take(body));
        }
    }

    pub(super) fn take(self: &Arc<Self>, body: Body) {
        match body {
            Body::Request { .. } | Body::Datagram(_) => {
                let serve = self.serve.lock().clone();
                match serve {
                    Some(serve) => self.answer(&serve, body),
                    None => self.early.lock().push(body),
                }
            }
            Body::Answer { id, body } => {
                if let Some(Stream::Answer(wait)) = self.streams.lock().remove(&id) {
                    // It may have been given up.
                    drop(wait.send(body));
                }
            }
            Body::Published { id, body } => self.published(id, Some(body)),
            Body::Finished { id } => self.published(id, None),
            Body::Gone { id } => {
                if let Some(Stream::Served(gone)) = self.streams.lock().remove(&id) {
                    gone.notify_one();
                }
            }
            Body::Carried { stream, body } => {
                self.carried.bodies.lock().0.push_back((stream, body));
                self.carried.came.notify_one();
            }
            Body::Dial { .. } | Body::Accepted { .. } | Body::Close { .. } => {}
        }
    }

    fn published(&self, id: u64, body: Option<Bytes>) {
        if let Some(Stream::Subscription(inbox)) = self.streams.lock().get(&id) {
            {
                let mut bodies = inbox.bodies.lock();
                bodies.1 |= body.is_none();
                bodies.0.extend(body);
            }
            inbox.came.notify_one();
        }
    }

    fn answer(self: &Arc<Self>, serve: &Arc<dyn Serve>, body: Body) {
        let end = self.clone();
        match body {
            Body::Datagram(body) => serve.datagram(&self.peer, body),
            Body::Request { id, subscribes: false, body } => {
                let answering = serve.request(&self.peer, body);
                tokio::spawn(async move {
                    let body = answering.await;
                    end.send(Body::Answer { id, body });
                });
            }
            Body::Request { id, body, .. } => {
                let gone = Arc::new(Notify::new());
                // The asker's numbers are its own: those of what is served here are told apart.
                self.streams.lock().insert(id, Stream::Served(gone.clone()));
                let serving = serve.subscribe(&self.peer, body, Publisher::simulated(end.clone(), id));
                tokio::spawn(async move {
                    tokio::select! {
                        () = serving => {}
                        () = gone.notified() => {}
                    }
                    end.streams.lock().remove(&id);
                    end.send(Body::Finished { id });
                });
            }
            _ => {}
        }
    }

    fn ask(&self, subscribes: bool, body: Bytes, stream: Stream) -> u64 {
        let id = {
            let mut next = self.next.lock();
            *next += 1;
            // Both ends number streams, the lower node's are odd.
            let me = self.port.upgrade().map_or(NodeId(0), |port| port.identity.node());
            *next * 2 + u64::from(me < self.peer.node)
        };
        self.streams.lock().insert(id, stream);
        self.send(Body::Request { id, subscribes, body });
        id
    }

    fn lost(&self, may_have_run: bool) -> RequestError {
        let why = self.closed.borrow().as_ref().map_or_else(|| "it broke off".into(), ToString::to_string);
        RequestError::Lost { why, may_have_run }
    }

    pub(in crate::quic) async fn request(&self, body: Bytes) -> Result<Bytes, RequestError> {
        if !self.is_open() {
            return Err(self.lost(false));
        }
        let (answer, wait) = oneshot::channel();
        self.ask(false, body, Stream::Answer(answer));
        wait.await.map_err(|_| self.lost(true))
    }

    pub(in crate::quic) fn subscribe(self: &Arc<Self>, body: Bytes) -> Result<Subscribed, RequestError> {
        if !self.is_open() {
            return Err(self.lost(false));
        }
        let inbox = Arc::<Inbox>::default();
        let id = self.ask(true, body, Stream::Subscription(inbox.clone()));
        Ok(Subscribed { end: self.clone(), id, inbox })
    }

    pub(in crate::quic) fn publish(&self, id: u64, body: Bytes) -> io::Result<()> {
        if !self.is_open() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.send(Body::Published { id, body });
        Ok(())
    }

    /// Sends a piece of a lane's stream; the pieces of one arrive in order.
    pub(in crate::quic) fn carry(&self, stream: usize, body: Bytes) {
        self.send(Body::Carried { stream: stream as u64, body });
    }

    /// The next piece of any stream that the peer sends.
    pub(in crate::quic) async fn carried(&self) -> io::Result<(usize, Bytes)> {
        loop {
            if let Some((stream, body)) = self.carried.bodies.lock().0.pop_front() {
                return Ok((stream as usize, body));
            }
            if !self.is_open() {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection is lost"));
            }
            self.carried.came.notified().await;
        }
    }

    pub(in crate::quic) fn datagram(&self, body: Bytes) -> bool {
        self.send(Body::Datagram(body));
        self.is_open()
    }
}

/// The receiving end of a subscription.
pub(in crate::quic) struct Subscribed {
    end: Arc<End>,
    id: u64,
    inbox: Arc<Inbox>,
}

impl fmt::Debug for Subscribed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscribed({})", self.id)
    }
}

impl Subscribed {
    pub(in crate::quic) async fn next(&self) -> io::Result<Option<Bytes>> {
        loop {
            {
                let mut bodies = self.inbox.bodies.lock();
                if let Some(body) = bodies.0.pop_front() {
                    return Ok(Some(body));
                }
                if bodies.1 {
                    return Ok(None);
                }
            }
            if !self.end.is_open() {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection is lost"));
            }
            self.inbox.came.notified().await;
        }
    }
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.end.streams.lock().remove(&self.id);
        self.end.send(Body::Gone { id: self.id });
    }
}
