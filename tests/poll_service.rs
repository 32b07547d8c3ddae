//! The poll service under three agents, over HTTP.

use crate::harness::{Convention, executable, wait_for};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::TcpStream,
};

/// One request over a connection of its own; the status and the body.
fn http(address: &str, request: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the front listens");
    let length = body.len();
    let head = format!("{request} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all((head + body).as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

#[test]
fn every_hosts_front_takes_responses_and_shows_all_of_them() {
    let poll = executable("poll");
    let worker = ["--worker", poll.to_str().expect("UTF-8"), "--worker-listen", "poll=127.0.0.1:0"];
    let mut convention = Convention::one(&[&worker[..], &["--capability", "archive=true"]].concat());
    let token = convention.token("voter");
    convention.spawn(&token, &worker);
    convention.spawn(&token, &worker);
    convention.agents[1..].iter_mut().for_each(|agent| agent.ready());
    let fronts: Vec<String> = convention
        .agents
        .iter()
        .map(|agent| {
            let workers = wait_for("the worker to serve", || {
                let workers = agent.json(&["workers"]);
                workers[0]["listeners"]["poll"].is_string().then_some(workers)
            });
            // Its `serve` creates a troupe before the host has its place in the convention: that waits, and works.
            assert_eq!(workers[0]["restarts"], 0, "{}: {}", agent.name, agent.log());
            workers[0]["listeners"]["poll"].as_str().expect("an address").to_owned()
        })
        .collect();
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
