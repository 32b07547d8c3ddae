//! Posts a file's responses, a bounded number at a time, spread over the hosts.

use crate::actors::Response;
use crate::client::{Client, Failure};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How to replay.
#[derive(Clone, Debug)]
pub struct Options {
    /// Responses under way at once; each has a connection of its own.
    pub in_flight: usize,
    /// How long to go on trying where a response is known not to have been accepted.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { in_flight: 32, patience: Duration::from_secs(30) }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Responses sent.
    pub sent: u64,
    /// Responses that the service has accepted (201).
    pub accepted: u64,
    /// Responses that got no 201; those that were `unknown` may have been counted nevertheless.
    pub failures: u64,
    /// Failures of which it is not known whether they were counted.
    pub unknown: u64,
    /// What the first failure said.
    pub first_failure: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

/// Posts every one of `responses` once, or until the service accepts nothing for as long as patience lasts; `progress`
/// is told how many are done.
pub async fn replay(
    urls: &[String],
    responses: Vec<Response>,
    options: Options,
    progress: impl Fn(u64) + Send + Sync + 'static,
) -> Report {
    let begun = Instant::now();
    let shared = Arc::new(Shared { responses, next: AtomicUsize::new(0), done: AtomicU64::new(0), progress });
    let mut posting = JoinSet::new();
    for n in 0..options.in_flight.max(1) {
        let client = Client::new(urls, n).patience(options.patience);
        posting.spawn(post(client, Arc::clone(&shared)));
    }
    let mut report = Report::default();
    while let Some(part) = posting.join_next().await {
        match part {
            Ok(part) => report.add(part),
            Err(panic) => report.first_failure = Some(panic.to_string()),
        }
    }
    report.seconds = begun.elapsed().as_secs_f64();
    report
}

struct Shared<P> {
    responses: Vec<Response>,
    next: AtomicUsize,
    done: AtomicU64,
    progress: P,
}

async fn post(mut client: Client, shared: Arc<Shared<impl Fn(u64)>>) -> Report {
    let mut report = Report::default();
    while let Some(response) = shared.responses.get(shared.next.fetch_add(1, Ordering::Relaxed)) {
        report.sent += 1;
        match client.respond(response).await {
            Ok(()) => report.accepted += 1,
            Err(failure) => {
                report.failed(&failure);
                if matches!(failure, Failure::NotAccepted(_)) {
                    // The service takes nothing, and did not for as long as patience lasted: the rest is not tried.
                    shared.next.store(shared.responses.len(), Ordering::Relaxed);
                }
            }
        }
        (shared.progress)(shared.done.fetch_add(1, Ordering::Relaxed) + 1);
    }
    report
}

impl Report {
    pub(crate) fn failed(&mut self, failure: &Failure) {
        self.failures += 1;
        self.unknown += u64::from(matches!(failure, Failure::Unknown(_)));
        self.first_failure.get_or_insert_with(|| failure.to_string());
    }

    pub(crate) fn add(&mut self, part: Self) {
        self.sent += part.sent;
        self.accepted += part.accepted;
        self.failures += part.failures;
        self.unknown += part.unknown;
        self.first_failure = self.first_failure.take().or(part.first_failure);
    }
}
