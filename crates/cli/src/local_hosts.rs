//! Several hosts on this machine, as `odeon dev` and `odeon demo` run them: agents as child processes, each on a
//! loopback address of its own (127.0.0.1, .2, .3, …) with its own data directory.
//!
//! An agent started here ends when its standard input does (`--stop-on-eof`), so that none outlives this process
//! however it ends.

use crate::{
    client::Client,
    failure::{Failure, Outcome},
};
use odeon_protocol::limits::STOP_GRACE;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

const READY_WAIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
const QUIC_PORT: u16 = 7400;
const HTTP_PORT: u16 = 7480;

/// What to start on each host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// How many hosts.
    pub(crate) hosts: u8,
    /// `PATH ARGS` of each worker that every host runs.
    pub(crate) workers: Vec<String>,
    /// The same of one host, by its number from 1.
    pub(crate) workers_of: Vec<(u8, String)>,
    /// Built-in workers inside the agent of one host, by its number.
    pub(crate) embedded: Vec<(u8, String)>,
    /// Listening sockets by name, with the port that is tried first.
    pub(crate) listeners: Vec<(String, u16)>,
    /// Environment of the agents, inherited by their workers.
    pub(crate) environment: Vec<(String, String)>,
    /// `K=V` of one host by its number, or of all.
    pub(crate) capabilities: Vec<(Option<u8>, String)>,
}

/// One running agent.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) http: SocketAddr,
    /// Listening sockets by name.
    pub(crate) listeners: Vec<(String, SocketAddr)>,
    directory: PathBuf,
    child: Child,
}

impl Host {
    fn spawn(plan: &Plan, number: u8, root: &Path, join: Option<(&str, &str)>) -> Result<Self, Failure> {
        let name = format!("h{number}");
        let address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, number));
        let directory = root.join(&name);
        std::fs::create_dir_all(&directory).map_err(|error| cannot("create", &directory, &error))?;
        let log_path = directory.join("agent.log");
        let log = File::create(&log_path).map_err(|error| cannot("write", &log_path, &error))?;
        let http = free_tcp(address, HTTP_PORT)?;
        let listeners = plan
            .listeners
            .iter()
            .map(|(name, port)| Ok((name.clone(), free_tcp(address, *port)?)))
            .collect::<Result<Vec<_>, Failure>>()?;

        let executable = std::env::current_exe().map_err(Failure::failed)?;
        let mut command = Command::new(executable);
        command.arg("agent").arg("--stop-on-eof").args(["--name", &name]);
        command.arg("--listen").arg(free_udp(address)?.to_string()).arg("--http").arg(http.to_string());
        command.arg("--data").arg(&directory).arg("--worker-host").arg(address.to_string());
        let of_this = |of: &&(u8, String)| of.0 == number;
        for worker in plan.workers.iter().chain(plan.workers_of.iter().filter(of_this).map(|(_, worker)| worker)) {
            command.arg("--worker").arg(worker);
        }
        for (_, name) in plan.embedded.iter().filter(of_this) {
            command.arg("--embed").arg(name);
        }
        for (name, address) in &listeners {
            command.arg("--worker-listen").arg(format!("{name}={address}"));
        }
        for (_, capability) in plan.capabilities.iter().filter(|(of, _)| of.is_none_or(|of| of == number)) {
            command.arg("--capability").arg(capability);
        }
        match join {
            None => drop(command.arg("--bootstrap")),
            Some((peer, token)) => drop(command.args(["--join", peer]).env("ODEON_TOKEN", token)),
        }
        command.envs(plan.environment.iter().map(|(key, value)| (key, value)));
        command.env_remove("ODEON_AGENT").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        // A group of its own, so that a Ctrl-C at the terminal reaches this process only, which then stops in order.
        command.process_group(0);
        let child =
            command.spawn().map_err(|error| Failure::failed(format!("{name}: cannot start its agent: {error}")))?;
        Ok(Self { name, http, listeners, directory, child })
    }

    /// A connection to this host's agent.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        Client::connect(&self.directory.join("agent.sock")).await
    }

    /// Where the socket called `name` listens.
    pub(crate) fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.iter().find(|(each, _)| each == name).map(|(_, address)| *address)
    }

    /// Its process, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    async fn ready(&mut self) -> Outcome {
        let deadline = Instant::now() + READY_WAIT;
        let mut waiting_for = "its agent to answer".to_owned();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Failure::failed(format!(
                    "{}: its agent ended ({status}): {}",
                    self.name,
                    self.last_words()
                )));
            }
            if let Ok(client) = self.client().await
                && let Ok(health) = client.admin(json!({ "command": "health" })).await
            {
                if health["ready"] == true {
                    return Ok(());
                }
                waiting_for = crate::output::cell(&health["waiting_for"]);
            }
            if Instant::now() > deadline {
                let log = self.directory.join("agent.log");
                let text =
                    format!("{}: not ready in time, waiting for {waiting_for}: see {}", self.name, log.display());
                return Err(Failure::new(crate::failure::Code::TimedOut, text));
            }
            sleep(POLL).await;
        }
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.directory.join("agent.log")).unwrap_or_default();
        log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
    }

    /// Ends the agent at once, as a crash would, and waits until the kernel says so.
    pub(crate) async fn kill(&mut self) {
        if let Err(error) = self.child.start_kill() {
            tracing::debug!(%error, host = %self.name, "already gone");
        }
        let _ = self.child.wait().await;
    }

    fn ask_to_stop(&self) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended in this instant; then there is nothing to stop.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

