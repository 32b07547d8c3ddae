//! Who seems alive: SWIM (Das, Gupta, Motivala, 2002) by `foca`, without I/O and without a clock.
//!
//! The driver hands in datagrams and the time, sends what [`Gossip::take_datagrams`] gives it, and calls
//! [`Gossip::tick`] when [`Gossip::due`] says so. Timers are kept here.
//!
//! Who belongs comes from the directory only ([`Gossip::set_members`]). A datagram from or about anyone else is dropped
//! and counted; what it says of strangers beside is left out. What comes out is a hint: nothing is freed, moved or evicted
//! because of it.
//!
//! `foca` waits a fixed time before it takes a suspect for dead. Where this agent itself was late, everybody else looks
//! dead to it; so when its timers fire late, the pending verdicts are put off by as much.

use crate::{anti_entropy::Hint, host::Liveness};
use foca::{
    Codec, Config, Foca, Header, Identity, Incarnation, Member, Message, NoCustomBroadcast, Notification,
    PostcardCodec, Runtime, State, Timer,
};
use odeon_protocol::{Boot, NodeId, Time, control};
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt, mem,
    num::{NonZeroU32, NonZeroUsize},
    ops::Bound,
    time::Duration,
};

/// A datagram of SWIM; one byte less than fits into ours, for [`Datagram`]'s kind.
const SWIM_BYTES_MAX: usize = 1150;
/// Timers that fire later than this mean that this agent was held up.
const LATE: Duration = Duration::from_millis(500);
/// From a suspicion until it becomes a verdict.
const VERDICT: Duration = Duration::from_secs(4);
/// The verdict comes from whoever raised the suspicion. That one asks the suspect itself before: the refutal may have been
/// lost on the way to it. Others ask where the verdict should have come: the refutal is not said to everybody.
const ASKED_AFTER: Duration = Duration::from_secs(1);
const ASKED_BY_OTHERS_AFTER: Duration = Duration::from_secs(5);
const ASKED_EVERY: Duration = Duration::from_millis(300);
/// A suspect that has not answered by then is down.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// While nobody is known to be alive, so many others are called this often.
const CALL: Duration = Duration::from_secs(1);
const CALLED: usize = 16;
/// Fewer hosts pass news on as often as so many do.
const HOSTS_MIN: usize = 10;

const KIND_SWIM: u8 = 0;
const KIND_HINT: u8 = 1;

/// A gossip datagram between agents: one byte says what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// For [`Gossip::received`].
    Swim(Vec<u8>),
    /// For [`crate::anti_entropy::Facts::wants`].
    Hint(Hint),
}

impl Datagram {
    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Swim(body) => (KIND_SWIM, body.clone()),
            Self::Hint(hint) => (KIND_HINT, control::encode(hint)),
        };
        [&[kind], &body[..]].concat()
    }

    /// What was received; nothing if it is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&KIND_SWIM, body) => Some(Self::Swim(body.to_vec())),
            (&KIND_HINT, body) => control::decode(body).ok().map(Self::Hint),
            _ => None,
        }
    }
}

/// Who a host is to gossip. The refutation grows when it hears that others took it for dead; nobody else reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Id {
    node: NodeId,
    boot: Boot,
    refutation: u32,
}

impl Identity for Id {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        Some(Self { refutation: self.refutation.wrapping_add(1), ..*self })
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.boot, self.refutation) > (adversary.boot, adversary.refutation)
    }
}

/// One agent's part in the gossip.
pub struct Gossip {
    me: Id,
    foca: Foca<Id, PostcardCodec, StdRng, NoCustomBroadcast>,
    members: BTreeMap<NodeId, Boot>,
    out: Out,
    timers: BTreeMap<(Time, u64), Timer<Id>>,
    timer_count: u64,
    /// When others are called, and whom the call before ended with.
    call_at: Option<Time>,
    called: Option<NodeId>,
    /// Who is suspected, as of which of its refutals.
    suspects: BTreeMap<(Id, Incarnation), Suspicion>,
    dropped: u64,
}

impl fmt::Debug for Gossip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gossip").field("me", &self.me).field("members", &self.members).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug)]
struct Suspicion {
    since: Time,
    /// When the suspect is asked next.
    ask_at: Time,
}

/// Why a datagram was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GossipError {
    /// It is no gossip.
    #[error("a gossip datagram does not decode: {0}")]
    Decode(String),
    /// It names a node that is no member.
    #[error("a gossip datagram names node {0}, which is no member")]
    Stranger(NodeId),
}

