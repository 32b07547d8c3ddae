//! Scenarios on three hosts, each in a network namespace of its own: links that are cut and closed, workers that are
//! killed, receivers that are slow, a host that is cut off from all others, a firewall; and on five hosts, all of it at
//! random. `tests/namespaces/run.sh` runs them.
//!
//! ```text
//! h1  sends: probe.relay, probe.crowd     h2  receives: probe.sequence     h3  leads
//!  └────────────────────── one bridge, 10.77.0.1 … 3 ──────────────────────┘
//! ```
//!
//! The third host leads, so that a cut between the first two is only that.

mod chaos;
mod crowd;
mod cuts;
mod failover;
#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "the scenarios on loopback use the rest")]
mod harness;
mod isolated;
mod large;
mod memory;
mod million;
mod network;
mod slow;
mod walls;
mod world;

/// Prints what a scenario measured.
#[expect(clippy::print_stdout, reason = "whoever runs the scenarios wants to see it")]
fn figures(line: &str) {
    println!("\n  {line}");
}

/// Whether to take the time of the full form.
fn full() -> bool {
    match std::env::var("ODEON_NAMESPACES").as_deref() {
        Ok("short") => false,
        Ok("full") => true,
        _ => panic!("run it by tests/namespaces/run.sh, which gives it namespaces"),
    }
}
