//! The poll's worker (no arguments), and two commands that give it something to do.

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use poll::{load, replay, survey};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Counts what people answer. Without a command: serves, under an agent or alone.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Replay(Replay),
    Verify(Verify),
    Load(Load),
    /// Prints how many responses have lasted in an archive's file.
    Saved {
        /// The file.
        file: PathBuf,
    },
}

/// Compares every poll's analytics, at every host, with the file. True after one replay into an empty service.
#[derive(clap::Args)]
struct Verify {
    /// The file, in the columns of data/anes96.csv.
    file: PathBuf,
    /// As how many polls it was replayed.
    #[arg(long, default_value_t = 6)]
    polls: usize,
    /// Where the service is; repeat it for every host.
    #[arg(long = "url", default_value = "http://127.0.0.1:8080")]
    urls: Vec<String>,
}

/// Posts every answer of every respondent of a survey's file.
#[derive(clap::Args)]
struct Replay {
    /// The file, in the columns of data/anes96.csv.
    file: PathBuf,
    /// As how many polls; rounded up to a multiple of the six questions.
    #[arg(long, default_value_t = 6)]
    polls: usize,
    /// Where the service is; repeat it for every host.
    #[arg(long = "url", default_value = "http://127.0.0.1:8080")]
    urls: Vec<String>,
    /// Responses under way at once.
    #[arg(long, default_value_t = 32)]
    in_flight: usize,
    /// Then compare every poll's analytics, at every host, with the file. True of a service that was empty before.
    #[arg(long)]
    verify: bool,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
}

/// Posts at a fixed rate, asks for analytics meanwhile, and measures.
#[derive(clap::Args)]
struct Load {
    /// Responses a second.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// Polls they are spread over.
    #[arg(long, default_value_t = 500)]
    polls: usize,
    /// For how long.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Where the service is; repeat it for every host.
    #[arg(long = "url", default_value = "http://127.0.0.1:8080")]
    urls: Vec<String>,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
}

type Done = Result<bool, Box<dyn Error>>;

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        None => poll::worker().run().map(|()| true).map_err(Into::into),
        Some(Command::Replay(replay)) => block_on(replay.run()),
        Some(Command::Verify(verify)) => block_on(verify.run()),
        Some(Command::Load(load)) => block_on(load.run()),
        Some(Command::Saved { file }) => saved(&file),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "poll: {error}");
            ExitCode::FAILURE
        }
    }
}

fn block_on(command: impl Future<Output = Done>) -> Done {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(command)
}

impl Replay {
    async fn run(self) -> Done {
        let file = std::fs::read_to_string(&self.file).map_err(|e| format!("{}: {e}", self.file.display()))?;
        let responses = survey::responses(file.as_bytes(), self.polls)?;
        let bar = bar(responses.len() as u64);
        let options = replay::Options { in_flight: self.in_flight, ..replay::Options::default() };
        let progress = bar.clone();
        let report = poll::replay(&self.urls, responses, options, move |done| progress.set_position(done)).await;
        bar.finish_and_clear();
        let mismatches = match self.verify {
            true => poll::verify(&self.urls, &poll::expected(&file, self.polls)).await,
            false => Vec::new(),
        };

        let mut out = std::io::stdout();
        if self.json {
            let mut document = serde_json::to_value(&report)?;
            if self.verify {
                document["mismatches"] = mismatches.len().into();
            }
            writeln!(out, "{document}")?;
        } else {
            let replay::Report { sent, accepted, failures, seconds, .. } = report;
            writeln!(out, "{sent} responses sent, {accepted} accepted, {failures} failed, in {seconds:.2} s")?;
            if let Some(failure) = &report.first_failure {
                writeln!(out, "first failure: {failure}")?;
            }
            if self.verify {
                mismatches.iter().try_for_each(|mismatch| writeln!(out, "{mismatch}"))?;
                writeln!(out, "{} mismatches", mismatches.len())?;
            }
        }
        Ok(failures_are_none(&report) && mismatches.is_empty())
    }
}

impl Verify {
    async fn run(self) -> Done {
        let file = std::fs::read_to_string(&self.file).map_err(|e| format!("{}: {e}", self.file.display()))?;
        let mismatches = poll::verify(&self.urls, &poll::expected(&file, self.polls)).await;
        let mut out = std::io::stdout();
        mismatches.iter().try_for_each(|mismatch| writeln!(out, "{mismatch}"))?;
        writeln!(out, "{} mismatches", mismatches.len())?;
        Ok(mismatches.is_empty())
    }
}

fn saved(file: &Path) -> Done {
    let totals = poll::archive::store::totals(file).map_err(|e| format!("{}: {e}", file.display()))?;
    writeln!(std::io::stdout(), "{}", totals.values().sum::<u64>())?;
    Ok(true)
}

fn failures_are_none(report: &replay::Report) -> bool {
    report.failures == 0 && report.first_failure.is_none()
}

impl Load {
    async fn run(self) -> Done {
        let bar = bar(self.rate * self.seconds);
        let Self { rate, polls, seconds, .. } = self;
        let options = load::Options { rate, polls, seconds, ..load::Options::default() };
        let progress = bar.clone();
        let measured = load::load(&self.urls, options, move |done| progress.set_position(done)).await?;
        bar.finish_and_clear();

        let mut out = std::io::stdout();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&measured)?)?;
        } else {
            let m = &measured;
            writeln!(out, "accepted   {} of {} sent, {:.0}/s", m.accepted, m.sent, m.accepted_per_second)?;
            writeln!(out, "POST       p50 {:.2} ms, p99 {:.2} ms", m.post_p50_ms, m.post_p99_ms)?;
            writeln!(out, "GET        p50 {:.2} ms, p99 {:.2} ms", m.get_p50_ms, m.get_p99_ms)?;
            writeln!(out, "freshness  p50 {:.2} ms, p99 {:.2} ms", m.freshness_p50_ms, m.freshness_p99_ms)?;
            writeln!(out, "counted    {} (of them {} to open the polls)", m.counted, m.opened)?;
            if let Some(failure) = &m.first_failure {
                writeln!(out, "failures   {}, the first: {failure}", m.failures)?;
            }
        }
        Ok(measured.first_failure.is_none())
    }
}

/// Shows nothing where standard error is no terminal.
fn bar(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} responses, {per_sec}, {eta} to go");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
