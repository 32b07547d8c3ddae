//! Frames in and out of a byte stream, many at a time.
//!
//! Writing: any number of threads append whole frames to one buffer under a short lock; one task hands everything that
//! has gathered to the stream with one write, and while it writes the next buffer fills. Reading: big chunks, cut into
//! frames that share the chunk's memory. Both directions thus cost one system call for many frames.
//!
//! - **FI-1.** Frames leave in the order in which they were pushed, whole.
//! - **FI-2.** At most the limit plus one frame is queued. Urgent frames have no limit, or one of their own.
//! - **FI-3.** A frame is either handed to the stream whole or found in [`Outbox::take_unsent`] after the end.
//! - **FI-4.** A malformed stream delivers the frames before the fault, then ends with an error.

use bytes::BytesMut;
use odeon_protocol::{
    frame::{Class, FrameError, Splitter},
    limits::LINK_QUEUE_BYTES,
};
use parking_lot::Mutex;
use std::{
    fmt,
    future::poll_fn,
    io, mem,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes asked of the stream at once.
const CHUNK_BYTES: usize = 128 << 10;
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
        wakers.extend(self.writer.take());
        wakers
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
        write(&mut state.filling);
        Ok(())
    }

    /// Queues a whole frame.
    ///
    /// # Errors
    /// As [`Outbox::try_push`].
    pub fn try_push_bytes(&self, class: Class, frame: &[u8]) -> Result<(), PushError> {
        self.try_push(class, |buffer| buffer.extend_from_slice(frame))
    }

    /// Queues a whole frame as soon as there is room.
    ///
    /// # Errors
    /// Only [`PushError::Closed`].
    pub async fn push_bytes(&self, class: Class, frame: &[u8]) -> Result<(), PushError> {
        loop {
            match self.try_push_bytes(class, frame) {
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

    /// Bytes waiting to be handed to the stream.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.state.lock().queued()
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
        let taken = state.filling.split_to(end);
        state.writing += taken.len();
        drop(state);
        self.written(taken.len());
        taken
    }

    /// Closes the queue; what was queued is found by [`Outbox::take_unsent`]. For writers of their own.
    pub fn abandon(&self) {
        let wakers = {
            let mut state = self.shared.state.lock();
            let filling = mem::take(&mut state.filling);
            state.unsent.extend(whole_frames(filling, 0));
            state.close()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Swaps the empty `batch` for what has gathered. Ready with `false` when closed and empty.
    fn poll_take(&self, context: &Context<'_>, batch: &mut BytesMut) -> Poll<bool> {
        let mut state = self.shared.state.lock();
        if !state.filling.is_empty() {
            mem::swap(&mut state.filling, batch);
            state.writing = batch.len();
            return Poll::Ready(true);
        }
        if state.closed {
            return Poll::Ready(false);
        }
        state.writer = Some(context.waker().clone());
        Poll::Pending
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
    let mut writing = Writing { outbox, batch: BytesMut::new(), done: 0 };
    while poll_fn(|context| outbox.poll_take(context, &mut writing.batch)).await {
        while writing.done < writing.batch.len() {
            let bytes = stream.write(&writing.batch[writing.done..]).await?;
            if bytes == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            writing.done += bytes;
            outbox.written(bytes);
        }
        stream.flush().await?;
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
    done: usize,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let wakers = {
            let mut state = self.outbox.shared.state.lock();
            let mut unsent = whole_frames(mem::take(&mut self.batch), self.done);
            unsent.extend(whole_frames(mem::take(&mut state.filling), 0));
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
        if at > done {
            frames.push(frame);
        }
    }
    frames
}

/// Reads until the stream's end and hands over frames as they come, many at a time.
///
/// The frames share the chunk they were read in: what is to be kept for long is to be copied.
///
/// # Errors
/// The stream's error, a malformed frame, or an end within a frame.
pub async fn read_frames<R: AsyncRead + Unpin>(
    mut stream: R,
    mut on_batch: impl FnMut(Vec<BytesMut>),
) -> Result<(), ReadError> {
    let mut splitter = Splitter::default();
    loop {
        splitter.buffer().reserve(CHUNK_BYTES);
        if stream.read_buf(splitter.buffer()).await? == 0 {
            return match splitter.buffer().len() {
                0 => Ok(()),
                bytes => Err(ReadError::Cut { bytes }),
            };
        }
        let mut batch = Vec::new();
        let fault = loop {
            match splitter.next_frame() {
                Ok(Some(frame)) => batch.push(frame),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if !batch.is_empty() {
            on_batch(batch);
        }
        if let Some(error) = fault {
            return Err(error.into());
        }
    }
}

/// Why a stream of frames ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream failed.
    #[error("the stream failed: {0}")]
    Stream(#[from] io::Error),
    /// The bytes are no frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream ended within a frame.
    #[error("the stream ended within a frame, after {bytes} of its bytes")]
    Cut {
        /// How much of the frame had come.
        bytes: usize,
    },
}
