//! Parents and children on different hosts: a parent learns of each child's end exactly once.
//!
//! The child's host keeps an end until the parent's host has taken it, or that start of it is over for good. The parent's
//! host remembers where the children of its actors live, and tells of them itself once that start of their host is over.
//!
//! - **CE-1.** Ends from one start of an agent to another are numbered and go one batch at a time; none is taken twice.
//! - **CE-2.** Of a start that is known to be over nothing is taken any more: its children were told lost.
//! - **CE-3.** A child whose end came before the answer to its creation is not remembered when that comes.

use super::{AGAIN, CALL_WAIT, Controller, Reply, untold::Untold};
use crate::event::{Continuation, Event};
use odeon_protocol::{
    Address, Boot, Direct, ExitCause, NodeId,
    control::{FromAgent, Spec},
    limits::CHILD_ENDS_KEPT,
    peer::{ChildEnd, PeerReply, PeerRequest},
    simulated::RandomState,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    mem,
};

/// Ends in one request.
const ENDS_AT_ONCE: usize = 256;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Children {
    /// Those of actors here that live on other hosts, by host.
    away: HashMap<NodeId, Vec<Away>, RandomState>,
    creations: Creations,
    /// Ends of children here, by the start of an agent that has the parents.
    outgoing: BTreeMap<(NodeId, Boot), Untold<ChildEnd>>,
    /// By host: its start, and the number of the end that comes next.
    taken: BTreeMap<NodeId, (Boot, u64)>,
}

#[derive(Debug)]
struct Away {
    parent: Direct,
    child: Address,
    boot: Boot,
}

/// Creations by actors here that have not been answered.
#[derive(Debug, Default)]
struct Creations {
    newest: u64,
    open: BTreeSet<u64>,
    /// Ends of children that are not known: behind the newest creation at that time.
    early: VecDeque<(u64, Direct, Address)>,
}

impl Creations {
    fn begin(&mut self) -> u64 {
        self.newest += 1;
        self.open.insert(self.newest);
        self.newest
    }

    fn end(&mut self, creation: u64) {
        self.open.remove(&creation);
        let oldest = self.open.first().copied().unwrap_or(u64::MAX);
        while self.early.front().is_some_and(|(newest, ..)| *newest < oldest) {
            self.early.pop_front();
        }
    }

    /// A child that is not known has ended: the answer to its creation may be under way.
    fn ended(&mut self, parent: Direct, child: &Address) {
        if !self.open.is_empty() {
            self.early.push_back((self.newest, parent, child.clone()));
        }
    }

    /// Whether that child has ended already; asked once.
    fn has_ended(&mut self, parent: Direct, child: &Address) -> bool {
        let at = self.early.iter().position(|(_, of, ended)| *of == parent && ended == child);
        at.is_some_and(|at| self.early.remove(at).is_some())
    }
}

impl Children {
    /// Whether it was remembered.
    fn forget(&mut self, parent: Direct, child: &Address) -> bool {
        self.away.values_mut().any(|children| {
            let at = children.iter().position(|away| away.parent == parent && away.child == *child);
            at.map(|at| children.swap_remove(at)).is_some()
        })
    }
}

impl Controller {
    /// Remembers a child that is placed on another host, so that its parent learns of that host's loss.
    pub(super) fn notice_away(&mut self, spec: &Spec, reply: Reply) -> Reply {
        let parent = spec.parent;
        if !self.is_here(parent) {
            return reply;
        }
        let (me, events, creation) = (self.me(), self.events.clone(), self.children.creations.begin());
        Box::new(move |result| {
            let away = result.as_ref().ok().filter(|placement| {
                placement.placed.created && placement.place.node != me && !placement.place.is_none()
            });
            let away = away.map(|placement| (placement.place, placement.placed.address.clone()));
            let note = move |controller: &mut Self| {
                if let Some((place, child)) = away {
                    controller.lives_away(parent, place, child);
                }
                controller.children.creations.end(creation);
            };
            events.push(Event::Done(Continuation(Box::new(note))));
            reply(result);
        })
    }

