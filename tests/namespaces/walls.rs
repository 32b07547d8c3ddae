//! `odeon doctor` where packets do not pass: behind a firewall, and on a way that is blocked.

use crate::{
    harness::{Agent, wait_for},
    world::World,
};
use serde_json::Value;

/// What `odeon doctor` finds wrong there, if it looks at `what`.
fn wrong(host: &Agent, what: &str) -> Option<String> {
    let ran = host.odeon(&["--json", "doctor"]);
    let findings: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let findings = findings.as_array().expect("a list");
    let wrong: Vec<&Value> = findings.iter().filter(|finding| finding["ok"] == false).collect();
    assert_eq!(ran.code, i32::from(!wrong.is_empty()), "{ran:?}");
    wrong
        .iter()
        .find(|finding| finding["what"] == what)
        .map(|finding| finding["text"].as_str().expect("a text").to_owned())
}

#[track_caller]
fn is_well(host: &Agent) {
    wait_for("nothing of the network to be wrong", || {
        ["host", "udp", "advertised address"].iter().all(|what| wrong(host, what).is_none()).then_some(())
    });
}

#[test]
#[ignore = "needs root and network namespaces: tests/namespaces/run.sh"]
fn a_firewall_is_seen_though_the_connections_behind_it_live() {
    let world = World::start();
    is_well(world.sender());
    let wall = world.wall_in();
    let text = wait_for("the wall to be seen", || wrong(world.sender(), "advertised address"));
    let parts = ["10.77.0.1:7400 does not lead here: ", "h2 dialled", "h3 dialled", "let UDP in"];
    assert_eq!(parts.iter().find(|part| !text.contains(**part)), None, "{text}");
    // What they say to each other all the time comes through: nobody else would notice.
    wait_for("the others to answer all the same", || wrong(world.sender(), "udp").is_none().then_some(()));
    is_well(world.receiver());
    wall.mend();
    is_well(world.sender());
}

#[test]
#[ignore = "needs root and network namespaces: tests/namespaces/run.sh"]
fn a_way_that_is_blocked_is_seen_at_both_ends_of_it() {
    let world = World::start();
    is_well(world.sender());
    let cut = world.part();
    for (host, other) in [(world.sender(), "h2 at 10.77.0.2:7400"), (world.receiver(), "h1 at 10.77.0.1:7400")] {
        let text = wait_for("the block to be seen", || wrong(host, "udp"));
        let parts = [other, "said to be up", "UDP is blocked between the two hosts"];
        assert_eq!(parts.iter().find(|part| !text.contains(**part)), None, "{text}");
    }
    is_well(&world.agents[2]);
    cut.mend();
    is_well(world.sender());
}
