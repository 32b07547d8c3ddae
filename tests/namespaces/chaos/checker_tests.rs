//! Each law of the checker, kept and broken.

use super::*;
use crate::chaos::recorded;

/// A history of the name `n`, in diaries that are separated by blank lines.
fn history(diaries: &str) -> History {
    let mut history = History::default();
    for diary in diaries.split("\n\n") {
        history.take(&format!("{diary}\n")).expect("it is a diary");
    }
    history
}

/// How many times each law is broken, in their order: CH-1 and 2, 3, 4, 5; and frozen handlers.
#[track_caller]
fn check_broken(diaries: &str, pauses: &[Pause], expected: [usize; 5]) {
    let found = check(&history(diaries), pauses);
    let broken = [&found.overlaps, &found.repeated, &found.claims, &found.unwitnessed].map(Vec::len);
    let [overlaps, repeated, claims, unwitnessed] = broken;
    assert_eq!([overlaps, repeated, claims, unwitnessed, found.frozen as usize], expected, "{found:#?}");
}

/// Two handlings, one after the other, each by an instance of its own.
fn successive(first: &str, second: &str) -> String {
    format!("witness h n 7\n{first}\n\nwitness h n 8\n{second}")
}

#[test]
fn a_recorded_history_passes_and_with_one_planted_overlap_it_does_not() {
    let mut history = recorded::history();
    let found = check(&history, &[]);
    assert!(found.handlings > 20 && found.answered > 20, "{found:?}");
    assert_eq!(
        found.overlaps.len() + found.repeated.len() + found.claims.len() + found.unwitnessed.len(),
        0,
        "{found:?}"
    );
    assert!(!history.failovers().is_empty());
    history.plant_overlap().expect("a name had two instances");
    let found = check(&history, &[]);
    assert_eq!((found.overlaps.len(), found.frozen), (1, 0), "{found:?}");
    assert_eq!(found.repeated.len() + found.claims.len() + found.unwitnessed.len(), 0, "{found:?}");
}

#[test]
fn an_older_epoch_ends_before_a_newer_one_begins() {
    check_broken(&successive("begin 3 1 10\nend 3 1 12 1", "begin 4 2 13\nend 4 2 15 1"), &[], [0; 5]);
    // One that began too late, whether or not it ended, and one that went on too late.
    check_broken(&successive("begin 3 1 14\nend 3 1 16 1", "begin 4 2 13\nend 4 2 15 1"), &[], [1, 0, 0, 0, 0]);
    check_broken(&successive("begin 3 1 14", "begin 4 2 13"), &[], [1, 0, 0, 0, 0]);
    check_broken(&successive("begin 3 1 10\nend 3 1 14 1", "begin 4 2 13"), &[], [1, 0, 0, 0, 0]);
    // It began before, and was held at its await for ever.
    check_broken(&successive("begin 3 1 10", "begin 4 2 13\nend 4 2 15 1"), &[], [0; 5]);
    // The instance after the next begins first: its predecessor is late.
    check_broken(&successive("begin 5 1 10", "begin 4 2 13\nend 4 2 15 1"), &[], [1, 0, 0, 0, 0]);
    // Another name is another matter.
    check_broken("witness h n 7\nbegin 3 1 14\n\nwitness h m 8\nbegin 4 2 13", &[], [0; 5]);
}

#[test]
fn an_epoch_has_one_instance() {
    check_broken(&successive("begin 3 1 10\nend 3 1 12 1", "begin 3 2 13\nend 3 2 15 1"), &[], [1, 0, 0, 0, 0]);
}

#[test]
fn a_handler_that_was_frozen_runs_on_to_its_await_only() {
    let paused = |from, until| [Pause { pid: 7, from, until }];
    let late_begin = successive("begin 3 1 60", "begin 4 2 30");
    check_broken(&late_begin, &paused(20, 50), [0, 0, 0, 0, 1]);
    check_broken(&late_begin, &paused(31, 50), [1, 0, 0, 0, 0]);
    check_broken(&late_begin, &[Pause { pid: 8, from: 20, until: 50 }], [1, 0, 0, 0, 0]);
    let late_end = successive("begin 3 1 10\nend 3 1 60 1", "begin 4 2 30");
    check_broken(&late_end, &paused(20, 50), [0, 0, 0, 0, 1]);
    let both = successive("begin 3 1 60\nend 3 1 62 1", "begin 4 2 30");
    check_broken(&both, &paused(20, 50), [1, 0, 0, 0, 0]);
    let long_after = successive(&format!("begin 3 1 {}", 51 + THAW), "begin 4 2 30");
    check_broken(&long_after, &paused(20, 50), [1, 0, 0, 0, 0]);
}

