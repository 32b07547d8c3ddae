//! Many agents, without anything but their gossip and their facts: a hundred, or as many as `ODEON_AGENTS` says, from seed 1
//! or `ODEON_SEED`.

use odeon_testkit::crowd::{Crowd, Known, Wrong};
use std::{env, time::Duration};

fn agents() -> u32 {
    env::var("ODEON_AGENTS").map_or(100, |count| count.parse().expect("ODEON_AGENTS is a number"))
}

fn seed() -> u64 {
    env::var("ODEON_SEED").map_or(1, |seed| seed.parse().expect("ODEON_SEED is a number"))
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn no_eviction(wrong: &Wrong) {
    assert_eq!((wrong.evictions, wrong.seen_down), (0, 0), "a healthy host was taken for down: {wrong:?}");
    assert_eq!(wrong.not_found, 0, "a killed host was not found down: {wrong:?}");
}

#[test]
fn all_know_all_and_nobody_healthy_is_taken_for_down() {
    let mut crowd = Crowd::new(seed());
    let hosts = agents();
    println!("{hosts} agents, seed {}", seed());

    let Known { up, facts } = crowd.storm(hosts).expect("all know all two minutes after a join storm");
    let wrong = crowd.take_wrong();
    println!("after ten seconds of joining: all see all up after {up:?}, know all facts after {facts:?}; {wrong:?}");
    assert!(up <= seconds(10) && facts <= seconds(60), "{up:?}, {facts:?}");
    no_eviction(&wrong);

    crowd.calm(seconds(30));
    let traffic = crowd.calm(seconds(60));
    let wrong = crowd.take_wrong();
    println!("in steady state, a second and agent: {traffic:?}; {wrong:?}");
    no_eviction(&wrong);
    assert!(traffic.datagrams.max <= 10 && traffic.datagram_bytes.max <= 1000, "{traffic:?}");
    assert!(traffic.exchanged_bytes.max <= 100 * u64::from(hosts), "{traffic:?}");

    let changes = crowd.churn(5, seconds(120));
    let known = crowd.all_know().expect("all know all after hosts have come and gone");
    let wrong = crowd.take_wrong();
    println!(
        "{changes} hosts were killed, left or joined, 5 % a minute: all see all up after {:?}; {wrong:?}",
        known.up
    );
    no_eviction(&wrong);

    let lossy = crowd.lossy(100, 30, seconds(180));
    let wrong = crowd.take_wrong();
    println!("{lossy} hosts lost 30 % each way for three minutes: {wrong:?}");
    assert!(wrong.suspicions_by_lossy > 0, "they suspected nobody: {wrong:?}");
    no_eviction(&wrong);
    crowd.all_know().expect("all know all once nothing is lost any more");
}

/// Far more than should be, so that what is rare is seen.
#[test]
fn a_tenth_of_all_hosts_is_lossy_and_nobody_healthy_is_taken_for_down() {
    let mut crowd = Crowd::new(seed());
    crowd.storm(100).expect("all know all");
    crowd.take_wrong();
    let lossy = crowd.lossy(10, 30, seconds(300));
    let wrong = crowd.take_wrong();
    println!("{lossy} of 100 hosts lost 30 % each way for five minutes: {wrong:?}");
    assert!(wrong.suspicions_by_lossy > 100, "{wrong:?}");
    no_eviction(&wrong);
}

#[test]
fn a_run_is_repeated_from_its_seed() {
    let run = |seed| {
        let mut crowd = Crowd::new(seed);
        let known = crowd.storm(20);
        crowd.churn(50, seconds(20));
        crowd.lossy(100, 40, seconds(20));
        (known, crowd.calm(seconds(10)), crowd.take_wrong(), crowd.sum())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).3, run(8).3);
}
