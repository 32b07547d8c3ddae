//! Dead letters: hearing of messages that come back, here and on every other host.

use super::{Inner, System};
use crate::{
    core::{Origin, clock},
    error::{Error, Result},
    supervision::{Returned, ReturnedBody},
};
use odeon_cluster::Rate;
use odeon_protocol::{
    Address, DeadLetter, Time,
    frame::Codec,
    hash::fnv1a,
    limits::{DEAD_LETTER_LISTENERS_MAX, DEAD_LETTERS_A_SECOND, DEAD_LETTERS_KEPT},
};
use parking_lot::Mutex;
use std::{
    fmt, mem,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::mpsc;

/// Who listens in this process, and whether anybody does anywhere.
pub(crate) struct Letters {
    wanted: AtomicBool,
    rate: Mutex<Rate>,
    /// Nothing once no letters come any more.
    listeners: Mutex<Option<Vec<Listener>>>,
}

struct Listener {
    sender: mpsc::Sender<DeadLetter>,
    missed: u64,
}

impl Default for Letters {
    fn default() -> Self {
        Self {
            wanted: AtomicBool::new(false),
            rate: Mutex::new(Rate::new(DEAD_LETTERS_A_SECOND)),
            listeners: Mutex::new(Some(Vec::new())),
        }
    }
}

impl System {
    /// Hears of every message that comes back, on any host of the convention, from now on: not handled, or told and
    /// failed; whether its sender hears of it or not. Under [`System::local`] that is any of this process.
    ///
    /// Told messages are meant, and asks that came back before a handler began. Those that were told and lost with their
    /// receiver's process or host come as one letter for each sender; see [`DeadLetter::count`]. An ask whose handler failed, or that was
    /// lost with its receiver, has an error where it was asked and is no dead letter; nor is what `tell` itself refuses.
    ///
    /// Bodies are cut after 4 KiB. A process tells of 1,000 messages a second, and 1,024 wait here to be taken; what is too
    /// much is counted in [`DeadLetter::missed`] of the next. Other hosts begin to tell about a second after this was
    /// called. Telling costs where messages come back, and nothing where nobody listens: drop it when it is not needed.
    ///
    /// An actor listens by a task of its own: `ctx.spawn(async move { while let Some(letter) = letters.next().await {..} })`.
    /// What it sends on must not come back for ever.
    ///
    /// # Errors
    /// 64 listen in this process already, or the system has stopped or lost its agent.
    pub fn dead_letters(&self) -> Result<DeadLetters> {
        let mut listeners = self.inner.letters.listeners.lock();
        let Some(listening) = listeners.as_mut() else {
            return Err(Error::other("dead letters: the system has stopped, or lost its agent"));
        };
        if listening.len() == DEAD_LETTER_LISTENERS_MAX {
            let text = format!("dead letters: {DEAD_LETTER_LISTENERS_MAX} listen in this process already: drop some");
            return Err(Error::other(text));
        }
        let (sender, receiver) = mpsc::channel(DEAD_LETTERS_KEPT);
        listening.push(Listener { sender, missed: 0 });
        if listening.len() == 1 {
            // Under the lock, so that it is said in the order in which it came to be.
            self.inner.outside().listen(true);
        }
        Ok(DeadLetters { receiver, system: Arc::downgrade(&self.inner) })
    }
}

/// Messages that came back somewhere; see [`System::dead_letters`].
pub struct DeadLetters {
    receiver: mpsc::Receiver<DeadLetter>,
    system: Weak<Inner>,
}

impl DeadLetters {
    /// The next one; nothing once the system has stopped or lost its agent. May be dropped before it is ready, and called
    /// again.
    pub async fn next(&mut self) -> Option<DeadLetter> {
        self.receiver.recv().await
    }

    /// The next one, if it has come.
    pub fn try_next(&mut self) -> Option<DeadLetter> {
        self.receiver.try_recv().ok()
    }
}

impl Drop for DeadLetters {
    fn drop(&mut self) {
        self.receiver.close();
        let Some(system) = self.system.upgrade() else { return };
        let mut listeners = system.letters.listeners.lock();
        let Some(listening) = listeners.as_mut() else { return };
        listening.retain(|listener| !listener.sender.is_closed());
        if listening.is_empty() {
            system.outside().listen(false);
        }
    }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters").field("waiting", &self.receiver.len()).finish_non_exhaustive()
    }
}

impl Letters {
    /// Whether anybody, anywhere, wants to hear of what comes back here.
    pub(crate) fn want(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// Tells whoever listens in this process.
    pub(crate) fn hear(&self, letter: &DeadLetter) {
        let mut listeners = self.listeners.lock();
        for listener in listeners.iter_mut().flatten() {
            let missed = mem::take(&mut listener.missed).saturating_add(letter.missed);
            if listener.sender.try_send(DeadLetter { missed, ..letter.clone() }).is_err() {
                listener.missed = missed.saturating_add(u64::from(letter.count));
            }
        }
    }

    /// No letters come any more.
    pub(crate) fn close(&self) {
        *self.listeners.lock() = None;
    }

    /// Whether a letter that stands for so many may be told of now; if so, how many were not since the last.
    fn admit(&self, count: u32) -> Option<u64> {
        if !self.wanted.load(Ordering::Relaxed) {
            return None;
        }
        let mut rate = self.rate.lock();
        let passed = rate.pass(Time::from_nanos(clock::coarse()));
        if passed.is_none() {
            // One it has counted itself.
            rate.miss(u64::from(count.saturating_sub(1)));
        }
        passed
    }
}

impl Inner {
    /// Tells whoever listens, on any host, of a message that came back within this process.
    pub(crate) fn tell_of(&self, origin: &Origin, returned: &Returned) {
        let Some(missed) = self.letters.admit(returned.count()) else { return };
        let (message, type_id, codec, body) = written(&returned.body);
        let letter = DeadLetter {
            host: self.host.clone(),
            from: self.sender_of(origin),
            to: returned.to.clone(),
            message,
            type_id,
            reason: returned.reason,
            text: returned.text.clone(),
            may_have_run: returned.may_have_run,
            codec,
            body_bytes: body.len() as u64,
            body,
            missed,
            count: returned.count(),
        };
        let missed = letter.stands_for();
        if !self.outside().dead_letter(letter.bounded()) {
            self.letters.rate.lock().miss(missed);
        }
    }

    fn sender_of(&self, origin: &Origin) -> Address {
        match origin {
            Origin::Outside { .. } => self.me().into(),
            Origin::Local(sender) => match self.registry.get(sender.serial()) {
                Some(cell) => cell.head().address(),
                None => self.place(sender.serial()).into(),
            },
            Origin::Remote(remote) => remote.from().clone(),
        }
    }
}

/// Name, type id, codec and bytes of what is left of a message.
fn written(body: &ReturnedBody) -> (String, u64, Codec, Vec<u8>) {
    match body {
        ReturnedBody::Value(envelope) => {
            let table = envelope.table();
            let written = envelope.body(Codec::Postcard).map(|body| (Codec::Postcard, body));
            let (codec, body) = written.unwrap_or((Codec::Raw, Vec::new()));
            (table.name.to_owned(), table.type_id, codec, body)
        }
        // As a frame has it; those are told of by the agent, which knows more names.
        ReturnedBody::Wire { type_id, codec, bytes } => (String::new(), *type_id, *codec, bytes.clone()),
        ReturnedBody::Consumed { name } => ((*name).to_owned(), fnv1a(name), Codec::Raw, Vec::new()),
        ReturnedBody::Lost { .. } => (String::new(), 0, Codec::Raw, Vec::new()),
    }
}
