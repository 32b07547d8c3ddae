//! The link as the core sees it.

use super::{Link, check_size, names::Lookup};
use crate::{
    core::{AnyCell, Envelope, Origin},
    error::Error,
    outside::{Answer, BoxFuture, Figures, Outgoing, Outside, Sent},
    supervision::{Returned, ReturnedBody},
};
use bytes::BytesMut;
use odeon_protocol::{
    Address, DeadLetter, Direct, ExitCause, Reason,
    control::{self, FromAgent, Placed, Refusal, Spec, ToAgent, Value},
    frame::{self, Class, Extension, Header, Kind, flags},
    limits::BODY_BYTES_MAX,
};
use serde_json::json;
use std::{
    sync::{Arc, atomic::Ordering},
    task::Waker,
};

/// The link behind the core's trait, so that its methods have an `Arc` of it.
pub(crate) struct Beyond(pub(crate) Arc<Link>);

impl Outside for Beyond {
    fn local(&self, name: &Arc<str>) -> Option<Arc<dyn AnyCell>> {
        let found = self.0.names.read().look_up(name);
        let Lookup::Here(serial) = found else { return None };
        if self.0.is_on_its_way(name, None) {
            return None;
        }
        self.0.system()?.registry.get(serial)
    }

    fn send(&self, message: Outgoing, waker: Option<&Waker>) -> Sent {
        self.0.send_out(message, waker)
    }

    fn create(&self, spec: Spec) -> BoxFuture<'static, Result<Placed, Refusal>> {
        let answer = self.0.request(|request| ToAgent::Create { request, spec });
        Box::pin(async move {
            match answer.await? {
                FromAgent::Created { result, .. } => result,
                _ => Err(odd()),
            }
        })
    }

    fn find(&self, name: Arc<str>) -> BoxFuture<'static, Result<Option<Placed>, Refusal>> {
        let answer = self.0.request(|request| ToAgent::Find { request, name });
        Box::pin(async move {
            match answer.await? {
                FromAgent::Found { result, .. } => result,
                _ => Err(odd()),
            }
        })
    }

    fn end(&self, target: Address, kill: bool) {
        self.0.say_last(&ToAgent::End { target, kill });
    }

    fn stopping(&self, cell: &Arc<dyn AnyCell>, close: &mut dyn FnMut() -> Vec<Envelope>) {
        let link = &self.0;
        let head = cell.head();
        let name = head.identity.as_ref().map(|identity| (&identity.name, identity.epoch));
        let leaving = link.leaving.lock();
        if let Some((name, _)) = name {
            link.names.write().ending(name, head.serial);
        }
        // The agent holds what comes from now on; what is left over here comes before that.
        link.say(&ToAgent::Stopping { serial: head.serial });
        for envelope in close() {
            link.leave_over(cell, envelope);
        }
        drop(leaving);
        if let Some((name, epoch)) = name {
            let woken = link.names.write().ended(name, epoch);
            woken.into_iter().for_each(Waker::wake);
        }
    }

    fn ended(&self, cell: &Arc<dyn AnyCell>, cause: &ExitCause, failure: Option<&Error>) -> bool {
        let not_found = matches!(failure, Some(Error::NotFound));
        self.0.say_last(&ToAgent::Ended { serial: cell.head().serial, cause: cause.clone(), not_found });
        // Its record is the agent's, who starts a successor or tells the parent.
        false
    }

    fn child_ended(&self, parent: Direct, child: Address, cause: &ExitCause) {
        self.0.say_last(&ToAgent::ChildEnded { parent, child, cause: cause.clone() });
    }

    fn answer(&self, answer: Answer) {
        let Answer { to, correlation, codec, result } = answer;
        // The flow keeps it before whatever is told of the flow later.
        let (from, from_epoch, flow) = self.0.receiving.answered(to, correlation).unwrap_or((self.0.me, 0, 0));
        self.0.counting.changed();
        let header = Header { class: Class::Urgent, codec, to, from, flow, correlation, ..Header::new(Kind::Reply) };
        let header = Header { from_epoch, ..header };
        match result.and_then(|body| check_size("the reply", body.len(), true).map(|()| body)) {
            Ok(body) => self.0.push(&header, &[], &body),
            Err(error) => {
                let bits = if error.may_have_run() { flags::MAY_HAVE_RUN } else { 0 };
                let header = Header { kind: Kind::Failure, flags: bits, ..header };
                let text = error.text();
                let body = text.as_bytes().get(..BODY_BYTES_MAX).unwrap_or(text.as_bytes());
                self.0.push(&header, &[Extension::Reason { reason: error.reason(), text: &text }], body);
            }
        }
    }

    fn lease(&self) {
        let answer = self.0.request(|request| ToAgent::Lease { request });
        let link = self.0.clone();
        let Some(system) = link.system() else { return };
        system.tokio.spawn(async move {
            if let Ok(FromAgent::Leased { block, .. }) = answer.await
                && let Some(system) = link.system()
            {
                system.add_block(block);
            }
        });
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        // Stopping actors still have things to say.
        Box::pin(std::future::ready(()))
    }

    fn closed(&self) {
        self.0.receiving.report();
        self.0.say_counts();
        self.0.say_last(&ToAgent::Stopped);
        self.0.outbox.close();
    }

    fn figures(&self) -> Figures {
        let link = &self.0;
        Figures { flows: link.flows() as u64, counts: link.counts() }
    }

    fn listen(&self, listen: bool) {
        self.0.say(&ToAgent::ListenDeadLetters { listen });
    }

    fn watch_hosts(&self) {
        if !self.0.watches_hosts.swap(true, Ordering::Relaxed) {
            self.0.say(&ToAgent::WatchHosts);
        }
    }

    fn change_capability(&self, key: String, value: Option<Value>) -> BoxFuture<'static, Result<(), Refusal>> {
        let json = match value {
            Some(value) => json!({ "command": "capability set", "set": [format!("{key}={value}")] }),
            None => json!({ "command": "capability unset", "unset": [key] }),
        };
        let answer = self.0.request(|request| ToAgent::Admin { request, json: json.to_string() });
        Box::pin(async move {
            match answer.await? {
                FromAgent::Admin { result, .. } => result.map(drop),
                _ => Err(odd()),
            }
        })
    }

    fn dead_letter(&self, letter: DeadLetter) -> bool {
        let body = control::encode(&ToAgent::DeadLetter(Box::new(letter)));
        // Not urgent: an agent that reads nothing makes it wait no longer than other messages.
        let write = |out: &mut BytesMut| {
            frame::write(out, &Header::new(Kind::Control), &[], &body);
        };
        self.0.outbox.try_push(Class::Normal, write).is_ok()
    }

    fn started(&self, cell: &Arc<dyn AnyCell>) {
        self.0.say(&ToAgent::Started { serial: cell.head().serial });
    }
}

