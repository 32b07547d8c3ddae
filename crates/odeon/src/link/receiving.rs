//! The receiver's side of flows: which messages from other processes are being handled here, and telling their senders
//! what has ended.
//!
//! Reports are lazy: at once when a sender's window fills up, else gathered for [`LAZY`], so that a stream of messages
//! causes few frames in the other direction. The answer to an ask is a report of its own.

use super::{
    Link,
    flow::{self, Ended},
    incoming::sender,
};
use crate::{
    core::{
        envelope::{RemoteFlow, Settle},
        hash::Fast,
        reply::ReplyHandle,
    },
    supervision::{Returned, ReturnedBody},
};
use odeon_protocol::{
    Counts, Direct, Reason, Serial,
    frame::{Class, Codec, Extension, Frame, Header, Kind, flags},
    hash::fnv1a,
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How long a report may wait for company.
pub(super) const LAZY: Duration = Duration::from_millis(2);

/// One flow that is received, or one message that belongs to none (flow 0).
pub(super) struct Incoming {
    link: Weak<Link>,
    flow: u32,
    sender: Direct,
    receiver: Direct,
    epoch: u64,
    /// The global name to which the messages were sent.
    name: Option<Arc<str>>,
    /// Whether what comes back goes to the name's next instance even where that has to be started: of the flow's messages one
    /// was sent so. Its first frame alone does not say it, that may be a fence.
    starts: AtomicBool,
    /// The troupe through which they came.
    troupe: Option<Direct>,
    ledger: Mutex<flow::Ledger>,
    /// Whether it stands among the dirty ones.
    dirty: AtomicBool,
    me: Weak<Self>,
}

/// Sender, flow and receiver: what comes back of a name's flow may go to its next actor in this process.
type Key = (Direct, u32, Serial);
/// Who asked, and its number for it.
type Asker = (Direct, u64);

/// A flow, and what its messages have in common.
type Known = (Arc<Incoming>, Arc<RemoteFlow>);

/// All flows that are received.
///
/// A flow is forgotten whenever nothing of it is pending or untold.
#[derive(Default)]
pub(super) struct Receiving {
    flows: Mutex<Flows>,
    /// Flows that have something to report.
    dirty: Mutex<Vec<Arc<Incoming>>>,
    /// Asks whose answer will be their report.
    asked: Mutex<HashMap<Asker, (Arc<Incoming>, u32), Fast>>,
}

#[derive(Default)]
struct Flows {
    known: HashMap<Key, Known, Fast>,
    /// Of flows that are forgotten.
    counts: Counts,
}

impl Receiving {
    /// A message has come; the sender went beyond its window if there is no flow for it.
    pub(super) fn receive(&self, link: &Arc<Link>, frame: &Frame, epoch: u64) -> Option<Known> {
        let header = &frame.header;
        let make = || {
            let incoming = Arc::new_cyclic(|me| Incoming {
                link: Arc::downgrade(link),
                flow: header.flow,
                sender: header.from,
                receiver: header.to,
                epoch,
                name: frame.to_name().map(Arc::from),
                starts: AtomicBool::new(header.has(flags::STARTS)),
                troupe: frame.troupe(),
                ledger: Mutex::default(),
                dirty: AtomicBool::new(false),
                me: me.clone(),
            });
            let common = Arc::new(RemoteFlow { from: sender(frame), settle: incoming.clone() });
            (incoming, common)
        };
        if header.flow == 0 {
            return Some(make());
        }
        let mut flows = self.flows.lock();
        let flow = flows.known.entry((header.from, header.flow, header.to.serial)).or_insert_with(make);
        if header.has(flags::STARTS) && !flow.0.starts.load(Ordering::Relaxed) {
            flow.0.starts.store(true, Ordering::Relaxed);
        }
        // Under both locks, so that it is not forgotten in between.
        let mut ledger = flow.0.ledger.lock();
        let hurry = header.has(flags::REPORT);
        let received = match header.has(flags::FENCE) {
            true => ledger.receive_fence(header.sequence, hurry),
            false => ledger.receive(header.sequence, hurry),
        };
        drop(ledger);
        received.ok().map(|()| flow.clone())
    }

    /// The flows that are known, in words.
    pub(super) fn described(&self) -> Vec<String> {
        let known =
            |(key, (flow, _)): (&Key, &Known)| format!("from {key:?}: {:?} {:?}", flow.name, flow.ledger.lock());
        self.flows.lock().known.iter().map(known).collect()
    }

    fn forget(&self, flow: &Incoming) {
        let mut flows = self.flows.lock();
        let mut ledger = flow.ledger.lock();
        if !ledger.is_idle() {
            return;
        }
        flows.counts.add(&ledger.take_counts());
        drop(ledger);
        let key = (flow.sender, flow.flow, flow.receiver.serial);
        if flows.known.get(&key).is_some_and(|known| std::ptr::eq(Arc::as_ptr(&known.0), flow)) {
            flows.known.remove(&key);
            if flows.known.is_empty() {
                flows.known.shrink_to(64);
            }
        }
    }

    /// What came to this process, by how it ended.
    pub(super) fn counts(&self) -> Counts {
        let flows = self.flows.lock();
        let mut counts = flows.counts.clone();
        flows.known.values().for_each(|(flow, _)| counts.add(&flow.ledger.lock().counts()));
        counts
    }

    /// An ask was taken; its answer will say that it has ended.
    pub(super) fn asked(&self, flow: &Arc<Incoming>, correlation: u64, sequence: u32) {
        self.asked.lock().insert((flow.sender, correlation), (flow.clone(), sequence));
    }

    /// An ask is being answered. Returns the actor that was asked and the flow, if the ask came from there.
    pub(super) fn answered(&self, asker: Direct, correlation: u64) -> Option<(Direct, u64, u32)> {
        let (flow, sequence) = self.asked.lock().remove(&(asker, correlation))?;
        flow.end(sequence, Ended::Answered);
        Some((flow.receiver, flow.epoch, flow.flow))
    }

    /// An ask is not answered from here: it goes back, or was forwarded.
    pub(super) fn forget_ask(&self, asker: Direct, correlation: u64) {
        self.asked.lock().remove(&(asker, correlation));
    }

    /// Whether any report waits.
    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.lock().is_empty()
    }

    /// Sends every report that waits.
    pub(super) fn report(&self) {
        let dirty = std::mem::take(&mut *self.dirty.lock());
        dirty.into_iter().for_each(|flow| flow.report());
    }

    /// Nobody waits for reports any more.
    pub(super) fn lose(&self) {
        self.flows.lock().known.clear();
        self.dirty.lock().clear();
        self.asked.lock().clear();
    }

    /// How many flows are known, and asks that are to be answered from here.
    pub(super) fn len(&self) -> usize {
        self.flows.lock().known.len() + self.asked.lock().len()
    }
}

