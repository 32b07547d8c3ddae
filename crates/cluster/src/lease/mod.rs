//! Leases: until when a host may run named actors, and from when on their names may go to another.
//!
//! The holder counts from when it *sent* the renewal that was confirmed, the leader from when a renewal *arrived*; the
//! first is earlier, and the holder's spans are shorter. So by the time a name is granted again, the old holder's actors
//! have been paused, and killed if they did not come to rest. Neither side's clock is ever compared with the other's.
//!
//! ```text
//! holder   sent ───────────────── pause ──── kill
//! leader      arrived ───────────────────────────── lease ─ re-grant
//! ```
//!
//! Leases live in the leader's memory. A new leader does not know them: it takes every member as renewed at its election.
//! A renewal is answered only after a quorum has confirmed the leader in a round that began after the renewal arrived;
//! else a leader that was deposed without knowing it would keep a lease alive that its successor has let run out.

use crate::directory::{Command, Directory, Standing};
use odeon_protocol::{
    Boot, NodeId, Time,
    limits::HOSTS_MAX,
    peer::{Renewal, Renewed},
    planted::{self, Fault},
};
use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::Duration,
};

/// Every span that the guarantee rests on; a test holds their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats of the leader.
    pub heartbeat: Duration,
    /// The shortest wait for a heartbeat before an election.
    pub election_min: Duration,
    /// The longest.
    pub election_max: Duration,
    /// Between two renewals of a holder.
    pub renew: Duration,
    /// From the last confirmed renewal's sending until named actors pause.
    pub pause: Duration,
    /// Until workers with named actors that are not at rest are killed.
    pub kill: Duration,
    /// The lease as such.
    pub lease: Duration,
    /// From the last renewal's arrival, or the election, until names are granted again.
    pub regrant: Duration,
    /// From the last renewal's arrival, or the election, until the boot is given up for good.
    pub dead: Duration,
}

/// The spans of every convention.
pub const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(100),
    election_min: Duration::from_millis(400),
    election_max: Duration::from_millis(600),
    renew: Duration::from_millis(250),
    pause: Duration::from_millis(2000),
    kill: Duration::from_millis(2400),
    lease: Duration::from_millis(2700),
    regrant: Duration::from_millis(2750),
    dead: Duration::from_secs(30),
};

/// Renewals that wait for a round.
const WAITING_MAX: usize = 4 * HOSTS_MAX;
/// Renewals under way at a holder.
const SENT_MAX: usize = 64;

/// The leader's table.
#[derive(Clone, Debug)]
pub struct Leases {
    timing: Timing,
    elected: Time,
    entries: BTreeMap<NodeId, Entry>,
    waiting: Vec<Renewal>,
    in_round: Option<Vec<Renewal>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    boot: Boot,
    generation: u64,
    /// When this generation was first seen here.
    since: Time,
    /// When this boot's last renewal arrived; the election or its first sight before that.
    renewed: Time,
    /// Since when this boot's renewals arrive without a gap; nothing before the first.
    steady: Option<Time>,
    /// Whether this generation ends: it is renewed no more.
    lost: Ending,
    /// Whether this boot does.
    dead: Ending,
}

/// How far the end of a lease, or of a boot, has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    No,
    /// Nobody was told yet.
    Due,
    /// It may be carried out at any time from now on, however long the log takes.
    Proposed,
}

impl Entry {
    fn ends(&self) -> bool {
        self.lost != Ending::No || self.dead != Ending::No
    }
}

/// What becomes of a renewal that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// It is answered when a round ends.
    Waits,
    /// Answer this at once.
    Answer(Renewed),
    /// Answer nothing; the holder tries again.
    Dropped,
}

impl Leases {
    /// The table of a leader elected at `elected`, with its directory up to date.
    #[must_use]
    pub fn new(timing: Timing, elected: Time) -> Self {
        Self { timing, elected, entries: BTreeMap::new(), waiting: Vec::new(), in_round: None }
    }

    /// Takes a renewal.
    pub fn arrived(&mut self, renewal: Renewal, directory: &Directory, now: Time) -> Arrived {
        let Some(member) = directory.member(renewal.node).filter(|member| member.standing == Standing::In) else {
            return Arrived::Answer(Renewed::NotMember);
        };
        if renewal.boot < member.boot || (renewal.boot == member.boot && member.dead) {
            return Arrived::Answer(Renewed::BootOver);
        }
        let gap = self.timing.pause;
        let entry = self.entry(renewal.node, member.boot, member.generation, now);
        if renewal.boot > member.boot {
            return Arrived::Dropped;
        }
        // Whatever its generation, the boot lives.
        entry.steady = entry.steady.filter(|_| now.since(entry.renewed) < gap).or(Some(now));
        entry.renewed = now;
        if renewal.generation < member.generation {
            return Arrived::Answer(Renewed::Lost { generation: member.generation });
        }
        if renewal.generation > member.generation || entry.ends() || self.waiting.len() >= WAITING_MAX {
            return Arrived::Dropped;
        }
        self.waiting.push(renewal);
        Arrived::Waits
    }

