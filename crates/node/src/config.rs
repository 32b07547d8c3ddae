//! What an agent is told at its start: plain data, validated once.

use odeon_protocol::{
    control::Value,
    level::FEATURE_LEVEL,
    limits::{
        CAPABILITIES_MAX, CAPABILITY_KEY_BYTES_MAX, CAPABILITY_VALUE_BYTES_MAX, HOST_NAME_BYTES_MAX, WORKERS_MAX,
    },
};
use std::{
    collections::{BTreeMap, HashSet},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};

/// The UDP port that agents listen on unless told otherwise.
pub const DEFAULT_PORT: u16 = 7400;
/// The HTTP port unless told otherwise.
pub const DEFAULT_HTTP_PORT: u16 = 7480;

/// One agent's configuration.
///
/// Every field may be left at its default except [`Config::name`] and [`Config::data`]; [`Config::new`] takes these.
#[derive(Clone, Debug)]
pub struct Config {
    /// The host's name in the convention: letters, digits, `-`, `_`, `.`; at most 64 bytes.
    ///
    /// People address the host by it (`--on eu-1`), so it has to be unique; the convention refuses a second one.
    pub name: String,
    /// Where key, certificate, directory and socket are kept. Two agents never share one.
    pub data: PathBuf,
    /// The UDP address for other agents.
    ///
    /// The default port moves to a free one if it is taken; a port that was asked for does not.
    pub listen: Bind,
    /// What other agents dial, `host:port`; nothing to find it out from the first peer that is reached.
    ///
    /// Needed behind NAT, and wherever the address that a peer sees is not the one that others can reach.
    pub advertise: Option<String>,
    /// The Unix socket for clients; nothing for `agent.sock` in [`Config::data`].
    ///
    /// Its path has to be short: Unix allows about 100 bytes.
    pub socket: Option<PathBuf>,
    /// The address of the HTTP interface; nothing for none.
    ///
    /// Outside of loopback it needs [`Config::http_token_file`].
    pub http: Option<Bind>,
    /// The file with the bearer token for HTTP; made, readable by its owner alone, if it is absent.
    pub http_token_file: Option<PathBuf>,
    /// Forms a new convention. Exactly one agent of a convention is started so, once.
    ///
    /// With the data directory of the convention that it formed earlier, it goes on with that one.
    pub bootstrap: bool,
    /// Addresses of members to join through, `host:port`; any of them will do.
    pub join: Vec<String>,
    /// The join token. [`Config::token_file`] is the other way to give it.
    pub token: Option<String>,
    /// A file with the join token. It may appear later: it is waited for.
    pub token_file: Option<PathBuf>,
    /// Files in which a valid join token is kept, by role (`voter`, `member`, `client`).
    pub token_out: Vec<(String, PathBuf)>,
    /// What the host can do, for requirements such as `gpu >= 1`.
    pub capabilities: BTreeMap<String, Value>,
    /// Worker executables to run from the start.
    pub workers: Vec<WorkerCommand>,
    /// Addresses of the workers' listening sockets by name, in place of those that the workers declare.
    pub worker_listen: BTreeMap<String, String>,
    /// Votes in the directory's group, hosts no actors.
    pub witness: bool,
    /// How long a troupe's member above the idle number is kept without work.
    ///
    /// Shorter frees memory sooner; longer saves starts under load that comes in bursts.
    pub troupe_idle: Duration,
    /// Where workers' listeners that say no address of their own are bound: `127.0.0.1` unless the host has another
    /// loopback address of its own, as the hosts of one development machine do.
    pub worker_host: Option<Ipv4Addr>,
    /// What the agent says that it understands, for tests: see [`FEATURE_LEVEL`].
    #[doc(hidden)]
    pub feature_level: u16,
}

/// An address to bind, and whether somebody asked for just this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The address.
    pub address: SocketAddr,
    /// Whether it was asked for; a default port that is taken moves to a free one.
    pub asked: bool,
}

impl Bind {
    /// Exactly this address.
    #[must_use]
    pub const fn asked(address: SocketAddr) -> Self {
        Self { address, asked: true }
    }

