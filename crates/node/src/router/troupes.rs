//! Troupes as the router of a sender's host sees them: the members, and how much each of them has in hand.
//!
//! What is counted is what this host sent and has not seen settled; other hosts count their own.

use super::{handed::Handed, hash::Fast};
use odeon_protocol::{
    Direct, Time,
    frame::{Header, Kind},
    limits::TROUPE_KEPT_FOR,
};
use std::collections::HashMap;

/// Who takes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// This member.
    Member {
        member: Direct,
        /// Every member has something in hand, and the troupe may grow.
        wants_more: bool,
    },
    /// No member is known: its keeper is to be asked.
    Unknown,
}

#[derive(Debug, Default)]
struct View {
    members: Vec<Direct>,
    /// Whether the keeper may add members.
    room: bool,
    asked: bool,
    /// The members that took a message since the keeper was told.
    used: Vec<Direct>,
    /// When one did last, or the members became known.
    used_at: Time,
}

/// All troupes that were used here.
#[derive(Debug, Default)]
pub(crate) struct Troupes {
    views: HashMap<Direct, View, Fast>,
    /// What each member has in hand.
    in_hand: HashMap<Direct, u32, Fast>,
    /// Which messages those are, as far as nobody is answered.
    pub(super) handed: Handed,
}

impl Troupes {
    /// Replaces the members.
    pub(crate) fn set(&mut self, troupe: Direct, members: &[Direct], room: bool, now: Time) {
        let view = self.views.entry(troupe).or_insert_with(|| View { used_at: now, ..View::default() });
        for gone in view.members.iter().filter(|member| !members.contains(member)) {
            self.in_hand.remove(gone);
        }
        for member in members {
            self.in_hand.entry(*member).or_default();
        }
        (view.members, view.room, view.asked) = (members.to_vec(), room, false);
    }

    /// Forgets a troupe.
    pub(crate) fn remove(&mut self, troupe: Direct) {
        if let Some(view) = self.views.remove(&troupe) {
            self.in_hand.retain(|member, _| !view.members.contains(member));
        }
    }

    /// Takes the member for a message and counts it: the own host first, unless its best has twice as much in hand.
    pub(crate) fn pick(&mut self, troupe: Direct, message: &Header, now: Time) -> Pick {
        let Some(view) = self.views.get_mut(&troupe) else { return Pick::Unknown };
        view.used_at = now;
        let in_hand = |member: &Direct| self.in_hand.get(member).copied().unwrap_or(0);
        let least = |local: bool| {
            let of_kind = view.members.iter().filter(|member| (member.node == message.from.node) == local);
            of_kind.min_by_key(|member| in_hand(member)).map(|member| (*member, in_hand(member)))
        };
        let (member, load) = match (least(true), least(false)) {
            (Some((_, local)), Some(other)) if local > other.1 * 2 => other,
            (Some(local), _) => local,
            (None, Some(other)) => other,
            (None, None) => return Pick::Unknown,
        };
        if matches!(message.kind, Kind::Tell | Kind::Ask) {
            *self.in_hand.entry(member).or_default() += 1;
        }
        if message.kind == Kind::Tell {
            self.handed.add((troupe, member), message);
        }
        if !view.used.contains(&member) {
            view.used.push(member);
        }
        let wants_more = load > 0 && view.room && !view.asked;
        view.asked |= wants_more;
        Pick::Member { member, wants_more }
    }

    /// A report of settled messages passed: its sender may be a member.
    pub(crate) fn settled(&mut self, report: &Header) {
        let count = u32::try_from(report.correlation).unwrap_or(u32::MAX);
        self.handed.remove(report.from, (report.to, report.flow), report.sequence, count);
        self.lessen(report.from, count);
    }

    /// A message comes back from a member, or could not be brought there.
    pub(crate) fn came_back(&mut self, member: Direct, (sender, flow): (Direct, u32), number: u32) {
        self.handed.remove(member, (sender, flow), number, 1);
    }

    /// A message for a troupe comes back from an agent that does not say from which member: from an earlier start of it.
    pub(crate) fn came_back_from_any(&mut self, (sender, flow): (Direct, u32), number: u32) {
        self.handed.remove_from_any((sender, flow), number);
    }

    /// An ask of that actor was answered, forwarded or given back.
    pub(crate) fn ask_ended(&mut self, of: Direct) {
        self.lessen(of, 1);
    }

    /// A member no longer takes messages.
    pub(crate) fn member_gone(&mut self, troupe: Direct, member: Direct) {
        if let Some(view) = self.views.get_mut(&troupe) {
            view.members.retain(|known| *known != member);
            self.in_hand.remove(&member);
        }
    }

