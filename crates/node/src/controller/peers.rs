//! What other agents ask of this one, and the seam to the convention.

use super::{Controller, Placement, Reply};
use crate::{
    convention::{Answering, Service},
    event::Event,
    queue::Queue,
    router::{self, Why},
    workers::Order,
};
use bytes::BytesMut;
use odeon_protocol::{
    Boot, NodeId, Reason, WorkerId,
    control::{FromAgent, Refusal, Spec},
    peer::{Adoption, PeerReply, PeerRequest},
};
use odeon_transport::{frame_io::Gate, quic::Undelivered};
use std::sync::Arc;
use tokio::sync::oneshot;

/// What the convention is given of the rest of the agent.
pub(crate) struct Seam {
    pub(crate) events: Arc<Queue<Event>>,
    pub(crate) router: router::Handle,
}

impl Service for Seam {
    fn call(&self, from: NodeId, request: PeerRequest) -> Answering<PeerReply> {
        let (reply, answer) = oneshot::channel();
        self.events.push(Event::Peer { from, request, reply });
        Box::pin(async move { answer.await.unwrap_or_else(|_| PeerReply::Refused(stopping())) })
    }

    fn frames(&self, from: NodeId, frames: Vec<BytesMut>) {
        self.router.take_from_peer(from, frames);
    }

    fn gate(&self) -> Gate {
        self.router.gate_of_peers()
    }

    fn undelivered(&self, node: NodeId, frames: Undelivered) {
        self.router.undelivered(frames, &unreachable(node));
    }

    fn unreachable(&self, node: NodeId) {
        self.router.peer_unreachable(node, &unreachable(node));
    }

    fn reachable(&self, node: NodeId, reachable: bool) {
        self.events.push(Event::Reachable { node, reachable });
    }
}

fn unreachable(node: NodeId) -> Why {
    Why::not_run(Reason::Unreachable, format!("its host (node {node}) cannot be reached"))
}

fn stopping() -> Refusal {
    super::refusal(Reason::Unreachable, "the agent is stopping")
}

type Answer = oneshot::Sender<PeerReply>;

impl Controller {
    pub(super) fn on_peer_request(&mut self, from: NodeId, request: PeerRequest, reply: Answer) {
        // Whoever asked may have given up: then nobody takes the answer.
        let done = |reply: Answer| drop(reply.send(PeerReply::Done));
        match request {
            PeerRequest::Place(spec) => self.place_for_peer(*spec, reply),
            PeerRequest::Adopt(adoptions) => self.adopt_all(adoptions, reply),
            PeerRequest::End { target, kill } => {
                self.end(&target, kill);
                done(reply);
            }
            PeerRequest::ChildrenEnded { boot, of, first, ends } => {
                self.take_ends((from, boot), of, (first, ends));
                done(reply);
            }
            PeerRequest::Actors => {
                let listed = self.list_actors();
                let answer = async move { drop(reply.send(PeerReply::Actors(listed.await.unwrap_or_default()))) };
                self.begin(answer, |_, ()| {});
            }
            PeerRequest::Workers => drop(reply.send(PeerReply::Workers(self.worker_infos()))),
            PeerRequest::Types => drop(reply.send(PeerReply::Types(self.types.infos()))),
            PeerRequest::Worker { worker, restart } => drop(reply.send(self.order_worker(worker, restart))),
            PeerRequest::Troupe { troupe, grow, used } => {
                self.troupe_for_peer(troupe, grow, &used, Box::new(move |answer| drop(reply.send(answer))));
            }
            PeerRequest::Lost { boot, blocks } => {
                self.peer_blocks_lost(from, boot, blocks);
                done(reply);
            }
            PeerRequest::DeadLetters(letters) => {
                self.letters_from_peer(letters);
                done(reply);
            }
            other => {
                let text = format!("this agent does not know the request {other:?}: run one version of Odeon");
                drop(reply.send(PeerReply::Refused(super::refusal(Reason::Protocol, text))));
            }
        }
    }

    fn place_for_peer(&mut self, spec: Spec, reply: Answer) {
        let answer: Reply = Box::new(move |result| drop(reply.send(placed(result))));
        if self.stopping {
            return answer(Err(stopping()));
        }
        match spec.global_name.clone() {
            Some(name) => self.place_named_here(&name, spec, answer),
            None => self.place_here(spec, answer),
        }
    }

    /// Answers when every name was started or refused.
    fn adopt_all(&mut self, adoptions: Vec<Adoption>, reply: Answer) {
        let mut answers = Vec::new();
        for adoption in adoptions {
            let (done, outcome) = oneshot::channel();
            answers.push((adoption.name.clone(), outcome));
            let answer: Reply = Box::new(move |result| drop(done.send(result.map(drop))));
            if self.stopping {
                answer(Err(stopping()));
            } else {
                self.adopt(adoption, answer);
            }
        }
        let gathered = async move {
            let mut refused = Vec::new();
            for (name, outcome) in answers {
                if let Err(why) = outcome.await.unwrap_or_else(|_| Err(stopping())) {
                    refused.push((name, why));
                }
            }
            // The leader looks into the directory in any case.
            drop(reply.send(PeerReply::Adopted { refused }));
        };
        self.begin(gathered, |_, ()| {});
    }

    /// Stops or restarts a worker of this host.
    pub(super) fn order_worker(&mut self, worker: WorkerId, restart: bool) -> PeerReply {
        let order = if restart { Order::Restart } else { Order::Stop };
        match self.unit_of(worker) {
            Some(unit) => {
                self.order(unit, order);
                PeerReply::Done
            }
            None => {
                let text = format!("{worker}: there is no such worker: see `odeon workers`");
                PeerReply::Refused(super::refusal(Reason::NoSuchActor, text))
            }
        }
    }

    /// Processes of this host are gone: senders on other hosts learn it, too.
    pub(super) fn on_blocks_lost(&mut self, process: WorkerId, blocks: Vec<u64>) {
        if self.clients.contains_key(&process) {
            // Nobody sends messages to clients; their answers find nobody.
            return self.parts.router.forget_blocks(&blocks);
        }
        let (me, boot) = (self.me(), self.parts.convention.boot());
        let reason = Reason::WorkerLost;
        self.parts.router.control_all(&FromAgent::Lost { node: me, boot, blocks: blocks.clone(), reason });
        self.members_lost(|member| member.node == me && member.boot == boot && blocks.contains(&member.serial.block()));
        self.tell_lost(&blocks);
    }

    fn peer_blocks_lost(&mut self, from: NodeId, boot: Boot, blocks: Vec<u64>) {
        self.members_lost(|member| {
            member.node == from && member.boot == boot && blocks.contains(&member.serial.block())
        });
        self.parts.router.blocks_lost(from, boot, blocks);
    }

    pub(super) fn reply_to(&self, process: WorkerId, request: u64) -> Reply {
        let router = self.parts.router.clone();
        Box::new(move |result| {
            let result = result.map(|placement| placement.placed);
            router.control(process, &FromAgent::Created { request, result });
        })
    }
}

fn placed(result: Result<Placement, Refusal>) -> PeerReply {
    match result {
        Ok(Placement { placed, place, epoch }) => PeerReply::Placed { placed, place, epoch },
        Err(why) => PeerReply::Refused(why),
    }
}
