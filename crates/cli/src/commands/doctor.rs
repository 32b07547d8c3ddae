//! `odeon doctor`: looks for what commonly goes wrong on a host and says what to do about it.

use crate::{
    client::Client,
    failure::{Failure, Outcome},
    output,
};
use serde_json::{Value, json};

/// One thing looked at.
struct Finding {
    what: &'static str,
    ok: bool,
    text: String,
}

impl Finding {
    fn new(what: &'static str, ok: bool, text: impl Into<String>) -> Self {
        Self { what, ok, text: text.into() }
    }
}

/// Prints one line per finding; fails if something is wrong.
pub(crate) async fn run(client: Result<Client, Failure>, as_json: bool) -> Outcome {
    let mut findings = vec![socket_buffers(), open_files()];
    match client {
        Ok(client) => findings.extend(agent(&client).await?),
        Err(failure) => findings.push(Finding::new("agent", false, failure.text)),
    }
    let wrong = findings.iter().filter(|finding| !finding.ok).count();
    if as_json {
        let items = findings.iter().map(|f| json!({ "what": f.what, "ok": f.ok, "text": f.text })).collect();
        output::json(&Value::Array(items));
    } else {
        for finding in &findings {
            let mark = if finding.ok { "ok  " } else { "LOOK" };
            output::line(format!("{mark}  {:<16}{}", finding.what, finding.text));
        }
    }
    match wrong {
        0 => Ok(()),
        n => Err(Failure::failed(format!("doctor: {n} finding(s): see the lines marked LOOK"))),
    }
}

const BUFFER_BYTES: u64 = 4 << 20;

fn socket_buffers() -> Finding {
    let path = "/proc/sys/net/core/rmem_max";
    match std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok()) {
        // The kernel lets root exceed the limit, so a low value matters to others only.
        Some(bytes) if bytes < BUFFER_BYTES && !rustix::process::geteuid().is_root() => {
            let advice = format!("net.core.rmem_max is {bytes}: raise it (sysctl -w net.core.rmem_max={BUFFER_BYTES})");
            Finding::new("socket buffers", false, advice)
        }
        Some(bytes) => Finding::new("socket buffers", true, format!("net.core.rmem_max is {bytes}")),
        None => Finding::new("socket buffers", true, format!("{path} is not readable here; skipped")),
    }
}

fn open_files() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    match limit {
        Some(files) if files < 1024 => {
            Finding::new("open files", false, format!("the limit is {files}: raise it (ulimit -n 4096)"))
        }
        Some(files) => Finding::new("open files", true, format!("the limit is {files}")),
        None => Finding::new("open files", true, "no limit"),
    }
}

async fn agent(client: &Client) -> Result<Vec<Finding>, Failure> {
    let hosts = client.admin(json!({ "command": "hosts" })).await?;
    let status = client.admin(json!({ "command": "status" })).await?;
    let mut findings = vec![Finding::new("agent", true, "answers")];
    let leader = &status["leader"];
    let text = if leader.is_null() {
        "none: no majority of the voters is reached; start the missing voters".to_owned()
    } else {
        output::cell(leader)
    };
    findings.push(Finding::new("leader", !leader.is_null(), text));
    for host in hosts.as_array().into_iter().flatten() {
        let state = output::cell(&host["state"]);
        if !matches!(state.as_str(), "up" | "left") {
            let text = format!("{} at {} is {state}", output::cell(&host["name"]), output::cell(&host["address"]));
            findings.push(Finding::new("host", false, text));
        }
    }
    Ok(findings)
}