    /// Members that were lost with their process or host.
    pub(crate) fn lose(&mut self, lost: impl Fn(Direct) -> bool) {
        for view in self.views.values_mut() {
            view.members.retain(|member| !lost(*member));
        }
        self.in_hand.retain(|member, _| !lost(*member));
    }

    /// The members that were used since this was asked last, or have something in hand.
    pub(crate) fn take_used(&mut self, troupe: Direct) -> Vec<Direct> {
        let Some(view) = self.views.get_mut(&troupe) else { return Vec::new() };
        let mut used = std::mem::take(&mut view.used);
        used.extend(view.members.iter().filter(|member| self.in_hand.get(member).is_some_and(|count| *count > 0)));
        used.sort_unstable();
        used.dedup();
        used
    }

    /// The troupes that are used here; forgets those that have not been for [`TROUPE_KEPT_FOR`].
    pub(crate) fn in_use(&mut self, now: Time) -> Vec<Direct> {
        let in_hand = &mut self.in_hand;
        self.views.retain(|_, view| {
            let busy = view.members.iter().any(|member| in_hand.get(member).is_some_and(|count| *count > 0));
            let kept = busy || now.since(view.used_at) < TROUPE_KEPT_FOR;
            if !kept {
                in_hand.retain(|member, _| !view.members.contains(member));
            }
            kept
        });
        self.views.keys().copied().collect()
    }

    fn lessen(&mut self, member: Direct, count: u32) {
        if let Some(in_hand) = self.in_hand.get_mut(&member) {
            *in_hand = in_hand.saturating_sub(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::{Boot, NodeId, Serial};

    fn place(node: u64, serial: u64) -> Direct {
        Direct { node: NodeId(node), boot: Boot(1), serial: Serial(serial) }
    }

    fn tell() -> Header {
        Header { from: place(1, 99), ..Header::new(Kind::Tell) }
    }

    fn picked(troupes: &mut Troupes) -> (u64, bool) {
        match troupes.pick(place(1, 1), &tell(), Time::ZERO) {
            Pick::Member { member, wants_more } => (member.serial.0, wants_more),
            Pick::Unknown => panic!("no member"),
        }
    }

    #[test]
    fn the_least_busy_member_takes_it_and_growth_is_asked_for_once() {
        let mut troupes = Troupes::default();
        assert_eq!(troupes.pick(place(1, 1), &tell(), Time::ZERO), Pick::Unknown);
        troupes.set(place(1, 1), &[place(1, 10), place(1, 11)], true, Time::ZERO);
        assert_eq!(picked(&mut troupes), (10, false));
        assert_eq!(picked(&mut troupes), (11, false));
        assert_eq!(picked(&mut troupes), (10, true));
        assert_eq!(picked(&mut troupes), (11, false));
        let report = Header { from: place(1, 11), correlation: 2, ..Header::new(Kind::Settled) };
        troupes.settled(&report);
        assert_eq!(picked(&mut troupes), (11, false));
    }

    #[test]
    fn the_own_host_goes_first_unless_it_has_twice_as_much() {
        let mut troupes = Troupes::default();
        troupes.set(place(1, 1), &[place(1, 10), place(2, 20)], false, Time::ZERO);
        assert_eq!(picked(&mut troupes).0, 10);
        assert_eq!(picked(&mut troupes).0, 20);
        assert_eq!(picked(&mut troupes).0, 10);
        assert_eq!(picked(&mut troupes).0, 10);
        assert_eq!(picked(&mut troupes).0, 20);
    }

    #[test]
    fn a_troupe_that_is_not_used_any_more_is_forgotten_unless_a_member_has_something() {
        let mut troupes = Troupes::default();
        let later = Time::ZERO + TROUPE_KEPT_FOR;
        troupes.set(place(1, 1), &[place(1, 10)], false, Time::ZERO);
        assert_eq!(picked(&mut troupes).0, 10);
        troupes.set(place(1, 2), &[place(1, 20)], false, Time::ZERO);
        troupes.set(place(1, 3), &[place(1, 30)], false, later);
        let mut used = troupes.in_use(later);
        used.sort_unstable();
        assert_eq!(used, [place(1, 1), place(1, 3)]);
        troupes.settled(&Header { from: place(1, 10), correlation: 1, ..Header::new(Kind::Settled) });
        assert_eq!(troupes.in_use(later), [place(1, 3)]);
    }

    #[test]
    fn a_member_that_is_gone_takes_nothing() {
        let mut troupes = Troupes::default();
        troupes.set(place(1, 1), &[place(1, 10), place(1, 11)], false, Time::ZERO);
        troupes.member_gone(place(1, 1), place(1, 10));
        troupes.lose(|member| member == place(1, 11));
        assert_eq!(troupes.pick(place(1, 1), &tell(), Time::ZERO), Pick::Unknown);
    }
}
