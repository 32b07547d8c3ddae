//! What the facts say of this host's place in its convention.

use super::Finding;
use odeon_node::doctor::{DialBack, Facts, Host, Silence};
use std::collections::BTreeMap;

/// Hosts that are named where all is well.
const NAMED: usize = 8;
/// Clocks that differ by more are worth a look.
const APART_US: u64 = 1_000_000;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![leader(facts)];
    findings.extend(facts.hosts.iter().filter_map(host));
    findings.extend(peers(facts));
    findings.push(advertised(facts));
    findings.push(clocks(&facts.hosts));
    findings.push(versions(facts));
    findings
}

fn leader(facts: &Facts) -> Finding {
    match &facts.leader {
        Some(leader) => Finding::good("leader", leader.as_str()),
        None => Finding::look(
            "leader",
            "none: no majority of the voters is reached, so no global name is granted: start the missing voters",
        ),
    }
}

/// A host that is not up.
fn host(host: &Host) -> Option<Finding> {
    let Host { name, address, state, .. } = host;
    if matches!(state.as_str(), "up" | "left") {
        return None;
    }
    let why = host.silence.as_ref().map(|silence| format!(" ({})", told(silence))).unwrap_or_default();
    let advice = match state.as_str() {
        "draining" => "it takes no new actors; that ends when its agent has stopped".to_owned(),
        "joining" => "nothing was heard of it yet: wait, or see its agent's log".to_owned(),
        _ => format!(
            "start its agent, or let UDP through between the two hosts; if it is gone for good: `odeon evict {name}`"
        ),
    };
    Some(Finding::look("host", format!("{name} at {address} is {state}{why}: {advice}")))
}

/// `no answer within 5s; 3 dials in vain, the first 12 s ago`
fn told(silence: &Silence) -> String {
    match silence.dials {
        0 => silence.why.clone(),
        dials => {
            format!(
                "{}; {} in vain, the first {} ago",
                silence.why,
                many(dials as usize, "dial"),
                span(silence.seconds)
            )
        }
    }
}

/// Whether the others answer, which takes UDP there and back.
fn peers(facts: &Facts) -> Vec<Finding> {
    let what = "udp";
    let asked = facts.hosts.iter().filter(|host| host.asked);
    let (silent, answer): (Vec<&Host>, Vec<&Host>) = asked.partition(|host| host.silence.is_some());
    // One that is not up has a finding of its own.
    let blocked: Vec<Finding> =
        silent.iter().filter(|host| host.state == "up" || host.state == "draining").map(|host| blocked(host)).collect();
    match (silent.is_empty(), answer.is_empty()) {
        (true, true) => vec![Finding::good(what, format!("listens on {}; there is no other host", facts.listens_on))],
        (false, true) => {
            let text = format!(
                "no other host answers: {}: either all their agents are stopped, or UDP is blocked here: let it out to \
                 these addresses, and in to {}",
                silent.iter().map(|host| seen(host)).collect::<Vec<_>>().join(", "),
                facts.listens_on,
            );
            vec![Finding::look(what, text)]
        }
        _ if !blocked.is_empty() => blocked,
        _ => vec![Finding::good(what, answering(&answer, silent.len() + answer.len(), facts.not_asked))],
    }
}

/// A host that is up for others and silent here.
fn blocked(host: &Host) -> Finding {
    let text = format!(
        "{}, though it is said to be up: its agent has just stopped, UDP is blocked between the two hosts, or that address \
         leads elsewhere from here: let UDP through both ways, or start its agent with --advertise HOST:PORT",
        seen(host)
    );
    Finding::look("udp", text)
}

fn answering(answer: &[&Host], asked: usize, not_asked: usize) -> String {
    let names: Vec<&str> = answer.iter().take(NAMED).map(|host| host.name.as_str()).collect();
    let more = if names.len() < answer.len() { ", …" } else { "" };
    let left_out = if not_asked > 0 { format!("; {not_asked} were not asked") } else { String::new() };
    format!("{} of {} other hosts answer: {}{more}{left_out}", answer.len(), asked + not_asked, names.join(", "))
}

fn seen(host: &Host) -> String {
    let why = host.silence.as_ref().map_or_else(String::new, told);
    format!("{} at {} does not answer ({why})", host.name, host.address)
}

