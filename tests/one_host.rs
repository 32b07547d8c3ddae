//! One agent, the probe under it: the command line, worker crashes, processes of their own.

use crate::harness::{Convention, alive, executable, http, kill, wait_for};
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

#[test]
fn a_settled_tell_says_what_became_of_it() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("its address").to_string();
    drop(free);
    let convention = Convention::one(&["--worker", executable("probe").to_str().expect("UTF-8"), "--http", &address]);
    let host = &convention.agents[0];
    for (type_name, name) in [("counter", "c1"), ("echo", "e1"), ("crasher", "x1"), ("crasher", "x2")] {
        assert_eq!(host.odeon(&["create", &format!("probe.{type_name}"), "--name", name]).code, 0);
    }
    let tell = |path: &str, body: &str| {
        let (status, body) = http(&address, &format!("POST /v1/tell/{path}"), body);
        let body: serde_json::Value =
            if body.is_empty() { json!(null) } else { serde_json::from_str(&body).expect("JSON") };
        (status, body["error"]["kind"].as_str().unwrap_or_default().to_owned(), body)
    };
    assert_eq!(tell("c1/Add?settled=0", r#"{"by": 2}"#).0, 202);
    for n in 1..=20 {
        assert_eq!(tell("c1/Add?settled=1", r#"{"by": 2}"#), (200, String::new(), json!({})));
        assert_eq!(counted(&address), 2 + 2 * n, "it was handled before the answer came");
    }
    let cases = [
        ("nobody/Add?settled=1", r#"{"by": 2}"#, (404, "no_such_actor", false)),
        ("c1/Add?settled=1", r#"{"by": "two"}"#, (422, "decode", false)),
        ("c1/Nonsense?settled=1", "", (422, "unsupported", false)),
        ("x1/Panic?settled=1", r#"{"text": "on purpose"}"#, (500, "handler_failed", true)),
        ("e1/Sleep?settled=1&timeout=200ms", r#"{"ms": 2000}"#, (504, "deadline", true)),
        ("x2/Exit?settled=1&timeout=20s", r#"{"code": 3}"#, (503, "worker_lost", true)),
        ("c1/Add?timeout=1s", r#"{"by": 2}"#, (400, "settled", false)),
        ("c1/Add?settled=1&timeout=soon", r#"{"by": 2}"#, (400, "timeout", false)),
    ];
    for (path, body, wanted) in cases {
        let (status, kind, answer) = tell(path, body);
        assert_eq!((status, &*kind, answer["error"]["may_have_run"] == true), wanted, "{path}: {answer}");
    }
}

/// What the counter `c1` counts, asked over HTTP.
fn counted(address: &str) -> i64 {
    let (status, body) = http(address, "POST /v1/ask/c1/Get", "");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<serde_json::Value>(&body).expect("JSON")["value"].as_i64().expect("a number")
}
