//! Messages on their way out: flow, wire form, queue.

use super::{
    Link, SMALL_BODY_BYTES_MAX,
    asks::Pending,
    check_size,
    flow::{End, Fence, FlowKey, LANES_MAX, Now, Numbers, Route, Step, Target},
    memory_for,
    names::Lookup,
};
use crate::{
    core::{Entry, Envelope, Origin, cell, reply::AnySlot, wire::Written},
    error::Error,
    outside::{Outgoing, Sent},
    system::Inner,
};
use bytes::BytesMut;
use odeon_protocol::{
    Address, Direct, Reason, Serial,
    frame::{self, Class, Codec, Extension, HEADER_BYTES, Header, Kind, flags},
};
use odeon_transport::frame_io::{PushError, share};
use std::{
    sync::Arc,
    task::{Context, Waker},
};

/// Places of a chain of asks that fit into the extension.
const CHAIN_MAX: usize = 41;

/// Where a message is to go.
enum Way {
    /// Out, in a flow.
    Out { target: Target, now: Now, starts: bool },
    /// Nowhere yet; the waker is woken.
    Wait,
    /// Into a mailbox of this process.
    Here(Serial),
}

/// A message's way out, with its numbers.
struct Numbered<'a> {
    sender: &'a Sender,
    target: &'a Target,
    starts: bool,
    numbers: Numbers,
}

/// Who sends.
struct Sender {
    place: Direct,
    epoch: u64,
    name: Option<Arc<str>>,
}

impl Link {
    pub(super) fn send_out(self: &Arc<Self>, message: Outgoing, waker: Option<&Waker>) -> Sent {
        let Outgoing { to, mut envelope, force } = message;
        let Some(system) = self.system() else { return Sent::Refused(self.gone(), envelope) };
        loop {
            if let Err(error) = self.check() {
                return Sent::Refused(error, envelope);
            }
            let (target, now, starts) = match self.way(&system, &to, force, waker) {
                Way::Out { target, now, starts } => (target, now, starts),
                Way::Wait => return Sent::Full(envelope),
                Way::Here(serial) => return deliver_here(&system, serial, &to, envelope),
            };
            let sender = self.sender(&system, &envelope.origin);
            let mut key = FlowKey { from: sender.place.serial, to: target, lane: 0 };
            let step = self.number(&mut key, now, force);
            let numbers = match step {
                Step::Go(numbers) => numbers,
                Step::Wait | Step::TooMany if force => beside(now.route),
                Step::Wait => {
                    if self.wait_for_flow(&key, waker) {
                        return Sent::Full(envelope);
                    }
                    continue;
                }
                Step::TooMany => {
                    let text = "this process has as many flows open as it may: 1,048,576".to_owned();
                    return Sent::Refused(Error::new(Reason::Full, text), envelope);
                }
            };
            let way = Numbered { sender: &sender, target: &key.to, starts, numbers };
            match self.write(&way, &mut envelope) {
                Ok(()) => {
                    self.counting.sent(numbers.flow);
                    return Sent::Accepted;
                }
                Err(Failed::Never(error)) => {
                    self.undo(numbers);
                    return Sent::Refused(error, envelope);
                }
                Err(Failed::NoRoom { large }) => {
                    self.undo(numbers);
                    let Some(waker) = waker else { return Sent::Full(envelope) };
                    let context = Context::from_waker(waker);
                    let room =
                        if large { self.outbox.poll_room_for_large(&context) } else { self.outbox.poll_room(&context) };
                    if room.is_pending() {
                        return Sent::Full(envelope);
                    }
                }
                Err(Failed::MuchOutstanding) => {
                    self.undo(numbers);
                    let waits = |waker| self.shard_of_sender(&key).lock().wait_large(&key, waker);
                    if waker.is_none_or(waits) {
                        return Sent::Full(envelope);
                    }
                }
            }
        }
    }

    fn way(&self, system: &Arc<Inner>, to: &Address, force: bool, waker: Option<&Waker>) -> Way {
        match to {
            Address::Direct(place) if system.is_mine(*place) => Way::Here(place.serial),
            Address::Direct(place) => {
                Way::Out { target: Target::Direct(*place), now: Now::fixed(Route::Place(*place, 0)), starts: false }
            }
            Address::Troupe(place) => {
                Way::Out { target: Target::Troupe(*place), now: Now::fixed(Route::Agent), starts: false }
            }
            Address::Named { name, starts, .. } => {
                let found = self.names.read().look_up(name);
                match found {
                    Lookup::Out(now) => Way::Out { target: Target::Name(name.clone()), now, starts: *starts },
                    Lookup::Here(serial) if force => Way::Here(serial),
                    Lookup::Ending if force => {
                        Way::Out { target: Target::Name(name.clone()), now: Now::fixed(Route::Agent), starts: *starts }
                    }
                    Lookup::Here(_) => {
                        // Earlier messages are still outstanding where the name was before; or they have ended just now.
                        if !self.is_on_its_way(name, waker) {
                            waker.inspect(|waker| waker.wake_by_ref());
                        }
                        Way::Wait
                    }
                    Lookup::Ending => {
                        let wake_now = waker.filter(|waker| !self.names.write().wait(name, waker));
                        wake_now.inspect(|waker| waker.wake_by_ref());
                        Way::Wait
                    }
                }
            }
        }
    }

