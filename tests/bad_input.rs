//! What is wrong is refused in one line that says what to do; nothing crashes.

use crate::harness::{Agent, Convention, executable, wait_for};
use std::{
    io::{Read, Write},
    net::UdpSocket,
    os::unix::net::UnixStream,
};

#[track_caller]
fn refused(convention: &Convention, args: &[&str], says: &[&str]) {
    let (name, ip, data) = convention.next_place();
    let ran = Agent::fails(&name, &ip, &data, args);
    assert!(ran.code == 1 || ran.code == 6 || ran.code == 2, "{ran:?}");
    let last = ran.err.lines().rev().find(|line| line.starts_with("odeon: ")).unwrap_or_default();
    assert!(says.iter().all(|word| last.contains(word)), "{says:?} in {last:?}; all: {}", ran.err);
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
    let _ = std::fs::remove_dir_all(data);
}

#[test]
fn tokens_that_do_not_fit() {
    let convention = Convention::one(&[]);
    let other = Convention::one(&[]);
    let (here, foreign) = (convention.agents[0].quic.as_str(), other.token("member"));
    let good = convention.token("member");
    let wrong_secret = format!("{}aaaa", &good[..good.len() - 4]);
    refused(&convention, &["--join", here, "--token", "nonsense"], &["token"]);
    refused(&convention, &["--join", here, "--token", &foreign], &["convention"]);
    refused(&convention, &["--join", here, "--token", &wrong_secret], &["token"]);
    let list = convention.agents[0].json(&["token", "list"]);
    for token in list.as_array().expect("tokens") {
        let id = token["id"].as_str().expect("an id");
        assert_eq!(convention.agents[0].odeon(&["token", "revoke", id]).code, 0);
    }
    refused(&convention, &["--join", here, "--token", &good], &["token"]);
    assert_eq!(convention.agents[0].odeon(&["status"]).code, 0);
}

#[test]
fn a_port_in_use_and_a_foreign_data_directory() {
    let convention = Convention::one(&[]);
    let held = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = held.local_addr().expect("its address").to_string();
    // A flag given twice is a mistake of its own, so these agents are started by hand.
    let run = |args: &[&str]| crate::harness::odeon(args);
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().to_str().expect("UTF-8");
    let in_use = run(&["agent", "--bootstrap", "--http", "off", "--listen", &port, "--data", data, "--name", "x"]);
    assert_eq!(in_use.code, 1, "{in_use:?}");
    assert!(in_use.err.contains(&port), "{in_use:?}");
    let other = tempfile::tempdir().expect("a directory");
    let (fresh, token) = (other.path().to_str().expect("UTF-8"), convention.token("voter"));
    let join = ["--join", &convention.agents[0].quic, "--token", &token];
    let joiner =
        run(&[&["agent", "--http", "off", "--listen", &port, "--data", fresh, "--name", "y"], &join[..]].concat());
    assert!(joiner.code == 1 && joiner.err.contains(&port), "{joiner:?}");
    let hosts = convention.agents[0].json(&["hosts"]);
    assert_eq!(hosts.as_array().map(Vec::len), Some(1), "it has not become a member: {hosts}");
    let taken = convention.agents[0].data.to_str().expect("UTF-8");
    let running =
        run(&["agent", "--bootstrap", "--http", "off", "--listen", "127.0.0.1:0", "--data", taken, "--name", "h1"]);
    assert_ne!(running.code, 0, "{running:?}");
    assert!(running.err.contains(taken), "{running:?}");
    assert_eq!(convention.agents[0].odeon(&["status"]).code, 0);
}

#[test]
fn neither_state_nor_bootstrap_forms_no_convention() {
    let convention = Convention::one(&[]);
    refused(&convention, &[], &["--bootstrap", "--join"]);
}

#[test]
fn a_host_that_lost_its_data_forms_no_second_convention() {
    let convention = Convention::one(&[]);
    let directory = tempfile::tempdir().expect("a directory");
    let kept = directory.path().join("voter");
    std::fs::write(&kept, convention.token("voter") + "\n").expect("it can be written");
    let out = format!("voter={}", kept.display());
    refused(
        &convention,
        &["--bootstrap", "--token-out", &out],
        &[kept.to_str().expect("UTF-8"), "--join", "--bootstrap"],
    );
    // What it is cannot be told: that is no leave to form another one.
    std::fs::write(&kept, "odeon1-voter-torn").expect("it can be written");
    refused(&convention, &["--bootstrap", "--token-out", &out], &[kept.to_str().expect("UTF-8"), "remove it"]);
}

#[test]
fn workers_that_cannot_run() {
    let convention = Convention::one(&[]);
    let host = &convention.agents[0];
    let directory = tempfile::tempdir().expect("a directory");
    let unreadable = directory.path().join("not-executable");
    std::fs::write(&unreadable, "just text").expect("it can be written");
    let ran = host.odeon(&["run", unreadable.to_str().expect("UTF-8")]);
    assert_ne!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("not-executable"), "{ran:?}");
    assert_eq!(host.odeon(&["run", "/does/not/exist"]).code, 1);
    assert_eq!(host.odeon(&["status"]).code, 0);
}

#[test]
fn garbage_on_the_sockets_harms_nobody() {
    let convention = Convention::one(&["--worker", executable("probe").to_str().expect("UTF-8")]);
    let host = &convention.agents[0];
    host.odeon(&["create", "probe.counter", "--name", "c1"]);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0; 64], &[9, 0, 0, 0, 1, 8]] {
        let mut socket = UnixStream::connect(host.data.join("agent.sock")).expect("it listens");
        // The agent may close before all is written.
        let _ = socket.write_all(garbage);
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
    }
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    for length in [1usize, 20, 1200, 1400] {
        udp.send_to(&vec![0xc3; length], &host.quic).expect("it is sent");
    }
    assert_eq!(host.ask("c1", "Get", "")["value"], 0);
    wait_for("the agent to be ready still", || (host.odeon(&["health"]).code == 0).then_some(()));
}
