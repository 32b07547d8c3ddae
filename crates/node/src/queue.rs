//! A queue between two threads of an agent: any number push without waiting, one takes everything at once.
//!
//! It has no limit of its own: what is pushed is an answer to something, or was admitted under a limit before.

use parking_lot::Mutex;
use std::mem;
use tokio::sync::Notify;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    items: Mutex<Vec<T>>,
    wake: Notify,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { items: Mutex::default(), wake: Notify::new() }
    }
}

impl<T> Queue<T> {
    /// Appends one.
    pub(crate) fn push(&self, item: T) {
        self.items.lock().push(item);
        self.wake.notify_one();
    }

    /// Everything that was pushed, if anything was.
    pub(crate) fn take_now(&self) -> Vec<T> {
        mem::take(&mut *self.items.lock())
    }

    /// Everything that was pushed, at least one; waits for it. For one taker at a time.
    pub(crate) async fn take(&self) -> Vec<T> {
        loop {
            let items = self.take_now();
            if !items.is_empty() {
                return items;
            }
            self.wake.notified().await;
        }
    }
}
