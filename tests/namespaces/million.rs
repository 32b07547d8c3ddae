//! A million global names: how fast they are granted, how much memory they take, and how long an agent takes that starts
//! again with such a directory.

use crate::{
    figures, full,
    harness::{Agent, kill, wait_within},
    memory::Memory,
    world::{World, ask_meanwhile, worker},
};
use serde_json::{Value, json};
use std::{
    thread,
    time::{Duration, Instant},
};

/// The hosts that the names live on, by their place among the agents; the last one leads.
const BEARERS: [usize; 2] = [0, 2];
/// The host whose agent is killed: no name lives on it.
const VICTIM: usize = 1;
/// Creations under way at a time, from each of the two.
const AT_ONCE: usize = 2000;
/// For all names, and for the agent that starts again.
const PATIENCE: Duration = Duration::from_secs(900);

#[test]
#[ignore = "needs root and network namespaces: tests/namespaces/run.sh"]
fn a_million_names_are_granted_and_kept_over_a_restart() {
    let names = if full() { 1_000_000 } else { 6_000 };
    let mut world = World::start();
    let [first, last] = BEARERS.map(|host| &world.agents[host]);
    let mut memory = Memory::of([
        ("a follower's agent", first.pid()),
        ("its worker", worker(first)),
        ("the leader's agent", last.pid()),
        ("its worker's", worker(last)),
        ("the third agent", world.agents[VICTIM].pid()),
    ]);
    memory.take();
    let rate = create(&world, names);
    for agent in &world.agents {
        wait_within(PATIENCE, "every host to know every name", || (known(agent) == names).then_some(()));
    }
    memory.take();
    figures(&format!("{names} names, {rate:.0} granted a second; {memory}"));

    let killed = Instant::now();
    kill(world.agents[VICTIM].pid());
    world.agents[VICTIM].kill();
    world.restart(VICTIM);
    let again = &world.agents[VICTIM];
    wait_within(PATIENCE, "the agent to be ready again", || (again.odeon(&["health"]).code == 0).then_some(()));
    let ready = killed.elapsed();
    assert_eq!(known(again), names, "it has lost names");
    let mut memory = Memory::of([("the agent that started again", again.pid())]);
    memory.take();
    figures(&format!("ready {ready:.2?} after the kill; {memory}"));
    for number in [0, names / 2, names - 1] {
        let target = format!("probe.counter/{number}");
        let count = again.ask(&target, "Get", "{}");
        assert!(BEARERS.iter().any(|host| count["host"] == world.agents[*host].name), "{target}: {count}");
    }
}

/// Has the bearers' hosts create the names, half each on its own; how many were granted a second.
fn create(world: &World, names: u64) -> f64 {
    let namers = BEARERS.map(|host| world.create(&world.agents[host], "probe.namer", None));
    let half = names / 2;
    let began = Instant::now();
    let granted: Vec<Value> = thread::scope(|scope| {
        let asking: Vec<_> = BEARERS
            .iter()
            .zip(&namers)
            .zip([(0, half), (half, names)])
            .map(|((host, namer), (from, until))| {
                let agent = &world.agents[*host];
                let name = json!({ "from": from, "until": until, "at_once": AT_ONCE, "on": agent.name });
                ask_meanwhile(scope, agent, (namer, "Name"), name, PATIENCE)
            })
            .collect();
        asking.into_iter().map(|asking| asking.join().expect("it is answered")).collect()
    });
    let took = began.elapsed();
    let sum = |what: &str| granted.iter().filter_map(|granted| granted[what].as_u64()).sum::<u64>();
    assert_eq!((sum("granted"), sum("failed")), (names, 0), "{granted:?}");
    names as f64 / took.as_secs_f64()
}

/// The global names that a host knows of.
fn known(agent: &Agent) -> u64 {
    agent.json(&["status"])["names"].as_u64().expect("a number of names")
}