impl Link {
    /// A message that a stopping actor did not handle: back to the agent, which holds it for the name's next instance or
    /// brings it to its sender.
    fn leave_over(self: &Arc<Self>, cell: &Arc<dyn AnyCell>, mut envelope: Envelope) {
        let head = cell.head();
        let text = format!("{} has stopped", head.label());
        match std::mem::take(&mut envelope.origin) {
            Origin::Remote(origin) => {
                let returned = Returned {
                    body: ReturnedBody::Value(envelope),
                    reason: Reason::ActorStopped,
                    text,
                    to: head.address(),
                    may_have_run: false,
                };
                origin.give_back(returned);
            }
            origin => {
                let starts = origin.starts();
                envelope.origin = origin;
                let why = Error::ActorStopped { text, may_have_run: false };
                let troupe = head.with_extra(|extra| extra.troupe);
                let name = head.identity.as_ref().map(|identity| Address::named(identity.name.clone(), starts));
                let Some(to) = name.or(troupe.map(Address::Troupe)) else {
                    return head.system.give_back(head.address(), envelope, &why);
                };
                let message = Outgoing { to: to.clone(), envelope, force: true };
                match self.send_out(message, None) {
                    Sent::Accepted => {}
                    Sent::Full(envelope) => head.system.give_back(to, envelope, &why),
                    Sent::Refused(error, envelope) => head.system.give_back(to, envelope, &error),
                }
            }
        }
    }
}

fn odd() -> Refusal {
    Refusal { reason: Reason::Protocol, text: "the agent's answer is of another kind than the request".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{prelude::*, simulation::Process};
    use bytes::BytesMut;
    use odeon_protocol::{
        Boot, NodeId, Serial,
        control::{FromAgent, Policy, Start, WireCodec, encode},
        frame::{Frame, Splitter},
    };
    use tokio::runtime::Handle;

    #[message]
    struct Halt;

    #[message]
    struct Note;

    #[derive(Default)]
    struct Named;

    #[actor("test.named")]
    impl Named {
        async fn start(_: String) -> odeon::Result<Self> {
            Ok(Self)
        }

        async fn halt(&mut self, _: Halt, ctx: &mut Context<Self>) {
            ctx.stop();
            ctx.named::<Self>("key").try_tell(Note).unwrap();
            ctx.me().try_tell(Note).unwrap();
        }

        async fn note(&mut self, _: Note, _: &mut Context<Self>) {}
    }

    /// As a message of another process does, which its sender sent in the same way.
    #[tokio::test]
    async fn what_a_stopping_name_leaves_over_starts_the_next_instance_if_it_was_sent_so() {
        let worker = odeon::Worker::new().register::<Named>();
        let process = Process::new((NodeId(1), Boot(1)), (1, 2), &worker, Handle::current());
        let start = Start {
            serial: Serial::first_of(2),
            type_name: "test.named".into(),
            args: b"key".to_vec(),
            codec: WireCodec::Key,
            global_name: Some("test.named/key".into()),
            epoch: 1,
            parent: Direct::NONE,
            policy: Policy::default(),
            troupe: None,
        };
        let start = Frame::new(Header::new(Kind::Control), &[], &encode(&FromAgent::Start(start)));
        process.take(vec![BytesMut::from(&start.bytes()[..])]);
        process.run();
        process.system().named::<Named>("key").try_tell(Halt).unwrap();
        process.run();
        let mut splitter = Splitter::default();
        *splitter.buffer() = process.outgoing(usize::MAX);
        let frames = std::iter::from_fn(|| splitter.next_frame().unwrap());
        let frames = frames.map(|bytes| Frame::read(bytes.freeze()).unwrap());
        let left: Vec<_> = frames.filter(|frame| frame.header.kind == Kind::Tell).collect();
        let starts: Vec<_> = left.iter().map(|frame| (frame.to_name(), frame.header.has(flags::STARTS))).collect();
        assert_eq!(starts, [(Some("test.named/key"), true), (Some("test.named/key"), false)]);
    }
}
