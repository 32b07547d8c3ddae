//! Agents under faults, seed by seed. With `ODEON_SHOW=info` the agents' logs are shown.

use odeon_protocol::planted;
use odeon_testkit::{
    convention::{self, Report},
    seeds,
};
use std::{env, thread, time::Duration};

fn show() {
    if let Some(level) = env::var("ODEON_SHOW").ok().and_then(|level| level.parse::<tracing::Level>().ok()) {
        // It may be set already.
        let _ = tracing_subscriber::fmt().without_time().with_ansi(false).with_max_level(level).try_init();
    }
}

#[test]
fn every_guarantee_holds_and_all_agree_in_the_end() {
    show();
    let first = |found: &convention::Broken| format!("{}: {}", found.seed, found.what);
    let reports = seeds::run_all(&seeds::asked(), convention::run, |found| found.story.len(), first);
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let mut lost: Vec<u64> = reports.iter().map(|report| report.leases_lost).collect();
    lost.sort_unstable();
    let median = lost[lost.len() / 2];
    println!(
        "{} seeds: {} s, {} grants, {} asks answered, {} failed, {} leases lost (median {median}), {} leaders, \
         {} boots over, {} faults; sum {:x}",
        reports.len(),
        sum(|report| report.seconds),
        sum(|report| report.grants),
        sum(|report| report.answered),
        sum(|report| report.failed),
        sum(|report| report.leases_lost),
        sum(|report| report.leaders),
        sum(|report| report.boots_over),
        sum(|report| report.faults.values().sum()),
        reports.iter().fold(0, |all, report| all ^ report.sum)
    );
    assert!(reports.iter().all(|run| run.seconds >= 60 && run.faults.values().sum::<u64>() >= 5));
    assert!(reports.len() < 500 || median >= 3 && sum(|report| report.boots_over) > 0);
}

#[test]
fn a_run_is_repeated_from_its_seed() {
    for seed in 0..24 {
        assert_eq!(convention::run(seed).unwrap(), convention::run(seed).unwrap());
    }
}

/// Nobody was away from the others: all were.
#[test]
fn an_outage_of_the_whole_network_gives_nobody_up() {
    show();
    for (seed, seconds) in (0..6).zip([1, 5, 20, 40, 40, 90]) {
        let report = convention::outage(seed, Duration::from_secs(seconds)).unwrap_or_else(|broken| panic!("{broken}"));
        assert_eq!(report.boots_over, 0, "seed {seed}, {seconds} s");
    }
}

#[test]
fn a_convention_that_was_off_for_a_while_or_a_weekend_forms_again() {
    const HOUR: u64 = 3600;
    show();
    for (seed, seconds) in (0..8).zip([1, 5, 20, 60, HOUR, 24 * HOUR, 72 * HOUR, 72 * HOUR]) {
        convention::down_and_up(seed, Duration::from_secs(seconds)).unwrap_or_else(|found| panic!("{found}"));
    }
}

#[test]
fn a_leader_whose_disk_is_full_is_replaced() {
    show();
    for (seed, seconds) in (0..4).zip([10, 20, 40, 60]) {
        let report =
            convention::full_disk(seed, Duration::from_secs(seconds)).unwrap_or_else(|found| panic!("{found}"));
        assert_eq!(report.boots_over, 0, "seed {seed}, {seconds} s");
    }
}

#[test]
fn a_voter_that_is_lost_is_replaced_and_one_that_is_away_for_a_moment_is_not() {
    show();
    for seed in 0..8 {
        convention::voters_lost(seed).unwrap_or_else(|found| panic!("{found}"));
    }
}

#[test]
fn a_voter_whose_disk_stays_full_is_replaced() {
    show();
    for seed in 0..4 {
        let report = convention::voter_full(seed).unwrap_or_else(|found| panic!("{found}"));
        assert_eq!(report.boots_over, 0, "seed {seed}");
    }
}

#[test]
fn a_host_that_has_lost_its_disk_comes_back_as_a_new_one() {
    show();
    for seed in 0..8 {
        convention::disks_lost(seed).unwrap_or_else(|found| panic!("{found}"));
    }
}

#[test]
fn every_guarantee_holds_where_hosts_stand_by() {
    show();
    for (seed, hosts) in (0..12).zip([4, 6, 7].into_iter().cycle()) {
        convention::run_of(seed, hosts).unwrap_or_else(|found| panic!("{found}"));
    }
}

#[test]
fn each_planted_fault_is_found() {
    // Each on a thread of its own: a fault is planted into what runs on its thread.
    let search = |fault| {
        thread::spawn(move || {
            planted::plant(Some(fault));
            (fault, (0..1000).find_map(|seed| convention::run(seed).err()))
        })
    };
    let searches: Vec<_> = planted::OF_LEASES.into_iter().map(search).collect();
    for search in searches {
        let (fault, found) = search.join().expect("a run does not panic");
        let found = found.unwrap_or_else(|| panic!("{fault:?} was not found"));
        println!("{fault:?}: found by seed {}: {}", found.seed, found.what);
    }
}