impl Incoming {
    /// A message has ended.
    pub(super) fn end(&self, sequence: u32, ended: Ended) {
        if self.flow == 0 {
            return;
        }
        // The guard ends with the statement: what follows takes other locks.
        let report = self.ledger.lock().end(sequence, ended);
        match report {
            flow::Report::None { idle: false } => {}
            flow::Report::None { idle: true } => {
                if let Some(link) = self.link.upgrade() {
                    link.receiving.forget(self);
                    link.counting.changed();
                }
            }
            flow::Report::Now => self.report(),
            flow::Report::Soon => {
                if self.dirty.swap(true, Ordering::AcqRel) {
                    return;
                }
                let Some(link) = self.link.upgrade() else { return };
                let first = {
                    let mut dirty = link.receiving.dirty.lock();
                    dirty.extend(self.me.upgrade());
                    dirty.len() == 1
                };
                if first {
                    link.report_soon();
                }
            }
        }
    }

    fn report(&self) {
        // Before the ledger is read: what ends from now on stands among the dirty ones again.
        self.dirty.store(false, Ordering::Release);
        let (ranges, idle) = {
            let mut ledger = self.ledger.lock();
            (ledger.take_report(), ledger.is_idle())
        };
        let Some(link) = self.link.upgrade() else { return };
        link.counting.changed();
        for (first, count) in ranges {
            let header = Header {
                class: Class::Urgent,
                to: self.sender,
                from: self.receiver,
                from_epoch: self.epoch,
                flow: self.flow,
                sequence: first,
                correlation: u64::from(count),
                ..Header::new(Kind::Settled)
            };
            link.push(&header, &[], &[]);
        }
        if idle {
            link.receiving.forget(self);
        }
    }

