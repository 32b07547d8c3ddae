//! Messages under faults, seed by seed.

use odeon_protocol::planted;
use odeon_testkit::{
    links::{self, FAULTS, PHASES, Report},
    seeds,
};
use std::thread;

#[test]
fn every_message_has_one_end() {
    let first = |found: &links::Broken| format!("{}: {}", found.seed, found.faults[0]);
    let reports = seeds::run_all(&seeds::asked(), links::run, |found| found.story.len(), first);
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    println!(
        "{} seeds: {} s, {} messages, {} handled ({} large), {} returned, {} lost, {} faults; sum {:x}",
        reports.len(),
        sum(|report| report.seconds),
        sum(|report| report.messages),
        sum(|report| report.handled),
        sum(|report| report.large),
        sum(|report| report.returned),
        sum(|report| report.lost),
        sum(|report| report.faults),
        reports.iter().fold(0, |all, report| all ^ report.sum)
    );
    assert!(reports.iter().all(|run| run.seconds >= 60 && run.faults >= 5 && run.messages >= 2_000));
    println!("{:>12} {PHASES:?}", "");
    let mut empty = false;
    for fault in FAULTS {
        let row = PHASES.map(|phase| reports.iter().filter_map(|report| report.met.get(&(fault, phase))).sum::<u64>());
        println!("{:>12} {row:?}", format!("{fault:?}"));
        empty |= row.contains(&0);
    }
    assert!(reports.len() < 500 || !empty, "a fault has not met every phase");
}

#[test]
fn a_run_is_repeated_from_its_seed() {
    for seed in 0..12 {
        assert_eq!(links::run(seed).unwrap(), links::run(seed).unwrap());
    }
}

/// The last messages of these wait in a mailbox of their sender's own process once nothing else is outstanding.
#[test]
fn a_run_is_over_only_once_no_mailbox_holds_a_message() {
    for seed in [4114, 4172, 4655, 6115] {
        links::run(seed).unwrap_or_else(|broken| panic!("{broken}"));
    }
}

#[test]
fn each_planted_fault_is_found() {
    // Each on a thread of its own: a fault is planted into what runs on its thread.
    let search = |fault| {
        thread::spawn(move || {
            planted::plant(Some(fault));
            (fault, (0..1000).find(|seed| links::run(*seed).is_err()))
        })
    };
    let searches: Vec<_> = planted::OF_MESSAGES.into_iter().map(search).collect();
    for search in searches {
        let (fault, found) = search.join().expect("a run does not panic");
        println!("{fault:?}: found by seed {found:?}");
        assert!(found.is_some(), "{fault:?} was not found");
    }
}
