//! `odeon hosts --watch`: hosts that are there, then each that comes, changes or goes, until Ctrl-C.

use crate::{
    failure::{Code, Failure, Outcome},
    output, signals,
};
use odeon::{Capability, Host, HostChange, System};
use serde_json::{Value, json};
use std::path::Path;

/// One line a change, or one JSON document a line.
pub(crate) async fn watch(socket: &Path, as_json: bool) -> Outcome {
    let system = System::connect_to(socket).await.map_err(|error| Failure::unconnected(&error))?;
    let mut hosts = system.hosts().map_err(Failure::failed)?;
    let stopped = signals::wait();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            stopped = &mut stopped => return stopped,
            change = hosts.next() => match change {
                Some(change) if as_json => output::line(document(&change).to_string()),
                Some(change) => output::line(line(&change)),
                None => return Err(Failure::new(Code::NoAgent, "hosts: the agent went away: start it again")),
            },
        }
    }
}

fn document(change: &HostChange) -> Value {
    let Some((word, host)) = read(change) else { return json!({ "change": "unknown" }) };
    let capabilities = host.capabilities.iter().map(|(key, value)| (key.clone(), value_of(value)));
    json!({
        "change": word,
        "name": host.name,
        "boot": host.boot.to_string(),
        "suspect": host.suspect,
        "draining": host.draining,
        "capabilities": capabilities.collect::<serde_json::Map<_, _>>(),
    })
}

fn line(change: &HostChange) -> String {
    let Some((word, host)) = read(change) else { return String::new() };
    let states = [(host.suspect, "suspect"), (host.draining, "draining")];
    let states = states.into_iter().filter(|(is, _)| *is).map(|(_, word)| word.to_owned());
    let capabilities = host.capabilities.iter().map(|(key, value)| format!("{key}={value}"));
    let words = [word.to_owned(), host.name.clone()].into_iter().chain(states).chain(capabilities);
    words.collect::<Vec<_>>().join("  ")
}

fn read(change: &HostChange) -> Option<(&'static str, &Host)> {
    match change {
        HostChange::Here(host) => Some(("here", host)),
        HostChange::Gone(host) => Some(("gone", host)),
        _ => None,
    }
}

fn value_of(capability: &Capability) -> Value {
    if let Some(value) = capability.as_bool() {
        return json!(value);
    }
    match (capability.as_number(), capability.as_text()) {
        (Some(number), _) if number.fract() == 0.0 => json!(number as i64),
        (Some(number), _) => json!(number),
        (None, text) => json!(text),
    }
}
