//! The messages of a convention add up, by what its processes counted; also where one of them was killed.

use crate::harness::{Agent, Convention, alive, executable, kill, wait_for};
use odeon_protocol::{Counts, Reason};
use odeon_testkit::balance::{Balance, Life, Process, balance};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Messages of each relay.
const COUNT: u64 = 2000;

/// How often the counts are looked at, six commands each.
const LOOKS: u32 = 200;

/// A worker by host and process id, and what it last told.
type Told = BTreeMap<(String, u64), Counts>;

fn three() -> Convention {
    Convention::start(3, &["--worker", executable("probe").to_str().expect("UTF-8")])
}

fn create(host: &Agent, type_name: &str, on: &str) -> String {
    let made = host.json(&["create", type_name, "--on", on]);
    made["address"].as_str().expect("an address").to_owned()
}

/// Has a relay on one host send to a sequence on another; what the relay says came of it.
fn relay(host: &Agent, relay: &str, sequence: &str, count: u64) -> Value {
    host.ask(relay, "Send", &json!({ "to": sequence, "count": count, "bytes": 10 }).to_string())
}

fn counts_of(messages: &Value) -> Counts {
    let number = |name: &str| messages[name].as_u64().unwrap_or_else(|| panic!("{name} in {messages}"));
    let returned = messages["returned"].as_object().expect("by reason").iter();
    let reason = |word: &String| Reason::from_word(word).expect("a reason");
    Counts {
        accepted: number("accepted"),
        settled: number("settled"),
        returned: returned.map(|(word, count)| (reason(word), count.as_u64().expect("a number"))).collect(),
        unsettled: number("unsettled"),
        outstanding: number("outstanding"),
        doubtful: number("doubtful"),
        beside: number("beside"),
        taken: number("taken"),
        handled: number("handled"),
        given_back: number("given_back"),
        waiting: number("waiting"),
    }
}

/// What the workers of all hosts last told.
fn told(convention: &Convention) -> Told {
    let mut told = Told::new();
    for host in &convention.agents {
        for worker in host.json(&["workers"]).as_array().expect("a list") {
            if let (Some(pid), false) = (worker["pid"].as_u64(), worker["messages"].is_null()) {
                told.insert((host.name.clone(), pid), counts_of(&worker["messages"]));
            }
        }
    }
    told
}

fn client_messages(convention: &Convention) -> u64 {
    let of = |host: &Agent| host.json(&["status"])["messages"]["agent"]["client_messages"].as_u64().expect("a number");
    convention.agents.iter().map(of).sum()
}

/// The balance of the workers of all hosts, once `done` says that they have told what there was.
fn at_rest(convention: &Convention, ended: &[Process], done: impl Fn(&Balance) -> bool) -> Balance {
    let mut last = None;
    // Processes tell about once a second. Whoever waits in vain is to know what was missing.
    for _ in 0..LOOKS {
        let lives = told(convention).into_iter().map(|((host, pid), counts)| Process {
            name: format!("worker of {host}, pid {pid}"),
            life: Life::Lives,
            counts,
        });
        let all: Vec<_> = lives.chain(ended.iter().cloned()).collect();
        match balance(&all, client_messages(convention)) {
            Ok(found) if done(&found) => return found,
            other => last = Some(other),
        }
    }
    panic!("the messages do not add up: {last:#?}")
}

#[test]
fn the_messages_of_three_hosts_add_up() {
    let convention = three();
    let [one, two, three] = &convention.agents[..] else { panic!("three agents") };
    let sequence = create(one, "probe.sequence", "h2");
    let relays = [(one, "h1"), (three, "h3")].map(|(host, on)| (host, create(host, "probe.relay", on)));
    for (host, address) in &relays {
        let sent = relay(host, address, &sequence, COUNT);
        assert_eq!((&sent["accepted"], &sent["returned"]), (&json!(COUNT), &json!(0)), "{sent}");
    }
    // What nobody is there for any more comes back.
    assert_eq!(two.odeon(&["stop", &sequence]).code, 0);
    wait_for("the sequence to be gone", || (two.odeon(&["ask", &sequence, "Gaps"]).code == 4).then_some(()));
    let sent = relay(one, &relays[0].1, &sequence, 50);
    assert_eq!((&sent["accepted"], &sent["returned"]), (&json!(50), &json!(50)), "{sent}");
    // Each relay asked when it had sent; the last question found nobody.
    let accepted = 2 * (COUNT + 1) + 51;
    let found = at_rest(&convention, &[], |found| found.sum.accepted == accepted);
    assert_eq!(
        (found.sum.handled, found.sum.all_returned(), found.sum.unsettled),
        (2 * (COUNT + 1), 51, 0),
        "{found:?}"
    );
    assert_eq!(found.sum.returned, [(Reason::NoSuchActor, 51)]);
}

#[test]
fn the_messages_of_the_living_add_up_after_a_worker_was_killed() {
    let convention = three();
    let one = &convention.agents[0];
    let sequence = create(one, "probe.sequence", "h2");
    let relay_one = create(one, "probe.relay", "h1");
    assert_eq!(relay(one, &relay_one, &sequence, COUNT)["accepted"], json!(COUNT));
    let before = at_rest(&convention, &[], |found| found.sum.accepted == COUNT + 1);
    assert_eq!(before.sum.handled, COUNT + 1);
    let victim = told(&convention).into_iter().find(|((host, _), _)| host == "h2").expect("a worker of h2");
    let ((host, pid), counts) = victim;
    kill(pid);
    wait_for("the worker to die", || (!alive(pid)).then_some(()));
    let sent = relay(one, &relay_one, &sequence, 100);
    let (lost, back) = (sent["unsettled"].as_u64().expect("a number"), sent["returned"].as_u64().expect("a number"));
    assert_eq!((&sent["accepted"], lost + back), (&json!(100), 100), "{sent}");
    let name = format!("worker of {host}, pid {pid}");
    let ended = [Process { name: name.clone(), life: Life::Silent, counts }];
    let found = at_rest(&convention, &ended, |found| found.sum.accepted >= COUNT + 101);
    assert_eq!(found.silent, [name], "who can no longer say is named");
    let ends = found.sum.all_returned() + found.sum.unsettled;
    assert!(ends >= 100 && found.sum.settled + ends == found.sum.accepted, "{found:?}");
    let totals = wait_for("the agent to count it among the ended", || {
        let totals = convention.agents[1].json(&["status"])["messages"]["ended"].take();
        (totals["last"][0]["pid"] == json!(pid)).then_some(totals)
    });
    assert_eq!(totals["handled"], json!(COUNT + 1), "{totals}");
}
