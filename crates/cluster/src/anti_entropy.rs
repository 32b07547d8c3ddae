//! Facts about hosts (capabilities, actor types, load), spread by anti-entropy.
//!
//! Each node writes its own sheet and nobody else's. Every write raises the sheet's version, so that a [`Digest`] (the
//! version that one has of each sheet) says exactly what one lacks, and a [`Delta`] carries it, as in van Renesse et al.,
//! *Efficient Reconciliation and Flow Control for Anti-Entropy Protocols*, 2008. What is taken back stays as a tombstone
//! until there are too many; who lacks forgotten tombstones gets the whole sheet.
//!
//! A node sends its digest to a random peer each second, and at once to the sender of a [`Hint`] that it is behind, unless
//! it has just asked many.
//! The order of exchanges does not matter; lost ones only delay.

use crate::{
    capability::Map,
    host::{HostView, Load},
    rate::Rate,
};
use odeon_protocol::{
    Boot, NodeId, Time,
    control::Value,
    limits::{CAPABILITY_KEY_BYTES_MAX, CAPABILITY_VALUE_BYTES_MAX, TYPE_NAME_BYTES_MAX},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Facts of one sheet, tombstones among them; far more than a host has to say.
const FACTS_MAX: usize = 16 << 10;
/// Tombstones of one sheet.
const TOMBSTONES_MAX: usize = 256;
/// Where there are more hosts, a change of load is left to the exchanges: announced to each, whose answer is a question, it
/// would cost the square of their number.
const LOAD_TOLD_MAX: usize = 32;
/// Hints that are followed in a second. Whoever is asked tells everything that it knows, and so does the next exchange.
const ASKS_A_SECOND: u32 = 16;

/// What one may say of oneself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Key {
    Capability(String),
    Type(Arc<str>),
    Load,
    Draining,
    HearsDeadLetters,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Fact {
    Value(Value),
    Load(Load),
    Yes,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    version: u64,
    /// Nothing: taken back.
    fact: Option<Fact>,
}

/// All facts of one node in one boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sheet {
    boot: Boot,
    version: u64,
    /// Tombstones up to this version were forgotten.
    forgotten: u64,
    entries: BTreeMap<Key, Entry>,
}

/// Which version one has of each sheet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest(BTreeMap<NodeId, (Boot, u64)>);

/// What another lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta(Vec<Part>);

impl Delta {
    /// Whether the other lacks nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    node: NodeId,
    boot: Boot,
    /// The version that the entries follow; nothing if they are the whole sheet.
    after: Option<u64>,
    version: u64,
    forgotten: u64,
    entries: Vec<(Key, Entry)>,
}

/// Says that a sheet has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// Whose.
    pub node: NodeId,
    /// In which boot.
    pub boot: Boot,
    /// Its version now.
    pub version: u64,
}

/// What one node knows of all.
#[derive(Clone, Debug)]
pub struct Facts {
    me: NodeId,
    known: BTreeSet<NodeId>,
    sheets: BTreeMap<NodeId, Sheet>,
    changes: u64,
    asks: Rate,
}

impl Facts {
    /// Knows only itself, of which it has said nothing.
    #[must_use]
    pub fn new(me: NodeId, boot: Boot) -> Self {
        let sheet = Sheet { boot, ..Sheet::default() };
        Self {
            me,
            known: BTreeSet::new(),
            sheets: BTreeMap::from([(me, sheet)]),
            changes: 0,
            asks: Rate::new(ASKS_A_SECOND),
        }
    }

    /// How often anything but load has changed, of whichever node.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The nodes whose sheets are kept; those of others are dropped and not taken.
    pub fn set_members(&mut self, members: impl IntoIterator<Item = NodeId>) {
        self.known = members.into_iter().collect();
        let (me, known) = (self.me, &self.known);
        self.sheets.retain(|node, _| *node == me || known.contains(node));
    }

    /// Replaces the own capabilities; whether anything changed.
    pub fn set_capabilities(&mut self, capabilities: &Map) -> bool {
        let facts = capabilities.iter().map(|(key, value)| (Key::Capability(key.clone()), Fact::Value(value.clone())));
        self.replace(|key| matches!(key, Key::Capability(_)), facts.collect())
    }

    /// Replaces the actor types that the own workers run; whether anything changed.
    pub fn set_types(&mut self, types: impl IntoIterator<Item = Arc<str>>) -> bool {
        let facts = types.into_iter().map(|name| (Key::Type(name), Fact::Yes));
        self.replace(|key| matches!(key, Key::Type(_)), facts.collect())
    }

