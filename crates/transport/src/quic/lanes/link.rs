//! One connection's part in the life of lanes: resume, then a task per stream and direction until it ends.

use super::{
    super::connection::{Closed, Code, Connection},
    Shared,
    large::Progress,
};
use crate::frame_io::Gate;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use odeon_protocol::{
    frame::Splitter,
    limits::{CHUNK_BYTES, LANES, LARGE_LANE},
};
use std::{
    future::poll_fn,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::{io::AsyncReadExt, sync::Notify, task::JoinSet, time::timeout};

/// What a stream begins with.
const RESUME_STREAM: u8 = 0;
const LANE_STREAM: u8 = 1;
const RESUME_BYTES: usize = 8 + 8 + LANES * 8;
const ACK_BYTES: usize = 1 + 8;
/// In the place of a lane, in an acknowledgement: the number is that of bytes read of the lane of large frames.
const LARGE_READ: u8 = 0xff;
/// Received bytes after which the peer is told at once.
const ACK_AFTER_BYTES: usize = 256 << 10;
/// The same of large frames: little of them is under way.
const ACK_LARGE_AFTER_BYTES: usize = CHUNK_BYTES / 2;
/// How long it waits otherwise, so that a busy link acknowledges rarely.
const ACK_AFTER: Duration = Duration::from_millis(20);
/// Bytes asked of a stream at once.
const READ_BYTES: usize = 128 << 10;
/// How long the peer may take to say where to go on.
const RESUME_WITHIN: Duration = Duration::from_secs(5);
/// Batches handed to a stream with one call.
const BATCHES: usize = 16;

/// What readers tell the writer of acknowledgements.
#[derive(Debug, Default)]
pub(super) struct Acks {
    unsaid: AtomicUsize,
    unsaid_large: AtomicUsize,
    some: Notify,
    many: Notify,
    /// The peer acknowledged something.
    pub(super) heard: Notify,
}

/// What each end says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resume {
    session: u64,
    /// The session that the counts are about; 0 for none.
    known: u64,
    received: [u64; LANES],
}

impl Resume {
    pub(super) const BYTES: usize = RESUME_BYTES;

    pub(super) fn session(&self) -> u64 {
        self.session
    }

    pub(super) fn write(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(1 + RESUME_BYTES);
        bytes.put_u8(RESUME_STREAM);
        bytes.put_u64_le(self.session);
        bytes.put_u64_le(self.known);
        self.received.iter().for_each(|count| bytes.put_u64_le(*count));
        bytes.freeze()
    }

    pub(super) fn read(mut bytes: &[u8]) -> Self {
        let (session, known) = (bytes.get_u64_le(), bytes.get_u64_le());
        Self { session, known, received: std::array::from_fn(|_| bytes.get_u64_le()) }
    }
}

/// Puts a connection in the place of the one before.
pub(super) fn attach(shared: &Arc<Shared>, connection: Connection) {
    let mut link = shared.link.lock();
    if let Some(before) = link.task.take() {
        before.abort();
    }
    if let Some(before) = link.connection.replace(connection.clone()) {
        before.close(Code::Duplicate, "another connection took its place");
    }
    link.generation += 1;
    shared.connected.store(false, Ordering::Release);
    // The tasks must not keep the lanes alive; the guard of the last handle ends them.
    link.task = Some(tokio::spawn(run(shared.clone(), connection, link.generation)).abort_handle());
}

async fn run(shared: Arc<Shared>, connection: Connection, generation: u64) {
    // Dropped with this task, which ends every other task of the connection.
    let mut tasks = JoinSet::new();
    let outcome = carry(&shared, &connection, generation, &mut tasks).await;
    if let Err(why) = outcome {
        let code = if why.kind() == io::ErrorKind::InvalidData { Code::Garbage } else { Code::Done };
        if connection.is_open() {
            tracing::warn!(node = %shared.node, %why, "a data connection is closed");
        }
        connection.close(code, &why.to_string());
    }
    tasks.shutdown().await;
    let why: Closed = connection.closed().await;
    {
        let mut link = shared.link.lock();
        if link.generation != generation {
            return;
        }
        link.connection = None;
        link.task = None;
        shared.connected.store(false, Ordering::Release);
    }
    shared.receive.detached(shared.node, why);
}

