//! The poll service under three agents, over HTTP.

use crate::harness::{Agent, Convention, executable, http, wait_for};
use serde_json::Value;
use std::process::Command;

/// Three hosts with the poll, the archive on the first, and the addresses of their fronts.
fn poll_on_three(environment: &str) -> (Convention, Vec<String>) {
    let command = format!("/usr/bin/env {environment} {}", executable("poll").display());
    let worker = ["--worker", command.trim(), "--worker-listen", "poll=127.0.0.1:0"];
    let mut convention = Convention::one(&[&worker[..], &["--capability", "archive=true"]].concat());
    let token = convention.token("voter");
    convention.spawn(&token, &worker);
    convention.spawn(&token, &worker);
    convention.agents[1..].iter_mut().for_each(|agent| agent.ready());
    let front = |agent: &Agent| {
        let workers = wait_for("the worker to serve", || {
            let workers = agent.json(&["workers"]);
            workers[0]["listeners"]["poll"].is_string().then_some(workers)
        });
        // Its `serve` creates a troupe before the host has its place in the convention: that waits, and works.
        assert_eq!(workers[0]["restarts"], 0, "{}: {}", agent.name, agent.log());
        workers[0]["listeners"]["poll"].as_str().expect("an address").to_owned()
    };
    let fronts = convention.agents.iter().map(front).collect();
    (convention, fronts)
}

#[test]
fn every_hosts_front_takes_responses_and_shows_all_of_them() {
    let (_convention, fronts) = poll_on_three("");
    let response = r#"{"question": "lunch?", "answer": "soup", "respondent": {"age": "30-39"}}"#;
    for front in &fronts {
        assert_eq!(http(front, "POST /response", response), (201, String::new()));
    }
    for front in &fronts {
        let (status, body) = http(front, "GET /analytics/lunch%3F", "");
        let analytics: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((status, &analytics["total"]), (200, &3.into()), "{body}");
    }
    assert_eq!(http(&fronts[1], "GET /analytics/never", "").0, 404);
}

/// Every 20 ms each question that was used is stopped; the next response starts it again, on any host. Hosts that
/// place a name with one another at the same time must not wait for each other.
#[test]
fn every_response_is_counted_once_though_questions_wander() {
    let (convention, fronts) = poll_on_three("POLL_HEARTBEAT=20ms POLL_KEEP=0");
    let survey = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/examples/poll/data/anes96.csv");
    let mut replay = Command::new(executable("poll"));
    replay.args(["replay", survey, "--polls", "6", "--verify", "--json"]);
    for front in &fronts {
        replay.args(["--url", &format!("http://{front}")]);
    }
    let output = replay.output().expect("poll starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let (accepted, failures, mismatches) = (&report["accepted"], &report["failures"], &report["mismatches"]);
    assert_eq!((accepted, failures, mismatches), (&5_664.into(), &0.into(), &0.into()), "{report}");
    let names = convention.agents[0].json(&["names"]);
    let epochs = names.as_array().expect("a list").iter().filter_map(|name| name["epoch"].as_u64());
    // Each start is a grant, and takes the convention's next epoch: six questions have stopped 20 times and more.
    assert!(epochs.max() > Some(6 * 20), "{names}");
}
