//! What the runtime costs inside one process, for `odeon bench` and for whoever changes the core.
//!
//! Each function makes a system of its own, measures several runs after one to warm up, and answers medians. Release
//! builds only: a debug build's figures say nothing.

mod actors;
mod paths;

pub use paths::{ask, busy, create, fan_in, idle, lifecycle, ring, tell};

use std::time::Instant;

/// One figure: the median of some runs, and their extremes.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// What was measured, `local.tell`.
    pub path: &'static str,
    /// Which of its figures, `rate`.
    pub metric: &'static str,
    /// The median.
    pub value: f64,
    /// `1/s`, `µs`.
    pub unit: &'static str,
    /// How many runs.
    pub runs: u32,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Metric {
    fn of(path: &'static str, metric: &'static str, unit: &'static str, mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (min, max) = (values.first().copied().unwrap_or(0.0), values.last().copied().unwrap_or(0.0));
        let value = values.get(values.len() / 2).copied().unwrap_or(0.0);
        Self { path, metric, value, unit, runs: values.len() as u32, min, max }
    }
}

/// How much each function measures; 1 is what the targets are stated for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Runs after the one to warm up.
    pub runs: u32,
    /// Multiplies the number of messages or actors of a run.
    pub size: f64,
}

impl Default for Scale {
    fn default() -> Self {
        Self { runs: 5, size: 1.0 }
    }
}

impl Scale {
    fn count(self, full: u64) -> u64 {
        ((full as f64 * self.size) as u64).max(1)
    }
}

/// All of this module, in the order of the design's table.
#[must_use]
pub fn all(scale: Scale) -> Vec<Metric> {
    [tell, fan_in, ask, ring, create, lifecycle, idle, busy].iter().flat_map(|path| path(scale)).collect()
}

/// Operations in a second since `began`.
fn rate(count: u64, began: Instant) -> f64 {
    count as f64 / began.elapsed().as_secs_f64()
}

/// A value of sorted samples at a share of them.
fn at(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}
