//! Where an actor goes: of two random hosts that fit, the one with less load.
//!
//! Two random choices avoid that all agents, who see the same gossip, rush to the one host that looks idle (Mitzenmacher,
//! *The power of two choices in randomized load balancing*, 2001). The randomness is an argument, and hosts are compared
//! in the order of their node ids, so that equal inputs give equal choices on every node.

use crate::{
    host::{HostView, Liveness},
    requirement::Requirement,
};
use odeon_protocol::{NodeId, Reason, control::Refusal};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Hosts named in an error before the rest is counted.
const HOSTS_SHOWN: usize = 8;

/// What a place is sought for.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The actor's type.
    pub type_name: &'a str,
    /// What it asks of its host.
    pub requires: &'a Requirement,
    /// Only on the host of that name.
    pub on: Option<&'a str>,
    /// On that host, if it fits.
    pub near: Option<NodeId>,
    /// For members of troupes: on that host, if it fits and its queue is not twice the other's.
    pub own: Option<NodeId>,
    /// Hosts that were tried and refused.
    pub not: &'a BTreeSet<NodeId>,
}

impl<'a> Wanted<'a> {
    /// An actor of that type, anywhere that fits.
    #[must_use]
    pub fn new(type_name: &'a str, requires: &'a Requirement) -> Self {
        static NOWHERE: BTreeSet<NodeId> = BTreeSet::new();
        Self { type_name, requires, on: None, near: None, own: None, not: &NOWHERE }
    }

    /// Why a host does not fit; nothing if it does.
    #[must_use]
    pub fn lacks(&self, host: &HostView) -> Option<String> {
        if self.on.is_some_and(|on| on != host.name) {
            return Some("another host was asked for".to_owned());
        }
        if host.witness {
            return Some("it is a witness".to_owned());
        }
        if host.draining {
            return Some("it is draining".to_owned());
        }
        if host.liveness == Liveness::Down {
            return Some("it is down".to_owned());
        }
        if !host.types.contains(self.type_name) {
            return Some(format!("no worker runs {}", self.type_name));
        }
        if self.not.contains(&host.node) {
            return Some("it refused".to_owned());
        }
        self.requires.explain(&host.capabilities)
    }
}

/// One's own placements that the gossiped loads do not show yet.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    placed: BTreeMap<NodeId, (u64, u64)>,
}

impl Recent {
    /// Notes a placement; `load_version` is the version of the load that it was decided by.
    pub fn placed(&mut self, node: NodeId, load_version: u64) {
        let entry = self.placed.entry(node).or_insert((load_version, 0));
        if entry.0 != load_version {
            *entry = (load_version, 0);
        }
        entry.1 += 1;
    }

    fn since(&self, host: &HostView) -> u64 {
        self.placed.get(&host.node).filter(|(version, _)| *version == host.load_version).map_or(0, |(_, count)| *count)
    }

    /// Forgets hosts that are no longer there.
    pub fn keep_only(&mut self, hosts: &[HostView]) {
        self.placed.retain(|node, _| hosts.iter().any(|host| host.node == *node));
    }
}

/// Chooses a host; `random` is any random number.
///
/// # Errors
/// No host fits; the error says of each what it lacks.
pub fn choose<'h>(
    wanted: &Wanted<'_>,
    hosts: &'h [HostView],
    recent: &Recent,
    random: u64,
) -> Result<&'h HostView, NoHost> {
    let fitting = fitting(wanted, hosts);
    if fitting.is_empty() {
        return Err(NoHost::of(wanted, hosts));
    }
    if let Some(near) = wanted.near.and_then(|near| fitting.iter().find(|host| host.node == near)) {
        return Ok(near);
    }
    let score = |host: &HostView| host.load.score(recent.since(host));
    let Some(own) = wanted.own.and_then(|own| fitting.iter().find(|host| host.node == own).copied()) else {
        return Ok(less_loaded(&fitting, &score, random));
    };
    let others: Vec<_> = fitting.into_iter().filter(|host| host.node != own.node).collect();
    if others.is_empty() {
        return Ok(own);
    }
    let other = less_loaded(&others, &score, random);
    Ok(if own.load.waiting > other.load.waiting.saturating_mul(2) { other } else { own })
}

/// Places many actors at once, so that they spread: the host of each, or why there is none.
pub fn spread<'h>(
    wanted: &[Wanted<'_>],
    hosts: &'h [HostView],
    recent: &mut Recent,
    random: u64,
) -> Vec<Result<&'h HostView, NoHost>> {
    wanted
        .iter()
        .enumerate()
        .map(|(index, one)| {
            let chosen = choose(one, hosts, recent, mix(random.wrapping_add(index as u64)))?;
            recent.placed(chosen.node, chosen.load_version);
            Ok(chosen)
        })
        .collect()
}

