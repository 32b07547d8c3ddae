//! Real agents and workers for the scenarios: each host is a process on a loopback address of its own.
//!
//! Nothing outlives a test: agents end with their standard input, workers with their agent.

use serde_json::Value;
use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        atomic::{AtomicU8, Ordering},
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a condition may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An executable that the workspace's tests have built beside this one.
pub(crate) fn executable(name: &str) -> PathBuf {
    // target/PROFILE/deps/scenarios-… → target/PROFILE
    let own = std::env::current_exe().expect("the test has a path");
    let path = own.parent().and_then(Path::parent).expect("target/PROFILE/deps").join(name);
    assert!(path.exists(), "{} is missing: run `cargo test --workspace`, which builds it", path.display());
    path
}

/// Waits until `condition` gives something.
///
/// # Panics
/// It gave nothing for [`PATIENCE`].
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, condition)
}

/// Waits until `condition` gives something.
///
/// # Panics
/// It gave nothing for so long.
#[track_caller]
pub(crate) fn wait_within<T>(patience: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "between two looks at a condition with a deadline; no runtime here")]
fn pause() {
    std::thread::sleep(Duration::from_millis(25));
}

/// What a command of the `odeon` binary printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The JSON that it printed.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs `odeon` with these arguments and no agent chosen.
pub(crate) fn odeon(args: &[&str]) -> Ran {
    let mut command = Command::new(executable("odeon"));
    command.args(args).env_remove("ODEON_AGENT").stdin(Stdio::null());
    Ran::new(command.output().expect("odeon starts"))
}

/// One HTTP request over a connection of its own; the status and the body.
pub(crate) fn http(address: &str, request: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// One agent.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) ip: String,
    pub(crate) quic: String,
    pub(crate) data: PathBuf,
    /// What commands against it are run with.
    program: PathBuf,
    child: Child,
}

impl Agent {
    /// Starts an agent and does not wait for it.
    fn spawn(program: &Path, (name, ip): (&str, &str), data: &Path, args: &[&str]) -> Self {
        let quic = UdpSocket::bind((ip, 0)).and_then(|socket| socket.local_addr()).expect("a free port").to_string();
        Self::spawn_of(program, name, &quic, data, args)
    }

    /// Starts an agent at an address that another had before, and does not wait for it.
    pub(crate) fn spawn_at(name: &str, quic: &str, data: &Path, args: &[&str]) -> Self {
        Self::begin(Command::new(executable("odeon")), name, quic, data, args)
    }

    /// Starts an agent of another build, as [`Self::spawn_at`]; commands against it are run with that one, too.
    pub(crate) fn spawn_of(program: &Path, name: &str, quic: &str, data: &Path, args: &[&str]) -> Self {
        let mut agent = Self::begin(Command::new(program), name, quic, data, args);
        program.clone_into(&mut agent.program);
        agent
    }

    /// Starts an agent where this one was, with its data directory, and does not wait for it.
    pub(crate) fn again(&mut self, args: &[&str]) {
        self.again_as(&self.program.clone(), args);
    }

    /// The same of another build.
    pub(crate) fn again_as(&mut self, program: &Path, args: &[&str]) {
        let (name, quic, data) = (self.name.clone(), self.quic.clone(), self.data.clone());
        *self = Self::spawn_of(program, &name, &quic, &data, args);
    }

    /// Waits until the agent, which is expected to end by itself, has ended; how, and what it said.
    pub(crate) fn ends(&mut self) -> Ran {
        let status = wait_for("the agent to end", || self.child.try_wait().expect("it can be waited for"));
        Ran { code: status.code().unwrap_or(-1), out: String::new(), err: self.log() }
    }

    /// Starts an agent in a network namespace that has that address, and does not wait for it.
    pub(crate) fn spawn_within(namespace: &str, name: &str, quic: &str, data: &Path, args: &[&str]) -> Self {
        let mut command = Command::new("ip");
        let log = data.join("probe");
        std::fs::create_dir_all(&log).expect("a directory for the probe's logs");
        command.args(["netns", "exec", namespace]).arg(executable("odeon")).env("PROBE_LOG", log);
        Self::begin(command, name, quic, data, args)
    }

    fn begin(mut command: Command, name: &str, quic: &str, data: &Path, args: &[&str]) -> Self {
        std::fs::create_dir_all(data).expect("a data directory");
        let log = File::options().create(true).append(true).open(data.join("agent.log")).expect("a log");
        command.args(["agent", "--stop-on-eof", "--name", name, "--listen", quic]).arg("--data").arg(data).args(args);
        if !args.contains(&"--http") {
            command.args(["--http", "off"]);
        }
        let child = command
            .env_remove("ODEON_AGENT")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the agent starts");
        let ip = quic.rsplit_once(':').map_or(quic, |(ip, _)| ip).to_owned();
        Self {
            name: name.to_owned(),
            ip,
            quic: quic.to_owned(),
            data: data.to_owned(),
            program: executable("odeon"),
            child,
        }
    }

    /// Starts an agent that is expected to fail; what it said last.
    pub(crate) fn fails(name: &str, ip: &str, data: &Path, args: &[&str]) -> Ran {
        Self::spawn(&executable("odeon"), (name, ip), data, args).ends()
    }

    /// Runs a command against this agent.
    pub(crate) fn odeon(&self, args: &[&str]) -> Ran {
        let socket = self.data.join("agent.sock");
        let mut command = Command::new(&self.program);
        command.arg("--agent").arg(socket).args(args).stdin(Stdio::null());
        Ran::new(command.output().expect("odeon starts"))
    }

