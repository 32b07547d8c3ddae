//! What the demo found, as JSON and as a table.

use super::pulse::Measured;
use crate::{failure::Failure, output};
use serde::Serialize;

/// The fields that scripts rely on.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) hosts: usize,
    pub(super) polls: usize,
    pub(super) sent: u64,
    pub(super) counted: u64,
    pub(super) mismatches: usize,
    pub(super) killed: String,
    pub(super) failover_ms: f64,
    pub(super) mismatches_after_kill: usize,
    pub(super) lost_after_last_save: u64,
    pub(super) sent_after_kill: u64,
    pub(super) entries_per_second: f64,
    pub(super) analytics_p50_ms: f64,
    pub(super) analytics_p99_ms: f64,
    pub(super) freshness_p99_ms: f64,
}

impl Report {
    /// Takes the latencies.
    pub(super) fn pulse(&mut self, measured: &Measured) {
        self.analytics_p50_ms = quantile(&measured.analytics, 0.5);
        self.analytics_p99_ms = quantile(&measured.analytics, 0.99);
        self.freshness_p99_ms = quantile(&measured.freshness, 0.99);
    }

    /// Why the demo failed, if it did.
    pub(super) fn failure(&self) -> Option<Failure> {
        let wrong = self.mismatches + self.mismatches_after_kill;
        (wrong > 0 || self.sent != self.counted).then(|| {
            Failure::failed(format!("demo: {wrong} mismatches, {} sent and {} counted", self.sent, self.counted))
        })
    }

    pub(super) fn print(&self, as_json: bool) {
        if as_json {
            output::json(&serde_json::to_value(self).unwrap_or_default());
            return;
        }
        let row = |what: &str, value: String| vec![what.to_owned(), value];
        let rows = [
            row("responses sent, counted", format!("{}, {}", self.sent, self.counted)),
            row("mismatches before, after the kill", format!("{}, {}", self.mismatches, self.mismatches_after_kill)),
            row("failover of every question of the killed host", format!("{:.1} s", self.failover_ms / 1e3)),
            row("lost after the last save", self.lost_after_last_save.to_string()),
            row("this service: POST, GET p50, p99, freshness p99", self.speed()),
            // Measured once on two such cores; the figures are of the service that this example follows.
            row("the same on Thespian and Falcon: POST, GET, GET p99", "367/s, 146/s, 27 ms".to_owned()),
        ];
        output::line("");
        output::table(&["", &format!("{} hosts, {} polls", self.hosts, self.polls)], &rows);
    }

    fn speed(&self) -> String {
        format!(
            "{:.0}/s, {:.1} ms, {:.1} ms, {:.1} ms",
            self.entries_per_second, self.analytics_p50_ms, self.analytics_p99_ms, self.freshness_p99_ms
        )
    }
}

/// The value that `share` of the values do not exceed; 0 without values.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_match_is_a_failure() {
        let fine = Report { sent: 3, counted: 3, ..Report::default() };
        assert!(fine.failure().is_none());
        assert!(Report { counted: 2, sent: 3, ..Report::default() }.failure().is_some());
        assert!(Report { mismatches_after_kill: 1, ..Report::default() }.failure().is_some());
    }

    #[test]
    fn quantiles() {
        assert_eq!(quantile(&[], 0.5), 0.0);
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.99), 3.0);
    }
}
