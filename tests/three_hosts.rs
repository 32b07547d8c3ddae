//! Three agents as processes: names are one for all, hosts and agents may die.

use crate::harness::{Convention, executable, wait_for};
use serde_json::{Value, json};
use std::{collections::BTreeSet, thread};

fn probe_on_three() -> Convention {
    Convention::start(3, &["--worker", executable("probe").to_str().expect("UTF-8")])
}

#[test]
fn a_name_is_the_same_actor_from_every_host() {
    let convention = probe_on_three();
    let [one, two, three] = &convention.agents[..] else { panic!("three agents") };
    let status = one.json(&["status"]);
    assert_eq!((&status["hosts"], &status["failover"]), (&json!(3), &json!(true)), "{status}");
    assert_eq!(one.odeon(&["create", "probe.counter", "--name", "c1"]).code, 0);
    let seen: BTreeSet<String> = [one, two, three]
        .map(|host| host.ask("c1", "Get", ""))
        .iter()
        .map(|got| format!("{} {} {}", got["host"], got["pid"], got["epoch"]))
        .collect();
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[test]
fn two_hundred_creations_of_one_name_give_one_actor() {
    let convention = probe_on_three();
    let created: usize = thread::scope(|scope| {
        let tasks: Vec<_> = (0..200)
            .map(|number| {
                let host = &convention.agents[number % 3];
                scope.spawn(move || host.json(&["create", "probe.counter", "--name", "same"]))
            })
            .collect();
        tasks.into_iter().map(|task| task.join().expect("created")).filter(|made| made["created"] == true).count()
    });
    assert_eq!(created, 1);
    let names = convention.agents[1].json(&["names"]);
    assert_eq!(names.as_array().map(Vec::len), Some(1), "{names}");
}

#[test]
fn requirements_choose_the_host_and_say_what_is_missing() {
    let probe = executable("probe");
    let worker = ["--worker", probe.to_str().expect("UTF-8")];
    let mut convention = Convention::one(&worker);
    let token = convention.token("voter");
    convention.spawn(&token, &[&worker[..], &["--capability", "gpu=2", "--capability", "zone=eu-1"]].concat()).ready();
    let host = &convention.agents[0];
    // Capabilities reach every host within about a second.
    let made = wait_for("the capability to be known", || {
        let ran = host.odeon(&["--json", "create", "probe.echo", "--requires", r#"gpu >= 1 && zone == "eu-1""#]);
        (ran.code == 0).then(|| ran.json())
    });
    assert_eq!(made["host"], "h2");
    let refused = host.odeon(&["create", "probe.echo", "--requires", "gpu >= 3"]);
    assert_eq!(refused.code, 6);
    assert!(refused.err.contains("h1") && refused.err.contains("h2") && refused.err.contains("gpu"), "{refused:?}");
}

#[test]
fn a_lost_hosts_names_live_elsewhere_under_higher_epochs() {
    let mut convention = probe_on_three();
    let names: Vec<String> = (0..20).map(|number| format!("probe.counter/n{number}")).collect();
    let before: Vec<Value> = names.iter().map(|name| convention.agents[0].ask(name, "Get", "")).collect();
    let victims: Vec<usize> = (0..names.len()).filter(|index| before[*index]["host"] == "h3").collect();
    assert!(!victims.is_empty(), "20 names over 3 hosts leave none empty: {before:?}");
    convention.agents[2].kill();
    for index in victims {
        let after = wait_for("a lost name to answer", || {
            let ran = convention.agents[index % 2].odeon(&["ask", &names[index], "Get", "--timeout", "1s"]);
            (ran.code == 0)
                .then(|| ran.json())
                .filter(|after| after["epoch"].as_u64() > before[index]["epoch"].as_u64())
        });
        assert_ne!(after["host"], "h3");
    }
    wait_for("the host to be seen down", || {
        let hosts = convention.agents[0].json(&["hosts"]);
        hosts.as_array()?.iter().any(|host| host["name"] == "h3" && host["state"] == "down").then_some(())
    });
}

#[test]
fn the_convention_goes_on_without_its_leader() {
    let mut convention = probe_on_three();
    let leader = convention.agents[0].json(&["status"])["leader"].clone();
    let index = convention.agents.iter().position(|agent| leader == json!(agent.name)).expect("a leader by name");
    convention.agents[index].kill();
    let other = &convention.agents[(index + 1) % 3];
    let made = wait_for("a new name to be granted", || {
        let ran = other.odeon(&["create", "probe.counter", "--name", "after"]);
        (ran.code == 0).then_some(ran)
    });
    assert_eq!(made.out.trim(), "odeon:name/after");
}

#[test]
fn a_closed_link_is_dialled_again_and_carries_on() {
    let convention = probe_on_three();
    let [one, two, _] = &convention.agents[..] else { panic!("three agents") };
    let made = one.json(&["create", "probe.counter", "--on", "h2"]);
    let counter = made["address"].as_str().expect("an address");
    assert_eq!(one.ask(counter, "Get", "")["host"], "h2");
    let links = one.json(&["links"]);
    let to_two = links.as_array().and_then(|links| links.iter().find(|link| link["host"] == "h2"));
    assert_eq!(to_two.map(|link| &link["state"]), Some(&json!("up")), "{links}");
    assert_eq!(one.json(&["links", "close", &two.name]), json!({ "closed": "h2" }));
    assert_eq!(one.ask(counter, "Get", "")["host"], "h2", "another connection took its place");
    assert_eq!(one.odeon(&["links", "close", "h9"]).code, 4);
}