    /// Whether messages of this process to that name are outstanding elsewhere; if so, whoever waits is woken after.
    pub(super) fn is_on_its_way(&self, name: &Arc<str>, waker: Option<&Waker>) -> bool {
        let fits = |key: &FlowKey| matches!(&key.to, Target::Name(to) if to == name);
        self.sending.iter().any(|shard| shard.lock().wait_where(fits, waker))
    }

    /// A number in the flow, or in one beside it for what must not wait.
    fn number(&self, key: &mut FlowKey, now: Now, force: bool) -> Step {
        let mut sending = self.shard_of_sender(key).lock();
        loop {
            match sending.send(key, now) {
                Step::Wait if force && key.lane < LANES_MAX => key.lane += 1,
                step => return step,
            }
        }
    }

    fn wait_for_flow(&self, key: &FlowKey, waker: Option<&Waker>) -> bool {
        waker.is_none_or(|waker| self.shard_of_sender(key).lock().wait(key, waker))
    }

    fn undo(&self, numbers: Numbers) {
        self.settle(numbers.flow, (numbers.sequence, 1), End::Undone);
        self.counting.changed();
    }

    /// Sends a fence the way that the messages of its flow went.
    pub(super) fn send_fence(&self, fence: &Fence<FlowKey>) {
        let Some(system) = self.system() else { return };
        let (key, numbers) = (&fence.key, fence.numbers);
        let sender = self.sender_of(&system, key.from);
        let way = Numbered { sender: &sender, target: &key.to, starts: false, numbers };
        let mut header = numbered_header(&way, Kind::Tell);
        header.flags |= flags::FENCE;
        header.class = Class::Urgent;
        let mut extensions = Vec::new();
        if let Target::Name(name) = &key.to {
            extensions.push(Extension::To(name));
        }
        if let Some(name) = &sender.name {
            extensions.push(Extension::From(name));
        }
        self.push(&header, &extensions, &[]);
    }

    fn sender(&self, system: &Arc<Inner>, origin: &Origin) -> Sender {
        let Origin::Local(sender) = origin else { return Sender { place: self.me, epoch: 0, name: None } };
        self.sender_of(system, sender.serial())
    }

    fn sender_of(&self, system: &Arc<Inner>, serial: Serial) -> Sender {
        let place = system.place(serial);
        match system.registry.get(serial).and_then(|cell| {
            let identity = cell.head().identity.as_ref()?;
            Some((identity.name.clone(), identity.epoch))
        }) {
            Some((name, epoch)) => Sender { place, epoch, name: Some(name) },
            None => Sender { place, epoch: 0, name: None },
        }
    }

    fn write(&self, way: &Numbered<'_>, envelope: &mut Envelope) -> Result<(), Failed> {
        let slot = envelope.slot();
        let forwarded = slot.as_ref().and_then(|slot| slot.remote());
        // A forwarded ask is written as its asker speaks, so that whoever answers it does too.
        let codec = forwarded.map_or(Codec::Postcard, |(_, _, codec)| codec);
        let body = envelope.value().write_up_to(codec, SMALL_BODY_BYTES_MAX).map_err(Failed::Never)?;
        check_size(envelope.table().name, body.bytes(), false).map_err(Failed::Never)?;
        let mut header = message_header(way, envelope);
        header.codec = codec;
        if codec == Codec::Json {
            header.fingerprint = 0;
        }
        let mut extensions = Vec::new();
        if let Target::Name(name) = way.target {
            extensions.push(Extension::To(name));
        }
        if let Some(name) = &way.sender.name {
            extensions.push(Extension::From(name));
        }
        let mut chain = Vec::new();
        if let Some(slot) = &slot {
            header.correlation = self.asks.number();
            header.remaining_ms = slot.facts().remaining_ms();
            write_chain(slot, &mut chain);
            if !chain.is_empty() {
                extensions.push(Extension::Chain(&chain));
            }
            if let Some((to, correlation, _)) = forwarded {
                extensions.push(Extension::ReplyTo { to, correlation });
            } else {
                let (flow, sequence) = (way.numbers.flow, way.numbers.sequence);
                let pending = Pending { slot: slot.clone(), flow, sequence };
                if !self.asks.insert(header.correlation, pending) {
                    let text = "this process has as many asks outstanding as it may".to_owned();
                    return Err(Failed::Never(Error::new(Reason::Full, text)));
                }
            }
        }
        let pushed = match body {
            Written::Bytes(body) => self.push_small(&header, &extensions, &body),
            Written::Larger(bytes) => self.push_large(&header, &extensions, bytes, envelope),
        };
        if let Err(failed) = pushed {
            drop(self.asks.take(header.correlation));
            return Err(failed);
        }
        if let Some(handle) = envelope.handle() {
            drop(handle.take());
        }
        if let Some((to, correlation, _)) = forwarded {
            self.receiving.forget_ask(to, correlation);
        }
        Ok(())
    }
}

