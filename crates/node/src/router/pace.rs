//! How fast a process may ask its agent: what it said and the controller has not looked at yet is counted, and over
//! [`REQUESTS_WAITING_MAX`] its link is not read until half of that is left.

use odeon_protocol::limits::REQUESTS_WAITING_MAX;
use parking_lot::Mutex;
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};
use tokio::io::{AsyncRead, ReadBuf};

/// The requests of one process.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    waiting: AtomicUsize,
    reader: Mutex<Option<Waker>>,
}

/// One request that waits; no longer when it is dropped.
#[derive(Debug)]
pub(crate) struct Waits(Arc<Pace>);

impl Pace {
    /// One more waits.
    pub(super) fn one_more(self: &Arc<Self>) -> Waits {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Waits(self.clone())
    }

    fn is_behind(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > REQUESTS_WAITING_MAX
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::AcqRel) == REQUESTS_WAITING_MAX / 2
            && let Some(reader) = self.0.reader.lock().take()
        {
            reader.wake();
        }
    }
}

/// A link that is read at that pace.
pub(super) struct Paced<R> {
    pub(super) reader: R,
    pub(super) pace: Arc<Pace>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Paced<R> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.pace.is_behind() {
            *self.pace.reader.lock() = Some(context.waker().clone());
            // They may have been looked at in between, and nobody would wake the reader.
            if self.pace.is_behind() {
                return Poll::Pending;
            }
        }
        Pin::new(&mut self.reader).poll_read(context, into)
    }
}
