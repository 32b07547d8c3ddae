//! `odeon doctor`: looks for what commonly goes wrong on a host and says what to do about it.
//!
//! The agent gathers facts ([`odeon_node::doctor`]); what is good and what is not is decided here, in functions of these
//! facts. Where no agent answers, this process looks at what it can by itself.

mod alone;
mod convention;
mod machine;

use crate::{
    client::Client,
    failure::{Code, Failure, Outcome},
    output,
};
use odeon_node::doctor::Facts;
use serde_json::{Value, json};
use std::path::Path;

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    what: &'static str,
    ok: bool,
    text: String,
}

impl Finding {
    fn good(what: &'static str, text: impl Into<String>) -> Self {
        Self { what, ok: true, text: text.into() }
    }

    /// Something to look at. The text says what was seen, why it matters and what to do.
    fn look(what: &'static str, text: impl Into<String>) -> Self {
        Self { what, ok: false, text: text.into() }
    }
}

/// Prints one line per finding; fails if something is wrong. `socket` is where the agent was looked for.
pub(crate) async fn run(client: Result<Client, Failure>, socket: &Path, as_json: bool) -> Outcome {
    let (code, findings) = match client {
        Ok(client) => (Code::Failed, ask(&client).await?),
        Err(failure) => (failure.code, alone::look(&failure, socket).await),
    };
    print(&findings, as_json);
    match findings.iter().filter(|finding| !finding.ok).count() {
        0 => Ok(()),
        wrong => Err(Failure::new(
            code,
            format!("doctor: {}: see the lines marked LOOK", convention::many(wrong, "finding")),
        )),
    }
}

fn print(findings: &[Finding], as_json: bool) {
    if as_json {
        let items = findings.iter().map(|f| json!({ "what": f.what, "ok": f.ok, "text": f.text })).collect();
        output::json(&Value::Array(items));
    } else {
        for finding in findings {
            let mark = if finding.ok { "ok  " } else { "LOOK" };
            output::line(format!("{mark}  {:<20}{}", finding.what, finding.text));
        }
    }
}

async fn ask(client: &Client) -> Result<Vec<Finding>, Failure> {
    let answer = client.admin(json!({ "command": "doctor" })).await?;
    let facts: Facts = serde_json::from_value(answer).map_err(|error| {
        Failure::failed(format!("doctor: the agent's answer does not read: {error}: run one version of Odeon"))
    })?;
    Ok(judge(&facts))
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![Finding::good("agent", format!("answers: {}, Odeon {}", facts.host, facts.version))];
    findings.extend(convention::judge(facts));
    findings.extend(facts.certificate.map(machine::certificate));
    findings.extend(facts.socket.iter().flat_map(machine::socket));
    findings.extend(facts.disk.iter().flat_map(machine::disk));
    findings.push(machine::open_files(facts.open_files));
    findings
}
