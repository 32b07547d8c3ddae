//! `odeon dev`: agents as processes of this machine, joined, with the given workers, until Ctrl-C.

use crate::{
    args::DevArgs,
    failure::{Failure, Outcome},
    local_hosts::{Hosts, Plan, dev_directory},
    output,
};
use serde_json::{Value, json};

/// Runs until SIGINT or SIGTERM, then stops everything it started.
pub(crate) async fn run(args: DevArgs, as_json: bool) -> Outcome {
    let workers = args.paths.iter().map(|path| absolute(path)).collect::<Result<Vec<_>, _>>()?;
    let root = dev_directory();
    prepare(&root)?;
    let capabilities = args.capability.iter().map(|text| capability(text, args.hosts)).collect::<Result<_, _>>()?;
    // Names of listeners are known only to the workers; each gets its declared port on the host's own address.
    let plan = Plan { hosts: args.hosts, workers, capabilities, ..Plan::default() };
    let hosts = Hosts::start(&plan, &root).await?;
    show(&hosts, as_json).await?;
    crate::signals::wait().await?;
    output::line("stopping");
    hosts.stop().await;
    Ok(())
}

fn absolute(worker: &str) -> Result<String, Failure> {
    let (path, args) = worker.split_once(' ').unwrap_or((worker, ""));
    let found = std::fs::canonicalize(path)
        .map_err(|error| Failure::usage(format!("dev: {path}: {error}: give the path of a worker's executable")))?;
    Ok(format!("{} {args}", found.display()).trim_end().to_owned())
}

/// `K=V` for all hosts, or `h1:K=V` for one.
fn capability(text: &str, hosts: u8) -> Result<(Option<u8>, String), Failure> {
    let (key, _) = text.split_once('=').unwrap_or((text, ""));
    let Some((host, _)) = key.split_once(':') else { return Ok((None, text.to_owned())) };
    let number = host.strip_prefix('h').and_then(|number| number.parse().ok());
    match number.filter(|number| (1..=hosts).contains(number)) {
        Some(number) => Ok((Some(number), text[host.len() + 1..].to_owned())),
        None => {
            Err(Failure::usage(format!("dev: --capability {text}: there is no host {host}: they are h1 to h{hosts}")))
        }
    }
}

/// An earlier run's data is of an earlier convention; a running one is left alone.
fn prepare(root: &std::path::Path) -> Outcome {
    if std::os::unix::net::UnixStream::connect(root.join("h1/agent.sock")).is_ok() {
        let text = format!("dev: one runs already in {}: stop it first", root.display());
        return Err(Failure::failed(text));
    }
    match std::fs::remove_dir_all(root) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::failed(format!("dev: cannot clear {}: {error}", root.display())))
        }
        _ => Ok(()),
    }
}

async fn show(hosts: &Hosts, as_json: bool) -> Outcome {
    let mut shown = Vec::new();
    for host in &hosts.all {
        let workers = host.client().await?.admin(json!({ "command": "workers" })).await?;
        let listeners: serde_json::Map<String, Value> = workers
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|worker| worker["listeners"].as_object().cloned().unwrap_or_default())
            .collect();
        shown.push(json!({
            "name": host.name, "pid": host.pid(), "http": format!("http://{}", host.http), "serves": listeners,
        }));
    }
    let shown = Value::Array(shown);
    if as_json {
        output::json(&shown);
        return Ok(());
    }
    output::list(&shown, &[("HOST", "name"), ("PID", "pid"), ("HTTP", "http"), ("SERVES", "serves")], "no hosts");
    output::line("\nin another terminal: odeon --host h2 hosts\nCtrl-C stops everything");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_is_of_all_hosts_or_of_one() {
        assert_eq!(capability("gpu=2", 3).unwrap(), (None, "gpu=2".to_owned()));
        assert_eq!(capability("h2:archive=true", 3).unwrap(), (Some(2), "archive=true".to_owned()));
        assert_eq!(capability("url=http://x", 3).unwrap(), (None, "url=http://x".to_owned()));
        for wrong in ["h4:gpu=1", "h0:gpu=1", "x:gpu=1"] {
            assert!(capability(wrong, 3).unwrap_err().text.contains("h1 to h3"));
        }
    }
}
