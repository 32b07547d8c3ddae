//! A thousand senders to one actor that sleeps: whoever asks another actor beside it does not notice.

use crate::{
    figures, full,
    harness::wait_for,
    memory::Memory,
    world::{World, pass, worker},
};
use serde_json::{Value, json};
use std::time::Duration;

/// MiB that an agent may hold.
const AGENT_MAX: f64 = 256.0;
/// By how much the asks of 99 in 100 may slow down.
const SLOWER_MAX: f64 = 2.0;
/// How often each of the two is measured.
const ROUNDS: usize = 3;

#[test]
#[ignore = "needs root and network namespaces: tests/namespaces/run.sh"]
fn a_thousand_senders_to_a_sleeper_slow_no_ask_beside_it() {
    let (senders, asks) = if full() { (1000, 5_000) } else { (1000, 1_000) };
    let world = World::start();
    let (sender, receiver) = (world.sender(), world.receiver());
    let crowd = world.create(sender, "probe.crowd", None);
    let sleeper = world.create(receiver, "probe.sequence", None);
    let quick = world.create(receiver, "probe.echo", None);
    let mut memory = Memory::of([
        ("sending worker", worker(sender)),
        ("its agent", sender.pid()),
        ("receiving agent", receiver.pid()),
        ("receiving worker", worker(receiver)),
    ]);
    let time = json!({ "to": quick, "count": asks, "every_ms": 1 }).to_string();
    let timed = || quietest(|| sender.odeon(&["ask", &crowd, "Time", &time, "--timeout", "120s"]).json());
    let usual = timed();
    memory.take();
    assert_eq!(receiver.odeon(&["tell", &sleeper, "Slow", r#"{"per_second": 0.001}"#]).code, 0);
    let flood = json!({
        "to": sleeper, "senders": senders, "each": 1_000_000, "bytes": 64, "requires": format!("place == {:?}", sender.name),
    });
    let ran = sender.odeon(&["ask", &crowd, "Flood", &flood.to_string(), "--timeout", "60s"]);
    assert_eq!(ran.json(), json!(senders));
    let mut mailbox = 0;
    wait_for("every sender to wait", || {
        let before = mailbox;
        mailbox = waiting(&world, &sleeper);
        memory.take();
        pass(Duration::from_millis(500));
        (mailbox > 0 && mailbox == before).then_some(())
    });
    let beside = timed();
    memory.take();
    let (usually, now) = (number(&usual, "p99_us"), number(&beside, "p99_us"));
    figures(&format!(
        "{senders} senders to a sleeper ({mailbox} in its mailbox): asks beside it p50 {:.0} → {:.0} µs, p99 {usually:.0} → {now:.0} µs, max {:.0} → {:.0} µs; {memory}",
        number(&usual, "p50_us"),
        number(&beside, "p50_us"),
        number(&usual, "max_us"),
        number(&beside, "max_us"),
    ));
    assert_eq!(beside["failed"], 0, "{beside}");
    for agent in ["its agent", "receiving agent"] {
        assert!(memory.most(agent) < AGENT_MAX, "the {agent} holds too much: {memory}");
    }
    assert!(now <= SLOWER_MAX * usually, "asks beside it are slower: {usual} → {beside}");
}

/// The quietest of some rounds: whatever else this machine does only adds to them.
fn quietest(round: impl Fn() -> Value) -> Value {
    let rounds = (0..ROUNDS).map(|_| round());
    rounds.min_by(|one, other| number(one, "p99_us").total_cmp(&number(other, "p99_us"))).expect("some rounds")
}

fn waiting(world: &World, sleeper: &str) -> u64 {
    let actors = world.receiver().json(&["actors"]);
    let found = actors.as_array().and_then(|actors| actors.iter().find(|actor| actor["address"] == sleeper));
    found.and_then(|actor| actor["mailbox"].as_u64()).unwrap_or_default()
}

fn number(timing: &Value, what: &str) -> f64 {
    timing[what].as_f64().unwrap_or_default()
}
