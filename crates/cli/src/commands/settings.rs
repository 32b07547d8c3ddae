//! From flags, environment and file to a [`Config`].

use crate::{args::AgentArgs, failure::Failure, local_hosts::state_directory};
use odeon_node::{
    capability,
    config::{Bind, Config, WorkerCommand},
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
};

/// The file's keys: those of the flags, with underscores.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    listen: Option<String>,
    advertise: Option<String>,
    data: Option<PathBuf>,
    socket: Option<PathBuf>,
    http: Option<String>,
    bootstrap: Option<bool>,
    #[serde(default)]
    join: Vec<String>,
    token: Option<String>,
    token_file: Option<PathBuf>,
    #[serde(default)]
    token_out: BTreeMap<String, PathBuf>,
    http_token_file: Option<PathBuf>,
    #[serde(default)]
    capability: BTreeMap<String, toml::Value>,
    #[serde(default)]
    worker: Vec<String>,
    #[serde(default)]
    worker_listen: BTreeMap<String, String>,
    witness: Option<bool>,
}

/// Puts the sources together.
///
/// # Errors
/// Wrong usage: an unreadable file, an unknown key, a value that does not parse.
pub(crate) fn read(args: AgentArgs) -> Result<Config, Failure> {
    let file = args.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
    let name = args.name.or(file.name).map_or_else(machine_name, Ok)?;
    let data = args.data.or(file.data).unwrap_or_else(state_directory);
    let mut config = Config::new(name, data);
    if let Some(text) = args.listen.or(file.listen) {
        config.listen = Bind::asked(resolve("--listen", &text)?);
    }
    match args.http.or(file.http).as_deref() {
        None => {}
        Some("off") => config.http = None,
        Some(text) => config.http = Some(Bind::asked(resolve("--http", text)?)),
    }
    config.advertise = args.advertise.or(file.advertise);
    config.socket = args.socket.or(file.socket);
    config.bootstrap = args.bootstrap || file.bootstrap.unwrap_or(false);
    config.witness = args.witness || file.witness.unwrap_or(false);
    config.join = or_else(args.join, file.join);
    let token_given = args.token.is_some() || args.token_file.is_some();
    config.token = args.token.or(file.token.filter(|_| !token_given));
    config.token_file = args.token_file.or(file.token_file.filter(|_| !token_given));
    config.http_token_file = args.http_token_file.or(file.http_token_file);
    config.token_out = token_out(&args.token_out, file.token_out)?;
    config.capabilities = capabilities(&args.capability, file.capability)?;
    config.worker_listen = pairs("--worker-listen", "NAME=ADDR", &args.worker_listen)?.into_iter().collect();
    if config.worker_listen.is_empty() {
        config.worker_listen = file.worker_listen;
    }
    config.worker_host = args.worker_host;
    config.workers = or_else(args.worker, file.worker)
        .iter()
        .map(|text| WorkerCommand::parse(text).map_err(|error| Failure::usage(format!("agent: --worker: {error}"))))
        .collect::<Result<_, _>>()?;
    Ok(config)
}

/// The settings that differ and that only a start of the agent takes.
pub(crate) fn need_a_start(now: &Config, new: &Config) -> Vec<&'static str> {
    let same = [
        ("name", now.name == new.name),
        ("listen", now.listen == new.listen),
        ("advertise", now.advertise == new.advertise),
        ("data", now.data == new.data),
        ("socket", now.socket == new.socket),
        ("http", now.http == new.http),
        ("bootstrap", now.bootstrap == new.bootstrap),
        ("join", now.join == new.join),
        ("token", now.token == new.token),
        ("token_file", now.token_file == new.token_file),
        ("token_out", now.token_out == new.token_out),
        ("http_token_file", now.http_token_file == new.http_token_file),
        ("worker", now.workers == new.workers),
        ("worker_listen", now.worker_listen == new.worker_listen),
        ("witness", now.witness == new.witness),
    ];
    same.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

fn or_else<T>(first: Vec<T>, second: Vec<T>) -> Vec<T> {
    if first.is_empty() { second } else { first }
}

fn read_file(path: &Path) -> Result<File, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("agent: --config {}: {error}", path.display())))?;
    toml::from_str(&text).map_err(|error| Failure::usage(format!("agent: --config {}: {error}", path.display())))
}