/// The hosts that fit, in order; suspects only where no other fits.
fn fitting<'h>(wanted: &Wanted<'_>, hosts: &'h [HostView]) -> Vec<&'h HostView> {
    let mut fitting: Vec<&HostView> = hosts.iter().filter(|host| wanted.lacks(host).is_none()).collect();
    if fitting.iter().any(|host| host.liveness == Liveness::Up) {
        fitting.retain(|host| host.liveness == Liveness::Up);
    }
    fitting.sort_by_key(|host| host.node);
    fitting
}

fn less_loaded<'h>(fitting: &[&'h HostView], score: &impl Fn(&HostView) -> u64, random: u64) -> &'h HostView {
    let count = fitting.len() as u64;
    let first = mix(random) % count;
    if count == 1 {
        return fitting[0];
    }
    // The second among the rest, so that they always differ.
    let second = (first + 1 + mix(random.wrapping_add(1)) % (count - 1)) % count;
    let (one, two) = (fitting[first as usize], fitting[second as usize]);
    std::cmp::min_by_key(one, two, |host| (score(host), host.node))
}

/// Spreads a number's bits: the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) const fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// No host fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoHost {
    /// The actor's type.
    pub type_name: String,
    /// What it asks; empty for nothing.
    pub requires: String,
    /// The only host that was asked for.
    pub on: Option<String>,
    /// Whether any worker anywhere runs the type.
    pub type_known: bool,
    /// Host by host, what it lacks.
    pub lacks: Vec<(String, String)>,
}

impl NoHost {
    fn of(wanted: &Wanted<'_>, hosts: &[HostView]) -> Self {
        let asked = |host: &&HostView| wanted.on.is_none_or(|on| on == host.name);
        Self {
            type_name: wanted.type_name.to_owned(),
            requires: wanted.requires.text().to_owned(),
            on: wanted.on.map(str::to_owned),
            type_known: hosts.iter().any(|host| host.types.contains(wanted.type_name)),
            lacks: hosts
                .iter()
                .filter(asked)
                .map(|host| (host.name.clone(), wanted.lacks(host).unwrap_or_default()))
                .collect(),
        }
    }
}

impl std::error::Error for NoHost {}

impl fmt::Display for NoHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { type_name, requires, on, type_known, lacks } = self;
        if !type_known {
            return write!(f, "no host runs the type {type_name}: start a worker that registers it");
        }
        match on {
            Some(on) if lacks.is_empty() => return write!(f, "no host is named {on:?}: see `odeon hosts`"),
            Some(on) => write!(f, "{type_name} cannot run on {on:?}")?,
            None => write!(f, "no host fits {type_name}")?,
        }
        if !requires.is_empty() {
            write!(f, " (requires {requires})")?;
        }
        for (index, (host, lacks)) in lacks.iter().take(HOSTS_SHOWN).enumerate() {
            write!(f, "{} {host}: {lacks}", if index == 0 { ":" } else { ";" })?;
        }
        match lacks.len() {
            0 => f.write_str(": there are no hosts"),
            count if count > HOSTS_SHOWN => write!(f, "; and {} more", count - HOSTS_SHOWN),
            _ => Ok(()),
        }
    }
}

