//! The queue of frames towards one peer, and its writer.

use super::large::Large;
use bytes::{Bytes, BytesMut};
use odeon_protocol::{
    frame::{self, Class, Header, Kind, Splitter, is_bulk, kind_of, order_of},
    limits::{LARGE_FRAME_BYTES, LARGE_QUEUE_BYTES, LINK_QUEUE_BYTES},
};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io, mem,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// A write buffer larger than this is given back to the allocator once it is written.
const KEPT_BYTES: usize = 1 << 20;

/// The queue of frames towards one peer. Clones are the same queue.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

struct Shared {
    limit: usize,
    urgent_limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    filling: BytesMut,
    /// Bytes that the writer has taken and not yet handed to the stream.
    writing: usize,
    closed: bool,
    writer: Option<Waker>,
    waiting: Vec<Waker>,
    large: Large,
    /// Those for whose large frames there was no room.
    waiting_large: VecDeque<Waker>,
    unsent: Vec<BytesMut>,
}

impl State {
    fn queued(&self) -> usize {
        self.filling.len() + self.writing
    }

    /// Those to wake once the lock is released.
    fn close(&mut self) -> Vec<Waker> {
        self.closed = true;
        let mut wakers = mem::take(&mut self.waiting);
        wakers.extend(self.waiting_large.drain(..));
        wakers.extend(self.writer.take());
        wakers
    }

    /// What was appended from `start` on goes behind the large frames, if it must not overtake them.
    fn keep_order(&mut self, start: usize) {
        let mut at = start;
        while let Some(head) = self.filling[at..].first_chunk::<4>() {
            let end = at + u32::from_le_bytes(*head) as usize + 4;
            let frame = &self.filling[at..end.min(self.filling.len())];
            if !is_bulk(frame) && !self.large.holds(order_of(frame)) {
                at = end;
                continue;
            }
            // Copied: it is small, and the buffer stays in one piece.
            let frame = Bytes::copy_from_slice(frame);
            let rest = self.filling.split_off(at);
            self.filling.extend_from_slice(&rest[frame.len()..]);
            self.large.push(frame);
        }
    }

    /// Appends a chunk of the large frames, if the reader takes one; those that end in it. Those to wake.
    fn take_chunk(&mut self, out: &mut BytesMut) -> (Vec<Bytes>, Vec<Waker>) {
        let ended = self.large.take_chunk(out);
        let woken = if self.large.is_empty() {
            self.waiting_large.drain(..).collect()
        } else if !ended.is_empty() && self.large.bytes() < LARGE_QUEUE_BYTES {
            // One at a time: most of them could only come back.
            self.waiting_large.pop_front().into_iter().collect()
        } else {
            Vec::new()
        };
        (ended, woken)
    }
}

/// Why a frame was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// As much is queued as may be; see [`Outbox::poll_room`].
    #[error("the queue towards the peer is full")]
    Full,
    /// The stream has ended or was closed.
    #[error("the link to the peer is closed")]
    Closed,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new(LINK_QUEUE_BYTES)
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        f.debug_struct("Outbox").field("queued", &state.queued()).field("closed", &state.closed).finish_non_exhaustive()
    }
}

