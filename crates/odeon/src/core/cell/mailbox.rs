//! The mailbox of a cell: what may come in, who waits for room.

use super::{AnyCell, Head, KILLED, State};
use crate::{
    core::{
        envelope::{Entry, Envelope},
        run, scheduler, types,
    },
    error::Error,
};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
};

/// The mailbox.
pub(crate) struct Inbox {
    pub(crate) queue: VecDeque<Entry>,
    pub(crate) state: State,
    /// Takes no messages any more, though hooks may still run.
    pub(crate) closed: bool,
    /// Senders that wait for room.
    pub(crate) waiters: Option<Box<Waiters>>,
}

/// Senders that wait for room, in order.
///
/// Keys are unique in the process, as a sender comes back to another cell with the key that it got from the last one.
#[derive(Default)]
pub(crate) struct Waiters {
    list: VecDeque<(u64, Waker)>,
}

static NEXT_KEY: AtomicU64 = AtomicU64::new(0);

impl Waiters {
    /// Adds a waker, or replaces that of `key`; answers the key.
    fn register(&mut self, key: Option<u64>, waker: &Waker) -> u64 {
        if let Some(key) = key
            && let Some(entry) = self.list.iter_mut().find(|entry| entry.0 == key)
        {
            entry.1.clone_from(waker);
            return key;
        }
        let key = key.unwrap_or_else(|| NEXT_KEY.fetch_add(1, Ordering::Relaxed));
        self.list.push_back((key, waker.clone()));
        key
    }

    /// Takes the first `count`.
    pub(crate) fn take(&mut self, count: usize) -> Vec<(u64, Waker)> {
        let count = count.min(self.list.len());
        self.list.drain(..count).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }
}

/// Why a message was not taken.
pub(crate) enum NotTaken {
    /// There is no room now.
    Full(Entry),
    /// The actor takes no more messages.
    Closed(Entry),
    /// It cannot be handled there, ever.
    Refused(Box<(Entry, Error)>),
}

/// Puts an entry into the mailbox of a cell.
///
/// `force` is for what must never wait: self-tells, replies, exits, timers, frames that a flow's window already bounds.
pub(crate) fn push(cell: &Arc<dyn AnyCell>, entry: Entry, force: bool) -> Result<(), NotTaken> {
    push_or_wait(cell, entry, force, None)
}

/// As [`push`]; where there is no room, leaves a waker under a key.
pub(crate) fn push_or_wait(
    cell: &Arc<dyn AnyCell>,
    entry: Entry,
    force: bool,
    waiting: Option<(&mut Option<u64>, &Waker)>,
) -> Result<(), NotTaken> {
    let head = cell.head();
    let mut entry = entry;
    if let Entry::Message(envelope) = &mut entry
        && let Err(error) = fit(head, envelope)
    {
        return Err(NotTaken::Refused(Box::new((entry, error))));
    }
    let mut inbox = head.inbox.lock();
    if inbox.closed {
        return Err(NotTaken::Closed(entry));
    }
    let full = inbox.queue.len() >= head.kind.options.mailbox;
    if full && !force {
        if let Some((key, waker)) = waiting {
            *key = Some(inbox.waiters.get_or_insert_default().register(*key, waker));
        }
        return Err(NotTaken::Full(entry));
    }
    if inbox.queue.capacity() == 0 {
        inbox.queue = run::take_buffer();
    }
    inbox.queue.push_back(entry);
    if inbox.state == State::Idle {
        inbox.state = State::Queued;
        drop(inbox);
        scheduler::schedule(cell.clone());
    } else if inbox.queue.len() == CROWDED {
        drop(inbox);
        head.system.scheduler.crowded(cell);
    }
    Ok(())
}

/// A mailbox that reaches this many messages may not wait behind its sender.
const CROWDED: usize = 64;

/// Binds an envelope to the type of this actor, and takes it through its wire form where that is asked for.
fn fit(head: &Head, envelope: &mut Envelope) -> Result<(), Error> {
    if envelope.is_fence() {
        return Ok(());
    }
    if envelope.table().actor != Some(head.kind.id) {
        let found = head.kind.find(envelope.table().type_id);
        if !found.is_some_and(|entry| envelope.readdress(entry.tell, entry.ask)) {
            return Err(types::unsupported(head, envelope.table().name));
        }
    }
    if head.system.restless() { types::through_wire(head, envelope) } else { Ok(()) }
}

/// Gives up waiting for room.
pub(crate) fn forget_waiter(cell: &Arc<dyn AnyCell>, key: u64) {
    let mut inbox = cell.head().inbox.lock();
    if let Some(waiters) = &mut inbox.waiters {
        waiters.list.retain(|entry| entry.0 != key);
    }
}

/// Ends an actor: after what is queued, or now.
pub(crate) fn end(cell: &Arc<dyn AnyCell>, kill: bool) {
    let head = cell.head();
    if !kill {
        // A closed mailbox belongs to an actor that stops anyway.
        let _ = push(cell, Entry::Stop, true);
        return;
    }
    head.signals.fetch_or(KILLED, Ordering::SeqCst);
    let mut inbox = head.inbox.lock();
    match inbox.state {
        State::Idle | State::Suspended => inbox.state = State::Queued,
        State::Running => {
            inbox.state = State::Notified;
            return;
        }
        State::Queued | State::Notified | State::Dead => return,
    }
    drop(inbox);
    scheduler::schedule(cell.clone());
}
