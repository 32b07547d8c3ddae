//! One agent, the probe under it: the command line, worker crashes, processes of their own.

use crate::harness::{Convention, alive, executable, kill, wait_for};
use serde_json::json;

fn probe_on_one() -> Convention {
    Convention::one(&["--worker", executable("probe").to_str().expect("UTF-8")])
}

#[test]
fn create_tell_ask_stop() {
    let convention = probe_on_one();
    let host = &convention.agents[0];
    let address = host.odeon(&["create", "probe.counter", "--name", "c1"]);
    assert_eq!(address.code, 0, "{address:?}");
    assert_eq!(address.out.trim(), "odeon:name/c1");
    for _ in 0..3 {
        assert_eq!(host.odeon(&["tell", "c1", "Add", r#"{"by": 2}"#]).code, 0);
    }
    let got = host.ask("c1", "Get", "");
    assert_eq!((&got["value"], &got["host"]), (&json!(6), &json!("h1")), "{got}");
    let names = host.json(&["names"]);
    assert_eq!((&names[0]["name"], &names[0]["state"]), (&json!("c1"), &json!("live")), "{names}");
    let actors = host.json(&["actors"]);
    assert!(actors.as_array().unwrap().iter().any(|actor| actor["name"] == "c1"), "{actors}");
    assert_eq!(host.odeon(&["stop", "c1"]).code, 0);
    wait_for("the name to be free", || host.json(&["names"]).as_array().unwrap().is_empty().then_some(()));
}

#[test]
fn what_is_not_there_has_its_exit_code() {
    let convention = probe_on_one();
    let host = &convention.agents[0];
    let cases: [(&[&str], i32); 8] = [
        (&["ask", "nobody", "Get"], 4),
        (&["create", "probe.nonsense"], 4),
        (&["ask", "probe.counter/x", "Nonsense"], 1),
        (&["ask", "probe.counter/x", "Add", r#"{"by": "text"}"#], 1),
        (&["ask", "probe.counter/x", "Add", "{not json"], 2),
        (&["create", "probe.echo", "--requires", "gpu >="], 6),
        (&["create", "probe.echo", "--requires", "gpu >= 1"], 6),
        (&["frobnicate"], 2),
    ];
    for (args, code) in cases {
        let ran = host.odeon(args);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(!ran.err.is_empty() && !ran.err.contains("panicked"), "{args:?}: {ran:?}");
    }
    let timed_out = {
        host.odeon(&["create", "probe.echo", "--name", "sleeper"]);
        host.odeon(&["ask", "sleeper", "Sleep", r#"{"ms": 5000}"#, "--timeout", "200ms"])
    };
    assert_eq!(timed_out.code, 5, "{timed_out:?}");
    assert_eq!(crate::harness::odeon(&["--agent", "/does/not/exist.sock", "status"]).code, 3);
}

#[test]
fn a_killed_worker_comes_back_and_its_names_with_it() {
    let convention = probe_on_one();
    let host = &convention.agents[0];
    host.odeon(&["create", "probe.counter", "--name", "c1"]);
    let before = host.ask("c1", "Get", "");
    kill(before["pid"].as_u64().unwrap());
    let after = wait_for("the counter to answer again", || {
        let ran = host.odeon(&["ask", "c1", "Get", "--timeout", "1s"]);
        (ran.code == 0).then(|| ran.json())
    });
    assert_ne!(after["pid"], before["pid"]);
    assert!(after["epoch"].as_u64() > before["epoch"].as_u64(), "{before} {after}");
}

#[test]
fn a_crash_is_told_to_the_parent_and_touches_nobody_else() {
    let convention = probe_on_one();
    let host = &convention.agents[0];
    host.odeon(&["run", executable("probe").to_str().expect("UTF-8")]);
    host.odeon(&["create", "probe.parent", "--name", "p"]);
    let children = host.ask("p", "Spawn", r#"{"n": 2, "type": "probe.crasher"}"#);
    let child = children[0].as_str().expect("an address").to_owned();
    host.odeon(&["tell", &child, "Panic", r#"{"text": "on purpose"}"#]);
    let exits = wait_for("the parent to be told", || {
        let exits = host.ask("p", "Exits", "");
        (exits.as_array()?.len() == 1).then_some(exits)
    });
    assert_eq!(exits[0]["address"], json!(child), "{exits}");
    assert!(exits[0]["cause"].as_str().is_some_and(|cause| cause.contains("on purpose")), "{exits}");
    assert_eq!(host.ask(children[1].as_str().unwrap(), "Alive", ""), json!({}));
}

#[test]
fn a_reply_that_is_too_big_fails_its_ask_and_nothing_else() {
    let convention = probe_on_one();
    let host = &convention.agents[0];
    host.odeon(&["create", "probe.echo", "--name", "e"]);
    let before = host.ask("e", "Echo", r#"{"text": "x"}"#);
    let refused = host.odeon(&["ask", "e", "Blob", r#"{"bytes": 100000000}"#]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("allowed are") && refused.err.contains("it may have run"), "{refused:?}");
    assert_eq!(host.ask("e", "Echo", r#"{"text": "x"}"#), before, "the worker is the same");
}

#[test]
fn an_actor_in_a_process_of_its_own_dies_alone() {
    let convention = probe_on_one();
    let host = &convention.agents[0];
    host.odeon(&["create", "probe.parent", "--name", "p"]);
    let children = host.ask("p", "Spawn", r#"{"n": 2, "type": "probe.alone"}"#);
    let [first, second] = [0, 1].map(|index| children[index].as_str().expect("an address").to_owned());
    let pid_of = |target: &str| host.ask(target, "Echo", r#"{"text": "x"}"#)["pid"].as_u64().expect("a pid");
    let (victim, other) = (pid_of(&first), pid_of(&second));
    host.odeon(&["create", "probe.echo", "--name", "e"]);
    let shared = pid_of("e");
    assert!(victim != other && victim != shared && other != shared, "{victim} {other} {shared}");
    kill(victim);
    let exits = wait_for("the parent to be told", || {
        let exits = host.ask("p", "Exits", "");
        (!exits.as_array()?.is_empty()).then_some(exits)
    });
    assert_eq!((exits.as_array().unwrap().len(), &exits[0]["address"]), (1, &json!(first)), "{exits}");
    assert!(exits[0]["cause"].as_str().is_some_and(|cause| cause.contains("signal 9")), "{exits}");
    assert_eq!((pid_of(&second), pid_of("e")), (other, shared));
}

#[test]
fn an_agents_workers_end_with_it() {
    let mut convention = probe_on_one();
    convention.agents[0].odeon(&["create", "probe.counter", "--name", "c1"]);
    let pid = convention.agents[0].ask("c1", "Get", "")["pid"].as_u64().unwrap();
    convention.agents[0].kill();
    wait_for("the worker to end", || (!alive(pid)).then_some(()));
}

#[test]
fn a_graceful_stop_leaves_nothing_behind() {
    let mut convention = probe_on_one();
    convention.agents[0].odeon(&["create", "probe.counter", "--name", "c1"]);
    let pid = convention.agents[0].ask("c1", "Get", "")["pid"].as_u64().unwrap();
    assert!(convention.agents[0].stop(), "{}", convention.agents[0].log());
    assert!(!alive(pid));
}

#[test]
fn a_convention_of_one_comes_back_from_its_data() {
    let probe = executable("probe");
    let args = ["--worker", probe.to_str().expect("UTF-8")];
    let mut convention = probe_on_one();
    let id = convention.agents[0].json(&["status"])["convention"].clone();
    convention.agents[0].odeon(&["create", "probe.counter", "--name", "c1"]);
    assert!(convention.agents[0].stop());
    convention.restart(0, &args);
    assert_eq!(convention.agents[0].json(&["status"])["convention"], id);
}

#[test]
fn dead_letters_are_printed_as_they_come() {
    let convention = probe_on_one();
    let host = &convention.agents[0];
    let (_shows, lines) = host.follow(&["dead-letters", "--json"]);
    let line = wait_for("a dead letter", || {
        assert_eq!(host.odeon(&["tell", "nobody", "Add", r#"{"by": 2}"#]).code, 4);
        lines.try_recv().ok()
    });
    let letter: serde_json::Value = serde_json::from_str(&line).expect("a JSON document a line");
    let wanted = json!(["h1", "odeon:name/nobody", "Add", "no such actor", false, {"by": 2}]);
    let got = ["host", "to", "message", "reason", "may_have_run", "body"].map(|field| &letter[field]);
    assert_eq!(json!(got), wanted, "{letter}");
}
