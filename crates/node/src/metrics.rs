//! The agent's counters, as `/metrics` shows them.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

/// A number that one place raises or sets and others read.
#[derive(Debug, Default)]
pub(crate) struct Number(AtomicU64);

impl Number {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $kind:ident $name:ident),* $(,)?) => {
        /// Everything that is counted.
        #[derive(Debug, Default)]
        pub(crate) struct Metrics {
            $($(#[doc = $help])+ pub(crate) $name: Number,)*
        }

        impl Metrics {
            /// As Prometheus reads it.
            pub(crate) fn render(&self) -> String {
                let mut text = String::new();
                $(metric(&mut text, stringify!($kind), stringify!($name), concat!($($help),+), &self.$name);)*
                text
            }
        }
    };
}

fn metric(text: &mut String, kind: &str, name: &str, help: &str, number: &Number) {
    let suffix = if kind == "counter" { "_total" } else { "" };
    let (help, number) = (help.trim(), number.get());
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "# HELP odeon_{name}{suffix} {help}\n# TYPE odeon_{name}{suffix} {kind}\nodeon_{name}{suffix} {number}"
    );
}

metrics! {
    /// Frames taken from workers and clients.
    counter frames_from_processes,
    /// Frames taken from other agents.
    counter frames_from_peers,
    /// Frames sent to other agents.
    counter frames_to_peers,
    /// Messages given back to their senders.
    counter returned,
    /// Answers and returned messages whose receiver is gone.
    counter dead_letters,
    /// Dead letters that reached no listener as too many waited for it.
    counter letters_missed,
    /// Answers, reports and returned messages that were dropped as too much waited for their host.
    counter answers_dropped,
    /// Frames refused because their sender was not who sent them.
    counter refused,
    /// Worker processes that ended without having been asked to.
    counter workers_lost,
    /// Worker processes started.
    counter workers_started,
    /// Global names granted to this host.
    counter names_granted,
    /// HTTP requests answered.
    counter http_requests,
    /// Workers admitted now.
    gauge workers,
    /// Clients connected now.
    gauge clients,
    /// Actors with a record at this agent.
    gauge records,
    /// Asks that went through and are not answered.
    gauge asks_open,
    /// Bytes held for global names that are being found or started.
    gauge held_bytes,
    /// Times that a host was suspected to be down.
    counter suspicions,
    /// Hosts seen up.
    gauge hosts_up,
    /// 1 if ready.
    gauge ready,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_gauges_have_help_and_kind() {
        let metrics = Metrics::default();
        metrics.returned.add(3);
        metrics.ready.set(1);
        let text = metrics.render();
        assert!(text.contains("# TYPE odeon_returned_total counter\nodeon_returned_total 3\n"), "{text}");
        assert!(text.contains("# TYPE odeon_ready gauge\nodeon_ready 1\n"), "{text}");
    }
}
