//! One connection's part in the life of lanes: resume, then a task per stream and direction until it ends.

use super::{
    super::connection::{Closed, Code, Connection, Inner, Kind},
    Shared, lanes_of,
    large::Progress,
    simulation,
};
use crate::frame_io::memory;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use odeon_protocol::{
    frame::Splitter,
    limits::{CHUNK_BYTES, LANES, LARGE_LANE},
};
use std::{
    future::poll_fn,
    io,
    ops::Range,
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
const ACK_LARGE_AFTER_BYTES: usize = 4 * CHUNK_BYTES;
/// How long it waits otherwise, so that a busy link acknowledges rarely.
pub(super) const ACK_AFTER: Duration = Duration::from_millis(20);
/// Bytes asked of a stream at once.
const READ_BYTES: usize = 128 << 10;
/// How long the peer may take to say where to go on.
pub(super) const RESUME_WITHIN: Duration = Duration::from_secs(5);
/// Batches handed to a stream with one call.
const BATCHES: usize = 16;

/// What readers tell the writer of acknowledgements.
#[derive(Debug, Default)]
pub(super) struct Acks {
    unsaid: AtomicUsize,
    some: Notify,
    many: Notify,
}

/// One connection, as its tasks know it.
#[derive(Clone)]
struct Carried {
    shared: Arc<Shared>,
    connection: quinn::Connection,
    kind: Kind,
    /// How much of the lane of large frames the peer has read over it, and this end.
    progress: Arc<Progress>,
    read: Arc<AtomicU64>,
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
    let carrier = shared.carrier(connection.kind());
    let mut link = carrier.link.lock();
    if let Some(before) = link.task.take() {
        before.abort();
    }
    if let Some(before) = link.connection.replace(connection.clone()) {
        before.close(Code::Duplicate, "another connection took its place");
    }
    link.generation += 1;
    carrier.connected.store(false, Ordering::Release);
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
            tracing::warn!(node = %shared.node, kind = %connection.kind(), %why, "a connection is closed");
        }
        connection.close(code, &why.to_string());
    }
    tasks.shutdown().await;
    let (why, kind): (Closed, Kind) = (connection.closed().await, connection.kind());
    {
        let carrier = shared.carrier(kind);
        let mut link = carrier.link.lock();
        if link.generation != generation {
            return;
        }
        link.connection = None;
        link.task = None;
        carrier.connected.store(false, Ordering::Release);
    }
    shared.receive.detached(shared.node, kind, why);
}

/// Carries frames until the connection ends or either side breaks the protocol.
async fn carry(
    shared: &Arc<Shared>,
    connection: &Connection,
    generation: u64,
    tasks: &mut JoinSet<io::Result<()>>,
) -> io::Result<()> {
    let kind = connection.kind();
    let inner = match connection.inner() {
        Inner::Quic(inner) => inner.clone(),
        Inner::Simulated(end) => return simulation::carry(shared, &end.0, (kind, generation)).await,
    };
    let mut acks_out = inner.open_uni().await?;
    // Heard and said before anything else: the rest of a busy stream must not delay them.
    let _ = acks_out.set_priority(10);
    acks_out.write_chunk(resume(shared, lanes_of(kind).start).write()).await?;
    let late = |_| garbage("the peer did not say where to go on");
    let (acks_in, early, peer) = timeout(RESUME_WITHIN, find_resume(&inner)).await.map_err(late)??;
    let firsts = shared.resume(peer, lanes_of(kind))?;
    if shared.carrier(kind).link.lock().generation != generation {
        return Ok(());
    }
    let (progress, read) = Default::default();
    let carried = Carried { shared: shared.clone(), connection: inner, kind, progress, read };
    for lane in lanes_of(kind) {
        tasks.spawn(write_lane(carried.clone(), lane, firsts[lane]));
    }
    tasks.spawn(read_acks(carried.clone(), acks_in));
    tasks.spawn(write_acks(carried.clone(), acks_out));
    tasks.spawn(accept_lanes(carried, peer.session, early));
    shared.carrier(kind).connected.store(true, Ordering::Release);
    // The first task to end ends the connection.
    match tasks.join_next().await {
        Some(Ok(outcome)) => outcome,
        Some(Err(error)) => Err(io::Error::other(error)),
        None => Ok(()),
    }
}

/// What this end says first over a connection; `lane` is one of those that it carries.
pub(super) fn resume(shared: &Shared, lane: usize) -> Resume {
    let received = std::array::from_fn(|lane| shared.inbound[lane].lock().received());
    Resume { session: shared.session, known: shared.inbound[lane].lock().session(), received }
}