    /// Says how busy the own host is; whether that is to be announced.
    pub fn set_load(&mut self, load: Load) -> bool {
        let changed = self.replace(|key| *key == Key::Load, [(Key::Load, Fact::Load(load))].into());
        changed && self.known.len() <= LOAD_TOLD_MAX
    }

    /// Says whether the own host takes new actors; whether anything changed.
    pub fn set_draining(&mut self, draining: bool) -> bool {
        let facts = draining.then_some((Key::Draining, Fact::Yes));
        self.replace(|key| *key == Key::Draining, facts.into_iter().collect())
    }

    /// Says whether somebody on the own host wants to hear of messages that come back; whether anything changed.
    pub fn set_hears_dead_letters(&mut self, hears: bool) -> bool {
        let facts = hears.then_some((Key::HearsDeadLetters, Fact::Yes));
        self.replace(|key| *key == Key::HearsDeadLetters, facts.into_iter().collect())
    }

    /// Writes what is known of a node into its view; whether anything is known of that boot.
    pub fn fill(&self, host: &mut HostView) -> bool {
        (host.capabilities, host.types) = (Map::new(), BTreeSet::new());
        (host.load, host.load_version) = (Load::default(), 0);
        (host.draining, host.hears_dead_letters) = (false, false);
        let Some(sheet) = self.sheets.get(&host.node).filter(|sheet| sheet.boot == host.boot) else { return false };
        for (key, entry) in &sheet.entries {
            match (key, &entry.fact) {
                (Key::Capability(key), Some(Fact::Value(value))) => {
                    host.capabilities.insert(key.clone(), value.clone());
                }
                (Key::Type(name), Some(_)) => {
                    host.types.insert(name.clone());
                }
                (Key::Load, Some(Fact::Load(load))) => (host.load, host.load_version) = (*load, entry.version),
                (Key::Draining, Some(_)) => host.draining = true,
                (Key::HearsDeadLetters, Some(_)) => host.hears_dead_letters = true,
                _ => {}
            }
        }
        sheet.version > 0
    }

    /// What to send to others when the own sheet has changed.
    #[must_use]
    pub fn hint(&self) -> Hint {
        let (boot, version) = self.sheets.get(&self.me).map_or_else(Default::default, |own| (own.boot, own.version));
        Hint { node: self.me, boot, version }
    }

    /// Whether the sender of a hint is to be asked now.
    pub fn wants(&mut self, hint: &Hint, now: Time) -> bool {
        self.behind(hint) && self.asks.pass(now).is_some()
    }

    fn behind(&self, hint: &Hint) -> bool {
        let has = self.sheets.get(&hint.node).map_or_else(Default::default, |sheet| (sheet.boot, sheet.version));
        hint.node != self.me && self.known.contains(&hint.node) && has < (hint.boot, hint.version)
    }