    fn lives_away(&mut self, parent: Direct, place: Direct, child: Address) {
        if self.children.creations.has_ended(parent, &child) {
            return;
        }
        if self.is_dead(place.node, place.boot) {
            return self.tell_end(parent, child, ExitCause::HostLost);
        }
        self.children.away.entry(place.node).or_default().push(Away { parent, child, boot: place.boot });
    }

    /// Tells a parent of the end of a child that lived here, wherever the parent is.
    pub(super) fn child_exited(&mut self, parent: Direct, child: Address, cause: ExitCause) {
        if parent.is_none() || self.is_dead(parent.node, parent.boot) {
            return;
        }
        if self.is_here(parent) {
            self.children.forget(parent, &child);
            return self.tell_end(parent, child, cause);
        }
        if parent.node == self.me() {
            return;
        }
        let to = (parent.node, parent.boot);
        let outgoing = self.children.outgoing.entry(to).or_default();
        if outgoing.len() == CHILD_ENDS_KEPT {
            return tracing::error!(%parent, %child, "too many ends wait for the parents' host: this one is not told");
        }
        outgoing.push(ChildEnd { parent, child, cause });
        self.send_ends(to);
    }

    /// Unless that is under way.
    fn send_ends(&mut self, to: (NodeId, Boot)) {
        let (convention, boot) = (self.parts.convention.clone(), self.parts.convention.boot());
        let batch = self.children.outgoing.get_mut(&to).and_then(|outgoing| outgoing.begin(ENDS_AT_ONCE));
        let Some((first, ends)) = batch else { return };
        let count = ends.len();
        let request = PeerRequest::ChildrenEnded { boot, of: to.1, first, ends };
        self.begin(async move { convention.call(to.0, request, CALL_WAIT).await }, move |controller, answer| {
            let Some(outgoing) = controller.children.outgoing.get_mut(&to) else { return };
            if matches!(answer, Ok(PeerReply::Done)) {
                outgoing.end(count);
                controller.send_ends(to);
            } else {
                outgoing.end(0);
                controller.later(AGAIN, move |controller| controller.send_ends(to));
            }
        });
    }

    /// Takes what another agent, in that start of it, tells of children of actors here.
    pub(super) fn take_ends(&mut self, (from, boot): (NodeId, Boot), of: Boot, (first, ends): (u64, Vec<ChildEnd>)) {
        if self.is_dead(from, boot) || of != self.parts.convention.boot() {
            return;
        }
        let taken = self.children.taken.entry(from).or_default();
        if taken.0 < boot {
            *taken = (boot, 0);
        }
        let next = taken.1;
        if taken.0 > boot {
            return;
        }
        taken.1 = next.max(first.saturating_add(ends.len() as u64));
        for ChildEnd { parent, child, cause } in ends.into_iter().skip(next.saturating_sub(first) as usize) {
            if !self.is_here(parent) {
                continue;
            }
            if !self.children.forget(parent, &child) {
                self.children.creations.ended(parent, &child);
            }
            self.tell_end(parent, child, cause);
        }
    }

    /// That start of a host is over: so are the children there, and the parents of children here.
    pub(super) fn children_lost(&mut self, node: NodeId, boot: Boot) {
        self.children.outgoing.retain(|(of, start), _| *of != node || *start > boot);
        let away = self.children.away.entry(node).or_default();
        let (lost, kept) = mem::take(away).into_iter().partition(|away| away.boot <= boot);
        *away = kept;
        let lost: Vec<Away> = lost;
        for Away { parent, child, .. } in lost {
            self.tell_end(parent, child, ExitCause::HostLost);
        }
    }

    fn tell_end(&mut self, parent: Direct, child: Address, cause: ExitCause) {
        tracing::debug!(%parent, %child, %cause, "the end of a child is told");
        match child {
            Address::Direct(member) if self.is_troupe_here(parent) => self.member_ended(parent, member),
            child => {
                if let Some(process) = self.parts.router.process_of(parent) {
                    self.parts.router.control(process, &FromAgent::ChildExited { parent, child, cause });
                }
            }
        }
    }
}
