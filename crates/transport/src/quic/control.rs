//! Requests and answers, subscriptions and datagrams between two agents.
//!
//! A request is a stream of its own: requests neither wait for each other nor arrive in order. A subscription is one
//! request with many answers, in order, as fast as the subscriber reads. Datagrams may be lost.
//!
//! - **CO-1.** No more than [`REQUESTS_MAX`] requests of one urgency are under way each way; further ones wait at the
//!   asker. One counts until the peer has answered it, whether or not anybody waits for that.
//! - **CO-2.** An urgent request never waits for others: others may be waiting for what it brings about.

mod answer;

use super::{
    connection::{Closed, Code, Connection, Inner, Kind, Peer},
    message, simulated,
};
use crate::BoxFuture;
use answer::{answer_all, take_datagrams};
use bytes::Bytes;
use odeon_protocol::limits::{CONTROL_BYTES_MAX, REQUESTS_MAX};
use std::{fmt, io, sync::Arc, time::Duration};
use tokio::{
    runtime,
    sync::Semaphore,
    time::{Instant, timeout_at},
};

const REQUEST: u8 = 1;
const SUBSCRIBE: u8 = 2;
const ANSWER: u8 = 3;
const URGENT: u8 = 4;

/// QUIC sends streams of a higher priority first.
const URGENT_PRIORITY: i32 = 1;

/// Whether a request may wait for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// It may, until the peer has answered some of them.
    Ordinary,
    /// It may not, but for other urgent ones.
    Urgent,
}

/// Room for requests that are under way, by urgency.
#[derive(Debug)]
struct Room {
    ordinary: Arc<Semaphore>,
    urgent: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        let room = || Arc::new(Semaphore::new(REQUESTS_MAX));
        Self { ordinary: room(), urgent: room() }
    }
}

impl Room {
    fn of(&self, urgency: Urgency) -> Arc<Semaphore> {
        match urgency {
            Urgency::Ordinary => self.ordinary.clone(),
            Urgency::Urgent => self.urgent.clone(),
        }
    }
}

/// Whoever answers a peer.
pub trait Serve: Send + Sync + 'static {
    /// Answers a request. Runs to its end even if the peer no longer waits.
    fn request(&self, from: &Peer, body: Bytes) -> BoxFuture<'static, Bytes>;

    /// Serves a subscription until it returns; dropped when the subscriber goes.
    fn subscribe(&self, from: &Peer, body: Bytes, publisher: Publisher) -> BoxFuture<'static, ()>;

    /// Takes a datagram. Must not block.
    fn datagram(&self, from: &Peer, body: Bytes);
}

/// A control connection in use, until either end closes it. Clones are the same connection.
#[derive(Clone, Debug)]
pub struct Control {
    connection: Connection,
    room: Arc<Room>,
    runtime: runtime::Handle,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Over [`CONTROL_BYTES_MAX`]; not sent.
    #[error("a request of {bytes} bytes is over the limit of {CONTROL_BYTES_MAX}")]
    TooBig {
        /// Its size.
        bytes: usize,
    },
    /// The peer was at too many others all the time; not sent.
    #[error("{REQUESTS_MAX} other requests were under way to it for {0:?}")]
    Busy(Duration),
    /// No answer in time; it may have been carried out.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The connection broke.
    #[error("the control connection is lost: {why}")]
    Lost {
        /// How.
        why: String,
        /// Whether the whole request had been handed to the connection, so that it may have been carried out.
        may_have_run: bool,
    },
}

impl RequestError {
    /// Whether the peer may have carried the request out.
    #[must_use]
    pub const fn may_have_run(&self) -> bool {
        match self {
            Self::TooBig { .. } | Self::Busy(_) => false,
            Self::Timeout(_) => true,
            Self::Lost { may_have_run, .. } => *may_have_run,
        }
    }
}

/// Why a datagram was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// Over [`Control::datagram_max`].
    #[error("a datagram of {bytes} bytes is over the path's limit of {max}")]
    TooBig {
        /// Its size.
        bytes: usize,
        /// What fits.
        max: usize,
    },
    /// The connection broke.
    #[error("the control connection is lost")]
    Lost,
}

impl Control {
    /// Takes a control connection into use: answers the peer by `serve` until the connection ends. Has to be called on
    /// the runtime that carries the connection.
    #[must_use]
    pub fn start(connection: Connection, serve: Arc<dyn Serve>) -> Self {
        debug_assert_eq!(connection.kind(), Kind::Control);
        match connection.inner() {
            Inner::Quic(quic) => {
                tokio::spawn(answer_all(quic.clone(), connection.peer().clone(), serve.clone()));
                tokio::spawn(take_datagrams(quic.clone(), connection.peer().clone(), serve));
            }
            Inner::Simulated(held) => held.0.serve(serve),
        }
        Self { connection, room: Arc::default(), runtime: runtime::Handle::current() }
    }

    /// The connection.
    #[must_use]
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Asks, and waits for the answer. A request that is dropped goes on.
    ///
    /// # Errors
    /// See [`RequestError`], which says whether the peer may have carried it out.
    pub async fn request(&self, body: Bytes, within: Duration, urgency: Urgency) -> Result<Bytes, RequestError> {
        if body.len() > CONTROL_BYTES_MAX {
            return Err(RequestError::TooBig { bytes: body.len() });
        }
        let until = Instant::now() + within;
        let Ok(Ok(room)) = timeout_at(until, self.room.of(urgency).acquire_owned()).await else {
            return Err(RequestError::Busy(within));
        };
        let connection = self.connection.clone();
        // A task of its own: the room is free once the peer is done, not once nobody waits (CO-1).
        let asked = self.runtime.spawn(async move {
            let answer = exchange(&connection, body, urgency).await;
            drop(room);
            answer
        });
        match timeout_at(until, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(RequestError::Lost { why: "the agent is stopping".into(), may_have_run: true }),
            Err(_) => Err(RequestError::Timeout(within)),
        }
    }

