//! What others see of a runner.

use super::Task;
use crate::core::envelope::MessageTable;
use crossbeam_deque::{Stealer, Worker};
use parking_lot::Mutex;
use std::{
    cell::UnsafeCell,
    ptr,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering},
    thread::Thread,
};

/// What others see of a runner.
pub(crate) struct Seat {
    pub(super) stealer: Stealer<Task>,
    /// Where the queue's own end waits while no thread sits here.
    pub(super) queue: Mutex<Option<Worker<Task>>>,
    pub(super) next: NextSlot,
    /// Counts activations; stands still while one lasts.
    pub(super) activations: AtomicU64,
    /// Counts messages; stands still while one handler is polled.
    pub(crate) beats: AtomicU64,
    /// The message that is handled now.
    pub(crate) message: AtomicPtr<MessageTable>,
    /// The serial of the actor that is running; zero for none.
    pub(crate) serial: AtomicU64,
    /// The monitor has seen this activation last too long: it should let others run.
    pub(crate) hurry: AtomicBool,
    /// A spare was added for the handler that runs here.
    pub(super) blocked: AtomicBool,
    /// Its cells sent something that is still to be sent off.
    pub(super) unsent: AtomicBool,
    pub(super) taken: AtomicBool,
    pub(super) thread: Mutex<Option<Thread>>,
}

/// Room for one cell, behind a lock whose opening is a plain store: it is taken twice for every message of an ask, and
/// held for a few instructions.
///
/// - **S-1.** `task` is touched only between `lock` and the store that opens it again.
#[derive(Default)]
pub(super) struct NextSlot {
    locked: AtomicBool,
    task: UnsafeCell<Option<Task>>,
}

// SAFETY: S-1.
unsafe impl Sync for NextSlot {}

impl NextSlot {
    fn with<T>(&self, change: impl FnOnce(&mut Option<Task>) -> T) -> T {
        while self.locked.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        // SAFETY: S-1; `change` is one of the four below, which do not panic.
        let result = change(unsafe { &mut *self.task.get() });
        self.locked.store(false, Ordering::Release);
        result
    }

    pub(super) fn replace(&self, task: Task) -> Option<Task> {
        self.with(|slot| slot.replace(task))
    }

    pub(super) fn take(&self) -> Option<Task> {
        self.with(Option::take)
    }

    pub(super) fn take_if(&self, is_it: impl FnOnce(&Task) -> bool) -> Option<Task> {
        self.with(|slot| if slot.as_ref().is_some_and(is_it) { slot.take() } else { None })
    }

    pub(super) fn is_some(&self) -> bool {
        self.with(|slot| slot.is_some())
    }
}

impl Seat {
    pub(super) fn new() -> Self {
        let queue = Worker::new_fifo();
        Self {
            stealer: queue.stealer(),
            queue: Mutex::new(Some(queue)),
            next: NextSlot::default(),
            activations: AtomicU64::new(0),
            beats: AtomicU64::new(0),
            message: AtomicPtr::new(ptr::null_mut()),
            serial: AtomicU64::new(0),
            hurry: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            unsent: AtomicBool::new(false),
            taken: AtomicBool::new(false),
            thread: Mutex::new(None),
        }
    }
}