impl Link {
    fn push_small(&self, header: &Header, extensions: &[Extension<'_>], body: &[u8]) -> Result<(), Failed> {
        let write = |buffer: &mut BytesMut| _ = frame::write(buffer, header, extensions, body);
        self.queue(class(header), write).map_err(|error| self.not_queued(error, false))
    }

    /// Writes a large message straight into its frame, once it may go.
    fn push_large(
        &self,
        header: &Header,
        extensions: &[Extension<'_>],
        body_bytes: usize,
        envelope: &Envelope,
    ) -> Result<(), Failed> {
        let &Header { flow, sequence, codec, .. } = header;
        if flow != 0 && !self.shard_of_flow(flow).lock().takes_large(flow, sequence, body_bytes) {
            return Err(Failed::MuchOutstanding);
        }
        if flow != 0 && !self.outbox.has_room_for_large() {
            return Err(Failed::NoRoom { large: true });
        }
        let mut bytes = memory_for(body_bytes);
        let before = HEADER_BYTES + frame::begin(&mut bytes, header, extensions, body_bytes);
        envelope.value().append(codec, &mut bytes).map_err(Failed::Never)?;
        if bytes.len() != before + body_bytes {
            let (name, now) = (envelope.table().name, bytes.len() - before);
            let text =
                format!("{name} was written as {body_bytes} bytes, and then as {now}: its bytes must not change");
            return Err(Failed::Never(Error::new(Reason::Decode, text)));
        }
        let pushed = self.outbox.try_push_large(class(header), share(bytes));
        pushed.map_err(|error| self.not_queued(error, true))
    }

    fn not_queued(&self, error: PushError, large: bool) -> Failed {
        match error {
            PushError::Full => Failed::NoRoom { large },
            PushError::Closed => Failed::Never(self.gone()),
        }
    }
}

/// What is outside of flows must not wait for room.
const fn class(header: &Header) -> Class {
    if header.flow == 0 { Class::Urgent } else { Class::Normal }
}

/// Why a message was not queued.
enum Failed {
    /// The queue towards the agent is full.
    NoRoom {
        large: bool,
    },
    /// Too many bytes of large messages of its flow are outstanding.
    MuchOutstanding,
    Never(Error),
}

/// Numbers of a message that must not wait and finds all its windows used up: it goes beside the flows.
const fn beside(route: Route) -> Numbers {
    Numbers { flow: 0, sequence: 0, opens: false, route, report: false }
}

fn message_header(way: &Numbered<'_>, envelope: &Envelope) -> Header {
    let table = envelope.table();
    let mut header = numbered_header(way, if table.is_ask { Kind::Ask } else { Kind::Tell });
    if table.idempotent {
        header.flags |= flags::IDEMPOTENT;
    }
    (header.type_id, header.fingerprint) = (table.type_id, table.fingerprint);
    header
}

/// The header of whatever takes a number of a flow.
fn numbered_header(way: &Numbered<'_>, kind: Kind) -> Header {
    let Numbered { sender, target, starts, numbers } = *way;
    let mut bits = 0;
    for (set, flag) in [
        (numbers.opens, flags::OPENS),
        (numbers.report, flags::REPORT),
        (starts, flags::STARTS),
        (matches!(target, Target::Troupe(_)), flags::TROUPE),
    ] {
        if set {
            bits |= flag;
        }
    }
    let (to, to_epoch) = match (numbers.route, target) {
        (Route::Place(place, epoch), _) => (place, epoch),
        (Route::Agent, Target::Troupe(place) | Target::Direct(place)) => (*place, 0),
        (Route::Agent, Target::Name(_)) => (Direct::NONE, 0),
    };
    Header {
        flags: bits,
        to,
        from: sender.place,
        to_epoch,
        from_epoch: sender.epoch,
        flow: numbers.flow,
        sequence: numbers.sequence,
        ..Header::new(kind)
    }
}

fn write_chain(slot: &Arc<dyn AnySlot>, bytes: &mut Vec<u8>) {
    for place in slot.facts().waiting().take(CHAIN_MAX) {
        for number in [place.node.0, place.boot.0, place.serial.0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
}

fn deliver_here(system: &Arc<Inner>, serial: Serial, to: &Address, envelope: Envelope) -> Sent {
    let no_such_actor = |envelope| Sent::Refused(Error::new(Reason::NoSuchActor, to.to_string()), envelope);
    let Some(found) = system.registry.get(serial) else { return no_such_actor(envelope) };
    match cell::push(&found, Entry::Message(envelope), true) {
        Ok(()) => Sent::Accepted,
        Err(cell::NotTaken::Refused(refused)) => match *refused {
            (Entry::Message(envelope), error) => Sent::Refused(error, envelope),
            _ => Sent::Accepted,
        },
        Err(cell::NotTaken::Full(Entry::Message(envelope)) | cell::NotTaken::Closed(Entry::Message(envelope))) => {
            no_such_actor(envelope)
        }
        Err(_) => Sent::Accepted,
    }
}