    /// The message goes back to its sender unhandled, as the bytes it came in.
    pub(super) fn give_back_frame(&self, link: &Link, frame: &Frame, reason: Reason, text: &str) {
        give_back_frame(link, frame, reason, text);
        self.end(frame.header.sequence, Ended::GivenBack);
        link.counting.changed();
    }
}

/// Sends a message back to its sender unhandled: `to` and `from` change places, everything else stays.
pub(super) fn give_back_frame(link: &Link, frame: &Frame, reason: Reason, text: &str) {
    if frame.header.from.is_none() {
        tracing::debug!(%reason, text, "a message of nobody goes back to nobody");
        return;
    }
    let header = Header {
        kind: Kind::Returned,
        class: Class::Urgent,
        to: frame.header.from,
        from: frame.header.to,
        to_epoch: frame.header.from_epoch,
        from_epoch: frame.header.to_epoch,
        flags: frame.header.flags & !flags::MAY_HAVE_RUN,
        ..frame.header
    };
    // The reason first, so that it fits whatever the sender wrote.
    let others = frame.extensions().flatten().filter(|extension| !matches!(extension, Extension::Reason { .. }));
    let extensions: Vec<_> = [Extension::Reason { reason, text }].into_iter().chain(others).collect();
    link.push(&header, &extensions, &frame.body());
}

impl Settle for Incoming {
    fn settled(&self, sequence: u32) {
        self.end(sequence, Ended::Handled);
    }

    fn give_back(&self, sequence: u32, mut returned: Returned) {
        let Some(link) = self.link.upgrade() else { return };
        if self.sender.is_none() {
            return self.end(sequence, Ended::GivenBack);
        }
        let asked = match &mut returned.body {
            ReturnedBody::Value(envelope) => {
                envelope.handle().and_then(ReplyHandle::take).and_then(|slot| slot.remote())
            }
            ReturnedBody::Wire { .. } | ReturnedBody::Consumed { .. } | ReturnedBody::Lost { .. } => None,
        };
        let (type_id, fingerprint, codec, body) = written(&returned.body);
        let mut bits = if returned.may_have_run { flags::MAY_HAVE_RUN } else { 0 };
        if matches!(&returned.body, ReturnedBody::Value(envelope) if envelope.is_fence()) {
            bits |= flags::FENCE;
        }
        if self.starts.load(Ordering::Relaxed) {
            bits |= flags::STARTS;
        }
        let mut extensions = vec![Extension::Reason { reason: returned.reason, text: &returned.text }];
        if let Some(name) = &self.name {
            extensions.push(Extension::To(name));
        }
        if let Some(troupe) = self.troupe {
            extensions.push(Extension::Troupe(troupe));
            bits |= flags::TROUPE;
        }
        let mut number = 0;
        if let Some((to, correlation, _)) = asked {
            number = correlation;
            link.receiving.forget_ask(to, correlation);
            if to != self.sender {
                extensions.push(Extension::ReplyTo { to, correlation });
            }
        }
        let header = Header {
            class: Class::Urgent,
            codec,
            flags: bits,
            to: self.sender,
            from: self.receiver,
            from_epoch: self.epoch,
            flow: self.flow,
            sequence,
            correlation: number,
            type_id,
            fingerprint,
            ..Header::new(Kind::Returned)
        };
        link.push(&header, &extensions, &body);
        self.end(sequence, Ended::GivenBack);
        link.counting.changed();
    }
}

