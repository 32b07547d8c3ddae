//! The largest messages, one each second: asks beside them take no longer, and no host is suspected.

use crate::{
    figures, full,
    memory::Memory,
    world::{World, ask_meanwhile, pass, worker},
};
use serde_json::{Value, json};
use std::{thread, time::Duration};

/// Padding that makes a message as large as one may be: 64 MiB.
const BYTES: usize = (64 << 20) - 64;
/// By how much the asks of 99 in 100 may slow down.
const SLOWER_MAX: f64 = 2.0;
/// MiB that an agent may hold.
const AGENT_MAX: f64 = 256.0;

#[test]
#[ignore = "needs root and network namespaces: tests/namespaces/run.sh"]
fn messages_of_64_mib_slow_no_ask_beside_them() {
    let seconds: u64 = if full() { 30 } else { 8 };
    let world = World::start();
    let (sender, receiver) = (world.sender(), world.receiver());
    let relay = world.create(sender, "probe.relay", None);
    let crowd = world.create(sender, "probe.crowd", None);
    let sequence = world.create(receiver, "probe.sequence", None);
    let quick = world.create(receiver, "probe.echo", None);
    let timed = || {
        // A second less than the messages take, begun half a second later.
        let time = json!({ "to": quick, "count": 1_000 * (seconds - 1), "every_ms": 1 }).to_string();
        sender.odeon(&["ask", &crowd, "Time", &time, "--timeout", "120s"]).json()
    };
    let mut memory = Memory::of([
        ("sending worker", worker(sender)),
        ("its agent", sender.pid()),
        ("receiving agent", receiver.pid()),
        ("receiving worker", worker(receiver)),
    ]);
    let suspected =
        || world.agents.iter().filter_map(|agent| agent.json(&["status"])["suspicions"].as_u64()).sum::<u64>();
    let (usual, before) = (timed(), suspected());
    let send = json!({ "to": sequence, "count": seconds, "bytes": BYTES, "rate": 1.0 });
    let (sent, beside) = thread::scope(|scope| {
        let sending = ask_meanwhile(scope, sender, (&relay, "Send"), send, Duration::from_secs(seconds + 60));
        pass(Duration::from_millis(500));
        let timing = scope.spawn(timed);
        while !timing.is_finished() {
            memory.take();
            pass(Duration::from_millis(20));
        }
        (sending.join().expect("the relay answers"), timing.join().expect("the crowd answers"))
    });
    let (report, suspicions) = (receiver.ask(&sequence, "Gaps", ""), suspected() - before);
    let [usually, now] = [&usual, &beside].map(|timing| number(timing, "p99_us"));
    figures(&format!(
        "{seconds} messages of 64 MiB, one a second ({:.2} s behind): asks beside them p50 {:.0} → {:.0} µs, p99 {usually:.0} → {now:.0} µs, max {:.0} → {:.0} µs; {suspicions} suspicions; {memory}",
        number(&sent, "behind"),
        number(&usual, "p50_us"),
        number(&beside, "p50_us"),
        number(&usual, "max_us"),
        number(&beside, "max_us"),
    ));
    assert_eq!((&sent["accepted"], &sent["refused"]), (&json!(seconds), &json!(0)), "{sent}");
    assert_eq!(report["received"], seconds, "{report}");
    assert_eq!((&report["gaps"], &report["duplicates"], &report["reordered"]), (&json!(0), &json!(0), &json!(0)));
    assert_eq!(beside["failed"], 0, "{beside}");
    assert_eq!(suspicions, 0, "heartbeats were late");
    for agent in ["its agent", "receiving agent"] {
        assert!(memory.most(agent) < AGENT_MAX, "the {agent} holds too much: {memory}");
    }
    // A short run tells too little of it.
    assert!(!full() || now <= SLOWER_MAX * usually, "asks beside them are slower: {usual} → {beside}");
}

fn number(figures: &Value, what: &str) -> f64 {
    figures[what].as_f64().unwrap_or_default()
}