    /// Asks for a stream of answers.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn subscribe(&self, body: Bytes) -> Result<Subscription, RequestError> {
        if body.len() > CONTROL_BYTES_MAX {
            return Err(RequestError::TooBig { bytes: body.len() });
        }
        let answers = match self.connection.inner() {
            Inner::Quic(quic) => {
                Answers::Quic(ask(quic, SUBSCRIBE, body).await.map_err(|why| lost(quic, &why, false))?)
            }
            Inner::Simulated(held) => Answers::Simulated(held.0.subscribe(body)?),
        };
        Ok(Subscription { answers, _connection: self.connection.clone() })
    }

    /// Sends a datagram; it may be lost on its way.
    ///
    /// # Errors
    /// See [`DatagramError`].
    pub fn datagram(&self, body: Bytes) -> Result<(), DatagramError> {
        let bytes = body.len();
        let quic = match self.connection.inner() {
            Inner::Quic(quic) => quic,
            Inner::Simulated(held) => return held.0.datagram(body).then_some(()).ok_or(DatagramError::Lost),
        };
        quic.send_datagram(body).map_err(|error| match error {
            quinn::SendDatagramError::TooLarge => DatagramError::TooBig { bytes, max: self.datagram_max() },
            _ => DatagramError::Lost,
        })
    }

    /// The largest datagram that fits now: about 1160 bytes at first, more once the path was measured.
    #[must_use]
    pub fn datagram_max(&self) -> usize {
        match self.connection.inner() {
            Inner::Quic(quic) => quic.max_datagram_size().unwrap_or(0),
            Inner::Simulated(_) => simulated::DATAGRAM_MAX,
        }
    }

    /// Waits for the connection's end.
    pub async fn closed(&self) -> Closed {
        self.connection.closed().await
    }

    /// Closes it; requests under way fail.
    pub fn close(&self, code: Code, text: &str) {
        self.connection.close(code, text);
    }
}

async fn exchange(connection: &Connection, body: Bytes, urgency: Urgency) -> Result<Bytes, RequestError> {
    let quic = match connection.inner() {
        Inner::Quic(quic) => quic,
        Inner::Simulated(held) => return held.0.request(body).await,
    };
    let kind = if urgency == Urgency::Urgent { URGENT } else { REQUEST };
    let mut receive = ask(quic, kind, body).await.map_err(|why| lost(quic, &why, false))?;
    match message::read(&mut receive, CONTROL_BYTES_MAX).await {
        Ok(Some((_, answer))) => Ok(answer),
        Ok(None) => Err(lost(quic, &io::ErrorKind::UnexpectedEof.into(), true)),
        Err(why) => Err(lost(quic, &why, true)),
    }
}

/// Sends one message on a stream of its own; whatever fails here, the peer has not got it whole.
async fn ask(quic: &quinn::Connection, kind: u8, body: Bytes) -> io::Result<quinn::RecvStream> {
    let (mut send, receive) = quic.open_bi().await?;
    if kind == URGENT {
        let _ = send.set_priority(URGENT_PRIORITY);
    }
    message::write(&mut send, kind, body).await?;
    let _ = send.finish();
    Ok(receive)
}

/// The connection's end says more than the stream's.
fn lost(quic: &quinn::Connection, why: &io::Error, may_have_run: bool) -> RequestError {
    let end = quic.close_reason().map(|reason| Closed::from(reason).to_string());
    RequestError::Lost { why: end.unwrap_or_else(|| why.to_string()), may_have_run }
}

/// A stream of answers to one request, in order.
#[derive(Debug)]
pub struct Subscription {
    answers: Answers,
    _connection: Connection,
}

#[derive(Debug)]
enum Answers {
    Quic(quinn::RecvStream),
    Simulated(simulated::Subscribed),
}

impl Subscription {
    /// The next answer; nothing when the publisher has ended the subscription. Not cancel-safe.
    ///
    /// # Errors
    /// The connection broke, or the peer broke the protocol.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match &mut self.answers {
            Answers::Quic(receive) => Ok(message::read(receive, CONTROL_BYTES_MAX).await?.map(|(_, body)| body)),
            Answers::Simulated(subscribed) => subscribed.next().await,
        }
    }
}

/// The sending end of a subscription.
pub struct Publisher {
    subscriber: Subscriber,
}

enum Subscriber {
    Quic(quinn::SendStream),
    Simulated(Arc<simulated::End>, u64),
}

impl Publisher {
    pub(super) const fn simulated(end: Arc<simulated::End>, id: u64) -> Self {
        Self { subscriber: Subscriber::Simulated(end, id) }
    }

    /// Sends an answer, waiting while the subscriber is behind. Not cancel-safe.
    ///
    /// # Errors
    /// The subscriber is gone, or the answer is too big.
    pub async fn send(&mut self, body: Bytes) -> io::Result<()> {
        if body.len() > CONTROL_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "over the limit of a control message"));
        }
        match &mut self.subscriber {
            Subscriber::Quic(send) => message::write(send, ANSWER, body).await,
            Subscriber::Simulated(end, id) => end.publish(*id, body),
        }
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subscriber {
            Subscriber::Quic(send) => write!(f, "Publisher({})", send.id()),
            Subscriber::Simulated(_, id) => write!(f, "Publisher({id})"),
        }
    }
}
