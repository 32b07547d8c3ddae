//! Frames on their way in: to a mailbox, to whoever waits for an answer, or back.

use super::{
    Link,
    flow::{End, Ended},
    receiving::{Incoming, give_back_frame},
};
use crate::{
    core::{
        AnyCell, Entry, Envelope, HandlerEntry, Origin, cell, clock, current,
        envelope::{RemoteFlow, RemoteOrigin},
        reply::{AnySlot, AskFacts, Chain, ReplyHandle},
    },
    error::Error,
    supervision::{Returned, ReturnedBody},
    system::Inner,
};
use bytes::BytesMut;
use odeon_protocol::{
    Address, Boot, Direct, NodeId, Reason, Serial,
    control::MessageInfo,
    frame::{Codec, Extension, Frame, Header, Kind, flags},
    planted::{self, Fault},
    ring::Ring,
};
use odeon_transport::frame_io::share;
use std::sync::Arc;

/// Frames for which runners are woken together.
const GATHERED: usize = 64;
/// Bytes of a place in a chain of asks.
const PLACE_BYTES: usize = 24;

impl Link {
    /// Takes what was read at once.
    pub(crate) fn take_batch(self: &Arc<Self>, batch: Vec<BytesMut>) {
        let Some(system) = self.system() else { return };
        let _here = current::enter_system(&system);
        let mut gathering = None;
        for (number, bytes) in batch.into_iter().enumerate() {
            if number % GATHERED == 0 {
                // The last one's guard goes first: it wakes whoever has something to do by now.
                drop(gathering.take());
                gathering = Some(system.scheduler.gather());
            }
            match Frame::read(share(bytes)) {
                Ok(frame) if self.puts_aside(&frame) => {}
                Ok(frame) => self.take(&system, &frame),
                Err(error) => return self.break_off(&error.to_string()),
            }
        }
        self.counting.changed();
    }

    pub(super) fn take(self: &Arc<Self>, system: &Arc<Inner>, frame: &Frame) {
        let header = &frame.header;
        match header.kind {
            Kind::Tell | Kind::Ask => self.message(system, frame),
            Kind::Reply => {
                self.answered(system, header, End::Settled, |slot| slot.answer_wire(header.codec, &frame.body()));
            }
            Kind::Failure => self.answered(system, header, end_by_failure(frame), |slot| slot.fail(error_of(frame))),
            Kind::Returned => self.returned(system, frame),
            Kind::Settled if header.has(flags::MAY_HAVE_RUN) => self.told_lost(system, frame),
            Kind::Settled => {
                let count = u32::try_from(header.correlation).unwrap_or(u32::MAX);
                self.settle(header.flow, (header.sequence, count), End::Settled);
            }
            Kind::Signal => self.signal(frame),
            Kind::Control => self.control(frame),
            Kind::Void | Kind::Chunk | Kind::Credit => {}
        }
    }

    fn answered(&self, system: &Arc<Inner>, header: &Header, end: End, answer: impl FnOnce(&dyn AnySlot)) {
        if let Some(ask) = self.asks.take(header.correlation) {
            answer(&*ask.slot);
            self.settle(ask.flow, (ask.sequence, 1), end);
        } else if let Some(slot) = system.replies.take(header.correlation) {
            answer(&*slot);
        }
    }

    /// The agent says that messages went down with the member of a troupe that had them.
    fn told_lost(&self, system: &Arc<Inner>, frame: &Frame) {
        let header = &frame.header;
        let count = u32::try_from(header.correlation).unwrap_or(0).min(Ring::BITS);
        let count = self.settle(header.flow, (header.sequence, count), End::Unsettled);
        if count > 0 {
            let troupe = frame.troupe().unwrap_or(header.from);
            let text = format!("odeon:{}, a member of a troupe, was lost with its process or host", header.from);
            self.count_lost(system, header.to.serial, (Address::Troupe(troupe), count), text);
        }
    }

    /// A message of an actor of this process, or of the process itself, has come back.
    fn returned(&self, system: &Arc<Inner>, frame: &Frame) {
        let header = &frame.header;
        let (reason, text) = frame.reason().unwrap_or((Reason::Protocol, "no reason was given"));
        // A receiver says so only of a message that failed in its handler.
        let doubtful = header.has(flags::MAY_HAVE_RUN) && reason != Reason::Failed;
        let fresh = self.settle(header.flow, (header.sequence, 1), End::Returned { reason, doubtful }) > 0;
        if header.has(flags::FENCE) {
            return;
        }
        let to = match frame.to_name() {
            Some(name) => Address::named(name, header.has(flags::STARTS)),
            None => Address::Direct(header.from),
        };
        let back = Returned {
            body: ReturnedBody::Wire { type_id: header.type_id, codec: header.codec, bytes: frame.body().to_vec() },
            reason,
            text: text.to_owned(),
            to,
            may_have_run: header.has(flags::MAY_HAVE_RUN),
        };
        if header.correlation == 0 {
            // Not fresh, its sender was told before that it was lost and may have run.
            if fresh {
                system.came_back(system.sender(header.to.serial), back);
            }
            return;
        }
        if fresh {
            system.count_dead(&back);
        }
        // A forwarded ask fails where it was asked; its agent sees to that.
        if let Some(ask) = self.asks.take(header.correlation) {
            ask.slot.fail(error_of(frame));
        }
    }