impl From<NoHost> for Refusal {
    fn from(none: NoHost) -> Self {
        let reason = if none.type_known { Reason::NoHost } else { Reason::NoSuchType };
        Self { reason, text: none.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{capability, host::Load};

    fn host(number: u64, actors: u64, capabilities: &[&str]) -> HostView {
        HostView {
            node: NodeId(number),
            name: format!("eu-{number}"),
            liveness: Liveness::Up,
            capabilities: capability::collect(capabilities.iter().map(|text| capability::parse(text).unwrap()))
                .unwrap(),
            types: ["poll.cast".into()].into(),
            load: Load { actors, ..Load::default() },
            ..HostView::default()
        }
    }

    fn chosen(wanted: &Wanted<'_>, hosts: &[HostView], random: u64) -> u64 {
        choose(wanted, hosts, &Recent::default(), random).unwrap().node.0
    }

    #[test]
    fn of_two_hosts_the_one_with_less_load() {
        let anywhere = Requirement::anywhere();
        let wanted = Wanted::new("poll.cast", &anywhere);
        let hosts = [host(1, 10, &[]), host(2, 3, &[])];
        assert!((0..100).all(|random| chosen(&wanted, &hosts, random) == 2));
    }

    #[test]
    fn the_busiest_of_many_is_never_chosen_and_others_all_are() {
        let anywhere = Requirement::anywhere();
        let wanted = Wanted::new("poll.cast", &anywhere);
        let hosts: Vec<_> = (1..=5).map(|number| host(number, if number == 3 { 100 } else { 1 }, &[])).collect();
        let seen: BTreeSet<u64> = (0..500).map(|random| chosen(&wanted, &hosts, random)).collect();
        assert_eq!(seen, [1, 2, 4, 5].into());
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let anywhere = Requirement::anywhere();
        let wanted = Wanted::new("poll.cast", &anywhere);
        let mut hosts: Vec<_> = (1..=7).map(|number| host(number, number % 2, &[])).collect();
        let straight: Vec<_> = (0..50).map(|random| chosen(&wanted, &hosts, random)).collect();
        hosts.reverse();
        assert_eq!(straight, (0..50).map(|random| chosen(&wanted, &hosts, random)).collect::<Vec<_>>());
    }

    #[test]
    fn own_placements_count_until_the_load_is_reported() {
        let anywhere = Requirement::anywhere();
        let wanted = Wanted::new("poll.cast", &anywhere);
        let mut hosts = [host(1, 0, &[]), host(2, 1, &[])];
        let mut recent = Recent::default();
        recent.placed(NodeId(1), 0);
        recent.placed(NodeId(1), 0);
        assert_eq!(choose(&wanted, &hosts, &recent, 0).unwrap().node, NodeId(2));
        hosts[0].load_version = 1;
        assert_eq!(choose(&wanted, &hosts, &recent, 0).unwrap().node, NodeId(1));
    }

    #[test]
    fn a_batch_is_spread() {
        let anywhere = Requirement::anywhere();
        let wanted = vec![Wanted::new("poll.cast", &anywhere); 300];
        let hosts: Vec<_> = (1..=3).map(|number| host(number, 0, &[])).collect();
        let mut counts = BTreeMap::<u64, u32>::new();
        for place in spread(&wanted, &hosts, &mut Recent::default(), 7) {
            *counts.entry(place.unwrap().node.0).or_default() += 1;
        }
        assert!(counts.len() == 3 && counts.values().all(|count| (80..=120).contains(count)), "{counts:?}");
    }

    #[test]
    fn suspects_come_last_and_dead_ones_never() {
        let anywhere = Requirement::anywhere();
        let wanted = Wanted::new("poll.cast", &anywhere);
        let mut hosts = [host(1, 0, &[]), host(2, 50, &[]), host(3, 0, &[])];
        hosts[0].liveness = Liveness::Suspect;
        hosts[2].liveness = Liveness::Down;
        assert!((0..50).all(|random| chosen(&wanted, &hosts, random) == 2));
        hosts[1].liveness = Liveness::Suspect;
        assert!((0..50).all(|random| chosen(&wanted, &hosts, random) == 1));
    }

    #[test]
    fn near_if_it_fits_and_only_on() {
        let gpu: Requirement = "gpu >= 1".parse().unwrap();
        let hosts = [host(1, 0, &["gpu=1"]), host(2, 9, &["gpu=1"]), host(3, 0, &[])];
        let near = |node| Wanted { near: Some(NodeId(node)), ..Wanted::new("poll.cast", &gpu) };
        assert_eq!(chosen(&near(2), &hosts, 0), 2);
        assert_eq!(chosen(&near(3), &hosts, 0), 1);
        let on = Wanted { on: Some("eu-2"), ..Wanted::new("poll.cast", &gpu) };
        assert_eq!(chosen(&on, &hosts, 0), 2);
    }

    #[test]
    fn a_troupe_stays_at_home_until_its_queue_is_twice_the_others() {
        let anywhere = Requirement::anywhere();
        let wanted = Wanted { own: Some(NodeId(1)), ..Wanted::new("poll.cast", &anywhere) };
        let mut hosts = [host(1, 100, &[]), host(2, 0, &[])];
        (hosts[0].load.waiting, hosts[1].load.waiting) = (8, 4);
        assert_eq!(chosen(&wanted, &hosts, 0), 1);
        hosts[0].load.waiting = 9;
        assert_eq!(chosen(&wanted, &hosts, 0), 2);
    }

    #[test]
    fn the_error_says_what_each_host_lacks() {
        let gpu: Requirement = "gpu >= 1".parse().unwrap();
        let mut hosts = [host(1, 0, &["gpu=0"]), host(2, 0, &[]), host(3, 0, &[]), host(4, 0, &[])];
        hosts[2].types.clear();
        hosts[3].liveness = Liveness::Down;
        let none = choose(&Wanted::new("poll.cast", &gpu), &hosts, &Recent::default(), 0).unwrap_err();
        assert_eq!(
            none.to_string(),
            "no host fits poll.cast (requires gpu >= 1): eu-1: gpu >= 1: gpu is 0; eu-2: gpu >= 1: no gpu; \
             eu-3: no worker runs poll.cast; eu-4: it is down"
        );
        assert_eq!(Refusal::from(none).reason, Reason::NoHost);
    }

    #[test]
    fn unknown_types_and_hosts_are_named() {
        let anywhere = Requirement::anywhere();
        let hosts = [host(1, 0, &[])];
        let none = choose(&Wanted::new("no.type", &anywhere), &hosts, &Recent::default(), 0).unwrap_err();
        assert_eq!(none.to_string(), "no host runs the type no.type: start a worker that registers it");
        assert_eq!(Refusal::from(none).reason, Reason::NoSuchType);
        let on = Wanted { on: Some("mars"), ..Wanted::new("poll.cast", &anywhere) };
        let none = choose(&on, &hosts, &Recent::default(), 0).unwrap_err();
        assert_eq!(none.to_string(), "no host is named \"mars\": see `odeon hosts`");
    }
}
