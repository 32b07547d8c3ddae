//! What hosts can do changes while they run: everybody learns it, what no longer fits is stopped, what waited goes on.

use crate::harness::{Agent, Convention, executable, hang_up, wait_for};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, sync::mpsc::Receiver, thread, time::Instant};

fn probe_on(hosts: u8) -> Convention {
    Convention::start(hosts, &["--worker", executable("probe").to_str().expect("UTF-8")])
}

#[track_caller]
fn change(host: &Agent, words: &[&str]) -> Value {
    host.json(&[&["capability"], words].concat())
}

/// The next change that `odeon hosts --watch --json` prints and that is one of these.
#[track_caller]
fn printed(lines: &Receiver<String>, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, || {
        let changes = lines.try_iter().map(|line| serde_json::from_str(&line).expect("a JSON document a line"));
        changes.into_iter().find(&wanted)
    })
}

#[test]
fn what_is_set_on_one_host_is_seen_on_another_within_a_second() {
    let convention = probe_on(2);
    let [one, two] = &convention.agents[..] else { panic!("two agents") };
    let (_watches, lines) = two.follow(&["hosts", "--watch", "--json"]);
    // Those that are there come first.
    let mut there = BTreeSet::new();
    while there.len() < 2 {
        let change = printed(&lines, "hosts that are there", |_| true);
        assert_eq!((&change["change"], &change["capabilities"]), (&json!("here"), &json!({})), "{change}");
        there.insert(change["name"].to_string());
    }
    for (words, expected) in [
        (["set", "gpu=2", "zone=eu-1"], json!({ "gpu": 2, "zone": "eu-1" })),
        (["set", "gpu=1.5", "ssd"], json!({ "gpu": 1.5, "ssd": true, "zone": "eu-1" })),
        (["unset", "zone", "gpu"], json!({ "ssd": true })),
    ] {
        change(one, &words);
        let set = Instant::now();
        printed(&lines, "the change", |change| change["name"] == "h1" && change["capabilities"] == expected);
        println!("the other host knows {:.0?} after it was set", set.elapsed());
    }
    let listed = change(one, &["list"]);
    assert_eq!(listed, json!([{ "key": "ssd", "value": true, "from": "set" }]));
    assert_eq!(two.odeon(&["capability", "list"]).out.trim(), "no capabilities");
}

#[test]
fn a_change_that_does_not_fit_changes_nothing() {
    let convention = Convention::one(&["--capability", "gpu=2"]);
    let host = &convention.agents[0];
    for (words, code, says) in [
        (&["set", "ssd", "1gpu=2"][..], 2, "beginning with a letter"),
        (&["set", "in=2"], 2, "requirements use the word"),
        (&["unset", "gpu", "ssd"], 4, "no such capability"),
        (&["set"], 2, "K=V"),
    ] {
        let ran = host.odeon(&[&["capability"], words].concat());
        assert_eq!(ran.code, code, "{words:?}: {ran:?}");
        assert!(ran.err.contains(says), "{words:?}: {ran:?}");
    }
    let listed = change(host, &["list"]);
    assert_eq!(listed, json!([{ "key": "gpu", "value": 2, "from": "configured" }]));
}

