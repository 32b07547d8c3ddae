//! How much memory processes hold.

use std::{collections::BTreeMap, fmt, fs};

/// What was measured of some processes, each under a name.
#[derive(Debug)]
pub(crate) struct Memory {
    processes: Vec<(&'static str, u64)>,
    /// MiB, in the order of the measurements.
    taken: BTreeMap<&'static str, Vec<f64>>,
}

impl Memory {
    pub(crate) fn of<const N: usize>(processes: [(&'static str, u64); N]) -> Self {
        Self { processes: processes.into(), taken: BTreeMap::new() }
    }

    /// Measures once.
    pub(crate) fn take(&mut self) {
        for (name, pid) in &self.processes {
            self.taken.entry(name).or_default().push(resident(*pid));
        }
    }

    /// The most that a process had.
    pub(crate) fn most(&self, name: &str) -> f64 {
        self.taken[name].iter().copied().fold(0.0, f64::max)
    }

    /// By how much each has grown at most since its measurement of that number.
    pub(crate) fn growth_since(&self, first: usize) -> Vec<(&'static str, f64)> {
        let growth = |taken: &Vec<f64>| {
            let start = taken.get(first).copied().unwrap_or_default();
            taken.iter().skip(first).map(|now| now - start).fold(0.0, f64::max)
        };
        self.taken.iter().map(|(name, taken)| (*name, growth(taken))).collect()
    }
}

/// First, most and last of each.
impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, taken)) in self.taken.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            let (first, last) = (taken.first().unwrap_or(&0.0), taken.last().unwrap_or(&0.0));
            write!(f, "{comma}{name} {first:.1} → {last:.1} MiB (at most {:.1})", self.most(name))?;
        }
        Ok(())
    }
}

/// The resident memory of a process, in MiB.
#[track_caller]
fn resident(pid: u64) -> f64 {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process that lives");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number of kB") / 1024.0
}
