//! Other builds than this one: of another protocol version, and one whose certificates hold for a minute.

use crate::harness::{Agent, Convention, executable, wait_for, wait_within};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// How long the certificates of a build hold that is made with `brief-certificates`.
const BRIEF: Duration = Duration::from_secs(60);

/// The executable that the environment names, of a build with these features.
pub(crate) fn build(variable: &str, features: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    let path = path.unwrap_or_else(|| panic!("{variable} names no odeon that was built with --features {features}"));
    std::path::absolute(path).expect("a path")
}

/// Waits until the agent has said this.
fn says(agent: &Agent, text: &str) {
    wait_within(2 * BRIEF, text, || agent.log().contains(text).then_some(()));
}

#[test]
#[ignore = "needs an executable of another protocol version, in ODEON_APART"]
fn a_host_of_another_protocol_version_is_told_so() {
    let apart = build("ODEON_APART", "next-protocol");
    let mut convention = Convention::start(2, &[]);
    let (peer, token) = (convention.agents[0].quic.clone(), convention.token("voter"));

    let (name, ip, data) = convention.next_place();
    let args = ["--join", &peer, "--token", &token];
    let mut joiner = Agent::spawn_of(&apart, &name, &format!("{ip}:0"), &data, &args);
    let ended = joiner.ends();
    assert_ne!(ended.code, 0, "{ended:?}");
    let wanted = "the agent speaks protocol version 1, this one 2: run the same Odeon version on both sides";
    assert!(ended.err.contains(wanted), "{ended:?}");

    // A member whose host was upgraded.
    let member = &mut convention.agents[1];
    assert!(member.stop(), "{}", member.log());
    member.again_as(&apart, &[]);
    let wanted = "speaks another protocol version: run the same Odeon version on both sides";
    says(&convention.agents[1], wanted);
    wait_for("the other side to say so, too", || {
        let found = convention.agents[0].odeon(&["doctor"]).out;
        found.lines().any(|line| line.contains("h2") && line.contains(wanted)).then_some(())
    });
}

#[test]
#[ignore = "needs an executable whose certificates hold for a minute, in ODEON_NEXT"]
fn a_convention_whose_certificates_have_run_out_forms_again() {
    let brief = build("ODEON_NEXT", "next-level,brief-certificates");
    let probe = executable("probe");
    let worker = ["--worker", probe.to_str().expect("UTF-8")];
    let mut convention = Convention::of(&brief, 3, &worker);
    assert_eq!(convention.agents[0].odeon(&["tell", "probe.counter/kept", "Add", r#"{"by": 2}"#]).code, 0);
    // While it runs, nothing is to be seen of it.
    let renewed = "this host's certificate is renewed";
    convention.agents.iter().for_each(|agent| says(agent, renewed));
    for agent in &convention.agents {
        assert_eq!(agent.ask("probe.counter/kept", "Get", "")["value"], 2);
        let log = agent.log();
        assert!(!log.contains("cannot be renewed") && !log.contains("expired"), "{log}");
    }

    convention.agents.iter_mut().for_each(Agent::kill);
    let killed = Instant::now();
    wait_within(2 * BRIEF, "all certificates to run out", || (killed.elapsed() > BRIEF).then_some(()));
    convention.agents.iter_mut().for_each(|agent| agent.again(&worker));
    convention.agents.iter_mut().for_each(Agent::ready);
    for agent in &convention.agents {
        wait_for("all to be up", || {
            let hosts = agent.json(&["hosts"]);
            let up = hosts.as_array()?.iter().filter(|host| host["state"] == "up").count();
            (up == 3).then_some(())
        });
        // Declared before, and started anew.
        assert_eq!(agent.ask("probe.counter/kept", "Get", "")["value"], 0);
    }
}
