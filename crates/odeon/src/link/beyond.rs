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
        let (from, flow) = self.0.receiving.answered(to, correlation).unwrap_or((self.0.me, 0));
        self.0.counting.changed();
        let header = Header { class: Class::Urgent, codec, to, from, flow, correlation, ..Header::new(Kind::Reply) };
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
            origin @ (Origin::Local(_) | Origin::Outside) => {
                envelope.origin = origin;
                let why = Error::ActorStopped { text, may_have_run: false };
                let troupe = head.with_extra(|extra| extra.troupe);
                let Some(to) = head.identity.as_ref().map(|_| head.address()).or(troupe.map(Address::Troupe)) else {
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
