//! A receiver that is fifty times slower than its sender: memory stays flat everywhere on the way.

use crate::{
    figures, full,
    memory::Memory,
    world::{World, ask_meanwhile, pass_until, worker},
};
use serde_json::json;
use std::{
    thread,
    time::{Duration, Instant},
};

const SENT_PER_SECOND: u64 = 50_000;
const HANDLED_PER_SECOND: u64 = 1_000;
/// Growth before this is warming up.
const WARM_UP: usize = 5;
/// MiB that any process may grow by afterwards.
const GROWTH_MAX: f64 = 16.0;

#[test]
#[ignore = "needs root and network namespaces: tests/namespaces/run.sh"]
fn a_slow_receiver_makes_its_sender_wait_and_no_memory_grow() {
    let seconds = if full() { 60 } else { 15 };
    let world = World::start();
    let (sender, receiver) = (world.sender(), world.receiver());
    let relay = world.create(sender, "probe.relay", None);
    let sequence = world.create(receiver, "probe.sequence", None);
    assert_eq!(
        receiver.odeon(&["tell", &sequence, "Slow", &json!({ "per_second": HANDLED_PER_SECOND }).to_string()]).code,
        0
    );
    let mut memory = Memory::of([
        ("sending worker", worker(sender)),
        ("its agent", sender.pid()),
        ("receiving agent", receiver.pid()),
        ("receiving worker", worker(receiver)),
    ]);
    let send = json!({
        "to": sequence, "count": SENT_PER_SECOND * seconds, "bytes": 512, "rate": SENT_PER_SECOND, "seconds": seconds,
    });
    let sent = thread::scope(|scope| {
        let sending = ask_meanwhile(scope, sender, (&relay, "Send"), send, Duration::from_secs(seconds + 30));
        let began = Instant::now();
        for second in 0..=seconds {
            pass_until(began + Duration::from_secs(second));
            memory.take();
        }
        sending.join().expect("the relay answers")
    });
    let report = receiver.ask(&sequence, "Gaps", "");
    figures(&format!(
        "{SENT_PER_SECOND}/s for {seconds} s to a receiver of {HANDLED_PER_SECOND}/s: accepted {}, {:.0}/s, {:.2} s behind, received {}; {memory}",
        sent["accepted"],
        sent["rate"].as_f64().unwrap_or_default(),
        sent["behind"].as_f64().unwrap_or_default(),
        report["received"],
    ));
    assert_eq!(sent["accepted"], report["received"], "{sent} {report}");
    let handled = sent["rate"].as_f64().unwrap_or_default() / HANDLED_PER_SECOND as f64;
    assert!((0.5..1.1).contains(&handled), "the receiver's rate is not the sender's: {sent}");
    for (process, growth) in memory.growth_since(WARM_UP) {
        assert!(growth < GROWTH_MAX, "the {process} grew by {growth:.1} MiB: {memory}");
    }
}