impl Shared {
    /// Agrees with the peer on where to go on with these lanes; returns each one's first number.
    pub(super) fn resume(&self, peer: Resume, lanes: Range<usize>) -> io::Result<[u64; LANES]> {
        let mut firsts = [0; LANES];
        for lane in lanes {
            self.inbound[lane].lock().begin(peer.session);
            let received = (peer.known == self.session).then_some(peer.received[lane]);
            firsts[lane] = self.outbound[lane].lock().resume(received).map_err(garbage)?;
            self.wake_room(lane);
        }
        self.wake_large();
        self.heard.notify_waiters();
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
async fn accept_lanes(carried: Carried, session: u64, early: Early) -> io::Result<()> {
    let opened = Arc::<[AtomicBool; LANES]>::default();
    let mut readers = JoinSet::new();
    for stream in early {
        readers.spawn(open_lane(carried.clone(), session, opened.clone(), stream));
    }
    loop {
        // Accepting takes nothing from a stream, so it may be left off.
        let stream = tokio::select! {
            biased;
            Some(ended) = readers.join_next() => return ended.map_err(io::Error::other)?,
            stream = carried.connection.accept_uni() => stream?,
        };
        if readers.len() == LANES {
            return Err(garbage("more data streams than there are lanes"));
        }
        let (carried, opened) = (carried.clone(), opened.clone());
        readers.spawn(async move {
            let mut stream = stream;
            match stream.read_u8().await? {
                LANE_STREAM => open_lane(carried, session, opened, stream).await,
                kind => Err(garbage(format!("a data stream of unknown kind {kind}"))),
            }
        });
    }
}

async fn open_lane(
    carried: Carried,
    session: u64,
    opened: Arc<[AtomicBool; LANES]>,
    mut stream: quinn::RecvStream,
) -> io::Result<()> {
    let (lane, first) = (usize::from(stream.read_u8().await?), stream.read_u64_le().await?);
    let opened = opened.get(lane).filter(|_| lanes_of(carried.kind).contains(&lane));
    let opened = opened.ok_or_else(|| no_lane(lane, carried.kind))?;
    if opened.swap(true, Ordering::AcqRel) {
        return Err(garbage(format!("lane {lane} was opened twice")));
    }
    read_lane(carried, (session, lane, first), stream).await
}

async fn read_lane(
    carried: Carried,
    (session, lane, mut next): (u64, usize, u64),
    mut stream: quinn::RecvStream,
) -> io::Result<()> {
    let Carried { shared, kind, .. } = &carried;
    let acks = &shared.carrier(*kind).acks;
    let gate = (*kind == Kind::Large).then(|| shared.receive.gate());
    let mut splitter = Splitter::with_memory(memory);
    loop {
        if let Some(gate) = &gate {
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
        if gate.is_some() {
            carried.read.fetch_add(count as u64, Ordering::AcqRel);
            acks.received(count, ACK_LARGE_AFTER_BYTES);
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
            if gate.is_none() {
                acks.received(bytes, ACK_AFTER_BYTES);
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

async fn write_lane(carried: Carried, lane: usize, first: u64) -> io::Result<()> {
    let mut stream = carried.connection.open_uni().await?;
    let mut head = BytesMut::with_capacity(10);
    head.put_u8(LANE_STREAM);
    head.put_u8(lane as u8);
    head.put_u64_le(first);
    stream.write_chunk(head.freeze()).await?;
    if lane == LARGE_LANE {
        return write_large(&carried, stream).await;
    }
    let shared = &carried.shared;
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

/// The lane of large frames goes in pieces, as the peer reads.
async fn write_large(carried: &Carried, mut stream: quinn::SendStream) -> io::Result<()> {
    let Carried { shared, connection, progress, .. } = carried;
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
    fn received(&self, bytes: usize, many: usize) {
        let unsaid = self.unsaid.fetch_add(bytes, Ordering::AcqRel) + bytes;
        self.some.notify_one();
        if unsaid >= many {
            self.many.notify_one();
        }
    }
}

async fn write_acks(carried: Carried, mut stream: quinn::SendStream) -> io::Result<()> {
    let Carried { shared, kind, read, .. } = carried;
    let acks = &shared.carrier(kind).acks;
    let many = if kind == Kind::Large { ACK_LARGE_AFTER_BYTES } else { ACK_AFTER_BYTES };
    let (mut said, mut said_read) = ([0; LANES], 0);
    loop {
        acks.some.notified().await;
        if acks.unsaid.load(Ordering::Acquire) < many {
            // Timing out is the other half of the rule, not a failure.
            let _ = timeout(ACK_AFTER, acks.many.notified()).await;
        }
        acks.unsaid.store(0, Ordering::Release);
        let mut bytes = BytesMut::with_capacity((LANES + 1) * ACK_BYTES);
        for lane in lanes_of(kind) {
            let received = shared.inbound[lane].lock().received();
            if std::mem::replace(&mut said[lane], received) != received {
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

async fn read_acks(carried: Carried, mut stream: quinn::RecvStream) -> io::Result<()> {
    let Carried { shared, kind, progress, .. } = carried;
    let mut bytes = [0; ACK_BYTES];
    loop {
        read_exact(&mut stream, &mut bytes).await?;
        let (lane, mut count) = (usize::from(bytes[0]), &bytes[1..]);
        if bytes[0] == LARGE_READ {
            progress.taken(count.get_u64_le());
            continue;
        }
        let outbound = shared.outbound.get(lane).filter(|_| lanes_of(kind).contains(&lane));
        let outbound = outbound.ok_or_else(|| no_lane(lane, kind))?;
        outbound.lock().acknowledge(count.get_u64_le()).map_err(garbage)?;
        shared.wake_room(lane);
        shared.wake_large();
        shared.heard.notify_waiters();
    }
}

async fn read_exact(stream: &mut quinn::RecvStream, bytes: &mut [u8]) -> io::Result<()> {
    stream.read_exact(bytes).await.map_err(|error| match error {
        quinn::ReadExactError::FinishedEarly(_) => garbage("the stream of acknowledgements ended"),
        quinn::ReadExactError::ReadError(error) => error.into(),
    })
}

fn no_lane(lane: usize, kind: Kind) -> io::Error {
    garbage(format!("a {kind} connection has no lane {lane}"))
}

/// The peer's fault, by its kind.
pub(super) fn garbage(why: impl ToString) -> io::Error {
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
