//! A majority of the voters is lost for ever: one that is left goes on, or a backup does.

use crate::harness::{Agent, Convention, executable, odeon, wait_for};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Instant,
};

/// What a recovery adds to every epoch.
const RAISES: u64 = 1 << 32;
const REFUSED: &str =
    "was recovered without this host, whose data is from before: remove its data directory and join again";

fn probe() -> String {
    executable("probe").to_str().expect("UTF-8").to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// What an agent that is not there any more has kept.
fn keep_aside(agent: &Agent) -> PathBuf {
    let aside = agent.data.with_extension("old");
    fs::create_dir(&aside).expect("a directory");
    for file in ["identity.json", "directory.redb"] {
        fs::copy(agent.data.join(file), aside.join(file)).expect("it is there");
    }
    aside
}

/// A name's actor, once it answers under a higher epoch; names come back one after the other.
fn answers_beyond(agent: &Agent, name: &str, epoch: u64) -> Value {
    wait_for("a name to be back", || {
        let ran = agent.odeon(&["ask", name, "Get", "--timeout", "1s"]);
        (ran.code == 0).then(|| ran.json()).filter(|got| got["epoch"].as_u64() > Some(epoch))
    })
}

fn epoch_of(got: &Value) -> u64 {
    got["epoch"].as_u64().expect("an epoch")
}

fn boot_of(agent: &Agent, host: &str) -> Value {
    let hosts = agent.json(&["hosts"]);
    let found =
        hosts.as_array().and_then(|hosts| hosts.iter().find(|entry| entry["name"] == host && entry["state"] != "left"));
    found.unwrap_or_else(|| panic!("{host} is in {hosts}"))["boot"].clone()
}

/// Two of three voters are gone for ever, a member and one voter are left: what is where, and what the lost one had.
struct Loss {
    convention: Convention,
    names: Vec<(String, u64)>,
    /// A nameless counter on the member.
    nameless: String,
    old: PathBuf,
}

fn lose_two_of_three() -> Loss {
    let probe = probe();
    let worker = ["--worker", probe.as_str()];
    let mut convention = Convention::start(3, &worker);
    let token = convention.token("member");
    convention.spawn(&token, &worker).ready();
    let names: Vec<String> = (0..8).map(|number| format!("probe.counter/n{number}")).collect();
    let epochs: Vec<u64> = names.iter().map(|name| epoch_of(&convention.agents[0].ask(name, "Get", ""))).collect();
    let made = convention.agents[0].json(&["create", "probe.counter", "--on", "h4"]);
    let nameless = made["address"].as_str().expect("an address").to_owned();
    assert_eq!(convention.agents[0].odeon(&["tell", &nameless, "Add", r#"{"by": 5}"#]).code, 0);
    wait_for("the counter to count", || (convention.agents[3].ask(&nameless, "Get", "")["value"] == 5).then_some(()));
    [1, 2].into_iter().for_each(|lost: usize| convention.agents[lost].kill());
    let old = keep_aside(&convention.agents[1]);
    for lost in [1, 2] {
        fs::remove_dir_all(&convention.agents[lost].data).expect("it is there");
    }
    Loss { convention, names: names.into_iter().zip(epochs).collect(), nameless, old }
}

/// Recovers the first host, and starts it where it was; when it began.
fn recover(convention: &mut Convention) -> Instant {
    let data = convention.agents[0].data.clone();
    let running = odeon(&["recover", "--data", text(&data), "--yes"]);
    assert!(running.code == 1 && running.err.contains("another agent uses it: stop that one"), "{running:?}");
    assert!(convention.agents[0].stop());
    let unasked = odeon(&["recover", "--data", text(&data)]);
    assert!(unasked.code == 2 && unasked.err.contains("add --yes"), "{unasked:?}");
    let began = Instant::now();
    let ran = odeon(&["recover", "--data", text(&data), "--yes"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for said in ["host        h1", "global names, 4 members", "evicted     h2, h3", "may be lost", "the only voter now"]
    {
        assert!(ran.out.contains(said), "{said}: {}", ran.out);
    }
    // The creation that no majority granted may be in its log, which counts as a whole.
    assert!(["  8 global", "  9 global"].iter().any(|names| ran.out.contains(names)), "{}", ran.out);
    convention.agents[0].again(&["--worker", &probe()]);
    began
}

#[test]
fn a_surviving_voter_has_names_back_and_refuses_those_of_before() {
    let Loss { mut convention, names, nameless, old } = lose_two_of_three();
    let boot = boot_of(&convention.agents[3], "h4");
    // Nameless actors do not need the directory, and nobody grants a name.
    for from in [0, 3] {
        assert_eq!(convention.agents[from].ask(&nameless, "Get", "")["value"], 5);
    }
    let refused = convention.agents[3].odeon(&["create", "probe.counter", "--name", "too-early"]);
    assert_ne!(refused.code, 0, "{refused:?}");

    let began = recover(&mut convention);
    let (name, epoch) = &names[0];
    answers_beyond(&convention.agents[3], name, epoch + RAISES - 1);
    println!("a name answers {:.1?} after the recovery began", began.elapsed());
    convention.agents[0].ready();
    for (name, epoch) in &names {
        answers_beyond(&convention.agents[0], name, epoch + RAISES - 1);
    }
    // The member went on as it was.
    for from in [0, 3] {
        assert_eq!(convention.agents[from].ask(&nameless, "Get", "")["value"], 5);
        assert_eq!(boot_of(&convention.agents[from], "h4"), boot);
    }

    rejoin(&mut convention);
    refuses(&convention, &old);
    let (name, epoch) = &names[1];
    answers_beyond(&convention.agents[2], name, epoch + RAISES - 1);
}

/// The wiped hosts come again, under their names, and vote.
fn rejoin(convention: &mut Convention) {
    let (token, peer, probe) = (convention.token("voter"), convention.agents[0].quic.clone(), probe());
    for index in [1, 2] {
        convention.agents[index].again(&["--join", &peer, "--token", &token, "--worker", &probe]);
    }
    [1, 2].into_iter().for_each(|index: usize| convention.agents[index].ready());
    wait_for("three voters", || {
        let status = convention.agents[3].json(&["status"]);
        (status["voters"].as_array().map(Vec::len) == Some(3) && status["failover"] == true).then_some(())
    });
}

/// The old data directory of a voter that was lost gets its agent nowhere, now and at its next start.
fn refuses(convention: &Convention, old: &Path) {
    let ip = convention.agents[1].ip.clone();
    let ended = Agent::fails("h2", &ip, old, &[]);
    assert!(ended.code == 6 && ended.err.contains(REFUSED), "{ended:?}");
    fs::remove_file(old.join("agent.log")).expect("it logged");
    let again = Agent::fails("h2", &ip, old, &[]);
    assert!(again.code == 6 && again.err.contains(REFUSED), "{again:?}");
    let recovered = odeon(&["recover", "--yes", "--data", text(old)]);
    assert!(recovered.code == 6 && recovered.err.contains(REFUSED), "{recovered:?}");
    let status = convention.agents[3].json(&["status"]);
    assert_eq!(status["voters"].as_array().map(Vec::len), Some(3), "{status}");
}

#[test]
fn a_backup_is_restored_on_a_new_host() {
    let probe = probe();
    let worker = ["--worker", probe.as_str()];
    let mut convention = Convention::one(&worker);
    let token = convention.token("member");
    convention.spawn(&token, &worker).ready();
    let before: Vec<u64> =
        ["a", "b"].map(|name| epoch_of(&convention.agents[1].ask(&format!("probe.counter/{name}"), "Get", ""))).into();
    let made = convention.agents[0].json(&["create", "probe.counter", "--on", "h2"]);
    let nameless = made["address"].as_str().expect("an address").to_owned();
    let file = back_up(&convention);
    convention.agents[0].kill();

    let (_, _, data) = convention.next_place();
    refuses_what_is_damaged(&file, &data);
    let restored = odeon(&["restore", text(&file), "--data", text(&data), "--name", "h1", "--json"]).json();
    assert_eq!(restored["names"], 2, "{restored}");
    let (quic, old) = (convention.agents[0].quic.clone(), convention.agents[0].data.clone());
    convention.agents[0] = Agent::spawn_at("h1", &quic, &data, &worker);
    convention.agents[0].ready();
    // Declarations are back, the member has followed, its nameless actor is as it was.
    for (name, epoch) in ["a", "b"].iter().zip(before) {
        for host in &convention.agents {
            answers_beyond(host, &format!("probe.counter/{name}"), epoch + RAISES - 1);
        }
    }
    assert_eq!(convention.agents[0].ask(&nameless, "Get", "")["value"], 0);
    // The founder's old directory: the member tells it.
    let ended = Agent::fails("h1", &convention.agents[0].ip.clone(), &old, &worker);
    assert!(ended.code == 6 && ended.err.contains(REFUSED), "{ended:?}");
}

/// A backup of the convention, written by its only voter.
fn back_up(convention: &Convention) -> PathBuf {
    let file = convention.agents[0].data.with_extension("backup");
    let written = convention.agents[0].json(&["backup", text(&file)]);
    assert_eq!((&written["names"], &written["hosts"], &written["fresh"]), (&json!(2), &json!(2), &json!(true)));
    assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
    let twice = convention.agents[0].odeon(&["backup", text(&file)]);
    assert!(twice.code == 1 && twice.err.contains("--force"), "{twice:?}");
    assert_eq!(convention.agents[0].odeon(&["backup", text(&file), "--force"]).code, 0);
    let elsewhere = convention.agents[1].odeon(&["backup", text(&file.with_extension("none"))]);
    assert!(elsewhere.code == 6 && elsewhere.err.contains("no voter"), "{elsewhere:?}");
    file
}

fn refuses_what_is_damaged(file: &Path, data: &Path) {
    let damaged = file.with_extension("damaged");
    let mut bytes = fs::read(file).expect("it is there");
    let restore = |what: &str, bytes: &[u8]| {
        fs::write(&damaged, bytes).expect("it is written");
        let refused = odeon(&["restore", text(&damaged), "--data", text(data), "--name", "h1"]);
        assert!(refused.code == 1 && refused.err.contains(what), "{what}: {refused:?}");
        assert!(!data.exists(), "nothing is written");
    };
    restore("cut off", &bytes[..bytes.len() - 1]);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    restore("its checksum is wrong", &bytes);
    restore("it is no backup", b"hello");
}
