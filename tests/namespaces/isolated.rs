//! A host that is cut off from all others: its nameless actors live on, its names live elsewhere.

use crate::{
    figures, full,
    harness::{Agent, wait_for},
    world::{World, pass_until, worker},
};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Long enough for the lease to be over, its names lost, and workers that do not rest killed.
const SHORT: Duration = Duration::from_secs(8);
/// Long enough for the host to be given up.
const LONG: Duration = Duration::from_secs(36);

#[test]
#[ignore = "needs root and network namespaces: tests/namespaces/run.sh"]
fn an_isolated_host_keeps_its_nameless_actors_and_its_names_live_elsewhere() {
    let world = World::start();
    let (isolated, other) = (world.receiver(), world.sender());
    let nameless = world.create(isolated, "probe.counter", None);
    let named = name_on(isolated);
    for actor in [&nameless, &named] {
        assert_eq!(isolated.odeon(&["tell", actor, "Add", r#"{"by": 3}"#]).code, 0);
    }
    let before = get(isolated, &named).expect("it answers");
    assert_eq!((&before["value"], &before["host"]), (&3.into(), &isolated.name.as_str().into()));
    let (pid, boot) = (worker(isolated), boot(other, isolated));

    let (began, isolation) = (Instant::now(), world.isolate());
    let elsewhere = wait_for("the name to live elsewhere", || {
        get(other, &named).filter(|now| now["epoch"].as_u64() > before["epoch"].as_u64())
    });
    let moved = began.elapsed();
    assert_ne!(elsewhere["host"], isolated.name, "{elsewhere}");
    assert_eq!(get(isolated, &nameless).expect("it answers")["value"], 3);
    let refused = isolated.odeon(&["create", "probe.counter", "--name", "probe.counter/refused"]);
    assert!(refused.code != 0 && refused.err.contains("no majority of the voters is reached"), "{refused:?}");
    pass_until(began + SHORT);
    isolation.mend();
    let mended = Instant::now();

    let healed = wait_for("the name to be found from the host that was isolated", || get(isolated, &named));
    let found = mended.elapsed();
    assert_eq!((&healed["host"], &healed["epoch"]), (&elsewhere["host"], &elsewhere["epoch"]));
    let nameless_from_outside = wait_for("the nameless actor to be reached", || get(other, &nameless));
    assert_eq!(nameless_from_outside["value"], 3);
    let again = wait_for("the host to take names again", || {
        let ran = isolated.odeon(&[
            "--json",
            "create",
            "probe.counter",
            "--name",
            "probe.counter/again",
            "--on",
            &isolated.name,
        ]);
        (ran.code == 0).then(|| ran.json())
    });
    assert_eq!(again["host"], isolated.name);
    assert_eq!((worker(isolated), self::boot(other, isolated)), (pid, boot), "nothing was restarted");
    figures(&format!(
        "isolated for {SHORT:?}: the name lives elsewhere after {moved:.2?}, is found after the mend within {found:.2?}; the worker and the nameless actors live on"
    ));
}

#[test]
#[ignore = "needs root and network namespaces: tests/namespaces/run.sh"]
fn a_host_that_was_isolated_for_long_begins_a_new_start_by_itself() {
    if !full() {
        return figures(&format!("a host isolated for {LONG:?}: in the full form only, for the time that it takes"));
    }
    let world = World::start();
    let (isolated, other) = (world.receiver(), world.sender());
    let nameless = world.create(isolated, "probe.counter", None);
    let before = boot(other, isolated);
    let (began, isolation) = (Instant::now(), world.isolate());
    pass_until(began + LONG);
    assert_eq!(get(isolated, &nameless).expect("it answers")["value"], 0, "it does not know yet that it was given up");
    isolation.mend();
    let mended = Instant::now();
    wait_for("a new start", || (boot(other, isolated) != before).then_some(()));
    let again = wait_for("the host to take names again", || {
        let ran = isolated.odeon(&[
            "--json",
            "create",
            "probe.counter",
            "--name",
            "probe.counter/again",
            "--on",
            &isolated.name,
        ]);
        (ran.code == 0).then(|| ran.json())
    });
    assert_eq!(again["host"], isolated.name);
    let log = isolated.log();
    for line in ["it was silent for too long: the agent stops", "the agent begins a new start"] {
        assert!(log.contains(line), "{line:?} is missing in its log:\n{log}");
    }
    assert!(get(other, &nameless).is_none(), "its actors ended with the start that was given up");
    figures(&format!("isolated for {LONG:?}: takes names again {:.2?} after the mend", mended.elapsed()));
}

/// A name whose bearer lives there, and may live anywhere.
fn name_on(host: &Agent) -> String {
    let names = (0..30).map(|number| format!("probe.counter/{number}"));
    let lives_there = |name: &String| {
        let made = host.odeon(&["--json", "create", "probe.counter", "--name", name]).json();
        made["host"] == host.name
    };
    names.into_iter().find(lives_there).expect("one of thirty is placed there")
}

/// What a counter says, if it answers soon.
fn get(from: &Agent, target: &str) -> Option<Value> {
    let ran = from.odeon(&["ask", target, "Get", "--timeout", "2s"]);
    (ran.code == 0).then(|| ran.json())
}

/// The start that a host is in, as another one knows.
fn boot(from: &Agent, of: &Agent) -> String {
    let hosts = from.json(&["hosts"]);
    let host = hosts.as_array().and_then(|hosts| hosts.iter().find(|host| host["name"] == of.name.as_str()));
    host.and_then(|host| host["boot"].as_str()).expect("the host has a start").to_owned()
}