/// A returned message's type, shape, codec and bytes; no bytes where nothing is left of it.
fn written(body: &ReturnedBody) -> (u64, u64, Codec, Vec<u8>) {
    match body {
        ReturnedBody::Value(envelope) => {
            let table = envelope.table();
            match envelope.body(Codec::Postcard) {
                Ok(body) => (table.type_id, table.fingerprint, Codec::Postcard, body),
                Err(error) => {
                    tracing::error!(message = table.name, %error, "a message that goes back cannot be written");
                    (table.type_id, 0, Codec::Raw, Vec::new())
                }
            }
        }
        ReturnedBody::Wire { type_id, codec, bytes } => (*type_id, 0, *codec, bytes.clone()),
        ReturnedBody::Consumed { name } => (fnv1a(name), 0, Codec::Raw, Vec::new()),
        ReturnedBody::Lost { .. } => (0, 0, Codec::Raw, Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{prelude::*, simulation::Process};
    use bytes::BytesMut;
    use odeon_protocol::{
        Address, Boot, NodeId,
        frame::{Splitter, set_to},
    };
    use tokio::{runtime::Handle, task::yield_now};

    #[message]
    struct Note;

    #[derive(Default)]
    struct Taker;

    #[actor("test.taker")]
    impl Taker {
        async fn note(&mut self, _: Note, _: &mut Context<Self>) {}
    }

    fn process(block: u64) -> Process {
        let worker = odeon::Worker::new().register::<Taker>();
        Process::new((NodeId(1), Boot(1)), (block, block + 1), &worker, Handle::current())
    }

    fn frames(process: &Process, kind: Kind) -> Vec<Frame> {
        let mut splitter = Splitter::default();
        *splitter.buffer() = process.outgoing(usize::MAX);
        let all = std::iter::from_fn(|| splitter.next_frame().unwrap());
        all.map(|bytes| Frame::read(bytes.freeze()).unwrap()).filter(|frame| frame.header.kind == kind).collect()
    }

    /// Its sender was told otherwise, that nobody bears the name.
    #[tokio::test]
    async fn what_comes_behind_a_fence_starts_its_name_still() {
        let (sending, receiving) = (process(1), process(3));
        let name = sending.system().named::<Taker>("key");
        name.try_tell(Note).unwrap();
        let system = receiving.system().clone();
        let created = tokio::spawn(async move { system.create::<Taker>(()).await });
        while !created.is_finished() {
            receiving.run();
            yield_now().await;
        }
        let taker = created.await.unwrap().unwrap();
        let Address::Direct(place) = taker.address() else { panic!("{taker:?}") };
        let tells = frames(&sending, Kind::Tell);
        let [tell] = &tells[..] else { panic!("{tells:?}") };
        let number = tell.header.sequence;
        let fence = Header { flags: flags::FENCE, type_id: 0, fingerprint: 0, ..tell.header };
        let fence = Frame::new(fence, &[Extension::To("test.taker/key")], &[]);
        let tell = tell.with_header(Header { sequence: number + 1, ..tell.header });
        let brought = [fence, tell].map(|frame| {
            let mut bytes = BytesMut::from(&frame.bytes()[..]);
            set_to(&mut bytes, place, 0);
            bytes
        });
        receiving.take(brought.into());
        taker.kill();
        receiving.run();
        let back = frames(&receiving, Kind::Returned);
        let starts: Vec<_> =
            back.iter().map(|frame| (frame.header.sequence, frame.header.has(flags::STARTS))).collect();
        assert!(starts.contains(&(number + 1, true)), "{starts:?}");
    }
}