    /// This address unless its port is taken.
    #[must_use]
    pub const fn default_at(ip: Ipv4Addr, port: u16) -> Self {
        Self { address: SocketAddr::V4(SocketAddrV4::new(ip, port)), asked: false }
    }

    /// Port 0 of the same host, to fall back on, where the port was not asked for.
    #[must_use]
    pub fn fallback(&self) -> Option<SocketAddr> {
        (!self.asked).then(|| SocketAddr::new(self.address.ip(), 0))
    }
}

/// A worker executable and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerCommand {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

impl WorkerCommand {
    /// Splits `PATH [ARGS]` at spaces; quotes group words, a backslash takes the next character as it is.
    ///
    /// # Errors
    /// It is empty, or a quote is not closed.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let bad = |why| ConfigError::Worker { text: text.to_owned(), why };
        let mut words = split_words(text).ok_or_else(|| bad("a quote is not closed"))?.into_iter();
        let path = words.next().ok_or_else(|| bad("it names no executable"))?;
        Ok(Self { path: path.into(), args: words.collect() })
    }

    /// The executable's name, without its folder.
    #[must_use]
    pub fn name(&self) -> String {
        self.path
            .file_name()
            .map_or_else(|| self.path.display().to_string(), |name| name.to_string_lossy().into_owned())
    }
}

fn split_words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(characters.next()?),
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

impl Config {
    /// A configuration with the defaults, which neither bootstraps nor joins.
    #[must_use]
    pub fn new(name: impl Into<String>, data: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            data: data.into(),
            listen: Bind::default_at(Ipv4Addr::UNSPECIFIED, DEFAULT_PORT),
            advertise: None,
            socket: None,
            http: Some(Bind::default_at(Ipv4Addr::LOCALHOST, DEFAULT_HTTP_PORT)),
            http_token_file: None,
            bootstrap: false,
            join: Vec::new(),
            token: None,
            token_file: None,
            token_out: Vec::new(),
            capabilities: BTreeMap::new(),
            workers: Vec::new(),
            worker_listen: BTreeMap::new(),
            witness: false,
            troupe_idle: Duration::from_secs(30),
            worker_host: None,
            feature_level: FEATURE_LEVEL,
        }
    }

    /// The path of the Unix socket for clients.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.data.join("agent.sock"))
    }

    /// Checks what can be checked without doing anything.
    ///
    /// # Errors
    /// The first thing that is wrong, in words.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_host_name(&self.name)?;
        if self.bootstrap && !self.join.is_empty() {
            return Err(ConfigError::BootstrapAndJoin);
        }
        if let Some(http) = &self.http
            && !http.address.ip().is_loopback()
            && self.http_token_file.is_none()
        {
            return Err(ConfigError::HttpToken(http.address));
        }
        if let Some((role, _)) =
            self.token_out.iter().find(|(role, _)| !matches!(&**role, "voter" | "member" | "client"))
        {
            return Err(ConfigError::Role(role.clone()));
        }
        if self.witness && !self.workers.is_empty() {
            return Err(ConfigError::WitnessWithWorkers);
        }
        if self.workers.len() > WORKERS_MAX {
            return Err(ConfigError::Workers(self.workers.len()));
        }
        self.check_paths()?;
        check_capabilities(&self.capabilities)
    }

    fn check_paths(&self) -> Result<(), ConfigError> {
        // sockaddr_un holds 108 bytes, the closing zero included.
        let socket = self.socket_path();
        if socket.as_os_str().len() > 107 {
            return Err(ConfigError::SocketPath(socket));
        }
        let mut seen = HashSet::new();
        match self.token_out.iter().find(|(_, path)| !seen.insert(path)) {
            Some((_, path)) => Err(ConfigError::TokenOutTwice(path.clone())),
            None => Ok(()),
        }
    }
}

fn check_host_name(name: &str) -> Result<(), ConfigError> {
    let fits = !name.is_empty()
        && name.len() <= HOST_NAME_BYTES_MAX
        && name.chars().all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character));
    if fits { Ok(()) } else { Err(ConfigError::HostName(name.to_owned())) }
}

