//! Where handlers' futures live: in a buffer of the thread while they run, and in the same buffer, now the actor's, when
//! they wait.
//!
//! A future cannot be moved after its first poll, so the place where it was first polled is given away and the thread
//! takes another.
//!
//! - **F-1.** `Parked` owns its future and the memory under it; both are freed by its `Drop` and nowhere else.

use crate::error::Error;
use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    any::Any,
    cell::RefCell,
    future::Future,
    mem::{align_of, size_of},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    ptr::NonNull,
    task::{Context, Poll},
};

/// A text behind a thin pointer, so that steps fit into registers.
pub(crate) type Text = Box<(String,)>;

/// How a step of an actor's work ended. Small enough for registers: nearly all are `Ok`.
pub(crate) enum End {
    /// Well.
    Ok,
    /// The handler of a tell, or a hook, answered an error.
    Failed(Text),
    /// `start` and `started` are through.
    Started,
    /// `start` or `started` failed.
    NotStarted(Box<Error>),
}

/// What became of a future when it was polled.
pub(crate) enum Step {
    /// It ended.
    Done(End),
    /// It waits, and lies in [`Scratch::parked`].
    Parked,
    /// It panicked, with this text, and is dropped.
    Panicked(Text),
}

type Work = dyn Future<Output = End>;

/// Most handlers' futures fit in this.
const BUFFER: Layout = match Layout::from_size_align(1024, 16) {
    Ok(layout) => layout,
    Err(_) => panic!("1024 and 16 are a layout"),
};
/// Buffers that a thread keeps for reuse.
const KEPT: usize = 64;

thread_local! {
    static BUFFERS: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

struct Buffer(NonNull<u8>);

impl Buffer {
    fn take() -> NonNull<u8> {
        let kept = BUFFERS.try_with(|buffers| buffers.borrow_mut().pop()).ok().flatten();
        match kept {
            Some(buffer) => {
                let place = buffer.0;
                std::mem::forget(buffer);
                place
            }
            None => allocate(BUFFER),
        }
    }

    fn give(place: NonNull<u8>) {
        let mut buffer = Some(Self(place));
        let _ = BUFFERS.try_with(|buffers| {
            let mut buffers = buffers.borrow_mut();
            if buffers.len() < KEPT {
                buffers.extend(buffer.take());
            }
        });
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: every `Buffer` came from `allocate(BUFFER)` and is owned.
        unsafe { dealloc(self.0.as_ptr(), BUFFER) };
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the layout is not of size zero.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

const fn is_small(layout: Layout) -> bool {
    layout.size() <= BUFFER.size() && layout.align() <= BUFFER.align()
}

/// A thread's place for the future that it runs.
pub(crate) struct Scratch {
    place: NonNull<u8>,
    /// The future that was polled last, if it waits.
    pub(crate) parked: Option<Parked>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { place: Buffer::take(), parked: None }
    }

    /// Makes a future in place and polls it once.
    ///
    /// # Safety
    /// What the future borrows lives, and is not touched by others, until it has ended or its [`Parked`] is dropped; the
    /// future is `Send`, if its type does not say so, because whatever it holds is.
    pub(crate) unsafe fn run<F: Future<Output = End>>(
        &mut self,
        make: impl FnOnce() -> F,
        cx: &mut Context<'_>,
    ) -> Step {
        let layout = Layout::new::<F>();
        let small = is_small(layout);
        let place = if small { self.place } else { allocate(layout) }.cast::<F>();
        let mut made = false;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the place is large enough, aligned, ours, and empty.
            unsafe { place.write(make()) };
            made = true;
            // SAFETY: the future stays where it is until it is dropped there.
            let poll = unsafe { Pin::new_unchecked(&mut *place.as_ptr()) }.poll(cx);
            if poll.is_ready() {
                made = false;
                // SAFETY: written above and not used again.
                unsafe { place.drop_in_place() };
            }
            poll
        }));
        let step = match polled {
            Ok(Poll::Ready(end)) => Step::Done(end),
            Ok(Poll::Pending) => {
                if small {
                    self.place = Buffer::take();
                }
                self.parked = Some(Parked::new(place));
                return Step::Parked;
            }
            Err(panic) => {
                if made {
                    // SAFETY: written above, not dropped, not used again.
                    let _ = catch_unwind(AssertUnwindSafe(|| unsafe { place.drop_in_place() }));
                }
                Step::Panicked(Box::new((panic_text(&*panic),)))
            }
        };
        if !small {
            // SAFETY: allocated above with this layout; the future in it is dropped.
            unsafe { dealloc(place.as_ptr().cast(), layout) };
        }
        step
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        Buffer::give(self.place);
    }
}

/// A future that waits.
pub(crate) struct Parked(NonNull<Work>);

// SAFETY: `Scratch::run` takes only futures that may change threads.
unsafe impl Send for Parked {}

impl Parked {
    fn new<F: Future<Output = End>>(place: NonNull<F>) -> Self {
        let work: NonNull<dyn Future<Output = End> + '_> = place;
        // SAFETY: only the lifetime changes; `Scratch::run`'s caller keeps what is borrowed.
        Self(unsafe { std::mem::transmute::<NonNull<dyn Future<Output = End> + '_>, NonNull<Work>>(work) })
    }

    /// Polls it again; if it goes on waiting, it is put back to where it was taken from.
    pub(crate) fn poll(mut self, back: &mut Option<Self>, cx: &mut Context<'_>) -> Step {
        // SAFETY: F-1; the future has not moved since it was made.
        let future = unsafe { Pin::new_unchecked(self.0.as_mut()) };
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Ready(end)) => Step::Done(end),
            Ok(Poll::Pending) => {
                *back = Some(self);
                Step::Parked
            }
            Err(panic) => Step::Panicked(Box::new((panic_text(&*panic),))),
        }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        // SAFETY: F-1; the layout is that of the live future.
        let layout = unsafe { Layout::for_value(self.0.as_ref()) };
        // SAFETY: F-1; dropped once, here. A panic in a destructor ends the future's drop, not the runner.
        let _ = catch_unwind(AssertUnwindSafe(|| unsafe { self.0.drop_in_place() }));
        if is_small(layout) {
            Buffer::give(self.0.cast());
        } else {
            // SAFETY: large futures were allocated with their own layout.
            unsafe { dealloc(self.0.as_ptr().cast(), layout) };
        }
    }
}

/// The text of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".to_owned())
}

const _: () = assert!(size_of::<Step>() == 16, "it is returned in registers");
const _: () = assert!(size_of::<Parked>() == 16 && align_of::<Parked>() == 8, "actors hold one each");
