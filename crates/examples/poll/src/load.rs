//! An open-loop load: requests are due at fixed times, whether or not earlier ones have been answered, and latency
//! counts from when a request was due. So a service that stalls cannot hide it by being asked less.

use crate::actors::Response;
use crate::client::{Client, Failure};
use crate::replay::{self, Report};
use crate::survey;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Analytics asked for per second.
const GETS_PER_SECOND: u64 = 200;
/// Connections that ask for analytics.
const GET_CONNECTIONS: usize = 6;
/// Questions on which freshness is watched, each over one connection that posts and one that looks.
const WATCHED: usize = 2;
/// How often each of them is.
const WATCHED_PER_SECOND: u64 = 25;
/// How long requests that are due may wait for others, so that they go in one.
const PACE: Duration = Duration::from_micros(200);
/// The fewest connections with which all of this can be done.
pub const CONNECTIONS_MIN: usize = GET_CONNECTIONS + 2 * WATCHED + 1;

/// How to load.
#[derive(Clone, Debug)]
pub struct Options {
    /// Responses per second.
    pub rate: u64,
    /// Polls they are spread over.
    pub polls: usize,
    /// For how long.
    pub seconds: u64,
    /// Keep-alive connections, all together.
    pub connections: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { rate: 1000, polls: 500, seconds: 10, connections: 64 }
    }
}

/// What was measured. Latencies in milliseconds, from when the request was due.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Measured {
    /// Responses sent.
    pub sent: u64,
    /// Responses accepted (201).
    pub accepted: u64,
    /// Requests of any kind that failed.
    pub failures: u64,
    /// What the first failure said.
    pub first_failure: Option<String>,
    /// From the first response due to the last answered.
    pub seconds: f64,
    /// Responses accepted per second.
    pub accepted_per_second: f64,
    /// Half of the posts took no longer.
    pub post_p50_ms: f64,
    /// Of a hundred posts one took longer.
    pub post_p99_ms: f64,
    /// Half of the analytics took no longer.
    pub get_p50_ms: f64,
    /// Of a hundred analytics one took longer.
    pub get_p99_ms: f64,
    /// From a 201 to the response being in the analytics, at another host where there is one.
    pub freshness_p50_ms: f64,
    /// The same, exceeded by one of a hundred.
    pub freshness_p99_ms: f64,
    /// By how much the polls' totals grew; equals what was accepted, before and during the measurement.
    pub counted: u64,
    /// Responses that opened the polls before the measurement began; they are in `counted`.
    pub opened: u64,
}

/// Loads the service at `urls`; `progress` is told how many responses have been answered.
///
/// Before it measures, every poll is opened by one response.
///
/// # Errors
/// The polls could not be opened, or not be counted afterwards.
pub async fn load(
    urls: &[String],
    options: Options,
    progress: impl Fn(u64) + Send + Sync + 'static,
) -> Result<Measured, Failure> {
    let polls = Arc::new(Polls::new(options.polls)?);
    let before = polls.total(urls).await?;
    let opening = (0..polls.count()).map(|n| polls.response(n)).collect::<Vec<_>>();
    let opened = replay::replay(urls, opening, replay::Options::default(), |_| ()).await;
    if let Some(failure) = opened.first_failure {
        return Err(Failure::NotAccepted(failure));
    }

    let mut parts = run(urls, &options, &polls, progress).await;
    let mut measured = Measured {
        sent: parts.posts.sent,
        accepted: parts.posts.accepted,
        failures: parts.posts.failures,
        first_failure: parts.posts.first_failure.take(),
        seconds: parts.posts.seconds,
        accepted_per_second: parts.posts.accepted as f64 / parts.posts.seconds.max(f64::MIN_POSITIVE),
        opened: opened.accepted,
        ..Measured::default()
    };
    (measured.post_p50_ms, measured.post_p99_ms) = parts.post_latencies.percentiles();
    (measured.get_p50_ms, measured.get_p99_ms) = parts.get_latencies.percentiles();
    (measured.freshness_p50_ms, measured.freshness_p99_ms) = parts.freshness.percentiles();
    measured.counted = polls.total(urls).await? - before;
    Ok(measured)
}

/// The polls of the load, with the answers of real respondents.
struct Polls {
    titles: Vec<String>,
    answers: Vec<Response>,
}