    fn message(self: &Arc<Self>, system: &Arc<Inner>, frame: &Frame) {
        let header = &frame.header;
        let found = system.is_mine(header.to).then(|| system.registry.get(header.to.serial)).flatten();
        let Some(cell) = found else {
            // It was taken off the list after its mailbox was emptied.
            let text = format!("odeon:{} has ended", header.to);
            return give_back_frame(self, frame, Reason::NoSuchActor, &text);
        };
        if self.is_fenced(frame) {
            return give_back_frame(self, frame, Reason::Fenced, "a newer instance of the sender's name was granted");
        }
        let epoch = cell.head().identity.as_ref().map_or(0, |identity| identity.epoch);
        let Some(flow) = self.receiving.receive(self, frame, epoch) else {
            return give_back_frame(self, frame, Reason::Full, "its sender went beyond its window");
        };
        let (flow, origin) = flow;
        if planted::is(Fault::SettleOnReceipt) {
            flow.end(header.sequence, Ended::Handled);
        }
        if header.has(flags::FENCE) {
            return self.take_fence(&cell, frame, &flow, origin);
        }
        let arrival = Arrival { link: self, system, cell: &cell, flow, origin, frame };
        match find_handler(&cell, frame) {
            Ok(entry) => arrival.deliver(entry),
            Err(error) => arrival.give_back(&error),
        }
    }

    /// A fence takes its place in the mailbox.
    fn take_fence(&self, cell: &Arc<dyn AnyCell>, frame: &Frame, flow: &Incoming, common: Arc<RemoteFlow>) {
        let origin = Origin::Remote(RemoteOrigin::new(common, frame.header.sequence));
        // Given back before its origin is dropped, which would say that it has ended.
        let pushed = cell::push(cell, Entry::Message(Envelope::fence(origin)), true);
        if pushed.is_err() {
            drop(self.leaving.lock());
            flow.give_back_frame(self, frame, Reason::ActorStopped, "its actor has stopped");
        }
    }

    fn is_fenced(&self, frame: &Frame) -> bool {
        let epoch = frame.header.from_epoch;
        epoch > 0 && frame.from_name().is_some_and(|name| self.names.read().epoch(name) > epoch)
    }
}

/// A message that has reached its actor's cell.
struct Arrival<'a> {
    link: &'a Link,
    system: &'a Arc<Inner>,
    cell: &'a Arc<dyn AnyCell>,
    flow: Arc<Incoming>,
    origin: Arc<RemoteFlow>,
    frame: &'a Frame,
}

impl Arrival<'_> {
    fn deliver(&self, entry: &HandlerEntry) {
        let (frame, header) = (self.frame, &self.frame.header);
        let handle = match header.kind {
            Kind::Ask => match self.reply_handle(entry) {
                Ok(handle) => Some(handle),
                Err(error) => return self.give_back(&error),
            },
            _ => None,
        };
        let origin = Origin::Remote(RemoteOrigin::new(self.origin.clone(), header.sequence));
        let body = frame.body();
        match entry.read(codec_of(header), &body, origin, handle) {
            Ok(envelope) => {
                let Err(not_taken) = cell::push(self.cell, Entry::Message(envelope), true) else { return };
                let (entry, error) = match not_taken {
                    cell::NotTaken::Full(entry) | cell::NotTaken::Closed(entry) => {
                        (entry, Error::NoSuchActor(format!("{} has ended", self.cell.head().label())))
                    }
                    cell::NotTaken::Refused(refused) => *refused,
                };
                // Its mailbox is shut: what lay in it goes first.
                drop(self.link.leaving.lock());
                let Entry::Message(mut envelope) = entry else { return };
                self.forget_ask(envelope.handle().map(std::mem::take));
                self.give_back(&error);
            }
            Err(unread) => {
                self.forget_ask(unread.handle);
                self.give_back(&unread.error);
            }
        }
    }

    /// The message goes back as the frame it came in; its origin, dropped later, finds it ended.
    fn give_back(&self, error: &Error) {
        self.flow.give_back_frame(self.link, self.frame, error.reason(), &error.text());
    }

    /// The reply handle of a message that goes back is to say nothing.
    fn forget_ask(&self, handle: Option<ReplyHandle>) {
        if let Some(mut handle) = handle {
            drop(handle.take());
            let Header { from, correlation, .. } = self.frame.header;
            self.link.receiving.forget_ask(from, correlation);
        }
    }

    fn reply_handle(&self, entry: &HandlerEntry) -> Result<ReplyHandle, Error> {
        let (frame, header) = (self.frame, &self.frame.header);
        let facts = ask_facts(entry, frame);
        if facts.waiting().any(|place| place == header.to) {
            return Err(Error::Cycle(self.system.cycle(&facts, header.to)));
        }
        let elsewhere = frame.reply_to();
        let (to, correlation) = elsewhere.unwrap_or((header.from, header.correlation));
        if elsewhere.is_none() && header.flow != 0 {
            self.link.receiving.asked(&self.flow, header.correlation, header.sequence);
        }
        Ok(entry.remote_reply(facts, (to, correlation, codec_of(header)), self.system.clone()))
    }
}

