//! Lanes without connections: whoever simulates carries batches, acknowledgements and what each end says first; or over
//! connections of a simulation, which carry them as pieces.

use super::{
    Lanes, Shared, lanes_of,
    link::{ACK_AFTER, RESUME_WITHIN, Resume, garbage, resume},
};
use crate::quic::{connection::Kind, simulated::End};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use odeon_protocol::{frame::Splitter, limits::LANES};
use std::{
    future::{pending, poll_fn},
    io,
    sync::{Arc, atomic::Ordering},
    task::{Poll, Waker},
};
use tokio::time::{Instant, sleep_until, timeout};

/// The stream of what each end says first, and of acknowledgements.
const WORDS: usize = LANES;

/// What one end of a connection says first, and from then on as acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting(Resume);

/// Lanes as a simulation drives them.
#[derive(Clone, Copy, Debug)]
pub struct Simulated<'a>(&'a Lanes);

impl Lanes {
    /// See [`Simulated`].
    #[must_use]
    pub fn simulated(&self) -> Simulated<'_> {
        Simulated(self)
    }
}

impl Simulated<'_> {
    /// What this end says first.
    #[must_use]
    pub fn greeting(&self) -> Greeting {
        Greeting(resume(&self.0.shared, 0))
    }

    /// A connection is up, and that is what its other end said first. Answers each lane's first number.
    ///
    /// # Errors
    /// The peer claims what cannot be.
    pub fn connect(&self, peer: Greeting) -> io::Result<[u64; LANES]> {
        self.0.shared.resume(peer.0, 0..LANES)
    }

    /// The next batch of a lane for the connection.
    #[must_use]
    pub fn take(&self, lane: usize) -> Option<Bytes> {
        let batch = self.0.shared.take_batch(lane, Waker::noop());
        self.0.shared.wake_room(lane);
        batch
    }

    /// Whether large frames are unsent or not acknowledged.
    #[must_use]
    pub fn has_large(&self) -> bool {
        self.0.shared.has_large()
    }

    /// A batch has arrived over a connection whose other end greeted so; `first` is its first frame's number. Answers the
    /// number after its last.
    ///
    /// # Errors
    /// The bytes are no whole frames.
    pub fn receive(&self, peer: Greeting, lane: usize, first: u64, batch: &Bytes) -> io::Result<u64> {
        let frames = cut(batch)?;
        let next = first + frames.len() as u64;
        self.0.shared.take((peer.0.session(), lane, first), frames);
        Ok(next)
    }

    /// What was received so far, for the other end's [`Simulated::acknowledge`].
    #[must_use]
    pub fn received(&self) -> [u64; LANES] {
        std::array::from_fn(|lane| self.0.shared.inbound[lane].lock().received())
    }

    /// The other end has received so many frames of each lane.
    ///
    /// # Errors
    /// It claims to have received what it was not sent.
    pub fn acknowledge(&self, received: [u64; LANES]) -> io::Result<()> {
        for (lane, count) in received.into_iter().enumerate() {
            self.0.shared.outbound[lane].lock().acknowledge(count).map_err(io::Error::other)?;
            self.0.shared.wake_room(lane);
        }
        Ok(())
    }
}

fn cut(batch: &[u8]) -> io::Result<Vec<BytesMut>> {
    let (mut splitter, mut frames) = (Splitter::default(), Vec::new());
    *splitter.buffer() = BytesMut::from(batch);
    while let Some(frame) = splitter.next_frame().map_err(io::Error::other)? {
        frames.push(frame);
    }
    Ok(frames)
}

/// Carries frames over a connection until it ends, as [`super::link`] does over QUIC's streams.
pub(super) async fn carry(shared: &Arc<Shared>, end: &End, (kind, generation): (Kind, u64)) -> io::Result<()> {
    end.carry(WORDS, resume(shared, lanes_of(kind).start).write());
    let late = |_| garbage("the peer did not say where to go on");
    let (peer, early) = timeout(RESUME_WITHIN, first_words(end)).await.map_err(late)??;
    let mut firsts = shared.resume(peer, lanes_of(kind))?;
    let carrier = shared.carrier(kind);
    if carrier.link.lock().generation != generation {
        return Ok(());
    }
    carrier.connected.store(true, Ordering::Release);
    let mut acknowledge = None;
    let take = |(stream, piece): (usize, Bytes), acknowledge: &mut Option<Instant>| match stream {
        WORDS => acknowledged(shared, kind, &piece),
        lane => {
            acknowledge.get_or_insert_with(|| Instant::now() + ACK_AFTER);
            let mut piece = &piece[..];
            let first = piece.get_u64_le();
            shared.take((peer.session(), lane, first), cut(piece)?);
            Ok(())
        }
    };
    early.into_iter().try_for_each(|piece| take(piece, &mut acknowledge))?;
    loop {
        let due = async {
            match acknowledge {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            piece = end.carried() => take(piece?, &mut acknowledge)?,
            (lane, batch) = next_batch(shared, kind) => {
                shared.wake_room(lane);
                let mut piece = BytesMut::with_capacity(8 + batch.len());
                piece.put_u64_le(firsts[lane]);
                piece.extend_from_slice(&batch);
                firsts[lane] += cut(&batch)?.len() as u64;
                end.carry(lane, piece.freeze());
            }
            () = due => {
                acknowledge = None;
                let mut words = BytesMut::new();
                lanes_of(kind).for_each(|lane| words.put_u64_le(shared.inbound[lane].lock().received()));
                end.carry(WORDS, words.freeze());
            }
        }
    }
}

/// What the peer says first, and what of its lanes came before.
async fn first_words(end: &End) -> io::Result<(Resume, Vec<(usize, Bytes)>)> {
    let mut early = Vec::new();
    loop {
        match end.carried().await? {
            (WORDS, words) => return Ok((Resume::read(&words[1..]), early)),
            piece => early.push(piece),
        }
    }
}

fn acknowledged(shared: &Shared, kind: Kind, mut counts: &[u8]) -> io::Result<()> {
    for lane in lanes_of(kind) {
        shared.outbound[lane].lock().acknowledge(counts.get_u64_le()).map_err(garbage)?;
        shared.wake_room(lane);
    }
    shared.wake_large();
    shared.heard.notify_waiters();
    Ok(())
}

/// The next batch of any lane of such connections.
async fn next_batch(shared: &Shared, kind: Kind) -> (usize, Bytes) {
    poll_fn(|context| {
        let batch = lanes_of(kind).find_map(|lane| Some((lane, shared.take_batch(lane, context.waker())?)));
        batch.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
