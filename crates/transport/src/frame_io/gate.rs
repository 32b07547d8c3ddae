//! Holds large frames back while too much waits: shut, no chunk is credited and the lane of large frames is not read.

use super::Outbox;
use parking_lot::Mutex;
use std::{fmt, mem, sync::Arc};
use tokio::sync::watch;

/// See the module's head. Clones are the same gate; it begins open.
#[derive(Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

struct Shared {
    is_open: watch::Sender<bool>,
    /// Credits that are due once it opens.
    due: Mutex<Vec<(Outbox, u64)>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { shared: Arc::new(Shared { is_open: watch::Sender::new(true), due: Mutex::default() }) }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("is_open", &self.is_open()).finish_non_exhaustive()
    }
}

impl Gate {
    /// Whether it is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self.shared.is_open.borrow()
    }

    /// Opens or shuts it.
    pub fn set(&self, open: bool) {
        // Under the lock, so that no credit is put aside after the last look.
        let due = {
            let mut due = self.shared.due.lock();
            self.shared.is_open.send_if_modified(|is_open| mem::replace(is_open, open) != open);
            if open { mem::take(&mut *due) } else { Vec::new() }
        };
        due.into_iter().for_each(|(outbox, chunks)| outbox.credit_peer(chunks));
    }

    /// Ready while it is open.
    pub async fn opened(&self) {
        let mut is_open = self.shared.is_open.subscribe();
        // Its sender lives as long as this.
        let _ = is_open.wait_for(|open| *open).await;
    }

    /// Credits chunks to whoever reads that queue, now or once it opens.
    pub(super) fn credit(&self, outbox: &Outbox, chunks: u64) {
        let mut due = self.shared.due.lock();
        if self.is_open() {
            drop(due);
            return outbox.credit_peer(chunks);
        }
        due.retain(|(outbox, _)| !outbox.is_closed());
        due.push((outbox.clone(), chunks));
    }
}
