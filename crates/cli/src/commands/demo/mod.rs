//! `odeon demo`: three hosts as processes, the poll service, a real survey, a killed host, everything compared.
//!
//! What the service says is compared with tallies that [`poll::expected`] computes straight from the file.

mod failover;
mod pulse;
mod report;

use crate::{
    args::DemoArgs,
    failure::{Code, Failure, Outcome},
    local_hosts::{Hosts, Plan},
    output, signals,
};
use indicatif::{ProgressBar, ProgressStyle};
use poll::{
    actors::Response,
    client::{Analytics, Client},
    survey,
};
use report::Report;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// As how many polls the survey is replayed.
const POLLS: usize = 504;
const SAVED_WAIT: Duration = Duration::from_secs(30);
/// The question whose responses are posted once more after the kill.
const AGAIN: &str = "vote";

/// What every step needs.
struct Demo {
    hosts: Hosts,
    archive: PathBuf,
    expected: BTreeMap<String, Analytics>,
    report: Report,
    began: Instant,
}

/// Runs the demo; fails if anything does not match.
pub(crate) async fn run(args: DemoArgs, as_json: bool) -> Outcome {
    let root = tempfile::Builder::new().prefix("odeon-demo-").tempdir().map_err(Failure::failed)?;
    let ended = tokio::select! {
        ended = perform(&args, root.path()) => ended,
        stopped = signals::wait() => {
            // The agents end with this process.
            stopped?;
            Err(Failure::failed("demo: stopped by a signal"))
        }
    };
    let demo = match ended {
        Ok(demo) => demo,
        Err(failure) => return Err(keep(root, failure)),
    };
    demo.report.print(as_json);
    let failure = demo.report.failure();
    if args.stay {
        demo.stay(root.path()).await?;
    }
    demo.hosts.stop().await;
    failure.map_or(Ok(()), |failure| Err(keep(root, failure)))
}

/// A failed demo leaves its logs.
fn keep(root: TempDir, failure: Failure) -> Failure {
    let path = root.keep();
    Failure::new(failure.code, format!("{}: the agents' logs are in {}", failure.text, path.display()))
}

async fn perform(args: &DemoArgs, root: &Path) -> Result<Demo, Failure> {
    let mut demo = Demo::start(args.hosts, root).await?;
    demo.replay().await?;
    demo.report.mismatches = demo.compare().await;
    demo.until_saved().await?;
    failover::kill_one(&mut demo).await?;
    demo.report.mismatches_after_kill = demo.compare().await;
    demo.once_more().await?;
    demo.report.mismatches_after_kill += demo.compare().await;
    demo.report.counted = demo.counted().await;
    // The hosts are stopped all at once: a question must not be left looking for an archive that is gone.
    demo.until_saved().await?;
    Ok(demo)
}

impl Demo {
    async fn start(hosts: u8, root: &Path) -> Result<Self, Failure> {
        let began = Instant::now();
        say(began, &format!("starting {hosts} agents on 127.0.0.1 to 127.0.0.{hosts}, the poll service on each"));
        let executable = std::env::current_exe().map_err(Failure::failed)?;
        let archive = root.join("h1/poll.sqlite");
        let plan = Plan {
            hosts,
            workers: vec![format!("'{}' worker poll", executable.display())],
            listeners: vec![("poll".to_owned(), 8080)],
            environment: vec![("POLL_ARCHIVE".to_owned(), archive.display().to_string())],
            capabilities: vec![(Some(1), "archive=true".to_owned())],
            ..Plan::default()
        };
        let hosts = Hosts::start(&plan, root).await?;
        let expected = poll::expected(survey::ANES96, POLLS);
        let report = Report { hosts: hosts.all.len(), polls: expected.len(), ..Report::default() };
        say(began, "the convention is complete");
        Ok(Self { hosts, archive, expected, report, began })
    }

    fn say(&self, text: &str) {
        say(self.began, text);
    }

    /// The URLs of the hosts that are there.
    fn urls(&self) -> Vec<String> {
        self.hosts
            .all
            .iter()
            .filter_map(|host| host.listener("poll"))
            .map(|address| format!("http://{address}"))
            .collect()
    }