    /// Runs a command against this agent that prints JSON.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let mut with_flag = vec!["--json"];
        with_flag.extend_from_slice(args);
        self.odeon(&with_flag).json()
    }

    /// Starts a command against this agent that runs until it is ended; what it prints, line by line.
    pub(crate) fn follow(&self, args: &[&str]) -> (Following, Receiver<String>) {
        let mut command = Command::new(&self.program);
        command.arg("--agent").arg(self.data.join("agent.sock")).args(args).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("odeon starts");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        (Following(child), lines)
    }

    /// Asks an actor; `fields` is JSON, or nothing.
    #[track_caller]
    pub(crate) fn ask(&self, target: &str, message: &str, fields: &str) -> Value {
        let mut args = vec!["ask", target, message, "--timeout", "20s"];
        args.extend((!fields.is_empty()).then_some(fields));
        self.odeon(&args).json()
    }

    /// Waits until the agent is ready.
    #[track_caller]
    pub(crate) fn ready(&mut self) {
        let name = self.name.clone();
        wait_for(&format!("{name} to be ready"), || {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                panic!("{name} ended ({status}): {}", self.log());
            }
            (self.odeon(&["health"]).code == 0).then_some(())
        });
    }

    /// Everything that it logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("agent.log")).unwrap_or_default()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u64 {
        self.child.id().into()
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
    }

    /// Asks it to stop and waits; whether it ended well.
    pub(crate) fn stop(&mut self) -> bool {
        drop(self.child.stdin.take());
        wait_for("the agent to stop", || self.child.try_wait().expect("it can be waited for")).success()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Following(Child);

impl Drop for Following {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A convention of real processes.
#[derive(Debug)]
pub(crate) struct Convention {
    pub(crate) agents: Vec<Agent>,
    program: PathBuf,
    root: TempDir,
    third_byte: u8,
}

static NEXT: AtomicU8 = AtomicU8::new(10);

impl Convention {
    /// One bootstrapped agent with these workers.
    pub(crate) fn one(args: &[&str]) -> Self {
        Self::one_of(&executable("odeon"), args)
    }

    fn one_of(program: &Path, args: &[&str]) -> Self {
        // Its own loopback network, so that tests running side by side never share a listener's address.
        let third_byte = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = tempfile::tempdir().expect("a temporary directory");
        let mut all = vec!["--bootstrap"];
        all.extend_from_slice(args);
        let ip = format!("127.0.{third_byte}.1");
        let mut first = Agent::spawn(program, ("h1", &ip), &root.path().join("h1"), &all);
        first.ready();
        Self { agents: vec![first], program: program.to_owned(), root, third_byte }
    }

    /// That many agents, joined with voter tokens, with the same arguments.
    pub(crate) fn start(hosts: u8, args: &[&str]) -> Self {
        Self::of(&executable("odeon"), hosts, args)
    }

    /// As [`Self::start`], of another build.
    pub(crate) fn of(program: &Path, hosts: u8, args: &[&str]) -> Self {
        let mut convention = Self::one_of(program, args);
        let token = convention.token("voter");
        for _ in 1..hosts {
            convention.spawn(&token, args);
        }
        convention.agents.iter_mut().for_each(Agent::ready);
        convention
    }

    /// A join token from the first agent.
    #[track_caller]
    pub(crate) fn token(&self, role: &str) -> String {
        let made = self.agents[0].json(&["token", "create", "--role", role]);
        made["token"].as_str().expect("a token").to_owned()
    }

    /// Starts a further agent; does not wait for it.
    pub(crate) fn spawn(&mut self, token: &str, args: &[&str]) -> &mut Agent {
        let (name, ip, data) = self.next_place();
        let peer = self.agents[0].quic.clone();
        let mut all = vec!["--join", &peer, "--token", token];
        all.extend_from_slice(args);
        self.agents.push(Agent::spawn(&self.program, (&name, &ip), &data, &all));
        self.agents.last_mut().expect("it was pushed")
    }

    /// Name, address and data directory for one more host.
    pub(crate) fn next_place(&self) -> (String, String, PathBuf) {
        let number = self.agents.len() + 1;
        let name = format!("h{number}");
        let data = self.root.path().join(&name);
        (name, format!("127.0.{}.{number}", self.third_byte), data)
    }

    /// Starts an agent of this convention again, with its data directory and neither token nor address.
    pub(crate) fn restart(&mut self, index: usize, args: &[&str]) {
        let (name, ip, data) = {
            let old = &self.agents[index];
            (old.name.clone(), old.ip.clone(), old.data.clone())
        };
        self.agents[index] = Agent::spawn(&self.program, (&name, &ip), &data, args);
        self.agents[index].ready();
    }
}

/// Whether a process is there.
pub(crate) fn alive(pid: u64) -> bool {
    // A zombie has no memory any more; it only waits to be reaped.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z') && !rest.is_empty())
}

/// Ends a process that a scenario started, by id.
pub(crate) fn kill(pid: u64) {
    signal(pid, rustix::process::Signal::KILL);
}

/// Tells a process that a scenario started to read its settings again.
pub(crate) fn hang_up(pid: u64) {
    signal(pid, rustix::process::Signal::HUP);
}

fn signal(pid: u64, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(pid, signal).expect("it can be sent");
}
