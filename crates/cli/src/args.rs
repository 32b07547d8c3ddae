//! The command line, as data. What it means is in `commands/`.

use clap::{Args, Parser, Subcommand};
use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

/// Actors across machines: start an agent on each host, join, deploy.
#[derive(Debug, Parser)]
#[command(name = "odeon", version, propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes, anywhere on the line.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The Unix socket of the agent to talk to.
    #[arg(long, global = true, value_name = "PATH", env = "ODEON_AGENT", hide_env_values = true)]
    pub(crate) agent: Option<PathBuf>,
    /// Talk to this host of a running `odeon dev`.
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "agent")]
    pub(crate) host: Option<String>,
    /// Print exactly one JSON document.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run this host's agent until SIGTERM or SIGINT.
    Agent(Box<AgentArgs>),
    /// Make, list or revoke join tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// The convention in a few lines: leader, voters, hosts, whether a host may fail.
    Status,
    /// The hosts of the convention.
    Hosts {
        /// Show those that are there, then each that comes, changes its capabilities or goes, until Ctrl-C; with --json one
        /// document a line.
        #[arg(long)]
        watch: bool,
    },
    /// The global names and where they are.
    Names,
    /// The actors of all hosts.
    Actors,
    /// The troupes that this host keeps, with their members.
    Troupes,
    /// The worker processes of this host; stop or restart one.
    Workers {
        #[command(subcommand)]
        command: Option<WorkersCommand>,
    },
    /// The actor types that this host's workers run, with what they take.
    Types,
    /// What this host can do; change it while its agent runs.
    #[command(subcommand)]
    Capability(CapabilityCommand),
    /// The data links of this host; close the connection of one.
    Links {
        #[command(subcommand)]
        command: Option<LinksCommand>,
    },
    /// Start a worker under the running agent.
    Run {
        /// The worker's executable.
        path: PathBuf,
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run agents on this machine, joined, with these workers, until Ctrl-C.
    Dev(DevArgs),
    /// Create an actor; prints its address.
    Create(CreateArgs),
    /// Ask an actor; prints its reply as JSON.
    Ask {
        /// A global name or an address.
        target: String,
        /// The message's name: `Get`, or `probe.Get`.
        message: String,
        /// Its fields.
        #[arg(value_name = "JSON")]
        fields: Option<String>,
        /// How long to wait for the reply.
        #[arg(long, default_value = "5s", value_parser = duration)]
        timeout: Duration,
    },
    /// Tell an actor; returns when the message is accepted.
    Tell {
        /// A global name or an address.
        target: String,
        /// The message's name.
        message: String,
        /// Its fields.
        #[arg(value_name = "JSON")]
        fields: Option<String>,
    },
    /// Show messages that come back on any host, as they do, until Ctrl-C; with --json one document a line.
    DeadLetters,
    /// Stop an actor after what is queued for it.
    Stop {
        /// A global name or an address.
        target: String,
    },
    /// Remove a host from the convention for good.
    Evict {
        /// Its name.
        #[arg(value_name = "HOST")]
        name: String,
    },
    /// Take this host out of the convention and stop its agent.
    Leave,
    /// Make a surviving voter the only one, when the majority of the voters is lost for ever; its agent must be stopped.
    Recover {
        /// Its data directory [default: as `odeon agent`'s].
        #[arg(long, value_name = "DIR", env = "ODEON_DATA")]
        data: Option<PathBuf>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Write the convention's directory to a file; on a voter. It holds private keys.
    Backup {
        /// The file.
        file: PathBuf,
        /// Replace a file that is there.
        #[arg(long)]
        force: bool,
    },
    /// Make a data directory of a backup, when no voter is left.
    Restore {
        /// The backup.
        file: PathBuf,
        /// The data directory, empty or not there.
        #[arg(long, value_name = "DIR", env = "ODEON_DATA")]
        data: PathBuf,
        /// The host's name in the convention.
        #[arg(long, env = "ODEON_NAME")]
        name: String,
    },
    /// Three hosts, the poll service, a real survey, a killed host: everything compared.
    Demo(DemoArgs),
    /// Measure this machine.
    Bench(BenchArgs),
    /// Look for what is wrong with this host.
    Doctor,
    /// Exit with 0 if the agent is ready (for health checks).
    Health,
    /// Keep a line for people in the directory; without TEXT show it, and how new each host's copy is.
    #[cfg(feature = "next-level")]
    Note {
        /// The line.
        text: Option<String>,
    },
    /// A worker that is built in.
    #[command(hide = true)]
    Worker {
        /// `poll`, `probe`, `bench-driver` or `bench-echo`.
        name: String,
    },
}

/// `odeon token …`
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; prints it first, then a join line for people.
    Create {
        /// What the joiner may be.
        #[arg(long, default_value = "voter", value_parser = ["voter", "member", "client"])]
        role: String,
        /// How long it is valid.
        #[arg(long, default_value = "24h", value_parser = duration)]
        ttl: Duration,
        /// How often it may be used; any number of times without this.
        #[arg(long)]
        uses: Option<u32>,
    },
    /// The live tokens, without their secrets.
    List,
    /// Revoke a token.
    Revoke {
        /// Its id, as `list` shows it.
        id: String,
    },
}