    async fn replay(&mut self) -> Outcome {
        let responses = survey::responses(survey::ANES96.as_bytes(), POLLS).map_err(Failure::failed)?;
        self.say(&format!(
            "posting the answers of 944 people: {} responses to {} polls",
            responses.len(),
            self.report.polls
        ));
        let pulse = pulse::Pulse::start(self.urls(), self.expected.keys().cloned().collect());
        let posted = self.post(responses).await?;
        let measured = pulse.stop().await;
        self.report.sent = posted.accepted;
        self.report.entries_per_second = posted.accepted as f64 / posted.seconds;
        self.report.pulse(&measured);
        self.say(&format!("accepted {} in {:.1} s", posted.accepted, posted.seconds));
        Ok(())
    }

    async fn post(&self, responses: Vec<Response>) -> Result<poll::replay::Report, Failure> {
        let bar = ProgressBar::new(responses.len() as u64);
        if let Ok(style) = ProgressStyle::with_template("  {bar:40} {pos}/{len} responses, {per_sec}") {
            bar.set_style(style);
        }
        let moving = bar.clone();
        let report = poll::replay(&self.urls(), responses, poll::replay::Options::default(), move |done| {
            moving.set_position(done);
        })
        .await;
        bar.finish_and_clear();
        match &report.first_failure {
            None => Ok(report),
            Some(text) => {
                let text = format!("demo: {} responses were not accepted, the first: {text}", report.failures);
                Err(Failure::failed(text))
            }
        }
    }

    /// Compares every tally, at every host that is there.
    async fn compare(&self) -> usize {
        let mismatches = poll::verify(&self.urls(), &self.expected).await;
        for mismatch in mismatches.iter().take(5) {
            self.say(&format!("MISMATCH {mismatch}"));
        }
        let polls = self.expected.len();
        self.say(&format!(
            "compared {polls} tallies at {} hosts with the file: {} mismatches",
            self.urls().len(),
            mismatches.len()
        ));
        mismatches.len()
    }

    async fn until_saved(&self) -> Outcome {
        let deadline = Instant::now() + SAVED_WAIT;
        let wanted: u64 = self.expected.values().map(|poll| poll.total).sum();
        loop {
            let saved = poll::archive::store::totals(&self.archive).map_err(Failure::failed)?;
            let saved: u64 = self.expected.keys().filter_map(|question| saved.get(question)).sum();
            if saved == wanted {
                self.say(&format!("all {saved} are saved"));
                return Ok(());
            }
            if Instant::now() > deadline {
                let text = format!("demo: {saved} of {wanted} responses were saved in {SAVED_WAIT:?}");
                return Err(Failure::new(Code::TimedOut, text));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Posts the answers to one question again, and expects its polls doubled.
    async fn once_more(&mut self) -> Outcome {
        let all = survey::responses(survey::ANES96.as_bytes(), POLLS).map_err(Failure::failed)?;
        let again: Vec<Response> = all.into_iter().filter(|response| is_again(&response.question)).collect();
        self.say(&format!("posting {} more to the survivors", again.len()));
        let posted = self.post(again).await?;
        for poll in self.expected.values_mut().filter(|poll| is_again(&poll.question)) {
            double(poll);
        }
        self.report.sent_after_kill = posted.accepted;
        self.report.sent += posted.accepted;
        Ok(())
    }

    /// The sum of all tallies, as one survivor gives them.
    async fn counted(&self) -> u64 {
        let mut client = Client::new(&self.urls(), 0).patience(Duration::from_secs(10));
        let mut counted = 0;
        for question in self.expected.keys() {
            if let Ok(Some(analytics)) = client.analytics(question).await {
                counted += analytics.total;
            }
        }
        counted
    }

    async fn stay(&self, root: &Path) -> Outcome {
        for (host, url) in self.hosts.all.iter().zip(self.urls()) {
            output::line(format!("{}  {url}/analytics/vote%200  agent http://{}", host.name, host.http));
        }
        output::line(format!("odeon --agent {} hosts\nCtrl-C stops everything", root.join("h1/agent.sock").display()));
        signals::wait().await
    }
}

fn is_again(question: &str) -> bool {
    question.split(' ').next() == Some(AGAIN)
}

fn double(poll: &mut Analytics) {
    poll.total *= 2;
    poll.answers.values_mut().for_each(|count| *count *= 2);
    poll.by.values_mut().flat_map(BTreeMap::values_mut).flat_map(BTreeMap::values_mut).for_each(|count| *count *= 2);
}

/// Progress goes to standard error, so that `--json` leaves standard output alone.
fn say(began: Instant, text: &str) {
    eprintln!("{:6.1} s  {text}", began.elapsed().as_secs_f64());
}