/// The hosts of one `dev` or `demo`.
#[derive(Debug)]
pub(crate) struct Hosts {
    pub(crate) all: Vec<Host>,
}

impl Hosts {
    /// Starts the first agent, a token, the other agents; returns when all are ready.
    pub(crate) async fn start(plan: &Plan, root: &Path) -> Result<Self, Failure> {
        let mut first = Host::spawn(plan, 1, root, None)?;
        first.ready().await?;
        let client = first.client().await?;
        let request = json!({ "command": "token create", "role": "voter", "ttl_ms": 3_600_000, "uses": Value::Null });
        let token = client.admin(request).await?;
        let (token, join) = (crate::output::cell(&token["token"]), crate::output::cell(&token["join"]));
        let mut all = vec![first];
        for number in 2..=plan.hosts {
            all.push(Host::spawn(plan, number, root, Some((&join, &token)))?);
        }
        for host in &mut all[1..] {
            host.ready().await?;
        }
        Ok(Self { all })
    }

    /// Stops every agent gracefully; one that does not stop in time is killed.
    pub(crate) async fn stop(mut self) {
        self.all.iter().for_each(Host::ask_to_stop);
        let deadline = Instant::now() + STOP_GRACE + Duration::from_secs(5);
        for host in &mut self.all {
            let left = deadline.saturating_duration_since(Instant::now());
            if timeout(left, host.child.wait()).await.is_err() {
                tracing::warn!(host = %host.name, "did not stop in time; killed");
                host.kill().await;
            }
        }
    }
}

/// A free TCP address: the wanted port, else any.
fn free_tcp(address: IpAddr, wanted: u16) -> Result<SocketAddr, Failure> {
    TcpListener::bind((address, wanted))
        .or_else(|_| TcpListener::bind((address, 0)))
        .and_then(|socket| socket.local_addr())
        .map_err(|error| no_port(address, &error))
}

fn free_udp(address: IpAddr) -> Result<SocketAddr, Failure> {
    UdpSocket::bind((address, QUIC_PORT))
        .or_else(|_| UdpSocket::bind((address, 0)))
        .and_then(|socket| socket.local_addr())
        .map_err(|error| no_port(address, &error))
}

fn no_port(address: IpAddr, error: &std::io::Error) -> Failure {
    Failure::failed(format!("no port on {address}: {error}: loopback addresses 127.0.0.1 to 127.0.0.9 are needed"))
}

fn cannot(verb: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot {verb} {}: {error}", path.display()))
}

/// Where `odeon dev` keeps its hosts, so that `--host NAME` finds them.
pub(crate) fn dev_directory() -> PathBuf {
    state_directory().join("dev")
}

/// `$XDG_STATE_HOME/odeon`, else `~/.local/state/odeon`.
pub(crate) fn state_directory() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_STATE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(|| PathBuf::from("."))
        .join("odeon")
}
