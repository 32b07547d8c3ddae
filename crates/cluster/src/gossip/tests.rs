use super::*;
use rand::RngExt as _;
use std::collections::BTreeSet;

/// Agents on a network that delivers after 5 ms, but drops what goes to or from the cut off ones.
struct World {
    now: Time,
    agents: BTreeMap<NodeId, Gossip>,
    cut_off: BTreeSet<NodeId>,
    held_up: BTreeSet<NodeId>,
    flying: BTreeMap<(Time, u64), (NodeId, Vec<u8>)>,
    sent: u64,
}

impl World {
    fn new(count: u64) -> Self {
        let agents = (1..=count).map(|number| (NodeId(number), Gossip::new(NodeId(number), Boot(1), number))).collect();
        let mut world = Self {
            now: Time::from_nanos(1),
            agents,
            cut_off: BTreeSet::new(),
            held_up: BTreeSet::new(),
            flying: BTreeMap::new(),
            sent: 0,
        };
        world.introduce((1..=count).map(|number| (NodeId(number), Boot(1))).collect());
        world
    }

    fn introduce(&mut self, members: Vec<(NodeId, Boot)>) {
        for agent in self.agents.values_mut() {
            agent.set_members(members.iter().copied(), self.now);
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            self.post();
            let running = |node: &NodeId| !self.held_up.contains(node);
            let ticks = self.agents.iter().filter(|(node, _)| running(node)).filter_map(|(_, agent)| agent.due());
            let Some(next) = ticks.chain(self.flying.keys().map(|(at, _)| *at)).min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (to, data) = entry.remove();
                if !self.held_up.contains(&to)
                    && let Some(agent) = self.agents.get_mut(&to)
                {
                    let _ = agent.received(&data, self.now);
                }
            }
            for (_, agent) in self.agents.iter_mut().filter(|(node, _)| !self.held_up.contains(node)) {
                if agent.due().is_some_and(|due| due <= self.now) {
                    agent.tick(self.now);
                }
            }
        }
        self.now = end;
    }

    fn post(&mut self) {
        for (from, agent) in &mut self.agents {
            for (to, data) in agent.take_datagrams() {
                assert!(data.len() <= SWIM_BYTES_MAX);
                if !self.cut_off.contains(from) && !self.cut_off.contains(&to) {
                    self.sent += 1;
                    self.flying.insert((self.now + Duration::from_millis(5), self.sent), (to, data));
                }
            }
        }
    }

    fn seen(&self, by: u64, node: u64) -> Liveness {
        self.agents[&NodeId(by)].states()[&NodeId(node)]
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn all_are_up_and_nothing_is_dropped() {
    let mut world = World::new(5);
    world.run(seconds(30));
    for by in 1..=5 {
        assert!((1..=5).all(|node| world.seen(by, node) == Liveness::Up));
        assert_eq!(world.agents[&NodeId(by)].dropped(), 0);
    }
}

#[test]
fn a_silent_host_is_suspected_then_down_and_comes_back() {
    let mut world = World::new(5);
    world.run(seconds(5));
    assert!(world.agents.values().all(|agent| agent.suspicions() == 0));
    world.cut_off.insert(NodeId(3));
    world.run(seconds(20));
    assert!(world.agents.values().all(|agent| agent.suspicions() > 0));
    assert!([1, 2, 4, 5].iter().all(|by| world.seen(*by, 3) == Liveness::Down));
    assert!(world.agents[&NodeId(3)].seems_cut_off(&(1..=5).map(NodeId).collect::<Vec<_>>()));
    assert!(!world.agents[&NodeId(1)].seems_cut_off(&(1..=5).map(NodeId).collect::<Vec<_>>()));
    world.cut_off.clear();
    world.run(seconds(30));
    for by in 1..=5 {
        assert!((1..=5).all(|node| world.seen(by, node) == Liveness::Up), "seen by {by}");
    }
}

#[test]
fn a_member_that_left_is_not_shown_and_a_new_boot_is_up() {
    let mut world = World::new(3);
    world.run(seconds(3));
    world.agents.remove(&NodeId(2));
    world.introduce(vec![(NodeId(1), Boot(1)), (NodeId(3), Boot(1))]);
    world.run(seconds(2));
    assert!(!world.agents[&NodeId(1)].states().contains_key(&NodeId(2)));
    world.agents.insert(NodeId(2), Gossip::new(NodeId(2), Boot(2), 9));
    world.introduce(vec![(NodeId(1), Boot(1)), (NodeId(2), Boot(2)), (NodeId(3), Boot(1))]);
    world.run(seconds(10));
    assert_eq!((world.seen(1, 2), world.seen(3, 2), world.seen(2, 1)), (Liveness::Up, Liveness::Up, Liveness::Up));
}

#[test]
fn a_host_that_was_held_up_hears_its_suspects_before_it_judges_them() {
    let mut world = World::new(3);
    world.run(seconds(5));
    world.cut_off.insert(NodeId(3));
    while world.seen(1, 3) == Liveness::Up {
        world.run(Duration::from_millis(100));
    }
    assert_eq!(world.seen(1, 3), Liveness::Suspect);
    world.cut_off.clear();
    world.held_up.insert(NodeId(1));
    world.run(seconds(8));
    world.held_up.clear();
    // Its first step after waking: all its timers are late, nothing was received yet.
    let now = world.now;
    world.agents.get_mut(&NodeId(1)).unwrap().tick(now);
    assert_ne!(world.seen(1, 3), Liveness::Down);
    world.run(seconds(20));
    for by in 1..=3 {
        assert!((1..=3).all(|node| world.seen(by, node) == Liveness::Up), "seen by {by}");
    }
}

#[test]
fn strangers_and_rubbish_are_dropped_and_counted() {
    let mut world = World::new(2);
    world.run(seconds(2));
    let mut stranger = Gossip::new(NodeId(9), Boot(1), 1);
    stranger.set_members([(NodeId(1), Boot(1))], world.now);
    stranger.leave(world.now);
    let mut datagrams = stranger.take_datagrams();
    let now = world.now;
    let agent = world.agents.get_mut(&NodeId(1)).unwrap();
    let (_, data) = datagrams.pop().unwrap();
    assert_eq!(agent.received(&data, now), Err(GossipError::Stranger(NodeId(9))));
    assert!(matches!(agent.received(&[0xff; 40], now), Err(GossipError::Decode(_))));
    assert!(matches!(agent.received(&[0; 2000], now), Err(GossipError::Decode(_))));
    assert_eq!(agent.dropped(), 3);
}

#[test]
fn what_is_said_of_strangers_is_left_out_and_the_rest_is_heard() {
    let now = Time::from_nanos(1);
    let (mut knows, mut is_behind) = (Gossip::new(NodeId(1), Boot(1), 1), Gossip::new(NodeId(2), Boot(1), 2));
    let of = |nodes: &[u64]| nodes.iter().map(|node| (NodeId(*node), Boot(1))).collect::<Vec<_>>();
    knows.set_members(of(&[2, 3, 9]), now);
    is_behind.set_members(of(&[1, 3]), now);
    // A word from each of them is news, and so is one that says that another is down.
    for node in [9, 3] {
        let mut newcomer = Gossip::new(NodeId(node), Boot(1), node);
        newcomer.set_members(of(&[1]), now);
        newcomer.leave(now);
        for (_, data) in newcomer.take_datagrams() {
            knows.received(&data, now).unwrap();
        }
    }
    assert_eq!(knows.states()[&NodeId(3)], Liveness::Down);
    knows.tick(now + seconds(2));
    let datagrams = knows.take_datagrams().into_iter().filter(|(to, _)| *to == NodeId(2));
    for (_, data) in datagrams {
        assert_eq!(is_behind.received(&data, now), Ok(()));
    }
    assert_eq!(is_behind.states()[&NodeId(3)], Liveness::Down);
    assert_eq!((is_behind.dropped(), is_behind.states().len()), (0, 3));
}

#[test]
fn nobody_passes_on_what_the_directory_says() {
    let mut one = Gossip::new(NodeId(1), Boot(1), 1);
    let mut now = Time::from_nanos(1);
    one.set_members((1..=500).map(|node| (NodeId(node), Boot(1))), now);
    for _ in 0..20 {
        now = now + Duration::from_millis(100);
        one.tick(now);
    }
    let datagrams = one.take_datagrams();
    assert!(!datagrams.is_empty() && datagrams.iter().all(|(_, data)| data.len() < 60), "{datagrams:?}");
}

/// `foca` tells a suspect that it was found down when the verdict is due, though it was heard of meanwhile.
#[test]
fn a_refuted_suspicion_is_no_verdict() {
    let mut now = Time::from_nanos(1);
    let [mut one, mut two] = [1, 2].map(|node| Gossip::new(NodeId(node), Boot(1), node));
    for agent in [&mut one, &mut two] {
        agent.set_members([(NodeId(1), Boot(1)), (NodeId(2), Boot(1))], now);
    }
    // The other does not answer until it is suspected.
    while one.suspicions() == 0 {
        one.take_datagrams();
        now = now + Duration::from_millis(100);
        one.tick(now);
    }
    assert_eq!(one.states()[&NodeId(2)], Liveness::Suspect);
    for _ in 0..100 {
        one.tick(now);
        one.take_datagrams().iter().for_each(|(_, data)| two.received(data, now).unwrap());
        two.take_datagrams().iter().for_each(|(_, data)| one.received(data, now).unwrap());
        now = now + Duration::from_millis(100);
    }
    assert_eq!(one.states()[&NodeId(2)], Liveness::Up);
    assert_eq!((one.suspicions(), two.found_down()), (1, 0));
}

#[test]
fn news_are_passed_on_the_oftener_the_more_hosts_there_are() {
    let passed_on = |hosts: u64| {
        let mut now = Time::from_nanos(1);
        let (mut one, mut leaver) = (Gossip::new(NodeId(1), Boot(1), 1), Gossip::new(NodeId(2), Boot(1), 2));
        one.set_members((1..=hosts).map(|node| (NodeId(node), Boot(1))), now);
        leaver.set_members([(NodeId(1), Boot(1))], now);
        leaver.leave(now);
        leaver.take_datagrams().into_iter().for_each(|(_, data)| one.received(&data, now).unwrap());
        for _ in 0..30 {
            now = now + Duration::from_millis(50);
            one.tick(now);
        }
        let says_something = |(_, data): &(NodeId, Vec<u8>)| {
            let mut rest = &data[..];
            let _: foca::Header<Id> = PostcardCodec.decode_header(&mut rest).unwrap();
            rest.split_first_chunk::<2>().is_some_and(|(count, _)| u16::from_be_bytes(*count) > 0)
        };
        one.take_datagrams().iter().filter(|datagram| says_something(datagram)).count()
    };
    assert_eq!([3, 10, 1000].map(passed_on), [4, 4, 12]);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut world = World::new(4);
        world.run(seconds(7));
        (world.sent, world.flying)
    };
    assert_eq!(run(), run());
}

