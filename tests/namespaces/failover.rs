//! Failover under load: a worker, a host, or the leader's host is killed with a thousand names on it, while both others
//! ask these names steadily. Measured is the time from the kill to the first answer of the last name's new instance.

use crate::{
    figures, full,
    harness::{kill, wait_for},
    world::{Asking, World, ask_meanwhile, pass, worker},
};
use serde_json::{Value, json};
use std::{
    env, thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Names that are begun; a third of them lives on each host.
const NAMES: usize = 3000;
/// Names on the victim, at most.
const WATCHED: usize = 1000;
/// Asks a second, from each of the two that go on.
const PER_SECOND: f64 = 2500.0;
/// How long a watch takes, and how long after its begin the victim is killed.
const WATCH: Duration = Duration::from_secs(10);
const BEFORE: Duration = Duration::from_secs(3);

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Worker,
    Host,
    Leader,
}

impl Victim {
    /// Its host, by its place among the agents.
    fn host(self) -> usize {
        if self == Self::Leader { 2 } else { 1 }
    }

    /// Within what its names are to answer again.
    fn limit(self) -> Duration {
        Duration::from_secs(if self == Self::Worker { 1 } else { 5 })
    }
}

#[test]
#[ignore = "needs root and network namespaces: tests/namespaces/run.sh"]
fn names_of_a_killed_worker_answer_again_under_load() {
    failover(Victim::Worker);
}

#[test]
#[ignore = "needs root and network namespaces: tests/namespaces/run.sh"]
fn names_of_a_killed_host_answer_again_under_load() {
    failover(Victim::Host);
}

#[test]
#[ignore = "needs root and network namespaces: tests/namespaces/run.sh"]
fn names_of_a_killed_leader_answer_again_under_load() {
    failover(Victim::Leader);
}

fn failover(victim: Victim) {
    let runs = env::var("ODEON_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(if full() { 5 } else { 1 });
    let mut took: Vec<Duration> = (0..runs).map(|_| run(victim)).collect();
    took.sort_unstable();
    let (half, worst) = (took[took.len() / 2], took[took.len() - 1]);
    figures(&format!("{victim:?} killed, {runs} runs: its last name answers after {half:.2?}, at worst {worst:.2?}"));
    // One run beside other work tells too little of it.
    assert!(!full() || worst <= victim.limit(), "{victim:?}: {took:?}, and {:?} is the limit", victim.limit());
}

/// One kill; how long until the last name answered again.
fn run(victim: Victim) -> Duration {
    let mut world = World::start();
    let others: Vec<usize> = (0..3).filter(|host| *host != victim.host()).collect();
    let watchers: Vec<String> =
        others.iter().map(|host| world.create(&world.agents[*host], "probe.watch", None)).collect();
    let keys = names_on(&world, &watchers[0], &world.agents[victim.host()].name);
    let watch = json!({
        "keys": keys, "per_second": PER_SECOND, "seconds": WATCH.as_secs_f64(), "timeout_ms": 8000,
    });
    let process = worker(&world.agents[victim.host()]);
    let (killed_at, reports) = {
        let agents = &world.agents;
        thread::scope(|scope| {
            let watching: Vec<Asking<'_>> = others
                .iter()
                .zip(&watchers)
                .map(|(host, watcher)| {
                    ask_meanwhile(scope, &agents[*host], (watcher, "Watch"), watch.clone(), WATCH * 3)
                })
                .collect();
            pass(BEFORE);
            let at = SystemTime::now();
            kill(if victim == Victim::Worker { process } else { agents[victim.host()].pid() });
            let reports: Vec<Value> = watching.into_iter().map(|watch| watch.join().expect("it is answered")).collect();
            (at, reports)
        })
    };
    if victim != Victim::Worker {
        world.agents[victim.host()].kill();
    }
    last_answer(killed_at, &keys, &reports)
}

/// The keys of names that live on that host.
fn names_on(world: &World, watcher: &str, host: &str) -> Vec<String> {
    let keys: Vec<String> = (0..NAMES).map(|number| number.to_string()).collect();
    let watch = json!({ "keys": keys, "per_second": 1000.0, "seconds": 4.0, "timeout_ms": 20_000 });
    let seen = wait_for("the names to live", || {
        let ran = world.sender().odeon(&["ask", watcher, "Watch", &watch.to_string(), "--timeout", "60s"]);
        (ran.code == 0).then(|| ran.json())
    });
    let bearers = seen["bearers"].as_array().expect("a list");
    let there = keys.iter().zip(bearers).filter(|(_, bearer)| bearer["host"] == host).map(|(key, _)| key.clone());
    let there: Vec<String> = there.take(WATCHED).collect();
    assert!(there.len() > WATCHED * 3 / 4, "{} names live on {host}: {}", there.len(), seen["failed"]);
    there
}

/// From the kill to the first answer that the last of the names gave anybody.
fn last_answer(killed_at: SystemTime, keys: &[String], reports: &[Value]) -> Duration {
    let killed_us = killed_at.duration_since(UNIX_EPOCH).expect("a clock").as_micros() as u64;
    let first = |at: usize| {
        let seen = reports.iter().filter_map(|report| report["bearers"][at]["since_us"].as_u64());
        seen.filter(|since| *since > killed_us).min()
    };
    for report in reports {
        figures(&format!(
            "{} asks answered, failed {}, slowest {:.0} ms",
            report["answered"],
            report["failed"],
            report["slowest_ms"].as_f64().unwrap_or_default()
        ));
    }
    let lasts: Vec<u64> = (0..keys.len())
        .map(|at| first(at).unwrap_or_else(|| panic!("the name {} never answered again", keys[at])))
        .collect();
    Duration::from_micros(lasts.into_iter().max().unwrap_or(killed_us) - killed_us)
}