fn check_capabilities(capabilities: &BTreeMap<String, Value>) -> Result<(), ConfigError> {
    if capabilities.len() > CAPABILITIES_MAX {
        return Err(ConfigError::Capabilities(capabilities.len()));
    }
    for (key, value) in capabilities {
        let long_value = matches!(value, Value::Text(text) if text.len() > CAPABILITY_VALUE_BYTES_MAX);
        if key.is_empty() || key.len() > CAPABILITY_KEY_BYTES_MAX || long_value {
            return Err(ConfigError::Capability(key.chars().take(80).collect()));
        }
    }
    Ok(())
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The host's name does not fit.
    #[error("the host name {0:?} does not fit: use 1 to 64 letters, digits, '-', '_' or '.'")]
    HostName(String),
    /// Both ways into a convention at once.
    #[error("--bootstrap forms a new convention and --join enters one: give one of them")]
    BootstrapAndJoin,
    /// HTTP is open to others without a token.
    #[error("HTTP on {0} can be reached from outside: give --http-token-file, or an address of loopback")]
    HttpToken(SocketAddr),
    /// An unknown role.
    #[error("{0:?} is no role: use voter, member or client")]
    Role(String),
    /// A witness hosts no actors.
    #[error("a witness hosts no actors: leave --worker out, or --witness")]
    WitnessWithWorkers,
    /// Too many workers.
    #[error("{0} workers are over the limit of {WORKERS_MAX}")]
    Workers(usize),
    /// The socket's path is too long for Unix.
    #[error("the socket path {} is longer than 107 bytes: give a shorter one with --socket", .0.display())]
    SocketPath(PathBuf),
    /// Two tokens into one file.
    #[error("--token-out names the file {} twice", .0.display())]
    TokenOutTwice(PathBuf),
    /// Too many capabilities.
    #[error("{0} capabilities are over the limit of {CAPABILITIES_MAX}")]
    Capabilities(usize),
    /// A capability's key or value is too long.
    #[error("capability {0:?} does not fit: a key has 1 to 64 bytes, a value at most 256")]
    Capability(String),
    /// A worker's command line does not parse.
    #[error("the worker {text:?} does not parse: {why}")]
    Worker {
        /// As it was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new("eu-1", "/tmp/eu-1")
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(config().validate(), Ok(()));
    }

    #[test]
    fn each_mistake_is_named() {
        let check = |change: fn(&mut Config), expected: &str| {
            let mut config = config();
            change(&mut config);
            let text = config.validate().expect_err(expected).to_string();
            assert!(text.contains(expected), "{text:?} does not say {expected:?}");
        };
        check(|config| config.name = "two words".into(), "host name");
        check(|config| config.name.clear(), "host name");
        check(|config| (config.bootstrap, config.join) = (true, vec!["a:1".into()]), "--join");
        check(|config| config.http = Some(Bind::asked(([0, 0, 0, 0], 80).into())), "--http-token-file");
        check(|config| config.token_out = vec![("boss".into(), "f".into())], "boss");
        check(|config| config.socket = Some("x".repeat(200).into()), "--socket");
        check(|config| drop(config.capabilities.insert(String::new(), Value::Bool(true))), "capability");
        check(
            |config| (config.witness, config.workers) = (true, vec![WorkerCommand { path: "w".into(), args: vec![] }]),
            "witness",
        );
    }

    #[test]
    fn a_worker_command_is_split_like_a_shell_would() {
        let parse = |text| WorkerCommand::parse(text).map(|command| (command.path.display().to_string(), command.args));
        assert_eq!(parse("poll"), Ok(("poll".into(), vec![])));
        assert_eq!(
            parse(" './my poll' --a  \"b c\" ''"),
            Ok(("./my poll".into(), vec!["--a".into(), "b c".into(), String::new()]))
        );
        assert_eq!(parse(r"a\ b c"), Ok(("a b".into(), vec!["c".into()])));
        assert!(parse("").is_err());
        assert!(parse("'open").is_err());
    }

    #[test]
    fn only_a_port_that_was_not_asked_for_moves() {
        assert!(config().listen.fallback().is_some());
        assert_eq!(Bind::asked(([127, 0, 0, 1], 7400).into()).fallback(), None);
    }
}