#[test]
fn datagrams_are_read_back() {
    let hint = Hint { node: NodeId(1), boot: Boot(2), version: 3 };
    for datagram in [Datagram::Swim(vec![1, 2, 3]), Datagram::Hint(hint)] {
        assert_eq!(Datagram::decode(&datagram.encode()), Some(datagram));
    }
    assert_eq!(Datagram::decode(&[]), None);
    assert_eq!(Datagram::decode(&[7, 1]), None);
}

#[test]
fn all_find_each_other_again_after_an_outage_of_the_whole_network() {
    for hosts in [2, 3, 5, 40] {
        let mut world = World::new(hosts);
        world.run(Duration::from_secs(5));
        world.cut_off = (1..=hosts).map(NodeId).collect();
        world.run(Duration::from_secs(60));
        assert!((2..=hosts).all(|node| world.seen(1, node) == Liveness::Down), "{hosts} hosts");
        world.cut_off.clear();
        world.run(Duration::from_secs(10));
        for by in 1..=hosts {
            assert!((1..=hosts).all(|node| world.seen(by, node) == Liveness::Up), "{hosts} hosts, seen by {by}");
        }
    }
}

#[test]
fn one_that_was_taken_for_down_by_all_and_took_all_for_down_comes_back() {
    let mut world = World::new(3);
    world.run(Duration::from_secs(5));
    world.cut_off = [NodeId(1)].into();
    world.run(Duration::from_secs(30));
    world.cut_off.clear();
    world.run(Duration::from_secs(8));
    for by in 1..=3 {
        assert!((1..=3).all(|node| world.seen(by, node) == Liveness::Up), "seen by {by}");
    }
}

