//! A convention of two builds: this one, and one of the next feature level, as while hosts are upgraded one by one.

use crate::{
    builds::build,
    harness::{Agent, Convention, executable, wait_for},
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Three voters with workers of this build.
struct Mixed {
    convention: Convention,
    next: PathBuf,
    probe: String,
}

impl Mixed {
    /// Two agents of this build and, joined last, one of the next.
    fn start() -> Self {
        let (next, probe) =
            (build("ODEON_NEXT", "next-level"), executable("probe").to_str().expect("UTF-8").to_owned());
        let worker = ["--worker", probe.as_str()];
        let mut convention = Convention::start(2, &worker);
        let (peer, token) = (convention.agents[0].quic.clone(), convention.token("voter"));
        let (name, ip, data) = convention.next_place();
        let args = ["--join", &peer, "--token", &token, "--worker", &probe];
        convention.agents.push(Agent::spawn_of(&next, &name, &format!("{ip}:0"), &data, &args));
        convention.agents[2].ready();
        Self { convention, next, probe }
    }

    fn host(&self, index: usize) -> &Agent {
        &self.convention.agents[index]
    }

    /// Stops an agent and starts another build in its place, without waiting for it.
    fn begin(&mut self, index: usize, program: &Path) {
        let old = &mut self.convention.agents[index];
        assert!(old.stop(), "{}", old.log());
        old.again_as(program, &["--worker", &self.probe]);
    }

    fn replace(&mut self, index: usize, program: &Path) {
        self.begin(index, program);
        self.convention.agents[index].ready();
    }

    /// Names made on each host answer on every other, and count.
    fn names_answer(&self, count: u64) {
        for (from, agent) in self.convention.agents.iter().enumerate() {
            for name in (0..3).map(|number| format!("probe.counter/{from}-{count}-{number}")) {
                assert_eq!(agent.odeon(&["tell", &name, "Add", r#"{"by": 2}"#]).code, 0, "{name}");
                for other in &self.convention.agents {
                    wait_for("the counter to count", || (other.ask(&name, "Get", "")["value"] == 2).then_some(()));
                }
            }
        }
    }

    /// What hosts of the next build say when they are to note something; at once, not for want of an answer.
    #[track_caller]
    fn refuse(&self, hosts: &[usize], behind: &str) {
        let wanted = format!("feature level 2 on every host, and {behind} not: install it there");
        for host in hosts {
            let began = Instant::now();
            let ran = self.host(*host).odeon(&["note", "too early"]);
            assert!(ran.code != 0 && ran.err.contains(&wanted), "h{}: {ran:?}", host + 1);
            assert!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
        }
    }

    /// Whoever leads, each host's note is taken, and seen by all.
    fn note_everywhere(&self) {
        for (from, agent) in self.convention.agents.iter().enumerate() {
            let text = format!("all hosts are upgraded, says h{}", from + 1);
            let noted = agent.odeon(&["note", &text]);
            assert_eq!(noted.code, 0, "{noted:?}");
            for agent in &self.convention.agents {
                let note = wait_for("the note to be everywhere", || {
                    Some(agent.json(&["note"])).filter(|note| note["note"] == text.as_str())
                });
                assert!(versions(&note).iter().all(Option::is_some), "{note}");
            }
        }
    }

    /// The host that leads, by all accounts.
    fn leader(&self) -> String {
        wait_for("all to know one leader", || {
            let leaders: Vec<Value> =
                self.convention.agents.iter().map(|agent| agent.json(&["status"])["leader"].clone()).collect();
            let one = leaders[0].as_str()?.to_owned();
            leaders.iter().all(|leader| *leader == leaders[0]).then_some(one)
        })
    }
}

/// The version of the directory that each host says its copy has.
fn versions(note: &Value) -> Vec<Option<u64>> {
    note["copies"].as_array().expect("a list").iter().map(|copy| copy["version"].as_u64()).collect()
}

#[test]
#[ignore = "needs an executable of the next feature level, in ODEON_NEXT"]
fn hosts_are_upgraded_one_by_one_and_what_is_new_waits_for_the_last() {
    let mut mixed = Mixed::start();
    let (this, next) = (executable("odeon"), mixed.next.clone());
    assert_eq!(mixed.leader(), "h1");
    mixed.names_answer(1);
    // A field more or less is no matter, whoever asks.
    let doctor = mixed.host(0).odeon(&["doctor"]);
    assert!(
        doctor.out.contains("feature level 1) on h1, h2") && doctor.out.contains("(feature level 2) on h3"),
        "{doctor:?}"
    );
    assert!(matches!(versions(&mixed.host(2).json(&["note"]))[..], [None, None, Some(_)]));
    // The leader is of this build, and could not read the command.
    mixed.refuse(&[2], "h1 (level 1) and h2 (level 1) do");
    mixed.replace(1, &next);
    mixed.refuse(&[1, 2], "h1 (level 1) does");
    // The next leader is of the next build; the old one comes back as it was, and keeps the command from the log.
    mixed.replace(0, &this);
    assert_ne!(mixed.leader(), "h1");
    mixed.names_answer(2);
    mixed.refuse(&[1, 2], "h1 (level 1) does");
    mixed.replace(0, &next);
    mixed.note_everywhere();
    mixed.names_answer(3);
    too_old(&mut mixed, &this);
}

/// Now there is no way back: neither for a host that was here, nor for one that joins.
fn too_old(mixed: &mut Mixed, this: &Path) {
    let (peer, token) =
        (mixed.host(2).json(&["hosts"])[2]["address"].clone(), mixed.host(2).json(&["token", "create"]));
    let (peer, token) = (peer.as_str().expect("an address"), token["token"].as_str().expect("a token"));
    let (name, ip, data) = mixed.convention.next_place();
    let joins = Agent::fails(&name, &ip, &data, &["--join", peer, "--token", token]);
    assert!(joins.code == 6 && joins.err.contains("feature level 1") && joins.err.contains("install"), "{joins:?}");
    mixed.begin(0, this);
    let ended = mixed.convention.agents[0].ends();
    let last = ended.err.lines().rev().find(|line| line.starts_with("odeon: ")).unwrap_or_default();
    assert!(ended.code != 0 && last.contains("feature level 2") && last.contains("start an Odeon of"), "{last}");
    mixed.convention.agents[0].again_as(&mixed.next, &["--worker", &mixed.probe]);
    mixed.convention.agents[0].ready();
    assert_eq!(mixed.host(0).json(&["note"])["note"], "all hosts are upgraded, says h3");
}