/// Carries frames until the connection ends or either side breaks the protocol.
async fn carry(
    shared: &Arc<Shared>,
    connection: &Connection,
    generation: u64,
    tasks: &mut JoinSet<io::Result<()>>,
) -> io::Result<()> {
    let inner = connection.inner().clone();
    let mut acks_out = inner.open_uni().await?;
    // Heard and said before anything else: the rest of a busy stream must not delay them.
    let _ = acks_out.set_priority(10);
    acks_out.write_chunk(resume(shared).write()).await?;
    let late = |_| garbage("the peer did not say where to go on");
    let (acks_in, early, peer) = timeout(RESUME_WITHIN, find_resume(&inner)).await.map_err(late)??;
    let firsts = shared.resume(peer)?;
    if shared.link.lock().generation != generation {
        return Ok(());
    }
    let (progress, read) = <(Arc<Progress>, Arc<AtomicU64>)>::default();
    for (lane, first) in firsts.into_iter().enumerate() {
        tasks.spawn(write_lane(shared.clone(), inner.clone(), (lane, first), progress.clone()));
    }
    tasks.spawn(read_acks(shared.clone(), acks_in, progress));
    tasks.spawn(write_acks(shared.clone(), acks_out, read.clone()));
    tasks.spawn(accept_lanes(shared.clone(), inner, (peer.session, read), early));
    shared.connected.store(true, Ordering::Release);
    // The first task to end ends the connection.
    match tasks.join_next().await {
        Some(Ok(outcome)) => outcome,
        Some(Err(error)) => Err(io::Error::other(error)),
        None => Ok(()),
    }
}

pub(super) fn resume(shared: &Shared) -> Resume {
    let received = std::array::from_fn(|lane| shared.inbound[lane].lock().received());
    Resume { session: shared.session, known: shared.peer_session.load(Ordering::Acquire), received }
}

impl Shared {
    /// Agrees with the peer on where to go on; returns each lane's first number.
    pub(super) fn resume(&self, peer: Resume) -> io::Result<[u64; LANES]> {
        self.peer_session.store(peer.session, Ordering::Release);
        self.inbound.iter().for_each(|lane| lane.lock().begin(peer.session));
        let mut firsts = [0; LANES];
        for (lane, first) in firsts.iter_mut().enumerate() {
            let received = (peer.known == self.session).then_some(peer.received[lane]);
            *first = self.outbound[lane].lock().resume(received).map_err(garbage)?;
            self.wake_room(lane);
        }
        self.wake_large();
        self.acks.heard.notify_waiters();
        Ok(firsts)
    }
}

type Early = Vec<quinn::RecvStream>;

/// The peer's streams may come in any order; those before the resume stream are kept.
async fn find_resume(connection: &quinn::Connection) -> io::Result<(quinn::RecvStream, Early, Resume)> {
    let mut early = Vec::new();
    loop {
        if early.len() > LANES {
            return Err(garbage("more data streams than there are lanes"));
        }
        let mut stream = connection.accept_uni().await?;
        match stream.read_u8().await? {
            RESUME_STREAM => {
                let mut bytes = [0; RESUME_BYTES];
                read_exact(&mut stream, &mut bytes).await?;
                return Ok((stream, early, Resume::read(&bytes)));
            }
            LANE_STREAM => early.push(stream),
            kind => return Err(garbage(format!("a data stream of unknown kind {kind}"))),
        }
    }
}

/// Takes the peer's lanes, each in a task of its own, until the first of them ends.
async fn accept_lanes(
    shared: Arc<Shared>,
    connection: quinn::Connection,
    (session, read): (u64, Arc<AtomicU64>),
    early: Early,
) -> io::Result<()> {
    let opened = Arc::<[AtomicBool; LANES]>::default();
    let mut readers = JoinSet::new();
    for stream in early {
        readers.spawn(open_lane(shared.clone(), (session, read.clone()), opened.clone(), stream));
    }
    loop {
        // Accepting takes nothing from a stream, so it may be left off.
        let stream = tokio::select! {
            biased;
            Some(ended) = readers.join_next() => return ended.map_err(io::Error::other)?,
            stream = connection.accept_uni() => stream?,
        };
        if readers.len() == LANES {
            return Err(garbage("more data streams than there are lanes"));
        }
        let (shared, opened, read) = (shared.clone(), opened.clone(), read.clone());
        readers.spawn(async move {
            let mut stream = stream;
            match stream.read_u8().await? {
                LANE_STREAM => open_lane(shared, (session, read), opened, stream).await,
                kind => Err(garbage(format!("a data stream of unknown kind {kind}"))),
            }
        });
    }
}

