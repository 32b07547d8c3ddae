//! A worker as a process of its own, with its socket inherited and its listening socket passed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test uses its part of the agent")]
mod agent;

use agent::{Agent, until};
use command_fds::{CommandFdExt, FdMapping};
use odeon::{System, client::Admin, prelude::*};
use odeon_protocol::control::{FromAgent, ToAgent};
use std::{
    io::{Read, Write},
    net::TcpStream,
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LONG: Duration = Duration::from_secs(20);

#[message(reply = u32)]
struct Pid;

#[derive(Default)]
struct Echo;
#[actor("child.echo")]
impl Echo {
    fn pid(&mut self, _: Pid) -> u32 {
        std::process::id()
    }
    fn stopping(&mut self) {
        eprintln!("the echo stops");
    }
}

async fn serve(system: System) -> odeon::Result {
    let listener = system.listener("echo")?;
    assert!(system.listener("echo").is_err(), "a listening socket is taken once");
    let stopping = system.stopping();
    tokio::pin!(stopping);
    loop {
        let (mut stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            () = &mut stopping => return Ok(()),
        };
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).await?;
        stream.write_all(&bytes).await?;
    }
}

/// Not a test: what the children of the others run.
#[test]
#[ignore = "runs as a child of the other tests"]
fn child() {
    odeon::worker![Echo].listen("echo", "127.0.0.1:0").serve(serve).run().unwrap();
}

struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .env_remove("ODEON_WORKER_FD")
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null());
    command
}

fn spawn(socket: OwnedFd) -> Worker {
    let mut command = command();
    command.env("ODEON_WORKER_FD", "3");
    command.fd_mappings(vec![FdMapping { parent_fd: socket, child_fd: 3 }]).unwrap();
    Worker(command.spawn().unwrap())
}

impl Worker {
    /// Its end, and what it wrote to standard error.
    fn end(mut self) -> (ExitStatus, String) {
        let mut text = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (self.0.wait().unwrap(), text)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), signal).unwrap();
    }
}

async fn worker() -> (Agent, Worker) {
    let agent = Agent::new();
    let worker = spawn(agent.descriptor());
    until("the worker is ready", || agent.was_told(|_, message| matches!(message, ToAgent::Listening))).await;
    (agent, worker)
}

fn echoes(agent: &Agent) {
    let mut stream = TcpStream::connect(agent.listens_at().unwrap()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(b"hello").unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_runs_actors_and_stops_when_told() {
    let (agent, worker) = worker().await;
    echoes(&agent);
    let admin = Admin::over(agent.socket()).await.unwrap();
    let target = "child.echo/one".parse().unwrap();
    let pid = admin.ask_json(&target, "Pid", "", LONG).await.unwrap();
    assert_eq!(pid, worker.0.id().to_string());
    agent.say(0, &FromAgent::Stop);
    let (status, text) = tokio::task::spawn_blocking(move || worker.end()).await.unwrap();
    assert!(status.success(), "{status}: {text}");
    assert!(text.contains("runs as a worker") && text.contains("the echo stops"), "{text}");
    until("it said goodbye", || agent.was_told(|_, message| matches!(message, ToAgent::Stopped))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_at_once_without_its_agent() {
    let (agent, worker) = worker().await;
    agent.cut(0);
    let (status, text) = tokio::task::spawn_blocking(move || worker.end()).await.unwrap();
    assert_eq!((status.code(), status.signal()), (Some(70), None), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_it_with_a_line_that_names_the_peer() {
    let (agent, worker) = worker().await;
    agent.push_raw(0, &[0xff; 64]);
    let (status, text) = tokio::task::spawn_blocking(move || worker.end()).await.unwrap();
    assert_eq!(status.code(), Some(70), "{text}");
    assert!(text.contains("agent") && text.contains("protocol version"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_minds_sigterm_and_leaves_ctrl_c_to_the_agent() {
    let (_agent, mut worker) = worker().await;
    worker.signal(rustix::process::Signal::INT);
    worker.signal(rustix::process::Signal::TERM);
    let status = tokio::task::spawn_blocking(move || {
        let status = worker.0.wait().unwrap();
        drop(worker);
        status
    });
    assert!(status.await.unwrap().success());
}

#[test]
fn alone_it_says_so_and_stops_on_ctrl_c() {
    let mut worker = Worker(command().spawn().unwrap());
    let mut stderr = worker.0.stderr.take().unwrap();
    let (mut text, mut bytes) = (String::new(), [0; 512]);
    while !text.contains("runs alone") {
        let read = stderr.read(&mut bytes).unwrap();
        assert!(read > 0, "{text}");
        text += &String::from_utf8_lossy(&bytes[..read]);
    }
    assert!(text.contains("echo at 127.0.0.1:"), "{text}");
    worker.signal(rustix::process::Signal::INT);
    assert!(worker.0.wait().unwrap().success());
}

#[test]
fn without_its_socket_it_says_what_is_missing() {
    let mut command = command();
    command.env("ODEON_WORKER_FD", "3");
    let (status, text) = Worker(command.spawn().unwrap()).end();
    assert!(!status.success());
    assert!(text.contains("descriptor 3"), "{text}");
}
