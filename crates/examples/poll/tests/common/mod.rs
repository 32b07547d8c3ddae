//! The service as its users run it: the program itself, alone, on a port of its own.
#![allow(clippy::unwrap_used, reason = "a test's own tools")]

use poll::actors::Response;
use poll::client::Client;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A running service; killed when dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) urls: Vec<String>,
}

impl Service {
    /// Starts it with this archive and these variables, and waits until it says where it listens.
    pub(crate) async fn start(archive: &Path, variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_poll"))
            .env("POLL_LISTEN", "127.0.0.1:0")
            .env("POLL_ARCHIVE", archive)
            .env("RUST_LOG", "info")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (says, mut said) = tokio::sync::mpsc::channel(1);
        let log = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("poll at ") {
                    let _ = says.try_send(address.trim().to_owned());
                }
                eprintln!("{line}");
            }
        });
        let address = tokio::time::timeout(LONG, said.recv()).await.unwrap().expect("it ended at once");
        Self { child, urls: vec![format!("http://{address}")] }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.urls, 0).patience(Duration::from_secs(20))
    }

    /// Stops it as an operator does, and waits until it has ended.
    pub(crate) async fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let deadline = Instant::now() + LONG;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it did not stop");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(status.success(), "{status}");
    }

    /// Kills it, as a crash or a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until it holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds().await {
        assert!(Instant::now() < deadline, "it never came about that {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Question, total and instances of every row of the archive.
pub(crate) fn rows(archive: &PathBuf) -> Vec<(String, u64, u64)> {
    let file = rusqlite::Connection::open(archive).unwrap();
    file.busy_timeout(Duration::from_secs(5)).unwrap();
    let mut select = file.prepare("SELECT question, total, starts FROM questions").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

pub(crate) fn response(question: &str, answer: &str) -> Response {
    let respondent = [("age".to_owned(), "30-39".to_owned())].into();
    Response { question: question.into(), answer: answer.into(), respondent }
}
