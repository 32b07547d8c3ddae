//! Agents, each in its namespace and with the probe as its worker.

use crate::{
    harness::{Agent, executable, wait_for},
    network::{Cut, HOSTS, Network, address},
};
use serde_json::{Value, json};
use std::{
    path::Path,
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const SENDER: usize = 0;
const RECEIVER: usize = 1;
const LEADER: usize = 2;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct World {
    // The agents end before their namespaces do.
    pub(crate) agents: Vec<Agent>,
    pub(crate) network: Network,
    root: TempDir,
}

impl World {
    /// A sender, a receiver, and a third host that leads.
    pub(crate) fn start() -> Self {
        Self::of(LEADER + 1)
    }

    /// So many hosts that may all vote, of which the last one leads.
    pub(crate) fn of(hosts: usize) -> Self {
        let mut world =
            Self { agents: Vec::new(), network: Network::new(hosts), root: tempfile::tempdir().expect("a place") };
        let last = hosts - 1;
        let mut leader = world.spawn(last, &["--bootstrap"]);
        leader.ready();
        let made = leader.json(&["token", "create", "--role", "voter"]);
        let joins = ["--join", &leader.quic.clone(), "--token", made["token"].as_str().expect("a token")];
        let joining: Vec<Agent> = (0..last).map(|host| world.spawn(host, &joins)).collect();
        world.agents = joining.into_iter().chain([leader]).collect();
        world.agents.iter_mut().for_each(Agent::ready);
        let status = world.agents[last].json(&["status"]);
        assert_eq!((&status["leader"], &status["failover"]), (&json!(HOSTS[last]), &json!(true)), "{status}");
        world
    }

    /// Starts the agent of a host, whose last one has ended, with its data directory; does not wait for it.
    pub(crate) fn restart(&mut self, host: usize) {
        self.agents[host] = self.spawn(host, &[]);
    }

    /// Leaves the data directories where they are, for whoever looks into a failure.
    pub(crate) fn keep(&mut self) -> &Path {
        self.root.disable_cleanup(true);
        self.root.path()
    }

    fn spawn(&self, host: usize, args: &[&str]) -> Agent {
        let name = HOSTS[host];
        let worker = format!("{} worker probe", executable("odeon").display());
        let place = format!("place={name}");
        let mut all = vec!["--worker", &worker, "--capability", &place];
        all.extend_from_slice(args);
        Agent::spawn_within(name, name, &format!("{}:7400", address(host)), &self.root.path().join(name), &all)
    }

    pub(crate) fn sender(&self) -> &Agent {
        &self.agents[SENDER]
    }

    pub(crate) fn receiver(&self) -> &Agent {
        &self.agents[RECEIVER]
    }

    /// Creates an actor on that host, with a global name if there is one; its address.
    pub(crate) fn create(&self, on: &Agent, type_name: &str, name: Option<&str>) -> String {
        let place = format!("place == {:?}", on.name);
        let mut args = vec!["create", type_name, "--requires", &place];
        args.extend(name.map(|name| ["--name", name]).iter().flatten());
        let made = wait_for("the hosts' capabilities to be known", || {
            let ran = on.odeon(&[&["--json"], &args[..]].concat());
            (ran.code == 0).then(|| ran.json())
        });
        assert_eq!(made["host"], on.name, "{made}");
        made["address"].as_str().expect("an address").to_owned()
    }

    /// The sender's host has a slow line: many packets are on their way at a time.
    pub(crate) fn slow_down(&self) {
        self.network.slow_down(SENDER);
    }

    /// Cuts the two hosts off from each other for so long; how many packets each would have got.
    pub(crate) fn cut(&self, lasts: Duration) -> [u64; 2] {
        let cut = self.network.cut(&[(SENDER, RECEIVER)]);
        pass(lasts);
        let [at_sender, at_receiver] = [SENDER, RECEIVER].map(|host| cut.dropped(host));
        cut.mend();
        [at_sender, at_receiver]
    }

    /// Cuts the receiver's host off from both others, until that is mended.
    pub(crate) fn isolate(&self) -> Cut<'_> {
        self.network.cut(&[(RECEIVER, SENDER), (RECEIVER, LEADER)])
    }

    /// Cuts the sender's and the receiver's host off from each other, until that is mended.
    pub(crate) fn part(&self) -> Cut<'_> {
        self.network.cut(&[(SENDER, RECEIVER)])
    }

    /// The sender's host is behind a firewall, until that is mended.
    pub(crate) fn wall_in(&self) -> Cut<'_> {
        self.network.wall_in(SENDER)
    }

    /// Closes the data connection between the two hosts as soon as there is one.
    pub(crate) fn close(&self) {
        wait_for("a data connection to close", || {
            (self.sender().odeon(&["links", "close", &self.receiver().name]).code == 0).then_some(())
        });
    }

    /// What the agents logged, for whoever looks into a failure.
    pub(crate) fn logs(&self) -> String {
        self.agents.iter().map(|agent| format!("--- {}\n{}", agent.name, tail(&agent.log()))).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            let logs = self.logs();
            eprintln!("{logs}\n--- all of it: {}", self.keep().display());
        }
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n") + "\n"
}

/// The worker process of a host.
pub(crate) fn worker(agent: &Agent) -> u64 {
    wait_for("the worker to run", || agent.json(&["workers"])[0]["pid"].as_u64())
}

/// An ask that goes on while the scenario does something else.
pub(crate) type Asking<'scope> = ScopedJoinHandle<'scope, Value>;

/// Asks, in the background, and allows so long for the answer.
pub(crate) fn ask_meanwhile<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    agent: &'scope Agent,
    (target, message): (&'scope str, &'scope str),
    fields: Value,
    within: Duration,
) -> Asking<'scope> {
    scope.spawn(move || {
        let timeout = format!("{}s", within.as_secs());
        agent.odeon(&["ask", target, message, &fields.to_string(), "--timeout", &timeout]).json()
    })
}

/// Lets time pass: what a scenario does for so long, not what it waits for.
#[expect(clippy::disallowed_methods, reason = "a cut or a measurement lasts as long as it is to last")]
pub(crate) fn pass(time: Duration) {
    thread::sleep(time);
}

/// Lets time pass until that moment.
pub(crate) fn pass_until(moment: Instant) {
    pass(moment.saturating_duration_since(Instant::now()));
}