/// What `foca` wants done, gathered during one call.
#[derive(Default)]
struct Out {
    datagrams: Vec<(NodeId, Vec<u8>)>,
    timers: Vec<(Timer<Id>, Duration)>,
    suspicions: u64,
    found_down: u64,
    /// `foca` does nothing by itself: everybody seems down, or its own identity is a new one that nobody knows.
    idle: bool,
}

impl Runtime<Id> for &mut Out {
    fn notify(&mut self, notification: Notification<'_, Id>) {
        self.found_down += u64::from(matches!(notification, Notification::Rejoin(_)));
        match notification {
            Notification::Idle | Notification::Rejoin(_) => self.idle = true,
            Notification::Active => self.idle = false,
            _ => {}
        }
    }

    fn send_to(&mut self, to: Id, data: &[u8]) {
        self.datagrams.push((to.node, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Id>, after: Duration) {
        // Set at each probe of its own that has failed.
        self.suspicions += u64::from(matches!(event, Timer::ChangeSuspectToDown { .. }));
        self.timers.push((event, after));
    }
}

impl Gossip {
    /// Knows nobody yet. `seed` is any random number.
    #[must_use]
    pub fn new(me: NodeId, boot: Boot, seed: u64) -> Self {
        let me = Id { node: me, boot, refutation: 0 };
        Self {
            me,
            foca: Foca::new(me, config(HOSTS_MIN), StdRng::seed_from_u64(seed), PostcardCodec),
            members: BTreeMap::new(),
            out: Out::default(),
            timers: BTreeMap::new(),
            timer_count: 0,
            call_at: None,
            called: None,
            suspects: BTreeMap::new(),
            dropped: 0,
        }
    }

    /// Says who belongs, with their newest boots, ourselves among them or not.
    pub fn set_members(&mut self, members: impl IntoIterator<Item = (NodeId, Boot)>, now: Time) {
        let members: BTreeMap<NodeId, Boot> = members.into_iter().filter(|(node, _)| *node != self.me.node).collect();
        let mut updates: Vec<Member<Id>> = Vec::new();
        for (&node, &boot) in &members {
            if self.members.get(&node) != Some(&boot) {
                updates.push(Member::alive(Id { node, boot, refutation: 0 }));
            }
        }
        let gone = self.foca.iter_membership_state().filter(|member| !members.contains_key(&member.id().node));
        updates.extend(gone.filter(|member| member.state() != State::Down).map(|member| Member::down(*member.id())));
        self.members = members;
        if !updates.is_empty() {
            // Nothing here can fail but the encoding of an identity, which fits.
            let _ = self.foca.apply_many(updates.into_iter(), false, &mut self.out);
            // Nor does anything change that has to stay.
            let _ = self.foca.set_config(config(self.members.len() + 1));
        }
        self.keep_timers(now);
    }

    /// Takes a datagram.
    ///
    /// # Errors
    /// It was dropped, and why.
    pub fn received(&mut self, data: &[u8], now: Time) -> Result<(), GossipError> {
        let taken = self.without_strangers(data).and_then(|data| {
            let handled = self.foca.handle_data(&data, &mut self.out);
            handled.map_err(|error| GossipError::Decode(error.to_string()))
        });
        self.dropped += u64::from(taken.is_err());
        self.keep_timers(now);
        taken
    }

    /// A datagram between members, without what it says of others: its sender's copy of the directory may be the newer one.
    fn without_strangers(&self, data: &[u8]) -> Result<Vec<u8>, GossipError> {
        let decode = |error: &dyn fmt::Display| GossipError::Decode(error.to_string());
        if data.len() > SWIM_BYTES_MAX {
            return Err(decode(&"it is too long"));
        }
        let mut rest = data;
        let header = PostcardCodec.decode_header(&mut rest).map_err(|error| decode(&error))?;
        self.check_node(&header.src)?;
        if let Message::PingReq { target: of, .. }
        | Message::IndirectPing { origin: of, .. }
        | Message::IndirectAck { target: of, .. }
        | Message::ForwardedAck { origin: of, .. } = &header.message
        {
            self.check_node(of)?;
        }
        let Some((count, mut rest)) = rest.split_first_chunk::<2>() else { return Ok(data.to_vec()) };
        let head = data.len() - rest.len() - count.len();
        let (mut kept, mut updates) = (0u16, Vec::new());
        for _ in 0..u16::from_be_bytes(*count) {
            let before = rest;
            let member: Member<Id> = PostcardCodec.decode_member(&mut rest).map_err(|error| decode(&error))?;
            if self.check_node(member.id()).is_ok() {
                kept += 1;
                updates.extend_from_slice(&before[..before.len() - rest.len()]);
            }
        }
        Ok([&data[..head], &kept.to_be_bytes(), &updates, rest].concat())
    }

    fn check_node(&self, id: &Id) -> Result<(), GossipError> {
        let known = id.node == self.me.node || self.members.contains_key(&id.node);
        if known { Ok(()) } else { Err(GossipError::Stranger(id.node)) }
    }

    /// When [`Gossip::tick`] has to be called; nothing while there is nobody else.
    #[must_use]
    pub fn due(&self) -> Option<Time> {
        let timer = self.timers.first_key_value().map(|((at, _), _)| *at);
        timer.into_iter().chain(self.call_at).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time) {
        let late = self.due().map_or(Duration::ZERO, |due| now.since(due));
        if late >= LATE {
            self.put_off_verdicts(now, late);
            // Asked at once: their answers have not been heard meanwhile, or their verdicts not come.
            self.suspects.values_mut().for_each(|suspicion| *suspicion = Suspicion { since: now, ask_at: now });
        }
        let later = self.timers.split_off(&(now, u64::MAX));
        let mut due: Vec<Timer<Id>> = mem::replace(&mut self.timers, later).into_values().collect();
        // In the order that foca wants where several are due at once.
        due.sort();
        for timer in due {
            if self.is_refuted(&timer) {
                continue;
            }
            // An error says that a timer came too late to matter, which is so after a suspension.
            let _ = self.foca.handle_timer(timer, &mut self.out);
        }
        if self.call_at.is_some_and(|at| at <= now) {
            self.call();
            self.call_at = None;
        }
        self.look_at_suspicions(now);
        self.keep_timers(now);
    }

    /// Whether a verdict is due on a suspicion that is over. `foca` gives none then, but tells the suspect that it was found
    /// down, and that one comes back under a new identity.
    fn is_refuted(&self, timer: &Timer<Id>) -> bool {
        let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = timer else { return false };
        let suspected = |member: &Member<Id>| {
            member.id() == member_id && member.incarnation() == *incarnation && member.state() == State::Suspect
        };
        !self.foca.iter_membership_state().any(suspected)
    }

    /// `foca` drops the verdicts to come when its own identity changes, or nobody seems alive for a moment, and whoever is
    /// suspected is told of it a few times only, as are others of the refutal: it could be suspected for ever. It is asked,
    /// and found down if it does not answer. Once down, its next word is answered, and it comes back under a new identity.
    fn look_at_suspicions(&mut self, now: Time) {
        let suspected = self.foca.iter_membership_state().filter(|member| member.state() == State::Suspect);
        let before = mem::take(&mut self.suspects);
        let fresh = Suspicion { since: now, ask_at: now + ASKED_BY_OTHERS_AFTER };
        let keys = suspected.map(|member| (*member.id(), member.incarnation()));
        self.suspects = keys.map(|key| (key, *before.get(&key).unwrap_or(&fresh))).collect();
        let (mut forgotten, mut asked) = (Vec::new(), Vec::new());
        for ((id, incarnation), suspicion) in &mut self.suspects {
            if now.since(suspicion.since) >= FORGOTTEN {
                forgotten.push(*id);
            } else if suspicion.ask_at <= now {
                suspicion.ask_at = now + ASKED_EVERY;
                asked.push((*id, *incarnation));
            }
        }
        asked.into_iter().for_each(|(id, incarnation)| self.ask(id, incarnation));
        if !forgotten.is_empty() {
            // Nothing here can fail but the encoding of an identity, which fits.
            let _ = self.foca.apply_many(forgotten.into_iter().map(Member::down), true, &mut self.out);
        }
    }

    /// Tells a suspect of the suspicion, which it refutes, and has it say something: that carries the refutal.
    fn ask(&mut self, suspect: Id, incarnation: Incarnation) {
        // The lowest incarnation says nothing new of this agent.
        let header = Header {
            src: *self.foca.identity(),
            src_incarnation: Incarnation::default(),
            dst: suspect,
            message: Message::Gossip,
        };
        let (mut datagram, suspicion) = (Vec::new(), Member::new(suspect, incarnation, State::Suspect));
        // Nothing here can fail but the encoding of an identity, which fits.
        let _ = PostcardCodec.encode_header(&header, &mut datagram);
        datagram.extend_from_slice(&1u16.to_be_bytes());
        let _ = PostcardCodec.encode_member(&suspicion, &mut datagram);
        self.out.datagrams.push((suspect.node, datagram));
        let _ = self.foca.announce(suspect, &mut self.out);
    }

    /// Where every host has found all others down, as after an outage of the network, none would speak first: `foca`
    /// rests until it hears of somebody. A call is answered by whoever takes the caller for down, so that the caller
    /// comes back under a new identity, and the next call brings both together.
    fn call(&mut self) {
        let after = self.called.map_or(Bound::Unbounded, Bound::Excluded);
        let mut next: Vec<_> =
            self.members.range((after, Bound::Unbounded)).take(CALLED).map(|(&n, &b)| (n, b)).collect();
        if next.is_empty() {
            next = self.members.iter().take(CALLED).map(|(&node, &boot)| (node, boot)).collect();
        }
        for (node, boot) in next {
            self.called = Some(node);
            // Nothing here can fail but the encoding of an identity, which fits.
            let _ = self.foca.announce(Id { node, boot, refutation: 0 }, &mut self.out);
        }
    }

    fn put_off_verdicts(&mut self, now: Time, late: Duration) {
        let (verdicts, others) = mem::take(&mut self.timers)
            .into_iter()
            .partition(|(_, timer)| matches!(timer, Timer::ChangeSuspectToDown { .. }));
        self.timers = others;
        let verdicts: BTreeMap<_, Timer<Id>> = verdicts;
        for ((at, number), timer) in verdicts {
            self.timers.insert(((at + late).max(now + Duration::from_secs(1)), number), timer);
        }
    }

    fn keep_timers(&mut self, now: Time) {
        for (timer, after) in mem::take(&mut self.out.timers) {
            if let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = &timer {
                let own = Suspicion { since: now, ask_at: now + ASKED_AFTER };
                let known = self.suspects.entry((*member_id, *incarnation)).or_insert(own);
                known.ask_at = known.ask_at.min(own.ask_at);
            }
            self.timer_count += 1;
            self.timers.insert((now + after, self.timer_count), timer);
        }
        let calls = self.out.idle && !self.members.is_empty();
        self.call_at = if calls { self.call_at.or(Some(now + CALL)) } else { None };
    }

    /// What is to be sent: as [`Datagram::Swim`], to whom.
    pub fn take_datagrams(&mut self) -> Vec<(NodeId, Vec<u8>)> {
        let mut datagrams = mem::take(&mut self.out.datagrams);
        // A datagram may ask us to probe ourselves for its sender.
        datagrams.retain(|(to, _)| *to != self.me.node);
        datagrams
    }

    /// Tells the others that this agent goes.
    pub fn leave(&mut self, now: Time) {
        let _ = self.foca.leave_cluster(&mut self.out);
        self.out.idle = false;
        self.keep_timers(now);
    }

    /// How everybody seems, this agent itself included.
    #[must_use]
    pub fn states(&self) -> BTreeMap<NodeId, Liveness> {
        let seen = self.foca.iter_membership_state().filter(|member| self.members.contains_key(&member.id().node));
        let state = |member: &Member<Id>| match member.state() {
            State::Alive => Liveness::Up,
            State::Suspect => Liveness::Suspect,
            State::Down => Liveness::Down,
        };
        seen.map(|member| (member.id().node, state(member))).chain([(self.me.node, Liveness::Up)]).collect()
    }

    /// Whether fewer than half of `among` seem up: a sign that this agent is the one cut off.
    #[must_use]
    pub fn seems_cut_off(&self, among: &[NodeId]) -> bool {
        let states = self.states();
        let up = among.iter().filter(|node| states.get(node) == Some(&Liveness::Up)).count();
        up * 2 <= among.len() && among.len() > 1
    }

    /// How often a probe of this agent's own has failed.
    #[must_use]
    pub fn suspicions(&self) -> u64 {
        self.out.suspicions
    }

    /// How often this agent heard that others took it for down.
    #[must_use]
    pub fn found_down(&self) -> u64 {
        self.out.found_down
    }

    /// Datagrams dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// News are passed on the oftener the more hosts there are: so that they reach all of them.
fn config(hosts: usize) -> Config {
    let hosts = u32::try_from(hosts.max(HOSTS_MIN)).unwrap_or(u32::MAX);
    let mut config = Config::new_lan(NonZeroU32::new(hosts).unwrap_or(NonZeroU32::MIN));
    config.max_packet_size = NonZeroUsize::new(SWIM_BYTES_MAX).unwrap_or(NonZeroUsize::MIN);
    config.probe_rtt = Duration::from_millis(300);
    config.suspect_to_down_after = VERDICT;
    config.remove_down_after = None;
    if let Some(announce) = &mut config.periodic_announce_to_down_members {
        announce.frequency = Duration::from_secs(5);
    }
    config
}

#[cfg(test)]
mod tests;
