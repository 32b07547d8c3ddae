//! Hosts leave and are put out; a majority is lost, everything is lost, and comes back.

use crate::harness::{Agent, Convention, executable, wait_for};
use serde_json::Value;
use std::{collections::BTreeSet, net::UdpSocket};

fn probe() -> String {
    executable("probe").to_str().expect("UTF-8").to_owned()
}

/// One field of every entry of a list.
fn all(list: &Value, field: &str) -> BTreeSet<String> {
    list.as_array().expect("a list").iter().map(|entry| entry[field].to_string()).collect()
}

/// What the agent of a host said last before it ended.
#[track_caller]
fn last_line(agent: &mut Agent) -> (i32, String) {
    let ended = agent.ends();
    let last = ended.err.lines().rev().find(|line| line.starts_with("odeon: ")).unwrap_or_default();
    (ended.code, last.to_owned())
}

#[test]
fn who_left_or_was_put_out_stays_out() {
    let mut convention = Convention::start(3, &[]);
    assert_eq!(convention.agents[1].odeon(&["leave"]).code, 0);
    let left = convention.agents[1].ends();
    assert_eq!(left.code, 0, "{left:?}");
    convention.agents[1].again(&[]);
    let (code, said) = last_line(&mut convention.agents[1]);
    assert!(code != 0 && said.contains("--join"), "{code}: {said}");

    assert_eq!(convention.agents[0].odeon(&["evict", "h3"]).code, 0);
    for _ in 0..2 {
        let (code, said) = last_line(&mut convention.agents[2]);
        assert!(code == 6 && said.contains("no longer a member") && said.contains("a token"), "{code}: {said}");
        convention.agents[2].again(&[]);
    }
    let unknown = convention.agents[0].odeon(&["evict", "h9"]);
    assert!(unknown.code != 0 && unknown.err.contains("h9"), "{unknown:?}");
    let hosts = wait_for("one host to be left", || {
        let hosts = convention.agents[0].json(&["hosts"]);
        let up = hosts.as_array()?.iter().filter(|host| host["state"] == "up").count();
        (up == 1).then_some(hosts)
    });
    // Names are granted by those that belong.
    assert_eq!(convention.agents[0].json(&["status"])["voters"].as_array().map(Vec::len), Some(1), "{hosts}");
}

#[test]
fn without_a_majority_names_are_refused_and_all_else_goes_on() {
    let probe = probe();
    let worker = ["--worker", probe.as_str()];
    let mut convention = Convention::start(3, &worker);
    let made = convention.agents[0].json(&["create", "probe.counter", "--on", "h1"]);
    let nameless = made["address"].as_str().expect("an address").to_owned();
    [1, 2].into_iter().for_each(|lost: usize| convention.agents[lost].kill());
    let refused = convention.agents[0].odeon(&["create", "probe.counter", "--name", "too-early"]);
    assert!(refused.code == 6 && refused.err.contains("majority"), "{refused:?}");
    assert_eq!(convention.agents[0].ask(&nameless, "Get", "")["value"], 0);
    let another = convention.agents[0].json(&["create", "probe.counter"]);
    assert_eq!(another["host"], "h1", "{another}");

    convention.agents[1].again(&worker);
    let made = wait_for("two of three to grant names", || {
        let ran = convention.agents[0].odeon(&["create", "probe.counter", "--name", "now"]);
        (ran.code == 0).then_some(ran)
    });
    assert_eq!(made.out.trim(), "odeon:name/now");
}

#[test]
fn everything_is_killed_at_once_and_comes_back() {
    let probe = probe();
    let worker = ["--worker", probe.as_str()];
    let mut convention = Convention::start(3, &worker);
    let names: Vec<String> = (0..10).map(|number| format!("probe.counter/n{number}")).collect();
    let before: Vec<u64> = names
        .iter()
        .map(|name| convention.agents[0].ask(name, "Get", "")["epoch"].as_u64().expect("an epoch"))
        .collect();
    convention.token("member");
    let [tokens, known] = ["token list", "names"].map(|list| {
        let words: Vec<&str> = list.split(' ').collect();
        convention.agents[0].json(&words)
    });
    convention.agents.iter_mut().for_each(Agent::kill);
    (0..3).for_each(|index| convention.agents[index].again(&worker));
    convention.agents.iter_mut().for_each(Agent::ready);

    let [tokens_now, known_now] =
        [&["token", "list"][..], &["names"]].map(|words: &[&str]| convention.agents[2].json(words));
    assert_eq!(all(&tokens_now, "id"), all(&tokens, "id"));
    assert_eq!(all(&known_now, "name"), all(&known, "name"));
    let hosts = convention.agents[1].json(&["hosts"]);
    assert_eq!(all(&hosts, "name").len(), 3, "{hosts}");
    for (name, epoch) in names.iter().zip(before) {
        let now = wait_for("a name to be back", || {
            let ran = convention.agents[1].odeon(&["ask", name, "Get", "--timeout", "2s"]);
            (ran.code == 0).then(|| ran.json())
        });
        assert!(now["epoch"].as_u64() > Some(epoch), "{name} was granted under {epoch}: {now}");
    }
}

#[test]
fn an_agent_that_waits_to_be_let_in_keeps_its_port_and_stops_with_its_input() {
    let mut convention = Convention::one(&[]);
    let token = convention.token("voter");
    convention.agents[0].kill();
    let joiner = convention.spawn(&token, &[]);
    wait_for("it to say that it waits", || joiner.log().contains("waiting to be let in").then_some(()));
    let taken = UdpSocket::bind(&joiner.quic).expect_err("the port is the agent's already");
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    assert!(joiner.stop(), "{}", joiner.log());
}
