//! The agent's counters, as `/metrics` shows them.

use odeon_protocol::{Counts, Reason};
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

    /// A sum that was found somewhere else; it never falls.
    pub(crate) fn raise(&self, to: u64) {
        self.0.fetch_max(to, Ordering::Relaxed);
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
            /// Of the messages given back by this agent, those for each reason.
            pub(crate) returned_for: ByReason,
        }

        impl Metrics {
            /// As Prometheus reads it.
            pub(crate) fn render(&self) -> String {
                let mut text = String::new();
                $(metric(&mut text, stringify!($kind), stringify!($name), concat!($($help),+), &self.$name);)*
                self.returned_for.render(&mut text);
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

/// A number for each reason.
#[derive(Debug, Default)]
pub(crate) struct ByReason([Number; Reason::ALL.len()]);

impl ByReason {
    pub(crate) fn add(&self, reason: Reason) {
        self.of(reason).add(1);
    }

    /// The reasons for which there is anything.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Reason, u64)> {
        let all = Reason::ALL.into_iter().map(|reason| (reason, self.of(reason).get()));
        all.filter(|(_, count)| *count > 0)
    }

    fn of(&self, reason: Reason) -> &Number {
        &self.0[usize::from(reason as u16) - 1]
    }

    fn render(&self, text: &mut String) {
        text.push_str("# HELP odeon_returned_for_total Messages given back to their senders, by reason.\n");
        text.push_str("# TYPE odeon_returned_for_total counter\n");
        for (reason, count) in self.all() {
            // As above.
            let _ = writeln!(text, "odeon_returned_for_total{{reason=\"{}\"}} {count}", reason.word());
        }
    }
}

impl Metrics {
    /// The messages of this host's processes so far, those that have ended included.
    pub(crate) fn set_messages(&self, living: &Counts, ended: &Counts) {
        let mut all = living.clone();
        all.add(ended);
        for (metric, count) in [
            (&self.messages_accepted, all.accepted),
            (&self.messages_settled, all.settled),
            (&self.messages_returned, all.all_returned()),
            (&self.messages_unsettled, all.unsettled),
            (&self.messages_doubtful, all.doubtful),
            (&self.messages_beside, all.beside),
            (&self.messages_taken, all.taken),
            (&self.messages_handled, all.handled),
            (&self.messages_given_back, all.given_back),
            (&self.messages_unknown, ended.outstanding),
        ] {
            metric.raise(count);
        }
        self.messages_outstanding.set(living.outstanding);
        self.messages_waiting.set(living.waiting);
    }
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
    /// Messages that processes of this host sent to other processes.
    counter messages_accepted,
    /// Of those, messages that ended at their receivers or were answered.
    counter messages_settled,
    /// Of those, messages that came back.
    counter messages_returned,
    /// Of those, messages that nobody knows the end of, as their receivers are gone.
    counter messages_unsettled,
    /// Of those, messages that had not ended when their sender's process did, as it last said.
    counter messages_unknown,
    /// Of those, messages that have not ended.
    gauge messages_outstanding,
    /// Of the returned messages, those that may have arrived at a host that was not reached.
    counter messages_doubtful,
    /// Messages sent beside the flows, which no other number has.
    counter messages_beside,
    /// Messages that processes of this host received from other processes.
    counter messages_taken,
    /// Of those, messages that were handled.
    counter messages_handled,
    /// Of those, messages that were given back.
    counter messages_given_back,
    /// Of those, messages that have not ended.
    gauge messages_waiting,
    /// Told messages of the command line and of HTTP, which no process counts as sent.
    counter client_messages,
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
    /// Messages held for global names that are being found or started.
    gauge held,
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
        metrics.returned_for.add(Reason::NoSuchActor);
        metrics.returned_for.add(Reason::Taken);
        metrics.returned_for.add(Reason::Taken);
        let text = metrics.render();
        assert!(text.contains("\nodeon_returned_for_total{reason=\"no_such_actor\"} 1\n"), "{text}");
        assert!(text.ends_with("odeon_returned_for_total{reason=\"name_taken\"} 2\n"), "{text}");
    }

    #[test]
    fn sums_of_processes_do_not_fall() {
        let metrics = Metrics::default();
        let counts = |accepted, outstanding| Counts { accepted, outstanding, ..Counts::default() };
        metrics.set_messages(&counts(5, 2), &counts(4, 1));
        // A message that was numbered and then refused is no longer among them.
        metrics.set_messages(&counts(4, 0), &counts(4, 1));
        let all = [&metrics.messages_accepted, &metrics.messages_unknown, &metrics.messages_outstanding];
        assert_eq!(all.map(Number::get), [9, 1, 0]);
    }
}
