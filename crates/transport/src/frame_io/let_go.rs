//! Memory of large frames is given back to the operating system by a thread of its own: for 64 MiB that takes
//! milliseconds, which whoever has the frame last, a link's thread mostly, is not to spend.

use bytes::{Bytes, BytesMut};
use odeon_protocol::limits::LARGE_FRAME_BYTES;
use std::{
    mem,
    sync::{
        OnceLock,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

/// Frames that may wait for that; beyond it they are let go at once.
const WAITING_MAX: usize = 256;

/// The frame for several owners. Where it is large, its memory is not let go by the last of them.
#[must_use]
pub fn share(frame: BytesMut) -> Bytes {
    if frame.len() > 8 * LARGE_FRAME_BYTES { Bytes::from_owner(Owned(frame)) } else { frame.freeze() }
}

struct Owned(BytesMut);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        static WAITING: OnceLock<Option<SyncSender<BytesMut>>> = OnceLock::new();
        let waiting = WAITING.get_or_init(|| {
            let (waiting, frames) = sync_channel(WAITING_MAX);
            // It lives as long as the process: one for all links, asleep most of the time.
            let thread = thread::Builder::new().name("odeon-let-go".to_owned());
            thread.spawn(move || frames.into_iter().for_each(drop)).ok().map(|_| waiting)
        });
        if let Some(waiting) = waiting {
            // Full, or without a thread: it is let go here.
            drop(waiting.try_send(mem::take(&mut self.0)));
        }
    }
}