#[test]
fn more_frozen_handlers_than_pauses_explain_are_an_overlap() {
    let late = |names: u64| -> String {
        let one =
            |name| format!("witness h n{name} 7\nbegin 3 1 10\nend 3 1 60 1\n\nwitness h n{name} 8\nbegin 4 2 30");
        (0..names).map(one).collect::<Vec<String>>().join("\n\n")
    };
    let pauses = |others: u64| -> Vec<Pause> {
        let others = (0..others).map(|pid| Pause { pid: 100 + pid, from: 20, until: 50 });
        others.chain([Pause { pid: 7, from: 20, until: 50 }]).collect()
    };
    check_broken(&late(2), &pauses(0), [1, 0, 0, 0, 2]);
    check_broken(&late(2), &pauses(PAUSES_FOR_ONE), [0, 0, 0, 0, 2]);
    check_broken(&late(3), &pauses(PAUSES_FOR_ONE), [1, 0, 0, 0, 3]);
}

#[test]
fn a_message_is_handled_once_and_not_if_it_is_said_not_to_have_been() {
    let twice = "witness h n 7\nbegin 3 1 10\nend 3 1 12 1\nbegin 3 1 13\nend 3 1 15 2";
    check_broken(twice, &[], [0, 1, 0, 0, 0]);
    let failed = |may_have_run: bool| {
        let asked = format!("claimant h1 9\ninvoke 1 5 n\nfailed 1 20 {may_have_run} deadline");
        format!("witness h n 7\nbegin 3 1 10\nend 3 1 12 1\n\n{asked}")
    };
    check_broken(&failed(true), &[], [0; 5]);
    check_broken(&failed(false), &[], [0, 1, 0, 0, 0]);
}

#[test]
fn an_answer_is_what_its_instance_wrote_within_the_time_of_the_ask() {
    let asked = |answer: &str| {
        format!("witness h n 7\nbegin 3 1 10\nend 3 1 12 1\n\nclaimant h1 9\ninvoke 1 9 n\nreturn 1 {answer}")
    };
    check_broken(&asked("13 3 1"), &[], [0; 5]);
    check_broken(&asked("11 3 1"), &[], [0, 0, 0, 1, 0]);
    check_broken(&asked("13 4 1"), &[], [0, 0, 0, 1, 0]);
    check_broken("claimant h1 9\ninvoke 1 9 n\nreturn 1 13 3 1", &[], [0, 0, 0, 1, 0]);
}

/// When an ask was made, and when it was answered, under which epoch and with which value; open without.
type Claimed = (Time, Option<(Time, u64, u64)>);

/// Whether claims are a counter's history.
#[track_caller]
fn check_claims(claims: &[Claimed], expected: bool) {
    let asks = claims.iter().zip(1..).map(|(&(invoked, answer), id)| {
        let end = answer.map_or(End::Open, |(at, epoch, value)| End::Answered { at, epoch, value });
        Ask { id, invoked, end }
    });
    let known = Name { asks: asks.collect(), ..Name::default() };
    let broken = order(&known).or_else(|| gap(&known));
    assert_eq!(broken.is_none(), expected, "{claims:?}: {broken:?}");
}

#[test]
fn claims_never_go_back() {
    let two = |first: (u64, u64), second: (u64, u64), apart: Time| {
        vec![(0, Some((5, first.0, first.1))), (5 + apart, Some((20, second.0, second.1))), (0, None), (0, None)]
    };
    check_claims(&two((3, 1), (3, 2), 1), true);
    check_claims(&two((3, 2), (4, 1), 1), true);
    check_claims(&two((3, 2), (3, 1), 1), false);
    check_claims(&two((4, 1), (3, 2), 1), false);
    check_claims(&two((3, 1), (3, 1), 1), false);
    // They overlap: either may have been first, but they are two.
    check_claims(&two((4, 1), (3, 2), 0), true);
    check_claims(&two((3, 1), (3, 1), 0), false);
}

#[test]
fn a_value_that_nobody_got_was_the_answer_of_an_open_ask() {
    check_claims(&[(0, Some((5, 3, 2)))], false);
    check_claims(&[(0, Some((5, 3, 2))), (4, None)], true);
    check_claims(&[(0, Some((5, 3, 2))), (6, None)], false);
    check_claims(&[(0, Some((5, 3, 3))), (4, None)], false);
    check_claims(&[(0, Some((5, 3, 2))), (6, Some((9, 4, 2))), (1, None), (8, None)], true);
    // Both open asks began after the first answer, which needs one of them.
    check_claims(&[(0, Some((5, 3, 2))), (6, Some((9, 4, 2))), (7, None), (8, None)], false);
    // One that cannot have run.
    let answered = Ask { id: 1, invoked: 0, end: End::Answered { at: 5, epoch: 3, value: 2 } };
    let denied = Ask { id: 2, invoked: 4, end: End::Failed { may_have_run: false } };
    assert!(gap(&Name { asks: vec![answered, denied], ..Name::default() }).is_some());
    // The answer under the higher epoch came first; what is missing before it was asked before it came.
    check_claims(&[(0, Some((9, 3, 2))), (0, Some((5, 4, 1))), (6, None)], false);
    check_claims(&[(0, Some((9, 3, 2))), (0, Some((5, 4, 1))), (4, None)], true);
}