/// Whether others reach this host by themselves.
fn advertised(facts: &Facts) -> Finding {
    let (what, address) = ("advertised address", &facts.address);
    let tried: Vec<&DialBack> = facts.dialled_back.iter().filter(|dial| dial.address.is_some()).collect();
    let failed: Vec<String> = tried
        .iter()
        .filter_map(|dial| Some(format!("{} dialled {}: {}", dial.by, dial.address.as_ref()?, dial.failed.as_ref()?)))
        .collect();
    if !failed.is_empty() {
        let text = format!(
            "{address} does not lead here{}: {}: other hosts can reach this one only while it has dialled them itself, so \
             it can get lost at any restart: let UDP in to {}, or start the agent with --advertise HOST:PORT that leads here",
            if failed.len() < tried.len() { " from everywhere" } else { "" },
            failed.join("; "),
            facts.listens_on,
        );
        return Finding::look(what, text);
    }
    if !tried.is_empty() {
        let by: Vec<&str> = tried.iter().map(|dial| dial.by.as_str()).collect();
        return Finding::good(what, format!("{address} was dialled from a new port by {}, and answers", by.join(", ")));
    }
    let why = facts.dialled_back.iter().find_map(|dial| Some(format!("{}: {}", dial.by, dial.failed.as_ref()?)));
    let why = why.unwrap_or_else(|| "no other host answers that could".to_owned());
    Finding::good(what, format!("{address}; not tried: {why}"))
}

fn clocks(hosts: &[Host]) -> Finding {
    let what = "clocks";
    // Only what the round trip cannot explain is a difference.
    let known: Vec<(&Host, i64, u64)> = hosts
        .iter()
        .filter_map(|host| {
            let clock = host.clock?;
            Some((host, clock.ahead_us, clock.ahead_us.unsigned_abs().saturating_sub(clock.round_trip_us / 2)))
        })
        .collect();
    let apart: Vec<String> = known
        .iter()
        .filter(|(_, _, sure)| *sure > APART_US)
        .map(|(host, ahead, _)| {
            let side = if *ahead > 0 { "ahead of" } else { "behind" };
            format!("{} is {} {side} this host", host.name, span(ahead.unsigned_abs() / 1_000_000))
        })
        .collect();
    if !apart.is_empty() {
        let text = format!(
            "{}: certificates and join tokens go by the time of day and may be refused; leases do not, so global names are \
             safe: have the clocks set by NTP (chrony, systemd-timesyncd) on all hosts",
            apart.join(", ")
        );
        return Finding::look(what, text);
    }
    match known.iter().map(|(.., sure)| sure / 1000).max() {
        Some(most) => Finding::good(
            what,
            format!("within {most} ms of this one's ({} compared)", many(known.len(), "other host")),
        ),
        None => Finding::good(what, "no other host's clock is known"),
    }
}

fn versions(facts: &Facts) -> Finding {
    let what = "versions";
    let mut runs: BTreeMap<(&str, u16), Vec<&str>> = BTreeMap::new();
    runs.entry((&facts.version, facts.feature_level)).or_default().push(&facts.host);
    for host in &facts.hosts {
        if let (Some(version), Some(level)) = (&host.version, host.feature_level) {
            runs.entry((version, level)).or_default().push(&host.name);
        }
    }
    let known: usize = runs.values().map(Vec::len).sum();
    let all = facts.hosts.iter().filter(|host| host.asked).count() + facts.not_asked + 1;
    // It answers, and does not understand the question.
    let older = facts.hosts.iter().filter(|host| host.asked && host.silence.is_none() && host.version.is_none());
    let older: Vec<&str> = older.map(|host| host.name.as_str()).collect();
    if runs.len() == 1 && older.is_empty() {
        return Finding::good(what, format!("Odeon {} on {known} of {all} hosts", facts.version));
    }
    let mut each: Vec<String> = runs
        .iter()
        .map(|((version, level), hosts)| format!("Odeon {version} (feature level {level}) on {}", hosts.join(", ")))
        .collect();
    if !older.is_empty() {
        each.push(format!("unknown on {}, where it is older, or only starting", older.join(", ")));
    }
    let text = format!(
        "{}: fine while hosts are upgraded one after the other; what is new has to wait for the oldest: upgrade that",
        each.join("; ")
    );
    Finding::look(what, text)
}

/// `1 host`, `2 hosts`.
pub(super) fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A span of time as people say it.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
