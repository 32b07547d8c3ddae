//! Nobody bears a name twice: five hosts, a hundred names that are asked from everywhere, and random faults. Every instance
//! of a name writes down what it handles and everybody who asks what came, and a checker holds that against the guarantee.
//!
//! `ODEON_MINUTES` says for how long (30, in the short form 1), `ODEON_SEED` which faults; with `ODEON_KEEP` the diaries stay.

mod checker;
mod faults;
mod history;
mod recorded;
mod trouble;

use crate::{
    figures, full,
    harness::{Agent, executable, wait_within},
    world::{World, pass},
};
use checker::{Findings, Pause, check};
use faults::{Dice, HOSTS};
use history::{Failover, History};
use serde_json::{Value, json};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};
use trouble::Trouble;

/// Names that are asked for.
const NAMES: usize = 100;
/// Asks a second, from each host.
const PER_SECOND: f64 = 40.0;
/// For so many seconds a claimant asks at a time.
const TURN: f64 = 5.0;
/// How long each ask may take.
const PATIENCE_MS: u64 = 3000;
/// How long a command may take: longer than any fault lasts.
const COMMAND: &str = "30";
/// How long the hosts may take to be well again, however slow the machine is.
const RECOVERY: Duration = Duration::from_secs(120);
/// What the full form has to bring about, at least: steps after which names answer from another host, leaders that are lost,
/// and pauses longer than the lease.
const FAILOVERS: usize = 100;
const LEADER_LOSSES: u64 = 20;
const LONG_PAUSES: u64 = 20;