#[test]
fn children_that_no_longer_fit_are_stopped_and_their_parent_is_told_why() {
    let convention = probe_on(2);
    let [one, two] = &convention.agents[..] else { panic!("two agents") };
    change(two, &["set", "ssd"]);
    assert_eq!(one.odeon(&["create", "probe.parent", "--name", "p", "--on", "h1"]).code, 0);
    let children = wait_for("children on the host that fits", || {
        let spawned = one.odeon(&["ask", "p", "Spawn", r#"{"n": 2, "type": "probe.echo", "requires": "ssd"}"#]);
        (spawned.code == 0).then(|| spawned.json())
    });
    let place = children[0].as_str().expect("an address");
    assert_eq!(one.ask(place, "Echo", r#"{"text": "x"}"#)["host"], "h2");
    let other = two.json(&["create", "probe.echo"]);
    change(two, &["unset", "ssd"]);
    let exits = wait_for("the parent to be told", || {
        let exits = one.ask("p", "Exits", "");
        (exits.as_array()?.len() == 2).then_some(exits)
    });
    for exit in exits.as_array().expect("a list") {
        assert_eq!(exit["cause"], "its host no longer fits: ssd: no ssd", "{exits}");
    }
    let other = other["address"].as_str().expect("an address");
    assert_eq!(two.odeon(&["ask", other, "Echo", r#"{"text": "x"}"#]).code, 0, "who requires nothing lives on");
    assert!(two.log().contains("no longer fit this host"), "{}", two.log());
}

#[test]
fn a_name_that_no_longer_fits_goes_to_a_host_that_does_or_waits_for_one() {
    let mut convention = probe_on(3);
    let [one, two, three] = &mut convention.agents[..] else { panic!("three agents") };
    let live_on = |three: &Agent, host: &str| {
        wait_for(&format!("the name to live on {host}"), || {
            let names = three.json(&["names"]);
            let name = &names[0];
            (name["state"] == "live" && name["host"] == host).then(|| name["epoch"].as_u64())?
        })
    };
    change(one, &["set", "disk=fast"]);
    let create = ["create", "probe.counter", "--name", "c1", "--requires", r#"disk == "fast""#];
    wait_for("the name to be created", || (three.odeon(&create).code == 0).then_some(()));
    let first = live_on(three, "h1");
    change(two, &["set", "disk=fast"]);
    change(one, &["set", "disk=slow"]);
    let second = live_on(three, "h2");
    assert!(second > first, "a new epoch: {first}, {second}");
    assert_eq!(one.ask("c1", "Get", "")["host"], "h2");

    change(two, &["unset", "disk"]);
    wait_for("the name to wait", || (three.json(&["names"])[0]["state"] == "unplaced").then_some(()));
    let refused = wait_for("it to be refused", || {
        let refused = one.odeon(&["ask", "c1", "Get"]);
        (refused.code != 0).then_some(refused)
    });
    assert!(refused.err.contains("h2: disk"), "{refused:?}");
    // The host that gave it up need not live to see another one fit.
    two.kill();
    change(three, &["set", "disk=fast"]);
    assert!(live_on(three, "h3") > second, "nobody had to ask for it");
}

#[test]
fn a_creation_that_waits_goes_on_when_a_host_fits() {
    let convention = probe_on(2);
    let [one, two] = &convention.agents[..] else { panic!("two agents") };
    let patient = ["create", "probe.echo", "--requires", "gpu >= 1", "--wait", "60s"];
    let named = ["create", "probe.counter", "--name", "c1", "--requires", "gpu >= 1", "--wait", "60s"];
    thread::scope(|scope| {
        let waiting = [&patient[..], &named].map(|line| scope.spawn(move || (one.json(line), Instant::now())));
        // One that does not wait is refused, about a second later than it was asked for.
        let refused = one.odeon(&["create", "probe.echo", "--requires", "gpu >= 1"]);
        assert_eq!(refused.code, 6, "{refused:?}");
        assert!(!waiting.iter().any(thread::ScopedJoinHandle::is_finished), "the others wait");
        let set = Instant::now();
        change(two, &["set", "gpu=1"]);
        for waiter in waiting {
            let (made, when) = waiter.join().expect("it is created");
            assert_eq!((&made["host"], &made["created"]), (&json!("h2"), &json!(true)), "{made}");
            println!("created {:.0?} after a host fits", when - set);
        }
    });
}

#[test]
fn a_file_read_again_changes_capabilities_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("odeon.toml");
    let write = |text: &str| fs::write(&file, text).expect("a file");
    write("[capability]\ngpu = 1\nzone = 'a'\n");
    let convention = Convention::one(&["--config", file.to_str().expect("UTF-8")]);
    let host = &convention.agents[0];
    let has = |expected: Value| {
        wait_for(&format!("{expected}"), || (host.json(&["hosts"])[0]["capabilities"] == expected).then_some(()));
    };
    let says = |text: &str| wait_for(text, || host.log().contains(text).then_some(()));
    has(json!({ "gpu": 1, "zone": "a" }));
    change(host, &["set", "gpu=9", "zone=b"]);
    write("worker_listen = { web = '127.0.0.1:1' }\n[capability]\ngpu = 2\nzone = 'a'\nssd = true\n");
    hang_up(host.pid());
    // The file's newer word, and the hand's.
    has(json!({ "gpu": 2, "zone": "b", "ssd": true }));
    says("a change of worker_listen takes the agent's next start");

    write("[capability\n");
    hang_up(host.pid());
    says("SIGHUP: nothing is changed");
    has(json!({ "gpu": 2, "zone": "b", "ssd": true }));
    fs::remove_file(&file).expect("it is there");
    hang_up(host.pid());
    wait_for("a second refusal", || (host.log().matches("SIGHUP: nothing is changed").count() == 2).then_some(()));
    has(json!({ "gpu": 2, "zone": "b", "ssd": true }));
}

#[test]
fn an_actor_changes_its_host_and_another_sees_hosts_come_and_go() {
    let mut convention = probe_on(2);
    for (host, name) in convention.agents.iter().zip(["s1", "s2"]) {
        assert_eq!(host.odeon(&["create", "probe.steward", "--name", name, "--on", &host.name]).code, 0);
    }
    let sees = |host: &Agent, wanted: &str| {
        wait_for(wanted, || {
            let seen = host.ask("s2", "Changes", "");
            seen.as_array()?.iter().any(|change| change == wanted).then_some(())
        });
    };
    sees(&convention.agents[1], "here h1");
    convention.agents[0].ask("s1", "Enable", r#"{"key": "model", "value": "a=b"}"#);
    sees(&convention.agents[1], r#"here h1 model="a=b""#);
    let token = convention.token("member");
    convention.spawn(&token, &[]).ready();
    sees(&convention.agents[1], "here h3");
    assert!(convention.agents[2].stop());
    sees(&convention.agents[1], "gone h3");
    convention.agents[0].ask("s1", "Enable", r#"{"key": "model"}"#);
    let refused = convention.agents[0].odeon(&["ask", "s1", "Enable", r#"{"key": "model"}"#]);
    assert!(refused.code != 0 && refused.err.contains("no such capability"), "{refused:?}");
}