impl Outbox {
    /// A queue of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self::with_urgent_limit(limit, usize::MAX)
    }

    /// A queue of at most `limit` bytes, or `urgent_limit` with urgent frames: for a peer that is not trusted to read.
    #[must_use]
    pub fn with_urgent_limit(limit: usize, urgent_limit: usize) -> Self {
        Self { shared: Arc::new(Shared { limit, urgent_limit, state: Mutex::default() }) }
    }

    /// Queues what `write` appends, which must be whole frames. It runs under the lock: keep it short.
    ///
    /// # Errors
    /// [`PushError::Full`] over the limit, which for [`Class::Urgent`] is another one; `write` has not run then.
    pub fn try_push(&self, class: Class, write: impl FnOnce(&mut BytesMut)) -> Result<(), PushError> {
        let writer = {
            let mut state = self.shared.state.lock();
            self.append(&mut state, class, write)?;
            state.writer.take()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        Ok(())
    }

    /// As [`Outbox::try_push`], but a sleeping writer sleeps on until [`Outbox::flush`], so that more can gather. Answers
    /// how many bytes are queued.
    ///
    /// # Errors
    /// As [`Outbox::try_push`].
    pub fn try_push_quietly(&self, class: Class, write: impl FnOnce(&mut BytesMut)) -> Result<usize, PushError> {
        let mut state = self.shared.state.lock();
        self.append(&mut state, class, write)?;
        Ok(state.queued())
    }

    /// Wakes the writer if something is queued.
    pub fn flush(&self) {
        let writer = {
            let mut state = self.shared.state.lock();
            if state.filling.is_empty() { None } else { state.writer.take() }
        };
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    fn append(&self, state: &mut State, class: Class, write: impl FnOnce(&mut BytesMut)) -> Result<(), PushError> {
        if state.closed {
            return Err(PushError::Closed);
        }
        let limit = if class == Class::Urgent { self.shared.urgent_limit } else { self.shared.limit };
        if state.queued() >= limit {
            return Err(PushError::Full);
        }
        let start = state.filling.len();
        write(&mut state.filling);
        if !state.large.is_empty() {
            state.keep_order(start);
        }
        Ok(())
    }

    /// Queues a whole frame.
    ///
    /// # Errors
    /// As [`Outbox::try_push`], for a large frame as [`Outbox::try_push_large`].
    pub fn try_push_bytes(&self, class: Class, frame: &[u8]) -> Result<(), PushError> {
        if frame.len() > LARGE_FRAME_BYTES {
            return self.try_push_large(class, Bytes::copy_from_slice(frame));
        }
        self.try_push(class, |buffer| buffer.extend_from_slice(frame))
    }

    /// Queues a whole frame that leaves in chunks, as every one of more than [`LARGE_FRAME_BYTES`] should.
    ///
    /// # Errors
    /// [`PushError::Full`] with [`LARGE_QUEUE_BYTES`] of such frames queued, save for [`Class::Urgent`].
    pub fn try_push_large(&self, class: Class, frame: Bytes) -> Result<(), PushError> {
        let writer = {
            let mut state = self.shared.state.lock();
            if state.closed {
                return Err(PushError::Closed);
            }
            if class != Class::Urgent && state.large.bytes() >= LARGE_QUEUE_BYTES {
                return Err(PushError::Full);
            }
            state.large.push(frame);
            if state.large.is_ready() { state.writer.take() } else { None }
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        Ok(())
    }

    /// Whether [`Outbox::try_push_large`] takes a frame now, [`Class::Urgent`] ones apart. Others may come first.
    #[must_use]
    pub fn has_room_for_large(&self) -> bool {
        self.shared.state.lock().large.bytes() < LARGE_QUEUE_BYTES
    }

    /// The reader has taken so many chunks.
    pub(super) fn credited(&self, chunks: u64) {
        let writer = {
            let mut state = self.shared.state.lock();
            state.large.credit(chunks);
            if state.large.is_ready() { state.writer.take() } else { None }
        };
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// So many chunks of the peer were taken.
    pub(super) fn credit_peer(&self, chunks: u64) {
        let header = Header { class: Class::Urgent, correlation: chunks, ..Header::new(Kind::Credit) };
        // Closed, there is no peer; full, it does not read.
        let _ = self.try_push(Class::Urgent, |buffer| {
            frame::write(buffer, &header, &[], &[]);
        });
    }

    /// Queues a whole frame as soon as there is room.
    ///
    /// # Errors
    /// Only [`PushError::Closed`].
    pub async fn push_bytes(&self, class: Class, frame: &[u8]) -> Result<(), PushError> {
        loop {
            match self.try_push_bytes(class, frame) {
                Err(PushError::Full) if frame.len() > LARGE_FRAME_BYTES => {
                    poll_fn(|context| self.poll_room_for_large(context)).await?;
                }
                Err(PushError::Full) => poll_fn(|context| self.poll_room(context)).await?,
                done => return done,
            }
        }
    }

    /// Ready when there is room. Others may take it first: push again in a loop.
    ///
    /// # Errors
    /// Only [`PushError::Closed`].
    pub fn poll_room(&self, context: &Context<'_>) -> Poll<Result<(), PushError>> {
        let mut state = self.shared.state.lock();
        if state.closed {
            return Poll::Ready(Err(PushError::Closed));
        }
        if state.queued() < self.shared.limit {
            return Poll::Ready(Ok(()));
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Ready when there is room for a large frame. Others may take it first: push again in a loop.
    ///
    /// # Errors
    /// Only [`PushError::Closed`].
    pub fn poll_room_for_large(&self, context: &Context<'_>) -> Poll<Result<(), PushError>> {
        let mut state = self.shared.state.lock();
        if state.closed {
            return Poll::Ready(Err(PushError::Closed));
        }
        if state.large.bytes() < LARGE_QUEUE_BYTES {
            return Poll::Ready(Ok(()));
        }
        if !state.waiting_large.iter().any(|waker| waker.will_wake(context.waker())) {
            state.waiting_large.push_back(context.waker().clone());
        }
        Poll::Pending
    }

    /// Bytes waiting to be handed to the stream.
    #[must_use]
    pub fn queued(&self) -> usize {
        let state = self.shared.state.lock();
        state.queued() + state.large.bytes()
    }

    /// Bytes of large frames that wait, and how many chunks the reader has taken so far.
    #[must_use]
    pub fn large(&self) -> (usize, u64) {
        let state = self.shared.state.lock();
        (state.large.bytes(), state.large.credited())
    }

    /// Takes no more frames; what is queued is still written, then the stream is shut down.
    pub fn close(&self) {
        let wakers = self.shared.state.lock().close();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether the queue takes no more frames.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.state.lock().closed
    }

    /// The frames that were queued and never wholly handed to the stream, once the writer has ended.
    #[must_use]
    pub fn take_unsent(&self) -> Vec<BytesMut> {
        mem::take(&mut self.shared.state.lock().unsent)
    }

    /// Takes what has gathered, at most about `limit` bytes in whole frames, as handed to a stream: for writers of their
    /// own.
    #[must_use]
    pub fn take_queued(&self, limit: usize) -> BytesMut {
        let mut state = self.shared.state.lock();
        let mut end = 0;
        // Every frame was whole when it was pushed: its length is its first field.
        while end < limit.min(state.filling.len()) {
            let Some(head) = state.filling[end..].first_chunk::<4>() else { break };
            end += u32::from_le_bytes(*head) as usize + 4;
        }
        let end = end.min(state.filling.len());
        let mut taken = state.filling.split_to(end);
        state.writing += taken.len();
        let written = taken.len();
        let woken =
            if state.filling.is_empty() && written < limit { state.take_chunk(&mut taken).1 } else { Vec::new() };
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        self.written(written);
        taken
    }

    /// Closes the queue; what was queued is found by [`Outbox::take_unsent`]. For writers of their own.
    pub fn abandon(&self) {
        let wakers = {
            let mut state = self.shared.state.lock();
            let mut unsent = whole_frames(mem::take(&mut state.filling), 0);
            unsent.extend(state.large.take_all().into_iter().map(mutable));
            state.unsent.extend(unsent);
            state.close()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Swaps the empty `batch` for what has gathered, and a chunk of what is large. Ready with `false` when closed and
    /// empty.
    fn poll_take(&self, context: &Context<'_>, batch: &mut BytesMut, ended: &mut Vec<Bytes>) -> Poll<bool> {
        let woken = {
            let mut state = self.shared.state.lock();
            if state.filling.is_empty() && !state.large.is_ready() {
                if state.closed && state.large.is_empty() {
                    return Poll::Ready(false);
                }
                state.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            mem::swap(&mut state.filling, batch);
            let (in_chunk, woken) = state.take_chunk(batch);
            ended.extend(in_chunk);
            state.writing = batch.len();
            woken
        };
        woken.into_iter().for_each(Waker::wake);
        Poll::Ready(true)
    }

    fn written(&self, bytes: usize) {
        let woken = {
            let mut state = self.shared.state.lock();
            state.writing -= bytes;
            // Waiters come back in a crowd: let enough room gather that most of them get in.
            if state.waiting.is_empty() || state.queued() > self.shared.limit / 2 {
                return;
            }
            mem::take(&mut state.waiting)
        };
        woken.into_iter().for_each(Waker::wake);
    }
}

/// Writes everything that is pushed to `outbox` until it is closed and empty, then shuts the stream down.
///
/// However it ends, by an error or by being dropped, the outbox is closed and keeps what was not sent.
///
/// # Errors
/// The stream's.
pub async fn write_frames<W: AsyncWrite + Unpin>(outbox: &Outbox, mut stream: W) -> io::Result<()> {
    let mut writing = Writing { outbox, batch: BytesMut::new(), ended: Vec::new(), done: 0 };
    while poll_fn(|context| {
        let Writing { batch, ended, .. } = &mut writing;
        outbox.poll_take(context, batch, ended)
    })
    .await
    {
        while writing.done < writing.batch.len() {
            let bytes = stream.write(&writing.batch[writing.done..]).await?;
            if bytes == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            writing.done += bytes;
            outbox.written(bytes);
        }
        stream.flush().await?;
        writing.ended.clear();
        writing.done = 0;
        writing.batch.clear();
        if writing.batch.capacity() > KEPT_BYTES {
            writing.batch = BytesMut::new();
        }
    }
    stream.shutdown().await
}

/// What the writer has in hand; leaves it as unsent however the writer ends.
struct Writing<'a> {
    outbox: &'a Outbox,
    batch: BytesMut,
    /// The large frames that end in this batch.
    ended: Vec<Bytes>,
    done: usize,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let wakers = {
            let mut state = self.outbox.shared.state.lock();
            let is_sent = self.done == self.batch.len();
            let mut unsent = whole_frames(mem::take(&mut self.batch), self.done);
            unsent.extend(mem::take(&mut self.ended).into_iter().filter(|_| !is_sent).map(mutable));
            unsent.extend(whole_frames(mem::take(&mut state.filling), 0));
            unsent.extend(state.large.take_all().into_iter().map(mutable));
            state.unsent.extend(unsent);
            state.writing = 0;
            state.close()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The frames of `batch` of which the peer has not everything when `done` bytes were sent.
fn whole_frames(batch: BytesMut, done: usize) -> Vec<BytesMut> {
    let mut splitter = Splitter::default();
    *splitter.buffer() = batch;
    let (mut at, mut frames) = (0, Vec::new());
    while let Ok(Some(frame)) = splitter.next_frame() {
        at += frame.len();
        if at > done && !matches!(kind_of(&frame), Some(Kind::Chunk | Kind::Credit)) {
            frames.push(frame);
        }
    }
    frames
}

fn mutable(frame: Bytes) -> BytesMut {
    frame.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}