#[test]
#[ignore = "needs root and network namespaces: tests/namespaces/run.sh"]
fn nobody_bears_a_name_twice_through_half_an_hour_of_faults() {
    finds_a_planted_overlap(recorded::history(), &[]);
    let minutes = setting("ODEON_MINUTES").unwrap_or(if full() { 30.0 } else { 1.0 });
    let seed = setting("ODEON_SEED").unwrap_or(1);
    let mut world = World::of(HOSTS);
    five_vote(&world);
    let keys: Vec<String> = (0..NAMES).map(|number| number.to_string()).collect();
    all_answer(&world, &keys);
    let trouble = ask_through_trouble(&mut world, &keys, seed, Duration::from_secs_f64(minutes * 60.0));
    all_answer(&world, &keys);
    world.agents.iter_mut().for_each(Agent::ready);

    let history = read(&world);
    let findings = check(&history, &trouble.pauses);
    let failovers = history.failovers();
    figures(&format!("{minutes} min, seed {seed}: {}", summary(&trouble, &failovers)));
    figures(&Measured(&history, &findings).to_string());
    let broken = [&findings.overlaps, &findings.repeated, &findings.claims, &findings.unwitnessed];
    if env::var_os("ODEON_KEEP").is_some() || broken.iter().any(|broken| !broken.is_empty()) {
        figures(&format!("the diaries are in {}", world.keep().display()));
    }
    let broken: Vec<&String> = broken.into_iter().flat_map(|broken| broken.iter().take(5)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(!failovers.is_empty(), "nothing failed over: {trouble:?}");
    // What was just recorded would not have hidden an overlap either.
    finds_a_planted_overlap(history, &trouble.pauses);
    if full() {
        let causes = trouble.causes(failovers.iter().filter(|failover| failover.moved));
        assert!(causes >= FAILOVERS, "names answered from other hosts after {causes} steps");
        assert!(trouble.leader_losses >= LEADER_LOSSES, "{} leaders lost", trouble.leader_losses);
        assert!(trouble.long_pauses >= LONG_PAUSES, "{} long pauses", trouble.long_pauses);
    }
}

/// The checker passes a history, and rejects it with one overlap planted into it.
fn finds_a_planted_overlap(mut history: History, pauses: &[Pause]) {
    let before = check(&history, pauses).overlaps.len();
    let name = history.plant_overlap().expect("a name had two instances").to_owned();
    let after = check(&history, pauses).overlaps;
    assert_eq!((before, after.len()), (0, 1), "an overlap of {name} was planted: {after:?}");
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Waits until each host has a vote, so that two may be away.
fn five_vote(world: &World) {
    wait_within(RECOVERY, "five voters", || {
        let status = command(&world.agents[0].data, &["--json", "status"])?;
        (status["voters"].as_array()?.len() == HOSTS).then_some(())
    });
}

/// Waits until every name answers everywhere.
fn all_answer(world: &World, keys: &[String]) {
    let round = json!({ "keys": keys, "per_second": 200.0, "seconds": 1.0, "timeout_ms": PATIENCE_MS });
    for agent in &world.agents {
        wait_within(RECOVERY, "every name to answer", || {
            let claimant = claimant(&agent.data, &agent.name)?;
            let claimed = ask(&agent.data, &claimant, &round)?;
            (claimed["names"] == keys.len()).then_some(())
        });
    }
}

/// Makes trouble while all hosts ask for all names.
fn ask_through_trouble(world: &mut World, keys: &[String], seed: u64, lasts: Duration) -> Trouble {
    let claims = json!({ "keys": keys, "per_second": PER_SECOND, "seconds": TURN, "timeout_ms": PATIENCE_MS });
    let (claims, over) = (&claims, &AtomicBool::new(false));
    let hosts: Vec<(PathBuf, String)> =
        world.agents.iter().map(|agent| (agent.data.clone(), agent.name.clone())).collect();
    thread::scope(|scope| {
        for (data, name) in &hosts {
            scope.spawn(move || keep_asking(data, name, claims, over));
        }
        // Also if the trouble ends the scenario.
        let _over = OnDrop(over);
        Trouble::make(world, &mut Dice::new(seed), lasts)
    })
}

/// Sets a flag in the end, however that comes.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks from a host until it is over, by a new claimant whenever the last one is gone.
fn keep_asking(data: &Path, host: &str, claims: &Value, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let Some(claimant) = claimant(data, host) else {
            pass(Duration::from_millis(200));
            continue;
        };
        while !over.load(Ordering::Relaxed) && ask(data, &claimant, claims).is_some() {}
    }
}

/// A new claimant on a host, if one can be had now.
fn claimant(data: &Path, host: &str) -> Option<String> {
    let made = command(data, &["--json", "create", "probe.claimant", "--on", host])?;
    made["address"].as_str().map(str::to_owned)
}

fn ask(data: &Path, claimant: &str, claims: &Value) -> Option<Value> {
    command(data, &["ask", claimant, "Claims", &claims.to_string(), "--timeout", "15s"])
}

/// What a command prints, run against the agent with this data; nothing if that fails, as it may, or takes too long.
fn command(data: &Path, args: &[&str]) -> Option<Value> {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", COMMAND]).arg(executable("odeon")).arg("--agent").arg(data.join("agent.sock"));
    let output = command.args(args).stdin(Stdio::null()).output().expect("coreutils are there");
    output.status.success().then(|| serde_json::from_slice(&output.stdout).ok()).flatten()
}

/// What all witnesses and claimants of all hosts wrote.
fn read(world: &World) -> History {
    let mut history = History::default();
    for agent in &world.agents {
        let mut diaries: Vec<PathBuf> = fs::read_dir(agent.data.join("probe"))
            .expect("the diaries' directory")
            .map(|diary| diary.expect("a diary").path())
            .collect();
        diaries.sort();
        for path in diaries {
            let diary = fs::read_to_string(&path).expect("it can be read");
            history.take(&diary).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
    history
}

fn summary(trouble: &Trouble, failovers: &[Failover]) -> String {
    let moved: Vec<&Failover> = failovers.iter().filter(|failover| failover.moved).collect();
    let faults: Vec<String> = trouble.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    format!(
        "{} completed failovers of names after {} of {} steps, {} of them to another host after {}; \
         {} leaders lost, {} pauses longer than the lease; {}",
        failovers.len(),
        trouble.causes(failovers),
        trouble.steps.len(),
        moved.len(),
        trouble.causes(moved),
        trouble.leader_losses,
        trouble.long_pauses,
        faults.join(", ")
    )
}

/// For people.
struct Measured<'a>(&'a History, &'a Findings);

impl std::fmt::Display for Measured<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(history, findings) = self;
        write!(f, "{} names, {} instances, ", history.names.len(), history.instances.len())?;
        write!(f, "{} handlings, {} of {} asks answered: ", findings.handlings, findings.answered, findings.asks)?;
        write!(f, "{} overlaps, {} handlers frozen, ", findings.overlaps.len(), findings.frozen)?;
        write!(f, "{} handled twice or denied, ", findings.repeated.len())?;
        write!(f, "{} names whose claims are no history, ", findings.claims.len())?;
        write!(f, "{} answers without a witness", findings.unwitnessed.len())
    }
}