    /// What this node has.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(self.sheets.iter().map(|(node, sheet)| (*node, (sheet.boot, sheet.version))).collect())
    }

    /// What the sender of a digest lacks.
    #[must_use]
    pub fn answer(&self, digest: &Digest) -> Delta {
        let lacks = |(node, sheet): (&NodeId, &Sheet)| {
            let (boot, version) = digest.0.get(node).copied().unwrap_or_default();
            if (boot, version) >= (sheet.boot, sheet.version) {
                return None;
            }
            let after = (boot == sheet.boot && version >= sheet.forgotten).then_some(version);
            let entries = sheet.entries.iter().filter(|(_, entry)| after.is_none_or(|after| entry.version > after));
            Some(Part {
                node: *node,
                boot: sheet.boot,
                after,
                version: sheet.version,
                forgotten: sheet.forgotten,
                entries: entries.map(|(key, entry)| (key.clone(), entry.clone())).collect(),
            })
        };
        Delta(self.sheets.iter().filter_map(lacks).collect())
    }

    /// Takes what was lacking; the nodes of which something is new.
    pub fn take(&mut self, delta: Delta) -> Vec<NodeId> {
        delta.0.into_iter().filter_map(|part| self.take_part(part)).collect()
    }

    fn take_part(&mut self, part: Part) -> Option<NodeId> {
        let Part { node, boot, after, version, forgotten, entries } = part;
        if node == self.me || !self.known.contains(&node) {
            return None;
        }
        let sheet = self.sheets.entry(node).or_default();
        if (boot, version) <= (sheet.boot, sheet.version) || !entries.iter().all(|entry| fits(entry, after, version)) {
            return None;
        }
        let before = if after.is_some() { sheet.entries.len() } else { 0 };
        if before + entries.len() > FACTS_MAX {
            return None;
        }
        let changes = after.is_none() || entries.iter().any(|(key, _)| *key != Key::Load);
        match after {
            None => *sheet = Sheet { boot, version, forgotten, entries: entries.into_iter().collect() },
            // Entries between are missing: the next digest asks for them.
            Some(after) if boot != sheet.boot || after > sheet.version => return None,
            Some(_) => {
                sheet.version = version;
                sheet.entries.extend(entries);
                sheet.forget_up_to(forgotten);
            }
        }
        self.changes += u64::from(changes);
        Some(node)
    }

    /// Makes the facts of one kind exactly `facts`.
    fn replace(&mut self, kind: impl Fn(&Key) -> bool, facts: BTreeMap<Key, Fact>) -> bool {
        let Some(sheet) = self.sheets.get_mut(&self.me) else { return false };
        let before = sheet.version;
        let gone: Vec<Key> = sheet
            .entries
            .iter()
            .filter(|(key, entry)| kind(key) && entry.fact.is_some() && !facts.contains_key(key))
            .map(|(key, _)| key.clone())
            .collect();
        let mut changes = false;
        for key in gone {
            changes |= key != Key::Load;
            sheet.write(key, None);
        }
        for (key, fact) in facts {
            if sheet.entries.get(&key).and_then(|entry| entry.fact.as_ref()) != Some(&fact) {
                changes |= key != Key::Load;
                sheet.write(key, Some(fact));
            }
        }
        sheet.forget_tombstones();
        let changed = sheet.version != before;
        self.changes += u64::from(changes);
        changed
    }
}

/// Whether an entry is one that a host may write, after one version and up to another.
fn fits((key, entry): &(Key, Entry), after: Option<u64>, last: u64) -> bool {
    if entry.version <= after.unwrap_or(0) || entry.version > last {
        return false;
    }
    let named = match key {
        Key::Capability(key) => key.len() <= CAPABILITY_KEY_BYTES_MAX,
        Key::Type(name) => name.len() <= TYPE_NAME_BYTES_MAX,
        Key::Load | Key::Draining | Key::HearsDeadLetters => true,
    };
    named && !matches!(&entry.fact, Some(Fact::Value(Value::Text(text))) if text.len() > CAPABILITY_VALUE_BYTES_MAX)
}

impl Sheet {
    fn write(&mut self, key: Key, fact: Option<Fact>) {
        self.version += 1;
        self.entries.insert(key, Entry { version: self.version, fact });
    }

    fn forget_tombstones(&mut self) {
        let tombstones: BTreeSet<u64> =
            self.entries.values().filter(|entry| entry.fact.is_none()).map(|entry| entry.version).collect();
        if tombstones.len() > TOMBSTONES_MAX {
            let last = tombstones.last().copied().unwrap_or_default();
            self.forget_up_to(last);
        }
    }

