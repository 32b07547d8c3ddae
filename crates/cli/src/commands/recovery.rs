//! `odeon recover`, `odeon backup FILE`, `odeon restore FILE`: what is left when a majority of the voters is lost.

use crate::{
    client::Client,
    commands::lists::print_done,
    failure::{Code, Failure, Outcome},
    local_hosts::state_directory,
    output,
};
use odeon_node::recovery::{self, Kept, RecoverError, RestoreError, Survivor};
use serde_json::{Value, json};
use std::{
    io::{IsTerminal, Write, stderr, stdin},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Makes the voter of a data directory the only one of a new group.
pub(crate) async fn recover(data: Option<PathBuf>, yes: bool, as_json: bool) -> Outcome {
    let data = data.unwrap_or_else(state_directory);
    let survivor = Survivor::open(&data).map_err(|error| failed_recovery(&error))?;
    let kept = survivor.kept();
    if !as_json {
        explain(&data, &kept);
    }
    if !yes {
        confirm(as_json)?;
    }
    let done = survivor.recover().await.map_err(|error| failed_recovery(&error))?;
    if as_json {
        output::json(&json!({
            "host": kept.host,
            "convention": kept.convention,
            "recovery": done.recovery,
            "epoch": done.epoch,
            "names": kept.names,
            "members": kept.members,
            "tokens": kept.tokens,
            "last": kept.last,
            "committed": kept.committed,
            "evicted": kept.lost,
            "before": done.before,
        }));
        return Ok(());
    }
    output::line(format!("recovered: {} is the only voter now, and epochs go on from {}", kept.host, done.epoch));
    output::line(format!("the log of before is kept in {}: remove it when all is well", done.before.display()));
    output::line(format!("now start the agent as before: odeon agent --data {}", data.display()));
    Ok(())
}

fn failed_recovery(error: &RecoverError) -> Failure {
    let code = match error {
        RecoverError::NoVoter { .. } | RecoverError::Superseded(_) | RecoverError::Denied { .. } => Code::Refused,
        _ => Code::Failed,
    };
    Failure::new(code, format!("recover: {error}"))
}

/// What there is, and what may be lost.
fn explain(data: &Path, kept: &Kept) {
    let (last, committed) = (kept.last, kept.committed);
    let rows = [
        ("host", format!("{}, a voter of convention {}", kept.host, kept.convention)),
        ("it has", format!("{} global names, {} members, {} tokens", kept.names, kept.members, kept.tokens)),
        ("last epoch", kept.epoch.to_string()),
        (
            "its log",
            format!("ends at entry {last} (a majority had {committed} for sure), written {}", ago(kept.written)),
        ),
        ("evicted", if kept.lost.is_empty() { "nobody".to_owned() } else { kept.lost.join(", ") }),
    ];
    output::line(format!("data directory {}", data.display()));
    rows.iter().for_each(|(what, text)| output::line(format!("  {what:<12}{text}")));
    output::line(
        "what may be lost: whatever the lost voters logged and this one did not: names that were granted, hosts",
    );
    output::line(
        "that joined, tokens that were made after the entry above. Epochs go up by 4294967296, so that no such",
    );
    output::line(
        "grant is ever made again, and what it was made to is refused. All of this host's log is taken, also the",
    );
    output::line(
        "entries that no majority may have had. The other voters, and who stood by, are evicted: remove their data",
    );
    output::line("directories, and have them join again with a token.");
}

fn ago(written: Option<SystemTime>) -> String {
    let seconds = written.and_then(|written| written.elapsed().ok()).map(|since| since.as_secs());
    match seconds {
        None => "at a time that is not known".to_owned(),
        Some(seconds @ 0..=119) => format!("{seconds} s ago"),
        Some(seconds @ 120..=7199) => format!("{} min ago", seconds / 60),
        Some(seconds @ 7200..=172_799) => format!("{} h ago", seconds / 3600),
        Some(seconds) => format!("{} days ago", seconds / 86400),
    }
}

fn confirm(as_json: bool) -> Outcome {
    if as_json || !stdin().is_terminal() {
        return Err(Failure::usage(
            "recover: there is no terminal to ask on: add --yes if the majority is lost for ever",
        ));
    }
    let asked = write!(
        stderr(),
        "Go on only if a majority of the voters is lost for ever: as long as it can be started again, do that instead.\n\
         Type yes to recover: "
    );
    let mut answer = String::new();
    let read = asked.and_then(|()| stdin().read_line(&mut answer));
    read.map_err(|error| Failure::failed(format!("recover: {error}")))?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::failed("recover: not confirmed: nothing has changed")),
    }
}

/// Has the agent write its directory to a file.
pub(crate) async fn backup(client: &Client, file: &Path, force: bool, as_json: bool) -> Outcome {
    let absolute = std::path::absolute(file)
        .map_err(|error| Failure::usage(format!("backup: {}: {error}: give the path of a file", file.display())))?;
    let done = client.admin(json!({ "command": "backup", "file": absolute, "force": force })).await?;
    let text = format!(
        "{}: {} global names and {} hosts in {} bytes; it holds the convention's private key: keep it as you keep that",
        file.display(),
        output::cell(&done["names"]),
        output::cell(&done["hosts"]),
        output::cell(&done["bytes"])
    );
    print_done(&done, as_json, &text);
    if done["fresh"] == Value::Bool(false) && !as_json {
        output::line("no majority of the voters is reached: what only the others know is not in it");
    }
    Ok(())
}

/// Makes a data directory of a backup.
pub(crate) fn restore(file: &Path, data: &Path, name: &str, as_json: bool) -> Outcome {
    let done = recovery::restore(file, data, name).map_err(|error| {
        let code = if matches!(error, RestoreError::Denied(_)) { Code::Refused } else { Code::Failed };
        Failure::new(code, error)
    })?;
    if as_json {
        output::json(&json!({
            "convention": done.convention,
            "recovery": done.recovery,
            "epoch": done.epoch,
            "names": done.names,
            "taken": done.taken,
            "by": done.by,
        }));
        return Ok(());
    }
    let taken = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(done.taken);
    output::line(format!(
        "restored: convention {}, {} global names, as {} had them {}; epochs go on from {}",
        done.convention,
        done.names,
        done.by,
        ago(Some(taken)),
        done.epoch
    ));
    output::line(
        "what was granted, joined or made since then is lost. The voters of that time are evicted: remove their",
    );
    output::line("data directories, and have them join again with a token.");
    output::line(format!("now start the agent: odeon agent --name {name} --data {}", data.display()));
    Ok(())
}
