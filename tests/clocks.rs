//! Hosts whose clocks are wrong, and a convention that was off for days. `faketime` moves the time of day of one process; what
//! leases count by it leaves alone.

use crate::harness::{Agent, Convention, executable, wait_for};
use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// An `odeon` to which it is so much earlier or later.
fn at(offset: &str, directory: &Path) -> PathBuf {
    let path = directory.join(format!("odeon{offset}"));
    let script = format!(
        "#!/bin/sh\nFAKETIME_DONT_FAKE_MONOTONIC=1 exec faketime -f {offset} {} \"$@\"\n",
        executable("odeon").display()
    );
    std::fs::write(&path, script).expect("a script");
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it may run");
    path
}

#[test]
#[ignore = "needs faketime: .ci/run installs and runs it"]
fn a_host_whose_clock_is_wrong_is_told_both_times() {
    let scripts = tempfile::tempdir().expect("a directory");
    let convention = Convention::one(&[]);
    let (peer, token) = (convention.agents[0].quic.clone(), convention.token("voter"));
    for (offset, says) in
        [("-3d", "its certificate is not valid before 20"), ("+3d", "its certificate is expired, valid until 20")]
    {
        let (name, ip, data) = convention.next_place();
        let program = at(offset, scripts.path());
        let args = ["--join", &peer, "--token", &token];
        let joiner = Agent::spawn_of(&program, &name, &format!("{ip}:0"), &data, &args);
        let line = wait_for("the clock to be named", || {
            joiner.log().lines().find(|line| line.contains(says)).map(str::to_owned)
        });
        assert!(line.contains("the clock of one of the two is wrong") && line.contains("NTP"), "{line}");
        drop(joiner);
        std::fs::remove_dir_all(data).expect("it is gone");
    }
    let hosts = convention.agents[0].json(&["hosts"]);
    assert_eq!(hosts.as_array().map(Vec::len), Some(1), "{hosts}");
}

#[test]
#[ignore = "needs faketime: .ci/run installs and runs it"]
fn a_convention_that_was_off_for_three_days_forms_again() {
    let scripts = tempfile::tempdir().expect("a directory");
    let probe = executable("probe");
    let worker = ["--worker", probe.to_str().expect("UTF-8")];
    let mut convention = Convention::start(3, &worker);
    assert_eq!(convention.agents[0].odeon(&["tell", "probe.counter/kept", "Add", r#"{"by": 2}"#]).code, 0);
    wait_for("the name to be there", || {
        (convention.agents[2].ask("probe.counter/kept", "Get", "")["value"] == 2).then_some(())
    });
    convention.agents.iter_mut().for_each(Agent::kill);
    let later = at("+72h", scripts.path());
    convention.agents.iter_mut().for_each(|agent| agent.again_as(&later, &worker));
    convention.agents.iter_mut().for_each(Agent::ready);
    for agent in &convention.agents {
        assert_eq!(agent.json(&["hosts"]).as_array().map(Vec::len), Some(3));
        wait_for("all to be up", || {
            let hosts = agent.json(&["hosts"]);
            hosts.as_array().expect("a list").iter().all(|host| host["state"] == "up").then_some(())
        });
        // A name of before, declared and started anew.
        assert_eq!(agent.ask("probe.counter/kept", "Get", "")["value"], 0);
    }
}