    fn forget_up_to(&mut self, version: u64) {
        self.forgotten = self.forgotten.max(version);
        self.entries.retain(|_, entry| entry.fact.is_some() || entry.version > version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability;
    use proptest::prelude::*;
    use std::time::Duration;

    fn facts(number: u64, boot: u64) -> Facts {
        let mut facts = Facts::new(NodeId(number), Boot(boot));
        facts.set_members((1..=4).map(NodeId));
        facts
    }

    fn map(texts: &[&str]) -> Map {
        capability::collect(texts.iter().map(|text| capability::parse(text).unwrap())).unwrap()
    }

    fn pull(to: &mut Facts, from: &Facts) -> Vec<NodeId> {
        to.take(from.answer(&to.digest()))
    }

    fn view(facts: &Facts, node: u64, boot: u64) -> HostView {
        let mut host = HostView { node: NodeId(node), boot: Boot(boot), ..HostView::default() };
        facts.fill(&mut host);
        host
    }

    #[test]
    fn facts_reach_another_and_are_taken_back() {
        let (mut one, mut two) = (facts(1, 1), facts(2, 1));
        assert!(one.set_capabilities(&map(&["gpu=2", "archive"])));
        assert!(!one.set_capabilities(&map(&["gpu=2", "archive"])), "nothing changed");
        one.set_types(["poll.cast".into()]);
        one.set_load(Load { actors: 3, ..Load::default() });
        assert!(two.behind(&one.hint()));
        assert_eq!(pull(&mut two, &one), [NodeId(1)]);
        assert!(!two.behind(&one.hint()));
        let seen = view(&two, 1, 1);
        assert_eq!(seen.capabilities, map(&["gpu=2", "archive"]));
        assert!(seen.types.contains("poll.cast") && seen.load.actors == 3 && seen.load_version > 0);

        one.set_capabilities(&map(&["gpu=1"]));
        one.set_draining(true);
        one.set_hears_dead_letters(true);
        pull(&mut two, &one);
        assert_eq!(view(&two, 1, 1).capabilities, map(&["gpu=1"]));
        let seen = view(&two, 1, 1);
        assert!(seen.draining && seen.hears_dead_letters);
        assert!(pull(&mut two, &one).is_empty(), "nothing is lacking any more");
    }

    #[test]
    fn changes_are_counted_and_load_is_none() {
        let (mut one, mut two) = (facts(1, 1), facts(2, 1));
        one.set_capabilities(&map(&["gpu=2"]));
        one.set_capabilities(&map(&["gpu=2"]));
        pull(&mut two, &one);
        assert_eq!((one.changes(), two.changes()), (1, 1));
        one.set_load(Load { actors: 3, ..Load::default() });
        assert_eq!(pull(&mut two, &one), [NodeId(1)]);
        assert_eq!((one.changes(), two.changes()), (1, 1));
        one.set_capabilities(&Map::new());
        pull(&mut two, &one);
        assert_eq!((one.changes(), two.changes()), (2, 2));
    }

    #[test]
    fn facts_of_an_older_boot_are_not_shown_and_give_way() {
        let (mut old, mut two) = (facts(1, 1), facts(2, 1));
        old.set_capabilities(&map(&["gpu=2"]));
        pull(&mut two, &old);
        assert_eq!(view(&two, 1, 2).capabilities, Map::new());
        let mut new = facts(1, 2);
        new.set_capabilities(&map(&["zone=a"]));
        pull(&mut two, &new);
        pull(&mut two, &old);
        assert_eq!(view(&two, 1, 2).capabilities, map(&["zone=a"]));
    }

    #[test]
    fn nobody_else_writes_my_sheet_and_strangers_have_none() {
        let mut one = facts(1, 1);
        let mut liar = facts(1, 1);
        liar.set_capabilities(&map(&["gpu=9"]));
        assert!(one.take(liar.answer(&one.digest())).is_empty());
        let mut stranger = Facts::new(NodeId(9), Boot(1));
        stranger.set_capabilities(&map(&["gpu=9"]));
        assert!(pull(&mut one, &stranger).is_empty());
        assert!(!one.behind(&stranger.hint()));
    }

    #[test]
    fn forgotten_tombstones_do_not_leave_ghosts() {
        let (mut one, mut two) = (facts(1, 1), facts(2, 1));
        one.set_capabilities(&map(&["ghost=1"]));
        pull(&mut two, &one);
        for number in 0..TOMBSTONES_MAX + 2 {
            one.set_capabilities(&map(&[&format!("k{number}=1")]));
        }
        assert!(one.sheets[&NodeId(1)].entries.len() <= TOMBSTONES_MAX + 1);
        pull(&mut two, &one);
        assert_eq!(view(&two, 1, 1).capabilities.len(), 1);
        assert_eq!(two.sheets[&NodeId(1)], one.sheets[&NodeId(1)]);
    }

    #[test]
    fn a_sheet_is_bounded_whatever_is_said_of_it() {
        let mut one = facts(1, 1);
        let part = |version: u64, count: usize, length: usize| Part {
            node: NodeId(2),
            boot: Boot(1),
            after: Some(0),
            version,
            forgotten: 0,
            entries: (0..count)
                .map(|at| {
                    (Key::Capability(format!("k{version}.{at:0length$}")), Entry { version, fact: Some(Fact::Yes) })
                })
                .collect(),
        };
        let first = Part { boot: Boot(1), after: None, ..part(1, FACTS_MAX, 6) };
        assert_eq!(one.take(Delta(vec![first])), [NodeId(2)]);
        assert!(one.take(Delta(vec![part(2, 1, 6)])).is_empty(), "one more is too many");
        let long = Part { boot: Boot(2), after: None, ..part(3, 1, 80) };
        assert!(one.take(Delta(vec![long])).is_empty(), "a key is bounded");
        assert_eq!(one.sheets[&NodeId(2)].entries.len(), FACTS_MAX);
    }

    #[test]
    fn load_is_announced_only_where_hosts_are_few() {
        let mut one = facts(1, 1);
        let load = |actors| Load { actors, ..Load::default() };
        assert!(one.set_load(load(1)));
        assert!(!one.set_load(load(1)), "nothing is new");
        one.set_members((1..=1000).map(NodeId));
        assert!(!one.set_load(load(2)));
        assert!(one.set_capabilities(&map(&["gpu=1"])), "what a host can do is, however many there are");
        let mut two = facts(2, 1);
        assert_eq!(pull(&mut two, &one), [NodeId(1)]);
        assert_eq!(view(&two, 1, 1).load.actors, 2);
    }

    #[test]
    fn so_many_hints_are_followed_in_a_second() {
        let mut one = facts(1, 1);
        one.set_members((1..=1000).map(NodeId));
        let at = |second: u64| Time::ZERO + Duration::from_secs(second);
        let follows = |one: &mut Facts, second| {
            let hints = (2..=1000).map(|node| Hint { node: NodeId(node), boot: Boot(1), version: 1 });
            hints.filter(|hint| one.wants(hint, at(second))).count()
        };
        assert_eq!([1, 1, 2].map(|second| follows(&mut one, second)), [16, 0, 16]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Capabilities(usize, Vec<u8>),
        Load(usize, u64),
        Restart(usize),
        Pull(usize, usize),
        PullOld(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let node = 0..4usize;
        prop_oneof![
            3 => (node.clone(), prop::collection::vec(0..6u8, 0..4)).prop_map(|(at, keys)| Step::Capabilities(at, keys)),
            1 => (node.clone(), 0..9u64).prop_map(|(at, actors)| Step::Load(at, actors)),
            1 => node.clone().prop_map(Step::Restart),
            4 => (node.clone(), node.clone()).prop_map(|(to, from)| Step::Pull(to, from)),
            2 => (node.clone(), node).prop_map(|(to, from)| Step::PullOld(to, from)),
        ]
    }

    proptest! {
        #[test]
        fn any_order_of_exchanges_converges(steps in prop::collection::vec(step(), 0..120)) {
            let mut nodes: Vec<Facts> = (1..=4).map(|number| facts(number, 1)).collect();
            let mut boots = [1u64; 4];
            let mut late: Vec<Vec<Delta>> = vec![Vec::new(); 4];
            for step in steps {
                match step {
                    Step::Capabilities(at, keys) => {
                        let texts = keys.iter().map(|key| (format!("k{key}"), Value::Bool(true)));
                        nodes[at].set_capabilities(&texts.collect());
                    }
                    Step::Load(at, actors) => {
                        nodes[at].set_load(Load { actors, ..Load::default() });
                    }
                    Step::Restart(at) => {
                        boots[at] += 1;
                        nodes[at] = facts(at as u64 + 1, boots[at]);
                    }
                    Step::Pull(to, from) => {
                        let delta = nodes[from].answer(&nodes[to].digest());
                        late[to].push(delta.clone());
                        nodes[to].take(delta);
                    }
                    // A delta of long ago arrives again.
                    Step::PullOld(to, from) => {
                        let delta = late[to].get(from).cloned().unwrap_or_default();
                        nodes[to].take(delta);
                    }
                }
            }
            // Whoever has said nothing in its newest boot says something, or its older sheet is the newest there is.
            for (at, node) in nodes.iter_mut().enumerate() {
                node.set_load(Load { actors: 100 + at as u64, ..Load::default() });
            }
            for _ in 0..2 {
                for (to, from) in [(0, 1), (1, 2), (2, 3), (3, 0), (2, 0), (1, 3), (0, 2), (3, 1), (1, 0), (2, 1), (3, 2), (0, 3)] {
                    let delta = nodes[from].answer(&nodes[to].digest());
                    nodes[to].take(delta);
                }
            }
            for at in 0..4u64 {
                let own = view(&nodes[at as usize], at + 1, boots[at as usize]);
                for other in &nodes {
                    prop_assert_eq!(&view(other, at + 1, boots[at as usize]), &own);
                }
            }
        }
    }
}
