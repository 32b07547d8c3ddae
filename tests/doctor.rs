//! `odeon doctor` beside healthy hosts and hosts with something wrong.

use crate::harness::{Agent, Convention, Ran, odeon, wait_for};
use serde_json::Value;

/// What the machine that runs the tests may be short of.
pub(crate) const MACHINE: [&str; 5] =
    ["socket buffers", "batched sending", "data directory", "disk writes", "open files"];

/// The findings of one look, with its exit code checked against them.
#[derive(Debug)]
struct Looked(Vec<(String, bool, String)>);

impl Looked {
    fn at(host: &Agent) -> Self {
        Self::of(&host.odeon(&["doctor", "--json"]), 1)
    }

    #[track_caller]
    fn of(ran: &Ran, code_of_wrong: i32) -> Self {
        let found: Vec<Value> = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        let text = |finding: &Value, field: &str| finding[field].as_str().expect("a text").to_owned();
        let findings: Vec<_> = found
            .iter()
            .map(|finding| (text(finding, "what"), finding["ok"].as_bool().expect("ok or not"), text(finding, "text")))
            .collect();
        let wrong = findings.iter().any(|(_, ok, _)| !ok);
        assert_eq!(ran.code, if wrong { code_of_wrong } else { 0 }, "{ran:?}");
        Self(findings)
    }

    /// What is to be looked at, of what does not depend on the machine that runs the tests.
    fn looks(&self) -> Vec<(&str, &str)> {
        let wrong = self.0.iter().filter(|(what, ok, _)| !ok && !MACHINE.contains(&what.as_str()));
        wrong.map(|(what, _, text)| (what.as_str(), text.as_str())).collect()
    }

    #[track_caller]
    fn text(&self, what: &str) -> &str {
        let found = self.0.iter().find(|(found, ..)| found == what);
        &found.unwrap_or_else(|| panic!("no {what} in {self:?}")).2
    }
}

/// Waits until a host has nothing to look at, but for its machine.
#[track_caller]
fn well(host: &Agent) -> Looked {
    wait_for(&format!("{} to be well", host.name), || {
        let looked = Looked::at(host);
        looked.looks().is_empty().then_some(looked)
    })
}

#[test]
fn three_healthy_hosts_and_one_that_is_killed() {
    let mut convention = Convention::start(3, &[]);
    for host in &convention.agents {
        let looked = well(host);
        assert!(looked.text("udp").starts_with("2 of 2 other hosts answer: h"), "{looked:?}");
        let advertised = looked.text("advertised address");
        assert!(advertised.starts_with(&host.quic) && advertised.contains("from a new port by h"), "{advertised}");
        assert!(looked.text("clocks").ends_with("(2 other hosts compared)"), "{looked:?}");
        assert!(looked.text("versions").ends_with("on 3 of 3 hosts"), "{looked:?}");
        assert!(looked.text("certificate").starts_with("holds for"), "{looked:?}");
        assert!(looked.text("disk writes").contains("fsync"), "{looked:?}");
        assert!(!host.data.join("doctor.tmp").exists());
    }
    let lines = convention.agents[0].odeon(&["doctor"]).out;
    assert!(lines.lines().all(|line| line.starts_with("ok    ") || line.starts_with("LOOK  ")), "{lines}");

    convention.agents[2].kill();
    wait_for("the lost host to be named", || {
        let looked = Looked::at(&convention.agents[0]);
        let named = looked.looks().iter().any(|(what, text)| *what == "host" && text.starts_with("h3 at "));
        named.then_some(())
    });
    wait_for("the log to name it", || convention.agents[0].log().contains("host h3 is down").then_some(()));
}

#[test]
fn an_advertised_address_that_leads_nowhere_is_seen() {
    let mut convention = Convention::one(&[]);
    let token = convention.token("voter");
    convention.spawn(&token, &[]).ready();
    // The third host's own address, and a port on which nobody is.
    let (_, ip, _) = convention.next_place();
    let nowhere = format!("{ip}:9");
    convention.spawn(&token, &["--advertise", &nowhere]).ready();
    let [one, _, three] = &convention.agents[..] else { panic!("three agents") };
    wait_for("the address to be tried by both others", || {
        let looked = Looked::at(three);
        let [("advertised address", text)] = looked.looks()[..] else { return None };
        let all = ["h1 dialled", "h2 dialled", &nowhere, "--advertise"].iter().all(|part| text.contains(part));
        all.then_some(())
    });
    well(one);
}

#[test]
fn without_an_agent_it_says_how_to_start_one() {
    let ran = odeon(&["--agent", "/does/not/exist/agent.sock", "doctor", "--json"]);
    let looked = Looked::of(&ran, 3);
    assert!(looked.text("agent").contains("odeon agent --bootstrap"), "{looked:?}");
    assert!(looked.text("data directory").contains("does not exist yet"), "{looked:?}");
}