impl Polls {
    fn new(count: usize) -> Result<Self, Failure> {
        let answers =
            survey::responses(survey::ANES96.as_bytes(), 1).map_err(|e| Failure::NotAccepted(e.to_string()))?;
        Ok(Self { titles: (0..count.max(1)).map(|n| format!("load {n}")).collect(), answers })
    }

    fn count(&self) -> usize {
        self.titles.len()
    }

    /// The n-th response. The polls take turns.
    fn response(&self, n: usize) -> Response {
        let title = &self.titles[n % self.titles.len()];
        Response { question: title.clone(), ..self.answers[n / self.titles.len() % self.answers.len()].clone() }
    }

    async fn total(&self, urls: &[String]) -> Result<u64, Failure> {
        let mut client = Client::new(urls, 0);
        let mut total = 0;
        for title in &self.titles {
            total += client.analytics(title).await?.map_or(0, |poll| poll.total);
        }
        Ok(total)
    }
}

/// What each connection brings home.
#[derive(Default)]
struct Part {
    posts: Report,
    post_latencies: Latencies,
    get_latencies: Latencies,
    freshness: Latencies,
}

async fn run(
    urls: &[String],
    options: &Options,
    polls: &Arc<Polls>,
    progress: impl Fn(u64) + Send + Sync + 'static,
) -> Part {
    let begun = Instant::now();
    let seconds = options.seconds;
    let posts = Schedule::new(begun, options.rate, seconds);
    let gets = Schedule::new(begun, GETS_PER_SECOND, seconds);
    let progress = Arc::new(progress);
    let mut running = JoinSet::new();
    for n in 0..options.connections.saturating_sub(CONNECTIONS_MIN - 1).max(1) {
        running.spawn(post(Client::new(urls, n), Arc::clone(polls), Arc::clone(&posts), Arc::clone(&progress)));
    }
    for n in 0..GET_CONNECTIONS {
        running.spawn(get(Client::new(urls, n), Arc::clone(polls), Arc::clone(&gets)));
    }
    for n in 0..WATCHED {
        let (poster, looker) = (Client::new(urls, n), Client::new(urls, n + 1));
        let due = Schedule::new(begun, WATCHED_PER_SECOND, seconds);
        running.spawn(watch(poster, looker, format!("load, watched {n}"), due));
    }
    let mut whole = Part::default();
    while let Some(part) = running.join_next().await {
        match part {
            Ok(part) => whole.add(part),
            Err(panic) => whole.posts.first_failure = Some(panic.to_string()),
        }
    }
    whole
}

impl Part {
    fn add(&mut self, mut part: Self) {
        self.posts.seconds = self.posts.seconds.max(part.posts.seconds);
        self.posts.add(part.posts);
        self.post_latencies.0.append(&mut part.post_latencies.0);
        self.get_latencies.0.append(&mut part.get_latencies.0);
        self.freshness.0.append(&mut part.freshness.0);
    }
}

/// When which request is due. Shared by the connections: whichever is free takes the next.
struct Schedule {
    begun: Instant,
    rate: u64,
    count: u64,
    /// A permit for each request that is due and not taken.
    due: Semaphore,
    next: AtomicU64,
    done: AtomicU64,
}

impl Schedule {
    fn new(begun: Instant, rate: u64, seconds: u64) -> Arc<Self> {
        let (due, next, done) = (Semaphore::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let schedule = Arc::new(Self { begun, rate, count: rate * seconds, due, next, done });
        let weak = Arc::downgrade(&schedule);
        // A thread, because the runtime's timers are a millisecond coarse.
        std::thread::spawn(move || {
            let mut released = 0;
            while let Some(pause) = weak.upgrade().and_then(|schedule| schedule.release(&mut released)) {
                std::thread::park_timeout(pause);
            }
        });
        schedule
    }

    /// Lets all go that are due by now; says how long to wait for the next, if there is one.
    fn release(&self, released: &mut u64) -> Option<Duration> {
        let elapsed = self.begun.elapsed().as_nanos() * u128::from(self.rate) / 1_000_000_000;
        let due = u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_add(1).min(self.count);
        self.due.add_permits(usize::try_from(due - *released).unwrap_or(0));
        *released = due;
        let next = self.at(due).saturating_duration_since(Instant::now());
        (due < self.count).then(|| next.max(PACE))
    }

    /// When the n-th is due.
    fn at(&self, n: u64) -> Instant {
        self.begun + Duration::from_nanos(n * 1_000_000_000 / self.rate)
    }

    /// The next request's number, and when it was due; waits until it is.
    async fn next(&self) -> Option<(usize, Instant)> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        if n >= self.count {
            return None;
        }
        self.due.acquire().await.ok()?.forget();
        Some((usize::try_from(n).unwrap_or(usize::MAX), self.at(n)))
    }
}