const fn codec_of(header: &Header) -> Codec {
    match header.codec {
        Codec::Json => Codec::Json,
        _ => Codec::Postcard,
    }
}

/// How an ask that failed has ended: agents say when its receiver is gone or out of reach, and then nobody knows.
fn end_by_failure(frame: &Frame) -> End {
    let of_agent = frame.header.flow == 0 && frame.header.has(flags::MAY_HAVE_RUN);
    match frame.reason() {
        Some((Reason::WorkerLost | Reason::HostLost | Reason::Unreachable, _)) if of_agent => End::Unsettled,
        _ => End::Settled,
    }
}

fn error_of(frame: &Frame) -> Error {
    let (reason, text) = frame.reason().unwrap_or((Reason::Protocol, "no reason was given"));
    // The extension may hold a text cut short; the body has all of it, in a failure.
    let body = frame.body();
    let whole = (frame.header.kind == Kind::Failure).then(|| std::str::from_utf8(&body).ok()).flatten();
    let text = whole.filter(|whole| !whole.is_empty()).unwrap_or(text);
    Error::from_wire(reason, text, frame.header.has(flags::MAY_HAVE_RUN))
}

pub(super) fn sender(frame: &Frame) -> Address {
    let Header { from, from_epoch, .. } = frame.header;
    match frame.from_name() {
        Some(name) => Address::Named { name: name.into(), starts: false, hint: from, epoch: from_epoch },
        None => Address::Direct(from),
    }
}

fn find_handler<'a>(cell: &'a Arc<dyn AnyCell>, frame: &Frame) -> Result<&'a HandlerEntry, Error> {
    let (head, header) = (cell.head(), &frame.header);
    if header.type_id == 0 {
        let name = frame
            .message_name()
            .ok_or_else(|| Error::new(Reason::Protocol, "the frame does not say what message it carries"))?;
        return find_by_name(head, name);
    }
    let entry = head.kind.find(header.type_id).ok_or_else(|| {
        let text = format!("{} takes no message of type {:x}", head.label(), header.type_id);
        Error::new(Reason::Unsupported, text)
    })?;
    let (has, wants) = (entry.tell.fingerprint, header.fingerprint);
    if header.codec != Codec::Json && has != wants {
        let name = entry.tell.name;
        let text = format!(
            "{} has {name} of shape {has:x}, the sender one of shape {wants:x}: run workers of the same build",
            head.label()
        );
        return Err(Error::new(Reason::Unsupported, text));
    }
    Ok(entry)
}

/// The handler of a message by its name, with or without its crate's.
fn find_by_name<'a>(head: &'a cell::Head, name: &str) -> Result<&'a HandlerEntry, Error> {
    let messages = head.kind.info().messages;
    let short = |whole: &str| whole.rsplit('.').next().is_some_and(|short| short == name);
    let mut fitting: Vec<_> = messages.iter().filter(|message| message.name == name).collect();
    if fitting.is_empty() {
        fitting = messages.iter().filter(|message| short(&message.name)).collect();
    }
    let names = |messages: &mut dyn Iterator<Item = &MessageInfo>| {
        messages.map(|message| message.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let text = match &fitting[..] {
        [only] => match head.kind.find(only.type_id) {
            Some(entry) => return Ok(entry),
            None => format!("{} takes no {name}", head.label()),
        },
        [] => format!("{} takes no {name}; it takes {}", head.label(), names(&mut messages.iter())),
        several => {
            format!("{name} is ambiguous for {}: write one of {}", head.label(), names(&mut several.iter().copied()))
        }
    };
    Err(Error::new(Reason::Unsupported, text))
}

fn ask_facts(entry: &HandlerEntry, frame: &Frame) -> AskFacts {
    let deadline = match frame.header.remaining_ms {
        0 => clock::NEVER,
        left => clock::coarse().saturating_add(u64::from(left) * 1_000_000),
    };
    let chain = frame.extensions().flatten().find_map(|extension| match extension {
        Extension::Chain(bytes) => Some(bytes),
        _ => None,
    });
    let mut places = chain.unwrap_or(&[]).chunks_exact(PLACE_BYTES).map(read_place);
    let asker = places.next().unwrap_or(Direct::NONE);
    let rest: Vec<_> = places.collect();
    let up = rest.into_iter().rev().fold(None, |up, place| Some(Arc::new(Chain { place, up })));
    AskFacts { asker, deadline, chain: up, message: entry.ask.name }
}

fn read_place(bytes: &[u8]) -> Direct {
    let number = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(word)
    };
    Direct { node: NodeId(number(0)), boot: Boot(number(8)), serial: Serial(number(16)) }
}
