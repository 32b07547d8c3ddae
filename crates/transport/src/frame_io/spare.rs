//! Memory of large frames: kept for the next one, else given back to the operating system.
//!
//! For 64 MiB either way takes tens of milliseconds, page by page, which a link's thread is not to spend. So the memory of
//! the last frame is kept for a while, and is given back by a thread of its own.
//!
//! - **SP-1.** At most one frame's memory is kept, for [`KEPT_FOR`] after the last large frame.
//! - **SP-2.** No frame gets more than twice the memory that it needs.

use bytes::{Bytes, BytesMut};
use odeon_protocol::{frame::SLACK_BYTES, limits::LARGE_FRAME_BYTES};
use parking_lot::Mutex;
use std::{
    mem,
    sync::{
        OnceLock,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

/// Frames of less are not worth it.
const WORTH_BYTES: usize = 8 * LARGE_FRAME_BYTES;
/// Frames that may wait for the thread; beyond it they are let go at once.
const WAITING_MAX: usize = 256;
/// How long memory is kept for the next frame.
const KEPT_FOR: Duration = Duration::from_secs(5);

static SPARE: Mutex<Option<BytesMut>> = Mutex::new(None);

/// Memory for so many bytes.
#[must_use]
pub fn memory(bytes: usize) -> BytesMut {
    let fits = |spare: &mut BytesMut| (bytes..=bytes.saturating_mul(2)).contains(&spare.capacity());
    let spare = if bytes > WORTH_BYTES { SPARE.lock().take_if(fits) } else { None };
    spare.unwrap_or_else(|| BytesMut::with_capacity(bytes))
}

/// The frame for several owners. Where it is large, its memory is not let go by the last of them.
#[must_use]
pub fn share(frame: BytesMut) -> Bytes {
    if frame.len() > WORTH_BYTES { Bytes::from_owner(Owned(frame)) } else { frame.freeze() }
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
            let thread = thread::Builder::new().name("odeon-memory".to_owned());
            thread.spawn(move || keep_or_let_go(&frames)).ok().map(|_| waiting)
        });
        if let Some(waiting) = waiting {
            // Full, or without a thread: it is let go here.
            drop(waiting.try_send(mem::take(&mut self.0)));
        }
    }
}

fn keep_or_let_go(frames: &Receiver<BytesMut>) {
    loop {
        let has_spare = SPARE.lock().is_some();
        let next = if has_spare {
            frames.recv_timeout(KEPT_FOR)
        } else {
            frames.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        let old = match next {
            Ok(frame) => SPARE.lock().replace(emptied(frame)),
            Err(RecvTimeoutError::Timeout) => SPARE.lock().take(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // Here it takes its time, under no lock.
        drop(old);
    }
}

/// The memory that a frame was in, with what was reserved behind it unless something else is there.
fn emptied(mut frame: BytesMut) -> BytesMut {
    let bytes = frame.len();
    frame.clear();
    // Whoever takes it looks at how much it is.
    let _ = frame.try_reclaim(bytes + SLACK_BYTES);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_whole_again_once_nothing_else_is_in_it() {
        let frame = || {
            let mut buffer = BytesMut::with_capacity(WORTH_BYTES + SLACK_BYTES);
            buffer.resize(WORTH_BYTES, 7);
            (buffer.split_to(WORTH_BYTES), buffer)
        };
        let (first, mut next) = frame();
        let spare = emptied(first);
        next.extend_from_slice(b"the next frame");
        assert_eq!((spare.len(), spare.capacity()), (0, WORTH_BYTES), "the rest is the next frame's");
        let (first, next) = frame();
        drop(next);
        let (place, spare) = (first.as_ptr(), emptied(first));
        assert_eq!((spare.as_ptr(), spare.len()), (place, 0));
        assert!(spare.capacity() >= WORTH_BYTES + SLACK_BYTES);
    }

    #[test]
    fn the_last_frames_memory_serves_the_next_one_of_its_size_and_is_given_back_when_idle() {
        let kept = || SPARE.lock().as_deref().map(<[u8]>::as_ptr);
        let until = |what: &str, condition: &dyn Fn() -> bool| {
            for _ in 0..1000 {
                if condition() {
                    return;
                }
                thread::park_timeout(Duration::from_millis(20));
            }
            panic!("waited in vain for {what}");
        };
        let bytes = 3 * WORTH_BYTES;
        let mut frame = memory(bytes + SLACK_BYTES);
        frame.resize(bytes, 1);
        let place = frame.as_ptr();
        drop(share(frame));
        until("the memory", &|| kept() == Some(place));
        assert!(memory(bytes / 2).capacity() < bytes, "too much for so small a frame");
        assert!(memory(2 * bytes).capacity() >= 2 * bytes && kept() == Some(place), "too little for so large a frame");
        let next = memory(bytes + SLACK_BYTES);
        assert_eq!((next.as_ptr(), next.len(), kept()), (place, 0, None));
        let mut frame = next;
        frame.resize(bytes, 2);
        drop(share(frame));
        until("the memory", &|| kept() == Some(place));
        until("its end", &|| kept().is_none());
    }
}