async fn post(mut client: Client, polls: Arc<Polls>, due: Arc<Schedule>, progress: Arc<impl Fn(u64)>) -> Part {
    let mut part = Part::default();
    while let Some((n, at)) = due.next().await {
        part.posts.sent += 1;
        match client.respond(&polls.response(n)).await {
            Ok(()) => {
                part.posts.accepted += 1;
                part.post_latencies.since(at);
            }
            Err(failure) => part.posts.failed(&failure),
        }
        progress(due.done.fetch_add(1, Ordering::Relaxed) + 1);
    }
    part.posts.seconds = due.begun.elapsed().as_secs_f64();
    part
}

async fn get(mut client: Client, polls: Arc<Polls>, due: Arc<Schedule>) -> Part {
    let mut part = Part::default();
    while let Some((n, at)) = due.next().await {
        // A stride that meets all polls, in another order than the posts.
        match client.analytics(&polls.titles[n * 7919 % polls.count()]).await {
            Ok(_) => part.get_latencies.since(at),
            Err(failure) => part.posts.failed(&failure),
        }
    }
    part
}

/// Posts to a question that nobody else posts to, and looks until the response is in its analytics.
async fn watch(mut poster: Client, mut looker: Client, question: String, due: Arc<Schedule>) -> Part {
    let mut part = Part::default();
    let mut total = match looker.analytics(&question).await {
        Ok(poll) => poll.map_or(0, |poll| poll.total),
        Err(failure) => {
            part.posts.failed(&failure);
            return part;
        }
    };
    let respondent = [("age".to_owned(), "30-39".to_owned())].into();
    let response = Response { question, answer: "yes".to_owned(), respondent };
    while due.next().await.is_some() {
        let seen = match poster.respond(&response).await {
            Ok(()) => Ok(Instant::now()),
            Err(failure) => Err(failure),
        };
        let seen = match seen {
            Ok(accepted) => looks(&mut looker, &response.question, total + 1).await.map(|now| (accepted, now)),
            Err(failure) => Err(failure),
        };
        match seen {
            Ok((accepted, now)) => {
                total = now;
                part.freshness.since(accepted);
            }
            Err(failure) => part.posts.failed(&failure),
        }
    }
    part
}

/// Looks until the question's total has reached `wanted`.
async fn looks(looker: &mut Client, question: &str, wanted: u64) -> Result<u64, Failure> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let total = looker.analytics(question).await?.map_or(0, |poll| poll.total);
        if total >= wanted {
            return Ok(total);
        }
        if Instant::now() >= deadline {
            return Err(Failure::Unknown(format!("accepted, but not in the analytics of {question:?}")));
        }
    }
}

/// Latencies in microseconds.
#[derive(Default)]
struct Latencies(Vec<u32>);

impl Latencies {
    fn since(&mut self, begun: Instant) {
        self.0.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
    }

    /// The median and the 99th of a hundred, in milliseconds.
    fn percentiles(&mut self) -> (f64, f64) {
        self.0.sort_unstable();
        (self.at(50), self.at(99))
    }

    fn at(&self, percent: usize) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((self.0.len() * percent / 100).min(last)).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted() {
        let mut latencies = Latencies((1..=1000).rev().map(|ms| ms * 1000).collect());
        assert_eq!(latencies.percentiles(), (501.0, 991.0));
        assert_eq!(Latencies::default().percentiles(), (0.0, 0.0));
    }

    #[tokio::test]
    async fn what_is_due_does_not_wait_for_what_is_late() {
        let begun = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        let due = Schedule::new(begun, 10, 1);
        for n in 0..10 {
            let (number, at) = due.next().await.unwrap();
            assert_eq!((number, at), (n, begun + Duration::from_millis(100) * u32::try_from(n).unwrap()));
        }
        assert!(due.next().await.is_none());
    }

    #[test]
    fn the_polls_take_turns() {
        let polls = Polls::new(3).unwrap();
        let titles: Vec<_> = (0..4).map(|n| polls.response(n).question).collect();
        assert_eq!(titles, ["load 0", "load 1", "load 2", "load 0"]);
    }
}
