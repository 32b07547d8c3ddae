//! Figures and the targets they are held against.

use crate::output;
use odeon::bench::Metric;
use serde_json::{Value, json};

/// One figure: the median of its runs, and their extremes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    pub(super) path: String,
    pub(super) metric: String,
    pub(super) unit: String,
    /// Of each run, ascending.
    values: Vec<f64>,
    /// How many runs, where only their median and extremes are known.
    runs: u64,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    AtLeast(f64),
    AtMost(f64),
}

/// For release builds on two cores.
const TARGETS: [(&str, &str, Target); 22] = [
    ("local.tell", "rate", Target::AtLeast(15e6)),
    ("local.fanin", "rate", Target::AtLeast(12e6)),
    ("local.ask", "p50", Target::AtMost(0.25)),
    ("local.ask", "p99", Target::AtMost(1.0)),
    ("local.ring", "hop", Target::AtMost(150.0)),
    ("local.create", "rate", Target::AtLeast(1.5e6)),
    ("local.lifecycle", "rate", Target::AtLeast(0.7e6)),
    ("local.idle", "memory", Target::AtMost(450.0)),
    ("local.idle", "cpu", Target::AtMost(1.0)),
    ("local.busy", "p50", Target::AtMost(200.0)),
    ("local.busy", "p99", Target::AtMost(1000.0)),
    ("host.tell", "rate", Target::AtLeast(2e6)),
    ("host.ask", "p50", Target::AtMost(45.0)),
    ("host.ask1000", "rate", Target::AtLeast(0.8e6)),
    ("hosts.tell", "rate", Target::AtLeast(1.5e6)),
    ("hosts.ask", "p50", Target::AtMost(120.0)),
    ("hosts.ask1000", "rate", Target::AtLeast(0.5e6)),
    ("embedded.ask", "p50", Target::AtMost(60.0)),
    // What has no target of its own is held against that of the path that does more.
    ("local.ring", "rate", Target::AtLeast(1e9 / 150.0)),
    ("embedded.tell", "rate", Target::AtLeast(1.5e6)),
    ("embedded.ask1000", "rate", Target::AtLeast(0.5e6)),
    ("embedded.ask", "rate", Target::AtLeast(1e6 / 60.0)),
];

impl Figure {
    /// The figure of these runs; there is at least one.
    pub(super) fn of(path: &str, metric: &str, unit: &str, mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let runs = values.len() as u64;
        Self { path: path.to_owned(), metric: metric.to_owned(), unit: unit.to_owned(), values, runs }
    }

    /// The same figure from several processes: of their medians, if there are several.
    pub(super) fn merged(mut each: Vec<Self>) -> Option<Self> {
        let last = each.pop()?;
        if each.is_empty() {
            return Some(last);
        }
        let values = each.iter().chain([&last]).map(Self::value).collect();
        Some(Self::of(&last.path, &last.metric, &last.unit, values))
    }

    pub(super) fn value(&self) -> f64 {
        self.values.get(self.values.len() / 2).copied().unwrap_or_default()
    }

    fn min(&self) -> f64 {
        self.values.first().copied().unwrap_or_default()
    }

    fn max(&self) -> f64 {
        self.values.last().copied().unwrap_or_default()
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "path": self.path, "metric": self.metric, "value": self.value(), "unit": self.unit, "runs": self.runs,
            "min": self.min(), "max": self.max(),
        })
    }

    /// What [`Figure::json`] wrote, in another process.
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let number = |field: &str| value[field].as_f64();
        let text = |field: &str| value[field].as_str().map(str::to_owned);
        Some(Self {
            path: text("path")?,
            metric: text("metric")?,
            unit: text("unit")?,
            values: vec![number("min")?, number("value")?, number("max")?],
            runs: value["runs"].as_u64()?,
        })
    }

    fn row(&self) -> Vec<String> {
        let show = |value| readable(value, &self.unit);
        let target = TARGETS.iter().find(|(path, metric, _)| (*path, *metric) == (&*self.path, &*self.metric));
        let (target, verdict) = match target.map(|(_, _, target)| *target) {
            Some(Target::AtLeast(least)) => (format!("≥ {}", show(least)), verdict(self.value() >= least)),
            Some(Target::AtMost(most)) => (format!("≤ {}", show(most)), verdict(self.value() <= most)),
            None => (String::new(), ""),
        };
        let spread = format!("{} … {}", show(self.min()), show(self.max()));
        let (path, metric, runs) = (self.path.clone(), self.metric.clone(), self.runs.to_string());
        vec![path, metric, show(self.value()), target, verdict.to_owned(), spread, runs]
    }
}

impl From<Metric> for Figure {
    fn from(metric: Metric) -> Self {
        Self {
            path: metric.path.to_owned(),
            metric: metric.metric.to_owned(),
            unit: metric.unit.to_owned(),
            values: vec![metric.min, metric.value, metric.max],
            runs: metric.runs.into(),
        }
    }
}

const fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

/// A value as people read it: `15.2 M/s`, `812 k/s`, `0.23 µs`, `225 B`.
fn readable(value: f64, unit: &str) -> String {
    let (value, unit) = match unit {
        "1/s" if value >= 1e6 => (value / 1e6, "M/s"),
        "1/s" if value >= 1e3 => (value / 1e3, "k/s"),
        "1/s" => (value, "/s"),
        other => (value, other),
    };
    let digits = if value.abs() < 10.0 { 2 } else { usize::from(value.abs() < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// Prints all with their targets.
pub(super) fn print(figures: &[Figure]) {
    let rows: Vec<_> = figures.iter().map(Figure::row).collect();
    output::table(&["PATH", "METRIC", "MEDIAN", "TARGET", "", "MIN … MAX", "RUNS"], &rows);
    output::line("\ntargets are for release builds on two cores that have nothing else to do");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_between_the_extremes() {
        let figure = Figure::of("host.ask", "p50", "µs", vec![50.0, 40.0, 60.0]);
        assert_eq!(figure.json()["value"], 50.0);
        let again = Figure::from_json(&figure.json()).expect("what was written");
        assert_eq!((again.value(), again.min(), again.max(), again.runs), (50.0, 40.0, 60.0, 3));
        assert_eq!(figure.row()[3..5], ["≤ 45.0 µs", "missed"]);
    }

    #[test]
    fn processes_are_runs_of_their_medians() {
        let one = |value| Figure::of("local.idle", "memory", "B", vec![value]);
        let merged = Figure::merged(vec![one(3.0), one(1.0), one(2.0)]).expect("three");
        assert_eq!((merged.value(), merged.runs), (2.0, 3));
        assert_eq!(Figure::merged(Vec::new()), None);
    }

    #[test]
    fn values_are_short() {
        assert_eq!(readable(15_234_000.0, "1/s"), "15.2 M/s");
        assert_eq!(readable(812_000.0, "1/s"), "812 k/s");
        assert_eq!(readable(0.231, "µs"), "0.23 µs");
        assert_eq!(readable(225.0, "B"), "225 B");
    }
}