fn machine_name() -> Result<String, Failure> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { Err(Failure::usage("agent: the machine has no host name: give --name")) } else { Ok(name) }
}

fn resolve(flag: &str, text: &str) -> Result<SocketAddr, Failure> {
    let advice = |why: &dyn std::fmt::Display| {
        Failure::usage(format!("agent: {flag} {text}: {why}: expected host:port, IPv6 in brackets"))
    };
    let mut found = text.to_socket_addrs().map_err(|error| advice(&error))?;
    found.next().ok_or_else(|| advice(&"no such host"))
}

fn pairs(flag: &str, form: &str, texts: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let split = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Failure::usage(format!("agent: {flag} {text}: expected {form}"))),
    };
    texts.iter().map(split).collect()
}

fn token_out(flags: &[String], file: BTreeMap<String, PathBuf>) -> Result<Vec<(String, PathBuf)>, Failure> {
    let flags = pairs("--token-out", "ROLE=FILE", flags)?;
    if flags.is_empty() {
        return Ok(file.into_iter().collect());
    }
    Ok(flags.into_iter().map(|(role, path)| (role, PathBuf::from(path))).collect())
}

fn capabilities(
    flags: &[String],
    file: BTreeMap<String, toml::Value>,
) -> Result<BTreeMap<String, odeon_protocol::control::Value>, Failure> {
    let mut texts: Vec<String> = file.into_iter().map(|(key, value)| format!("{key}={}", bare(&value))).collect();
    // Later ones replace earlier ones: flags go over the file.
    texts.extend_from_slice(flags);
    texts
        .iter()
        .map(|text| {
            capability::parse(text).map_err(|error| Failure::usage(format!("agent: --capability {text}: {error}")))
        })
        .collect()
}

fn bare(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn parsed(line: &[&str]) -> Result<Config, Failure> {
        let line = ["odeon", "agent"].iter().chain(line);
        match Cli::try_parse_from(line).expect("the line parses").command {
            Command::Agent(args) => read(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_go_over_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("odeon.toml");
        std::fs::write(&path, "name = 'file'\nhttp = 'off'\n[capability]\ngpu = 2\nzone = 'eu-1'\n").unwrap();
        let path = path.to_str().unwrap();
        let config = parsed(&["--config", path, "--name", "flag", "--capability", "gpu=3"]).unwrap();
        assert_eq!(config.name, "flag");
        assert_eq!(config.http, None);
        let shown: Vec<String> = config.capabilities.iter().map(|(key, value)| format!("{key} {value:?}")).collect();
        assert_eq!(shown, ["gpu Micros(3000000)", "zone Text(\"eu-1\")"]);
    }

    #[test]
    fn what_only_a_start_takes_is_named() {
        let now = parsed(&["--capability", "gpu=1", "--worker", "probe"]).unwrap();
        let new = parsed(&["--capability", "gpu=2", "--worker", "poll", "--http", "off"]).unwrap();
        assert_eq!(need_a_start(&now, &new), ["http", "worker"]);
        assert!(need_a_start(&now, &now).is_empty());
    }

    #[test]
    fn each_mistake_names_flag_and_form() {
        for (line, expected) in [
            (["--capability", "=2"], "--capability =2"),
            (["--worker-listen", "poll"], "NAME=ADDR"),
            (["--token-out", "voter"], "ROLE=FILE"),
            (["--listen", "nowhere"], "host:port"),
            (["--config", "/does/not/exist.toml"], "exist.toml"),
        ] {
            let failure = parsed(&line).unwrap_err();
            assert!(failure.text.contains(expected), "{}", failure.text);
        }
    }

    /// The file as a decoder for `tests/fuzz`. It reaches no name server, so addresses stay as they are.
    fn file(bytes: &[u8]) {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let Ok(file) = toml::from_str::<File>(text) else { return };
        if let Ok(all) = capabilities(&[], file.capability) {
            assert!(all.iter().all(|(key, value)| capability::parse(&format!("{key}={value}")).is_ok()));
        }
        file.worker.iter().for_each(|worker| drop(WorkerCommand::parse(worker)));
    }

    #[test]
    fn no_file_makes_it_panic() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus");
        odeon_testkit::fuzz::run(&corpus, ("agent_config", file));
    }

    #[test]
    fn unknown_keys_of_the_file_are_refused() {
        assert!(toml::from_str::<File>("nmae = 'x'").unwrap_err().to_string().contains("nmae"));
    }
}