    /// Begins a round for what has arrived, if none is under way: ask a quorum now, then call [`Leases::end_round`].
    pub fn begin_round(&mut self) -> bool {
        if self.in_round.is_some() || self.waiting.is_empty() {
            return false;
        }
        self.in_round = Some(mem::take(&mut self.waiting));
        true
    }

    /// Ends the round: the renewals to answer [`Renewed::Held`]; none if the quorum was not reached.
    pub fn end_round(&mut self, confirmed: bool) -> Vec<Renewal> {
        let round = self.in_round.take().unwrap_or_default();
        if !confirmed {
            return Vec::new();
        }
        let holds = |renewal: &Renewal| {
            self.entries.get(&renewal.node).is_some_and(|entry| {
                entry.boot == renewal.boot && entry.generation == renewal.generation && !entry.ends()
            })
        };
        round.into_iter().filter(holds).collect()
    }

    /// What to propose now; from here on a lost generation is renewed no more.
    ///
    /// Repeated calls repeat the proposals until the directory shows them, as one may have been lost; a renewal that
    /// arrives meanwhile does not take them back.
    pub fn expired(&mut self, directory: &Directory, now: Time) -> Vec<Command> {
        let Timing { regrant, dead, .. } = self.timing;
        let mut commands = Vec::new();
        self.entries.retain(|node, _| directory.member(*node).is_some());
        for member in directory.members().filter(|member| !member.dead && member.role.is_host()) {
            let node = member.node;
            let entry = self.entry(node, member.boot, member.generation, now);
            let lapsed = now >= entry.renewed.max(entry.since) + regrant;
            if lapsed && directory.names_held(node) > 0 {
                entry.lost = entry.lost.max(Ending::Due);
            }
            if now >= entry.renewed + dead || (lapsed && member.standing == Standing::Evicted) {
                entry.dead = entry.dead.max(Ending::Due);
            }
            if entry.lost != Ending::No {
                commands.push(Command::LeaseLost { node, generation: member.generation });
            }
            if entry.dead != Ending::No {
                commands.push(Command::HostDead { node, boot: member.boot });
            }
        }
        commands
    }

    /// These are about to be proposed.
    pub fn proposed(&mut self, commands: &[Command]) {
        for command in commands {
            match command {
                Command::LeaseLost { node, generation } => {
                    if let Some(entry) = self.entries.get_mut(node).filter(|entry| entry.generation == *generation) {
                        entry.lost = Ending::Proposed;
                    }
                }
                Command::HostDead { node, boot } => {
                    if let Some(entry) = self.entries.get_mut(node).filter(|entry| entry.boot == *boot) {
                        entry.dead = Ending::Proposed;
                    }
                }
                _ => {}
            }
        }
    }

    /// This leader itself was away: every member counts as renewed now, as at an election, and what was only due is due no
    /// more. What was proposed stays so, as the log may carry it out yet.
    pub fn begin_anew(&mut self, now: Time) {
        (self.elected, self.in_round) = (now, None);
        self.waiting.clear();
        for entry in self.entries.values_mut() {
            (entry.since, entry.renewed, entry.steady) = (now, now, None);
            for ending in [&mut entry.lost, &mut entry.dead] {
                if *ending == Ending::Due {
                    *ending = Ending::No;
                }
            }
        }
    }

    /// How long ago a member's last renewal arrived, as far as this leader knows.
    #[must_use]
    pub fn silent_for(&self, node: NodeId, now: Time) -> Duration {
        now.since(self.entries.get(&node).map_or(self.elected, |entry| entry.renewed))
    }

    /// For how long a member's boot has renewed without a gap; nothing if this leader has not heard of it yet.
    #[must_use]
    pub fn heard_for(&self, node: NodeId, now: Time) -> Option<Duration> {
        self.entries.get(&node)?.steady.map(|steady| now.since(steady))
    }

    fn entry(&mut self, node: NodeId, boot: Boot, generation: u64, now: Time) -> &mut Entry {
        // A member first met while the table is young may hold a lease from the leader before.
        let since = if planted::is(Fault::LeadWithoutWaiting) { now - self.timing.regrant } else { now };
        let (lost, dead) = (Ending::No, Ending::No);
        let fresh = Entry { boot, generation, since, renewed: since, steady: None, lost, dead };
        let entry = self.entries.entry(node).or_insert(fresh);
        if entry.boot != boot {
            *entry = fresh;
        } else if entry.generation != generation {
            *entry = Entry { generation, since: now, lost: Ending::No, ..*entry };
        }
        entry
    }
}

