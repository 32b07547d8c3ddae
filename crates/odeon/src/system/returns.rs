//! Messages that come back: to the actor that sent them, or to the program that did.

use super::{Inner, System};
use crate::{
    core::{
        Envelope, Origin,
        cell::{self, NotTaken},
        envelope::Entry,
    },
    error::{Error, Result},
    supervision::{Returned, ReturnedBody},
};
use odeon_protocol::{Address, Serial, limits::RETURNED_KEPT};
use parking_lot::{Mutex, RwLock};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::mpsc;

type Listener = Box<dyn Fn(&Returned) + Send + Sync>;

/// Who hears of messages that come back to this process.
#[derive(Default)]
pub(crate) struct Returns {
    listeners: RwLock<Vec<Listener>>,
    program: Mutex<Option<Program>>,
}

/// Where a program's own messages go that come back.
struct Program {
    sender: mpsc::Sender<Returned>,
    missed: Arc<AtomicU64>,
}

impl System {
    /// The messages that come back of those that no actor sent: told by `main`, by a web server, by
    /// [`Worker::serve`](crate::Worker::serve)'s future. Those that an actor sent come to its `returned`.
    ///
    /// A message that was accepted comes back if it is known not to have been handled, or if its handler failed; see
    /// [`Returned::may_have_run`]. Asks do not: whoever asked has the error. Messages
    /// whose receiver's process or host was lost after it had taken them come back as one: see [`Returned::count`].
    ///
    /// Up to 1,024 wait here to be taken. What comes while so many wait is heard of by
    /// [`System::on_dead_letter`] alone, and counted in [`ReturnedMessages::missed`].
    ///
    /// # Errors
    /// A message goes to one taker, so there is one at a time: drop the earlier one first.
    ///
    /// ```
    /// # async fn watch(system: odeon::System) -> odeon::Result {
    /// let mut returned = system.returned()?;
    /// system.spawn(async move {
    ///     while let Some(back) = returned.next().await {
    ///         eprintln!("{}: {} {}", back.to(), back.reason(), back.text());
    ///     }
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub fn returned(&self) -> Result<ReturnedMessages> {
        let mut program = self.inner.returns.program.lock();
        if program.as_ref().is_some_and(|taken| !taken.sender.is_closed()) {
            let text =
                "the messages that come back to this system are taken already: drop the earlier `returned()` first";
            return Err(Error::other(text));
        }
        let (sender, receiver) = mpsc::channel(RETURNED_KEPT);
        let missed = Arc::new(AtomicU64::new(0));
        *program = Some(Program { sender, missed: missed.clone() });
        Ok(ReturnedMessages { receiver, missed })
    }

    /// Calls a function for every message that comes back to this process: not handled, or told and failed; whether its
    /// sender hears of it or not.
    ///
    /// It is called where the message came back, often by an actor's thread: it must not wait.
    pub fn on_dead_letter(&self, call: impl Fn(&Returned) + Send + Sync + 'static) {
        self.inner.returns.listeners.write().push(Box::new(call));
    }
}

/// Messages that came back to a program; see [`System::returned`].
pub struct ReturnedMessages {
    receiver: mpsc::Receiver<Returned>,
    missed: Arc<AtomicU64>,
}

impl ReturnedMessages {
    /// The next one; nothing once the system has stopped. May be dropped before it is ready, and called again.
    pub async fn next(&mut self) -> Option<Returned> {
        self.receiver.recv().await
    }

    /// The next one, if it has come.
    pub fn try_next(&mut self) -> Option<Returned> {
        self.receiver.try_recv().ok()
    }

    /// How many are not here as too many waited to be taken.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for ReturnedMessages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReturnedMessages")
            .field("waiting", &self.receiver.len())
            .field("missed", &self.missed())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Gives a message back to its sender; an ask is answered with the error.
    pub(crate) fn give_back(&self, to: Address, mut envelope: Envelope, error: &Error) {
        let asked = envelope.handle().map(std::mem::take);
        let origin = std::mem::take(&mut envelope.origin);
        let returned = Returned {
            reason: error.reason(),
            text: error.text(),
            may_have_run: error.may_have_run(),
            body: ReturnedBody::Value(envelope),
            to,
        };
        match asked {
            // Its origin is dropped after that: the answer is the report of its end.
            Some(handle) => {
                self.tell_of(&origin, &returned);
                self.count_dead(&returned);
                handle.fail(error.clone());
            }
            None => self.give_back_to(origin, returned),
        }
    }

    /// Gives back what is left of a message.
    pub(crate) fn give_back_to(&self, origin: Origin, returned: Returned) {
        let sender = match origin {
            Origin::Outside { .. } => None,
            Origin::Local(sender) => Some(sender.serial()),
            // It comes back where its sender is.
            Origin::Remote(remote) => return remote.give_back(returned),
        };
        self.tell_of(&origin, &returned);
        self.came_back(sender, returned);
    }

    /// A message has come back to that actor of this process, or to the program. The agent tells other listeners of those
    /// that it brought.
    pub(crate) fn came_back(&self, sender: Option<Serial>, returned: Returned) {
        self.count_dead(&returned);
        let unheard = match sender {
            None => self.returns.to_program(returned),
            Some(serial) => self.to_actor(serial, returned),
        };
        if let Some(returned) = unheard {
            self.counters.unheard.fetch_add(u64::from(returned.count()), Ordering::Relaxed);
            let (to, reason, text) = (returned.to(), returned.reason(), returned.text());
            tracing::debug!(%to, %reason, text, "a message came back, and its sender does not hear of it");
        }
    }

    /// The actor of that number; nothing if it is this process's own, that of whoever is none.
    pub(crate) fn sender(&self, serial: Serial) -> Option<Serial> {
        (serial != self.me().serial).then_some(serial)
    }

    /// Tells listeners that a message came back.
    pub(crate) fn count_dead(&self, returned: &Returned) {
        self.counters.dead_letters.fetch_add(u64::from(returned.count()), Ordering::Relaxed);
        self.returns.listeners.read().iter().for_each(|listener| listener(returned));
    }

    /// Answers the message if the actor does not take it any more.
    fn to_actor(&self, serial: Serial, returned: Returned) -> Option<Returned> {
        let Some(sender) = self.registry.get(serial) else { return Some(returned) };
        match cell::push(&sender, Entry::Returned(Box::new(returned)), true) {
            Err(NotTaken::Closed(Entry::Returned(returned)) | NotTaken::Full(Entry::Returned(returned))) => {
                Some(*returned)
            }
            Ok(()) | Err(_) => None,
        }
    }
}

impl Returns {
    /// Answers the message if the program does not take it.
    fn to_program(&self, returned: Returned) -> Option<Returned> {
        let program = self.program.lock();
        let Some(Program { sender, missed }) = program.as_ref() else { return Some(returned) };
        let count = u64::from(returned.count());
        let error = sender.try_send(returned).err()?;
        if matches!(error, mpsc::error::TrySendError::Full(_)) {
            missed.fetch_add(count, Ordering::Relaxed);
        }
        Some(error.into_inner())
    }

    /// Nothing comes back any more.
    pub(crate) fn close(&self) {
        *self.program.lock() = None;
    }
}
