//! Runs of many seeds, on all cores.

use std::{env, fmt::Display, ops::Range, thread};

/// The seeds to run: 500, or `ODEON_SEEDS=from..to`.
///
/// # Panics
/// The variable holds something else.
#[must_use]
pub fn asked() -> Range<u64> {
    let Ok(text) = env::var("ODEON_SEEDS") else { return 0..500 };
    let (from, to) = text.split_once("..").expect("ODEON_SEEDS=from..to");
    from.parse().expect("a number")..to.parse().expect("a number")
}

/// Runs them.
///
/// # Panics
/// Some broke: says which, what `first` says of each, and tells the one that `length` finds the shortest.
pub fn run_all<R, B>(
    seeds: &Range<u64>,
    run: fn(u64) -> Result<R, B>,
    length: fn(&B) -> usize,
    first: fn(&B) -> String,
) -> Vec<R>
where
    R: Send + 'static,
    B: Display + Send + 'static,
{
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let workers: Vec<_> = (0..threads)
        .map(|first| {
            let seeds = seeds.clone().skip(first as usize).step_by(threads as usize);
            thread::spawn(move || seeds.map(run).collect::<Vec<_>>())
        })
        .collect();
    let outcomes = workers.into_iter().flat_map(|worker| worker.join().expect("a run does not panic"));
    let (mut reports, mut broken) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Ok(report) => reports.push(report),
            Err(found) => broken.push(found),
        }
    }
    broken.sort_by_key(length);
    if let Some(shortest) = broken.first() {
        let firsts: Vec<_> = broken.iter().map(first).collect();
        let (count, all) = (broken.len(), broken.len() + reports.len());
        panic!("{count} of {all} seeds broke:\n{}\nthe shortest:\n{shortest}", firsts.join("\n"));
    }
    reports
}