/// As where a suspicion comes to somebody whom the refutal has not reached.
#[test]
fn a_suspect_of_whom_nothing_more_is_heard_is_asked_and_stays_up() {
    let mut world = World::new(3);
    world.run(seconds(3));
    let agent = world.agents.get_mut(&NodeId(1)).unwrap();
    let suspect = Id { node: NodeId(2), boot: Boot(1), refutation: 0 };
    let suspicion = Member::new(suspect, Incarnation::default(), State::Suspect);
    agent.foca.apply_many([suspicion].into_iter(), false, &mut agent.out).unwrap();
    assert_eq!(world.seen(1, 2), Liveness::Suspect);
    world.run(seconds(6));
    assert_eq!(world.seen(1, 2), Liveness::Up);
    world.run(seconds(10));
    assert!(world.agents.values().all(|agent| agent.found_down() == 0));
}

#[test]
fn whoever_was_cut_off_all_are_up_in_the_end() {
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = World::new(random.random_range(2..=5));
        world.run(Duration::from_secs(3));
        for _ in 0..12 {
            let hosts: Vec<NodeId> = world.agents.keys().copied().collect();
            world.cut_off = hosts.iter().copied().filter(|_| random.random_bool(0.3)).collect();
            world.held_up = hosts.into_iter().filter(|_| random.random_bool(0.1)).collect();
            world.run(Duration::from_millis(random.random_range(100..9000)));
        }
        (world.cut_off, world.held_up) = Default::default();
        world.run(Duration::from_secs(20));
        for (by, agent) in &world.agents {
            let states = agent.states();
            assert!(states.values().all(|state| *state == Liveness::Up), "seed {seed}, seen by {by}: {states:?}");
        }
    }
}