async fn open_lane(
    shared: Arc<Shared>,
    (session, read): (u64, Arc<AtomicU64>),
    opened: Arc<[AtomicBool; LANES]>,
    mut stream: quinn::RecvStream,
) -> io::Result<()> {
    let (lane, first) = (usize::from(stream.read_u8().await?), stream.read_u64_le().await?);
    let opened = opened.get(lane).ok_or_else(|| garbage(format!("there is no lane {lane}")))?;
    if opened.swap(true, Ordering::AcqRel) {
        return Err(garbage(format!("lane {lane} was opened twice")));
    }
    let large = (lane == LARGE_LANE).then(|| (shared.receive.gate(), read));
    read_lane(shared, (session, lane, first), large, stream).await
}

async fn read_lane(
    shared: Arc<Shared>,
    (session, lane, mut next): (u64, usize, u64),
    large: Option<(Gate, Arc<AtomicU64>)>,
    mut stream: quinn::RecvStream,
) -> io::Result<()> {
    let mut splitter = Splitter::default();
    loop {
        if let Some((gate, _)) = &large {
            gate.opened().await;
            if splitter.buffer().is_empty() {
                // The memory is the last frames' alone.
                *splitter.buffer() = BytesMut::new();
            }
        }
        splitter.buffer().reserve(READ_BYTES);
        let count = stream.read_buf(splitter.buffer()).await?;
        if count == 0 {
            return Err(garbage(format!("lane {lane} ended")));
        }
        if let Some((_, read)) = &large {
            read.fetch_add(count as u64, Ordering::AcqRel);
            shared.acks.received_large(count);
        }
        let (mut frames, mut bytes) = (Vec::new(), 0);
        let fault = loop {
            match splitter.next_frame() {
                Ok(Some(frame)) => {
                    bytes += frame.len();
                    frames.push(frame);
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if !frames.is_empty() {
            let count = frames.len() as u64;
            shared.take((session, lane, next), frames);
            next = next.saturating_add(count);
            if large.is_none() {
                shared.acks.received(bytes);
            }
        }
        if let Some(error) = fault {
            return Err(garbage(error));
        }
    }
}

impl Shared {
    /// Hands frames on. Under the lane's lock: a reader of an older connection may be at work still.
    pub(super) fn take(&self, (session, lane, first): (u64, usize, u64), frames: Vec<BytesMut>) {
        let mut inbound = self.inbound[lane].lock();
        let fresh = inbound.fresh(session, first, frames);
        if !fresh.is_empty() {
            self.receive.frames(self.node, fresh);
        }
    }
}

async fn write_lane(
    shared: Arc<Shared>,
    connection: quinn::Connection,
    (lane, first): (usize, u64),
    progress: Arc<Progress>,
) -> io::Result<()> {
    let mut stream = connection.open_uni().await?;
    let mut head = BytesMut::with_capacity(10);
    head.put_u8(LANE_STREAM);
    head.put_u8(lane as u8);
    head.put_u64_le(first);
    stream.write_chunk(head.freeze()).await?;
    if lane == LARGE_LANE {
        return write_large(&shared, &connection, stream, &progress).await;
    }
    let mut batches = Vec::with_capacity(BATCHES);
    loop {
        poll_fn(|context| {
            while batches.len() < BATCHES
                && let Some(batch) = shared.take_batch(lane, context.waker())
            {
                batches.push(batch);
            }
            if batches.is_empty() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        shared.wake_room(lane);
        stream.write_all_chunks(&mut batches).await?;
        batches.clear();
    }
}

/// The lane of large frames goes in pieces, when the others leave room and as the peer reads.
async fn write_large(
    shared: &Shared,
    connection: &quinn::Connection,
    mut stream: quinn::SendStream,
    progress: &Progress,
) -> io::Result<()> {
    stream.set_priority(-1).map_err(io::Error::other)?;
    let (mut sent, mut rtt) = (0, connection.rtt());
    loop {
        let mut batch =
            poll_fn(|context| shared.take_batch(LARGE_LANE, context.waker()).map_or(Poll::Pending, Poll::Ready)).await;
        shared.wake_room(LARGE_LANE);
        while !batch.is_empty() {
            rtt = rtt.min(connection.rtt());
            progress.room(sent, rtt).await;
            let piece = batch.split_to(batch.len().min(CHUNK_BYTES));
            sent += piece.len() as u64;
            stream.write_chunk(piece).await?;
        }
    }
}

impl Acks {
    fn received(&self, bytes: usize) {
        let unsaid = self.unsaid.fetch_add(bytes, Ordering::AcqRel) + bytes;
        self.some.notify_one();
        if unsaid >= ACK_AFTER_BYTES {
            self.many.notify_one();
        }
    }

    fn received_large(&self, bytes: usize) {
        let unsaid = self.unsaid_large.fetch_add(bytes, Ordering::AcqRel) + bytes;
        self.some.notify_one();
        if unsaid >= ACK_LARGE_AFTER_BYTES {
            self.many.notify_one();
        }
    }

    fn are_many(&self) -> bool {
        self.unsaid.load(Ordering::Acquire) >= ACK_AFTER_BYTES
            || self.unsaid_large.load(Ordering::Acquire) >= ACK_LARGE_AFTER_BYTES
    }
}

async fn write_acks(shared: Arc<Shared>, mut stream: quinn::SendStream, read: Arc<AtomicU64>) -> io::Result<()> {
    let (mut said, mut said_read) = ([0; LANES], 0);
    loop {
        shared.acks.some.notified().await;
        if !shared.acks.are_many() {
            // Timing out is the other half of the rule, not a failure.
            let _ = timeout(ACK_AFTER, shared.acks.many.notified()).await;
        }
        shared.acks.unsaid.store(0, Ordering::Release);
        shared.acks.unsaid_large.store(0, Ordering::Release);
        let mut bytes = BytesMut::with_capacity((LANES + 1) * ACK_BYTES);
        for (lane, said) in said.iter_mut().enumerate() {
            let received = shared.inbound[lane].lock().received();
            if std::mem::replace(said, received) != received {
                bytes.put_u8(lane as u8);
                bytes.put_u64_le(received);
            }
        }
        let read = read.load(Ordering::Acquire);
        if std::mem::replace(&mut said_read, read) != read {
            bytes.put_u8(LARGE_READ);
            bytes.put_u64_le(read);
        }
        if !bytes.is_empty() {
            stream.write_chunk(bytes.freeze()).await?;
        }
    }
}

async fn read_acks(shared: Arc<Shared>, mut stream: quinn::RecvStream, progress: Arc<Progress>) -> io::Result<()> {
    let mut bytes = [0; ACK_BYTES];
    loop {
        read_exact(&mut stream, &mut bytes).await?;
        let (lane, mut count) = (usize::from(bytes[0]), &bytes[1..]);
        if bytes[0] == LARGE_READ {
            progress.taken(count.get_u64_le());
            continue;
        }
        let outbound = shared.outbound.get(lane).ok_or_else(|| garbage(format!("there is no lane {lane}")))?;
        outbound.lock().acknowledge(count.get_u64_le()).map_err(garbage)?;
        shared.wake_room(lane);
        shared.wake_large();
        shared.acks.heard.notify_waiters();
    }
}

async fn read_exact(stream: &mut quinn::RecvStream, bytes: &mut [u8]) -> io::Result<()> {
    stream.read_exact(bytes).await.map_err(|error| match error {
        quinn::ReadExactError::FinishedEarly(_) => garbage("the stream of acknowledgements ended"),
        quinn::ReadExactError::ReadError(error) => error.into(),
    })
}

/// The peer's fault, by its kind.
fn garbage(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_vector_of_resume() {
        let resume = Resume { session: 1, known: 2, received: std::array::from_fn(|lane| 3 + lane as u64) };
        let bytes = resume.write();
        let numbers: Vec<u64> = bytes[1..].chunks(8).map(|mut chunk| chunk.get_u64_le()).collect();
        assert_eq!((bytes[0], numbers), (0, vec![1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(Resume::read(&bytes[1..]), resume);
    }
}