/// `odeon workers …`
#[derive(Debug, Subcommand)]
pub(crate) enum WorkersCommand {
    /// Stop a worker gracefully and do not start it again.
    Stop {
        /// `w1`, as `odeon workers` shows it.
        id: String,
    },
    /// Stop a worker gracefully and start it again.
    Restart {
        /// `w1`, as `odeon workers` shows it.
        id: String,
    },
}

/// `odeon capability …`
#[derive(Debug, Subcommand)]
pub(crate) enum CapabilityCommand {
    /// Give this host capabilities until its agent's next start; actors that no longer fit are stopped.
    Set {
        /// A bool, number or string.
        #[arg(required = true, value_name = "K=V")]
        pairs: Vec<String>,
    },
    /// Take capabilities away until its agent's next start; actors that no longer fit are stopped.
    Unset {
        /// Their keys.
        #[arg(required = true, value_name = "K")]
        keys: Vec<String>,
    },
    /// The capabilities of this host, and where each comes from.
    List,
}

/// `odeon links …`
#[derive(Debug, Subcommand)]
pub(crate) enum LinksCommand {
    /// Close the data connection to a host, as a fault would; the next one carries on where it ended.
    Close {
        /// Its name.
        #[arg(value_name = "HOST")]
        name: String,
    },
}