/// The holder's side: one for each boot of an agent.
#[derive(Clone, Debug)]
pub struct Holder {
    timing: Timing,
    node: NodeId,
    boot: Boot,
    generation: u64,
    next: u64,
    last_sent: Option<Time>,
    sent: VecDeque<(u64, Time)>,
    /// When the newest confirmed renewal was sent.
    held_from: Option<Time>,
    /// Named actors have to rest since then; the generation to go on with once they do.
    lost: Option<(Time, u64)>,
}

/// Whether named actors may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// They may.
    Running,
    /// No handler of theirs may start, nothing to or from them is passed on.
    Paused,
    /// Workers that have not put them to rest are killed.
    Over,
}

/// What an answer to a renewal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The lease holds until the times that [`Holder::pause_at`] and [`Holder::kill_at`] say.
    Extended,
    /// Nothing new.
    Nothing,
    /// The names are lost: put every named actor to rest, then call [`Holder::rested`].
    Lost,
    /// Stop every worker and begin a new boot.
    BootOver,
    /// Kept out.
    NotMember,
}

impl Holder {
    /// A holder without a lease yet.
    #[must_use]
    pub fn new(timing: Timing, node: NodeId, boot: Boot, generation: u64) -> Self {
        Self {
            timing,
            node,
            boot,
            generation,
            next: 1,
            last_sent: None,
            sent: VecDeque::new(),
            held_from: None,
            lost: None,
        }
    }

    /// The generation that claims have to name.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When the next renewal is to be sent; nothing while named actors of a lost generation are not at rest.
    #[must_use]
    pub fn renew_at(&self) -> Option<Time> {
        if self.lost.is_some() {
            return None;
        }
        Some(self.last_sent.map_or(Time::ZERO, |sent| sent + self.timing.renew))
    }

    /// Makes a renewal; it is sent not earlier than `now`.
    pub fn renew(&mut self, now: Time) -> Renewal {
        let number = self.next;
        self.next += 1;
        self.last_sent = Some(now);
        self.sent.push_back((number, now));
        if self.sent.len() > SENT_MAX {
            self.sent.pop_front();
        }
        Renewal { node: self.node, boot: self.boot, generation: self.generation, number }
    }

    /// Takes the leader's answer.
    pub fn answered(&mut self, answer: Renewed, now: Time) -> Answered {
        match answer {
            Renewed::Held { number } => {
                let Some(&(_, sent)) = self.sent.iter().find(|(known, _)| *known == number) else {
                    return Answered::Nothing;
                };
                self.sent.retain(|(known, _)| *known > number);
                if self.lost.is_some() || self.held_from.is_some_and(|held| held >= sent) {
                    return Answered::Nothing;
                }
                self.held_from = Some(sent);
                Answered::Extended
            }
            Renewed::Lost { generation } if generation <= self.generation => Answered::Nothing,
            Renewed::Lost { generation } => {
                self.lose(generation, now);
                Answered::Lost
            }
            Renewed::BootOver => Answered::BootOver,
            _ => Answered::NotMember,
        }
    }

    /// The directory's copy shows a newer generation: as an answer [`Renewed::Lost`] would.
    pub fn lose(&mut self, generation: u64, now: Time) {
        if generation > self.generation {
            let since = self.lost.map_or(now, |(since, _)| since);
            self.lost = Some((since, generation));
        }
    }

    /// Every named actor of the lost generation is at rest or killed: goes on under the new one, without a lease yet.
    pub fn rested(&mut self) {
        if let Some((_, generation)) = self.lost.take() {
            (self.generation, self.held_from, self.last_sent) = (generation, None, None);
            // An answer to what was sent under the old generation must not extend the new one.
            self.sent.clear();
        }
    }

    /// From when on no handler of a named actor may start; [`Time::ZERO`] without a lease.
    #[must_use]
    pub fn pause_at(&self) -> Time {
        match (self.lost, self.held_from) {
            (Some((since, _)), Some(held)) => since.min(held + self.timing.pause),
            (None, Some(held)) => held + self.timing.pause,
            (_, None) => Time::ZERO,
        }
    }

    /// From when on workers that did not put their named actors to rest are killed; [`Time::ZERO`] without a lease.
    #[must_use]
    pub fn kill_at(&self) -> Time {
        match self.held_from {
            Some(_) => self.pause_at() + (self.timing.kill - self.timing.pause),
            None => Time::ZERO,
        }
    }

    /// What holds now.
    #[must_use]
    pub fn phase(&self, now: Time) -> Phase {
        if now < self.pause_at() {
            Phase::Running
        } else if now < self.kill_at() {
            Phase::Paused
        } else {
            Phase::Over
        }
    }
}

#[cfg(test)]
mod tests;
