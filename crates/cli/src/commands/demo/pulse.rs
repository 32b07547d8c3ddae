//! Latencies as a visitor sees them while the survey is posted: one request at a time, beside the load.

use poll::{actors::Response, client::Client};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// The poll that the pulse posts to; not part of the survey.
const QUESTION: &str = "pulse";
const PATIENCE: Duration = Duration::from_secs(10);

/// Times, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// Of `GET /analytics`.
    pub(super) analytics: Vec<f64>,
    /// From 201 to visible.
    pub(super) freshness: Vec<f64>,
}

/// A visitor that measures.
#[derive(Debug)]
pub(super) struct Pulse {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Measured>,
}

impl Pulse {
    pub(super) fn start(urls: Vec<String>, questions: Vec<String>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(visit(urls, questions, stop.clone()));
        Self { stop, task }
    }

    pub(super) async fn stop(self) -> Measured {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap_or_default()
    }
}

async fn visit(urls: Vec<String>, questions: Vec<String>, stop: Arc<AtomicBool>) -> Measured {
    let mut measured = Measured::default();
    let mut clients: Vec<Client> = (0..urls.len()).map(|first| Client::new(&urls, first).patience(PATIENCE)).collect();
    let mut posted = 0;
    for turn in 0usize.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (writer, reader) = (turn % urls.len(), (turn + 1) % urls.len());
        let question = &questions[turn * 7 % questions.len()];
        let asked = Instant::now();
        // A poll that nobody has answered yet is a fair answer, too.
        if clients[reader].analytics(question).await.is_ok() {
            measured.analytics.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        let response = Response { question: QUESTION.into(), answer: "yes".into(), respondent: BTreeMap::new() };
        if clients[writer].respond(&response).await.is_err() {
            continue;
        }
        posted += 1;
        let accepted = Instant::now();
        while accepted.elapsed() < PATIENCE {
            if matches!(clients[reader].analytics(QUESTION).await, Ok(Some(seen)) if seen.total >= posted) {
                measured.freshness.push(accepted.elapsed().as_secs_f64() * 1e3);
                break;
            }
        }
    }
    measured
}
