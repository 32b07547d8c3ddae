//! Troupes that this agent keeps: members are added while all are busy, and retire when they idle.
//!
//! Other agents ask for the members, and say with each question which of them they used.

use super::{CALL_WAIT, Controller, Placement, Record, Reply, choosing::Wish, refusal};
use crate::router::Why;
use odeon_protocol::{
    Address, Direct, NodeId, Reason, Serial, WorkerId,
    control::{Placed, Policy, Refusal, Signal, Spec, decode, encode},
    limits::TROUPE_MEMBERS_MAX,
    peer::{PeerReply, PeerRequest},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tracing::{info, warn};

/// A member that retires is told to stop once other agents know that it is no longer one.
const RETIRE_AFTER: Duration = Duration::from_secs(3);
/// How often agents that use a troupe of another host ask for its members.
const REFRESH: Duration = Duration::from_secs(1);

/// All troupes of this agent.
#[derive(Default)]
pub(super) struct Troupes {
    kept: BTreeMap<Serial, Troupe>,
    next: Serial,
    /// Troupes of other agents that are being asked about, and whether they are to be asked for more then.
    asking: BTreeMap<Direct, bool>,
    asked_at: Option<Instant>,
}

struct Troupe {
    spec: Spec,
    max: usize,
    idle: usize,
    members: Vec<Member>,
    creating: usize,
    name: Option<Arc<str>>,
}

struct Member {
    place: Direct,
    used: Instant,
}

impl Troupes {
    /// Troupes are numbered from there.
    pub(super) fn number_from(&mut self, first: Serial) {
        self.next = Serial(first.0.max(1));
    }

    pub(super) fn next_id(&mut self) -> Serial {
        self.next = Serial(self.next.0 + 1);
        Serial(self.next.0 - 1)
    }
}

/// Goes on once a troupe has grown, or has not.
type Grown = Box<dyn FnOnce(&mut Controller, Result<(), Refusal>) + Send>;

/// Keeping.
impl Controller {
    pub(super) fn wants_troupe(&self, spec: &Spec) -> bool {
        spec.global_name.is_none() && self.policy_of(spec).troupe.is_some()
    }

    pub(super) fn is_troupe_here(&self, place: Direct) -> bool {
        self.is_here(place) && self.troupes.kept.contains_key(&place.serial)
    }

    /// A troupe without a name: it is usable once its first member is placed.
    pub(super) fn create_troupe(&mut self, spec: Spec, reply: Reply) {
        let serial = self.troupes.next_id();
        let policy = self.policy_of(&spec);
        self.keep(serial, spec, &policy, None);
        let place = self.place(serial);
        let host = self.parts.config.name.clone();
        self.grow(
            serial,
            Box::new(move |controller, first| {
                let placed = Placed { address: Address::Troupe(place), created: true, host };
                if first.is_err() {
                    controller.troupes.kept.remove(&serial);
                }
                reply(first.map(|()| Placement { placed, place: Direct::NONE, epoch: 0 }));
            }),
        );
    }

    /// A troupe under a global name that was granted to this host.
    pub(super) fn start_named_troupe(&mut self, name: &Arc<str>, serial: Serial, record: Record) {
        let spec = Spec {
            type_name: record.type_name.clone(),
            args: record.args.clone(),
            codec: record.codec,
            global_name: None,
            on: record.on.clone(),
            near: None,
            policy: Some(record.policy.clone()),
            parent: Direct::NONE,
            remaining_ms: 0,
        };
        self.keep(serial, spec, &record.policy, Some(name.clone()));
        let (name, epoch) = (name.clone(), record.epoch);
        // It lives with the agent, in no worker.
        self.records.insert(serial, Record { worker: WorkerId(0), ..record });
        self.grow(
            serial,
            Box::new(move |controller, first| match first {
                Ok(()) => controller.name_started(&name, serial, epoch),
                Err(why) => {
                    controller.troupes.kept.remove(&serial);
                    controller.records.remove(serial);
                    controller.name_start_failed(&name, epoch, why);
                }
            }),
        );
    }

    fn keep(&mut self, serial: Serial, spec: Spec, policy: &Policy, name: Option<Arc<str>>) {
        let size = policy.troupe.unwrap_or(odeon_protocol::control::Troupe { max: 1, idle: 1 });
        let member = Policy { troupe: None, ..policy.clone() };
        let spec = Spec { policy: Some(member), parent: self.place(serial), global_name: None, ..spec };
        let max = (size.max as usize).clamp(1, TROUPE_MEMBERS_MAX);
        let idle = (size.idle as usize).min(max);
        self.troupes.kept.insert(serial, Troupe { spec, max, idle, members: Vec::new(), creating: 0, name });
    }

    /// Adds a member if there is room, then goes on.
    fn grow(&mut self, serial: Serial, then: Grown) {
        let Some(troupe) = self.troupes.kept.get_mut(&serial) else {
            return then(self, Err(refusal(Reason::NoSuchActor, "the troupe was stopped")));
        };
        if troupe.members.len() + troupe.creating >= troupe.max {
            return then(self, Ok(()));
        }
        troupe.creating += 1;
        let spec = troupe.spec.clone();
        let events = self.events.clone();
        let reply: Reply = Box::new(move |result| {
            let go_on = move |controller: &mut Self| {
                let added = controller.member_added(serial, result);
                then(controller, added);
            };
            events.push(crate::event::Event::Done(crate::event::Continuation(Box::new(go_on))));
        });
        let reply = self.notice_away(&spec, reply);
        self.place_member(spec, BTreeSet::new(), reply);
    }

    fn place_member(&mut self, spec: Spec, not: BTreeSet<NodeId>, reply: Reply) {
        let wish = Wish { own: Some(self.me()), ..Wish::new(spec, not) };
        self.choose_host(
            wish,
            Box::new(move |controller, chosen| match chosen {
                Ok((host, wish)) if host == controller.me() => controller.place_here(wish.spec, reply),
                Ok((host, wish)) => controller.place_on(host, (wish.spec, wish.not), reply, Self::place_member),
                Err(why) => reply(Err(why)),
            }),
        );
    }

    fn member_added(&mut self, serial: Serial, result: Result<Placement, Refusal>) -> Result<(), Refusal> {
        let Some(troupe) = self.troupes.kept.get_mut(&serial) else {
            // It was stopped meanwhile.
            if let Ok(placement) = result {
                self.parts.router.signal(placement.place, None, &encode(&Signal::Stop));
            }
            return Err(refusal(Reason::ActorStopped, "the troupe was stopped"));
        };
        troupe.creating = troupe.creating.saturating_sub(1);
        let placement = result?;
        troupe.members.push(Member { place: placement.place, used: Instant::now() });
        self.publish_troupe(serial);
        Ok(())
    }

    /// A member has ended, or begins to.
    pub(super) fn member_ended(&mut self, troupe: Direct, member: Direct) {
        if !self.is_here(troupe) {
            return;
        }
        let Some(kept) = self.troupes.kept.get_mut(&troupe.serial) else { return };
        let before = kept.members.len();
        kept.members.retain(|known| known.place != member);
        if kept.members.len() != before {
            self.publish_troupe(troupe.serial);
        }
    }

    /// Members on a host that is gone.
    pub(super) fn members_lost(&mut self, lost: impl Fn(Direct) -> bool) {
        let mut changed = Vec::new();
        for (serial, troupe) in &mut self.troupes.kept {
            let before = troupe.members.len();
            troupe.members.retain(|member| !lost(member.place));
            if troupe.members.len() != before {
                changed.push(*serial);
            }
        }
        changed.into_iter().for_each(|serial| self.publish_troupe(serial));
    }

    /// A signal by the troupe's name or address: for all its members.
    pub(super) fn on_troupe_signal(&mut self, troupe: Direct, body: &[u8]) {
        match decode(body) {
            Ok(signal) => self.end_troupe(troupe, matches!(signal, Signal::Kill)),
            Err(error) => warn!(%troupe, "a signal for the troupe is not readable: {error}"),
        }
    }

    /// Hosts are gone, and with them the troupes that they kept: nobody else would stop their members here.
    pub(super) fn keepers_lost(&self, lost: impl Fn(Direct) -> bool) {
        let orphans = self.records.iter().filter(|(_, record)| record.troupe().is_some_and(&lost));
        for (serial, record) in orphans {
            info!(member = %self.place(*serial), actor = &*record.type_name, "stops: the host that kept its troupe is gone");
            self.parts.router.signal(self.place(*serial), None, &encode(&Signal::Stop));
        }
    }

    pub(super) fn end_troupe(&mut self, troupe: Direct, kill: bool) {
        if troupe.node == self.me() && !self.is_here(troupe) {
            // Of an earlier start, and gone with it.
            return;
        }
        if !self.is_here(troupe) {
            let (convention, request) =
                (self.parts.convention.clone(), PeerRequest::End { target: Address::Troupe(troupe), kill });
            return self.begin(async move { drop(convention.call(troupe.node, request, CALL_WAIT).await) }, |_, ()| {});
        }
        let Some(kept) = self.troupes.kept.remove(&troupe.serial) else { return };
        let body = encode(&if kill { Signal::Kill } else { Signal::Stop });
        kept.members.iter().for_each(|member| self.parts.router.signal(member.place, None, &body));
        self.parts.router.troupe_missing(troupe, &Why::not_run(Reason::ActorStopped, "the troupe was stopped"));
        if let (Some(name), Some(record)) = (kept.name, self.records.remove(troupe.serial)) {
            self.name_stopped(&name, record.epoch, false);
        }
    }

    /// Forgets the troupes whose names this host may no longer hold; whoever holds them next starts new members.
    pub(super) fn drop_named_troupes(&mut self) {
        let named: Vec<_> =
            self.troupes.kept.iter().filter(|(_, kept)| kept.name.is_some()).map(|(serial, _)| *serial).collect();
        for serial in named {
            let Some(kept) = self.troupes.kept.remove(&serial) else { continue };
            self.records.remove(serial);
            let body = encode(&Signal::Stop);
            kept.members.iter().for_each(|member| self.parts.router.signal(member.place, None, &body));
            let why = Why::not_run(Reason::Fenced, "the troupe's host lost its lease");
            self.parts.router.troupe_missing(self.place(serial), &why);
            if let Some(name) = kept.name {
                self.names.forget(&name);
            }
        }
    }

    fn publish_troupe(&self, serial: Serial) {
        if let Some(troupe) = self.troupes.kept.get(&serial) {
            self.parts.router.troupe(self.place(serial), &troupe.places(), troupe.has_room());
        }
    }
}

impl Troupe {
    fn places(&self) -> Vec<Direct> {
        self.members.iter().map(|member| member.place).collect()
    }

    fn has_room(&self) -> bool {
        self.members.len() + self.creating < self.max
    }

    /// Who retires: idle for long, and more than are to be kept.
    fn retire(&mut self, idle_for: Duration) -> Vec<Direct> {
        let mut retired = Vec::new();
        while self.members.len() > self.idle.max(1) {
            let Some(at) = self.members.iter().position(|member| member.used.elapsed() >= idle_for) else { break };
            retired.push(self.members.swap_remove(at).place);
        }
        retired
    }
}

/// Using.
impl Controller {
    pub(super) fn on_troupe_missed(&mut self, troupe: Direct) {
        self.refresh(troupe, true);
    }

    pub(super) fn on_troupe_busy(&mut self, troupe: Direct) {
        self.refresh(troupe, true);
    }

    /// Brings the router the members; with more of them if they are all busy.
    fn refresh(&mut self, troupe: Direct, grow: bool) {
        if self.is_here(troupe) {
            return self.refresh_own(troupe, grow);
        }
        if let Some(grow_then) = self.troupes.asking.get_mut(&troupe) {
            *grow_then |= grow;
            return;
        }
        self.troupes.asking.insert(troupe, false);
        let used = self.parts.router.troupe_used(troupe);
        let (convention, request) = (self.parts.convention.clone(), PeerRequest::Troupe { troupe, grow, used });
        let asked = async move { convention.call(troupe.node, request, CALL_WAIT).await };
        self.begin(asked, move |controller, answer| {
            let grow_then = controller.troupes.asking.remove(&troupe) == Some(true);
            let why = match answer {
                Ok(PeerReply::Troupe { members, room }) => {
                    controller.parts.router.troupe(troupe, &members, room);
                    if grow_then && !grow {
                        controller.refresh(troupe, true);
                    }
                    return;
                }
                Ok(PeerReply::Refused(why)) => why,
                Ok(other) => refusal(Reason::Protocol, format!("its keeper answered {other:?}")),
                Err(error) => error.into(),
            };
            controller.parts.router.troupe_missing(troupe, &Why::not_run(why.reason, why.text));
        });
    }

    fn refresh_own(&mut self, troupe: Direct, grow: bool) {
        let serial = troupe.serial;
        if !self.troupes.kept.contains_key(&serial) {
            let why = Why::not_run(Reason::NoSuchActor, format!("odeon:troupe/{troupe}: there is no such troupe"));
            return self.parts.router.troupe_missing(troupe, &why);
        }
        if !grow {
            return self.publish_troupe(serial);
        }
        self.grow(
            serial,
            Box::new(move |controller, grown| {
                let empty = controller.troupes.kept.get(&serial).is_none_or(|kept| kept.members.is_empty());
                match grown {
                    Err(why) if empty => {
                        controller.parts.router.troupe_missing(troupe, &Why::not_run(why.reason, why.text));
                    }
                    Err(why) => {
                        warn!(%troupe, "the troupe does not grow: {why}");
                        controller.publish_troupe(serial);
                    }
                    Ok(()) => controller.publish_troupe(serial),
                }
            }),
        );
    }

    /// Another agent asks for the members of a troupe kept here.
    pub(super) fn troupe_for_peer(
        &mut self,
        troupe: Direct,
        grow: bool,
        used: &[Direct],
        reply: Box<dyn FnOnce(PeerReply) + Send>,
    ) {
        self.note_used(troupe.serial, used);
        let known = self.is_troupe_here(troupe);
        if !known {
            return reply(PeerReply::Refused(refusal(
                Reason::NoSuchActor,
                format!("odeon:troupe/{troupe}: there is no such troupe"),
            )));
        }
        let serial = troupe.serial;
        let answer = move |controller: &mut Self, grown: Result<(), Refusal>| {
            let Some(kept) = controller.troupes.kept.get(&serial) else {
                return reply(PeerReply::Refused(refusal(Reason::ActorStopped, "the troupe was stopped")));
            };
            match grown {
                Err(why) if kept.members.is_empty() => reply(PeerReply::Refused(why)),
                _ => reply(PeerReply::Troupe { members: kept.places(), room: kept.has_room() }),
            }
        };
        if grow { self.grow(serial, Box::new(answer)) } else { answer(self, Ok(())) }
    }

    fn note_used(&mut self, serial: Serial, used: &[Direct]) {
        let Some(troupe) = self.troupes.kept.get_mut(&serial) else { return };
        let now = Instant::now();
        troupe.members.iter_mut().filter(|member| used.contains(&member.place)).for_each(|member| member.used = now);
    }

    /// Retires idle members, and keeps up with troupes of other hosts.
    pub(super) fn look_after_troupes(&mut self) {
        let idle_for = self.parts.config.troupe_idle;
        for serial in self.troupes.kept.keys().copied().collect::<Vec<_>>() {
            let used = self.parts.router.troupe_used(self.place(serial));
            self.note_used(serial, &used);
            let retired = self.troupes.kept.get_mut(&serial).map(|troupe| troupe.retire(idle_for)).unwrap_or_default();
            if retired.is_empty() {
                continue;
            }
            self.publish_troupe(serial);
            self.later(RETIRE_AFTER, move |controller| {
                let body = encode(&Signal::Stop);
                retired.iter().for_each(|member| controller.parts.router.signal(*member, None, &body));
            });
        }
        if self.troupes.asked_at.is_none_or(|at| at.elapsed() >= REFRESH) {
            self.troupes.asked_at = Some(Instant::now());
            for troupe in self.parts.router.troupes_in_use() {
                if !self.is_here(troupe) {
                    self.refresh(troupe, false);
                }
            }
        }
    }

    /// For lists.
    pub(super) fn troupe_list(&self) -> Vec<serde_json::Value> {
        let entries = self.troupes.kept.iter().map(|(serial, troupe)| {
            let members: BTreeSet<_> =
                troupe.places().into_iter().map(|place| Address::Direct(place).to_string()).collect();
            serde_json::json!({
                "address": Address::Troupe(self.place(*serial)).to_string(),
                "type": troupe.spec.type_name,
                "name": troupe.name,
                "max": troupe.max,
                "idle": troupe.idle,
                "members": members,
            })
        });
        entries.collect()
    }
}