/// `odeon agent`
#[derive(Debug, Clone, Args)]
pub(crate) struct AgentArgs {
    /// The host's name in the convention [default: the machine's host name].
    #[arg(long, env = "ODEON_NAME")]
    pub(crate) name: Option<String>,
    /// UDP address for QUIC; port 0 picks one [default: 0.0.0.0:7400].
    #[arg(long, value_name = "ADDR", env = "ODEON_LISTEN")]
    pub(crate) listen: Option<String>,
    /// What other agents dial [default: found out from the peer joined, else the listen address].
    #[arg(long, value_name = "ADDR", env = "ODEON_ADVERTISE")]
    pub(crate) advertise: Option<String>,
    /// State: key, certificate, directory [default: $XDG_STATE_HOME/odeon, else ~/.local/state/odeon].
    #[arg(long, value_name = "DIR", env = "ODEON_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Unix socket for clients [default: DIR/agent.sock].
    #[arg(long, value_name = "PATH", env = "ODEON_SOCKET")]
    pub(crate) socket: Option<PathBuf>,
    /// HTTP: gateway, metrics, health; `off` for none [default: 127.0.0.1:7480].
    #[arg(long, value_name = "ADDR", env = "ODEON_HTTP")]
    pub(crate) http: Option<String>,
    /// Form a new convention.
    #[arg(long, env = "ODEON_BOOTSTRAP")]
    pub(crate) bootstrap: bool,
    /// Join through any member, usually the leader.
    #[arg(long, value_name = "ADDR", value_delimiter = ',', env = "ODEON_JOIN")]
    pub(crate) join: Vec<String>,
    /// The join token.
    #[arg(long, value_name = "T", env = "ODEON_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    pub(crate) token: Option<String>,
    /// A file that holds the join token; it may appear later and is waited for.
    #[arg(long, value_name = "F", env = "ODEON_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Keep a valid join token for that role in the file.
    #[arg(long, value_name = "ROLE=FILE", value_delimiter = ',', env = "ODEON_TOKEN_OUT")]
    pub(crate) token_out: Vec<String>,
    /// Bearer token for HTTP; made if the file is absent. Needed where --http is not on loopback.
    #[arg(long, value_name = "F", env = "ODEON_HTTP_TOKEN_FILE")]
    pub(crate) http_token_file: Option<PathBuf>,
    /// What this host can do; a bool, number or string.
    #[arg(long, value_name = "K=V", value_delimiter = ',', env = "ODEON_CAPABILITY")]
    pub(crate) capability: Vec<String>,
    /// A worker executable to run, with its arguments.
    #[arg(long, value_name = "'PATH [ARGS]'", env = "ODEON_WORKER_PATH")]
    pub(crate) worker: Vec<String>,
    /// A listening socket that the agent binds and its workers inherit.
    #[arg(long, value_name = "NAME=ADDR", value_delimiter = ',', env = "ODEON_WORKER_LISTEN")]
    pub(crate) worker_listen: Vec<String>,
    /// Vote, but host no actors.
    #[arg(long, env = "ODEON_WITNESS")]
    pub(crate) witness: bool,
    /// Stop when standard input ends (used by `odeon dev`, so that no agent outlives it).
    #[arg(long, hide = true)]
    pub(crate) stop_on_eof: bool,
    /// Run a built-in worker inside the agent's process (used by `odeon bench`).
    #[arg(long, hide = true, value_name = "NAME")]
    pub(crate) embed: Option<String>,
    /// Bind the workers' declared loopback addresses on this one instead (used by `odeon dev`).
    #[arg(long, hide = true, value_name = "IP")]
    pub(crate) worker_host: Option<Ipv4Addr>,
    /// Read these settings from a TOML file; flags and the environment go first.
    #[arg(long, value_name = "FILE", env = "ODEON_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

/// `odeon dev`
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// How many hosts, h1, h2, …
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub(crate) hosts: u8,
    /// What a host can do, for requirements: of all, or of one (`h1:archive=true`).
    #[arg(long, value_name = "[HOST:]K=V")]
    pub(crate) capability: Vec<String>,
    /// The workers' executables.
    #[arg(required = true)]
    pub(crate) paths: Vec<String>,
}

/// `odeon create`
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The actor's type: `probe.counter`.
    pub(crate) type_name: String,
    /// Its arguments.
    pub(crate) args: Option<String>,
    /// The global name to bear.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Where it may run: `gpu >= 1 && zone == "eu-1"`.
    #[arg(long, value_name = "EXPR")]
    pub(crate) requires: Option<String>,
    /// Only on this host.
    #[arg(long, value_name = "HOST")]
    pub(crate) on: Option<String>,
    /// How long to wait for a host that fits, where there is none now.
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub(crate) wait: Duration,
}

/// `odeon demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many hosts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=9))]
    pub(crate) hosts: u8,
    /// Leave it running at the end, and print the URLs.
    #[arg(long)]
    pub(crate) stay: bool,
}

/// `odeon bench`
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to measure, `host.ask` or all of `host`; everything without this.
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<String>,
    /// Seconds for each run.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// Measure paths of one process in this one.
    #[arg(long, hide = true)]
    pub(crate) here: bool,
}

/// Reads `250ms`, `5s`, `10m`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return Err("expected a number and a unit: 250ms, 5s, 10m, 1h".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "expected a number and a unit: 250ms, 5s".to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
        for wrong in ["5", "s", "", "5 s", "-1s", "1e400s"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn global_flags_are_taken_anywhere() {
        let cli = Cli::parse_from(["odeon", "ask", "c1", "--json", "Get", "--agent", "/s"]);
        assert!(cli.global.json);
        assert_eq!(cli.global.agent, Some("/s".into()));
    }
}
