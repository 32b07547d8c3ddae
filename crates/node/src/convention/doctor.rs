//! This agent's place in the convention, looked at for `odeon doctor`: asks the other hosts, and answers them.
//!
//! - **DO-1.** A member has its own address dialled, the one that the directory has for it, and no other.
//! - **DO-2.** An agent dials back [`DIAL_BACKS_MAX`] hosts at a time, and as many in a second; the rest is refused.
//! - **DO-3.** Nothing changes by looking, except that hosts are dialled that were not connected.
//!
//! [`DIAL_BACKS_MAX`]: odeon_protocol::limits::DIAL_BACKS_MAX

use super::{
    clock::wall,
    shared::Shared,
    status::{self, HostRole, HostState, HostStatus},
    wire::{About, Reply, Request},
};
use crate::doctor::{Certificate, Clock, DialBack, Facts, Host, Silence, Socket};
use odeon_cluster::directory::Standing;
use odeon_protocol::NodeId;
use odeon_transport::quic::Endpoint;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    net::lookup_host,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// For a host to be connected, and for its answer.
const ASK: Duration = Duration::from_secs(2);
/// For a handshake on each address of a host that is dialled back, all of them together.
const KNOCKS: Duration = Duration::from_millis(1500);
/// For these and its name to be looked up; and for whoever asked to be told.
const DIAL_BACK: Duration = Duration::from_secs(2);
const TOLD: Duration = Duration::from_millis(2500);
/// The addresses of a host that are dialled back, of those that its name has.
const ADDRESSES_MAX: usize = 4;
/// The hosts that are asked, of more.
const HOSTS_MAX: usize = 64;
/// The hosts that are to dial back.
const DIALLERS: usize = 3;
/// So long after it has dialled back an agent may do so again.
const PAUSE: Duration = Duration::from_secs(1);
/// Letters of what others say that are kept.
const TEXT_MAX: usize = 300;

/// What this agent says of itself.
pub(super) fn about(shared: &Shared) -> About {
    About {
        version: env!("CARGO_PKG_VERSION").into(),
        feature_level: shared.feature_level,
        wall: micros(wall()),
        #[cfg(feature = "next-level")]
        copy: shared.copies.version(),
    }
}

/// Tries whether the asker is reached at its address.
pub(super) async fn dial_back(shared: &Shared, asker: NodeId) -> Reply {
    let Some(address) = address_of(shared, asker) else {
        return Reply::Refused("it does not know the address yet: try again in a second".into());
    };
    let Ok(permit) = shared.dial_backs.clone().try_acquire_owned() else {
        return Reply::Refused("it dials back for others just now: try again in a second".into());
    };
    let (endpoint, dials) = (shared.peers.endpoint.clone(), address.clone());
    // A name that is looked up for long keeps the permit: that cannot be broken off.
    let knocked = tokio::spawn(async move {
        let knocked = knock(&endpoint, &dials, asker).await;
        tokio::spawn(async move {
            sleep(PAUSE).await;
            drop(permit);
        });
        knocked
    });
    match timeout(DIAL_BACK, knocked).await {
        Ok(Ok(Ok(outcome))) => Reply::DialledBack { address, outcome },
        Ok(Ok(Err(error))) => Reply::Refused(format!("it has no port to dial from: {error}")),
        Ok(Err(_)) => Reply::Refused("it is stopping".into()),
        Err(_) => {
            let outcome = Err(format!("the name {address} was not looked up within {DIAL_BACK:?}"));
            Reply::DialledBack { address, outcome }
        }
    }
}

fn address_of(shared: &Shared, node: NodeId) -> Option<String> {
    shared.copies.read(|directory| {
        let member = directory.member(node).filter(|member| member.standing == Standing::In)?;
        Some(member.address.clone())
    })
}

async fn knock(endpoint: &Endpoint, address: &str, node: NodeId) -> std::io::Result<Result<(), String>> {
    let unresolved = format!("the name {address} does not resolve");
    let found: Vec<SocketAddr> = match lookup_host(address).await {
        Ok(found) => found.take(ADDRESSES_MAX).collect(),
        Err(error) => return Ok(Err(format!("{unresolved}: {error}"))),
    };
    let within = KNOCKS / u32::try_from(found.len().max(1)).unwrap_or(1);
    let mut outcome = Err(unresolved);
    for address in found {
        outcome = endpoint.knock(address, node, within).await?.map_err(|error| error.to_string());
        if outcome.is_ok() {
            break;
        }
    }
    Ok(outcome)
}

/// Looks at everything that concerns other hosts, and at this agent's own means of speaking to them.
pub(super) async fn examine(shared: &Arc<Shared>) -> Facts {
    let members = status::members(shared);
    let leader = members.iter().find(|host| Some(host.node) == shared.leader()).map(|host| host.name.clone());
    let others: Vec<HostStatus> =
        members.into_iter().filter(|host| host.node != shared.me && host.state != HostState::Left).collect();
    let (asked, left_out) = others.split_at(others.len().min(HOSTS_MAX));
    let answers = ask_all(shared, asked).await;
    let dialled_back = have_dialled(shared, &answers).await;
    let mut hosts: Vec<Host> = answers.into_iter().map(|(_, host)| host).collect();
    hosts.extend(left_out.iter().filter(|host| host.state != HostState::Up).map(seen));
    Facts {
        host: shared.data.host().to_owned(),
        version: env!("CARGO_PKG_VERSION").into(),
        feature_level: shared.feature_level,
        leader,
        listens_on: shared.peers.listens_on().to_string(),
        address: address_of(shared, shared.me).unwrap_or_else(|| shared.own_address()),
        hosts,
        not_asked: left_out.len(),
        dialled_back,
        socket: shared.peers.endpoint.socket().map(Socket::from),
        certificate: Some(certificate(shared)),
        ..Facts::default()
    }
}

/// What is known of a host without asking it.
fn seen(host: &HostStatus) -> Host {
    Host { name: host.name.clone(), address: host.address.clone(), state: host.state.word().into(), ..Host::default() }
}

/// All of them at the same time; by name.
async fn ask_all(shared: &Arc<Shared>, hosts: &[HostStatus]) -> Vec<(HostStatus, Host)> {
    let mut asked = JoinSet::new();
    for host in hosts {
        let (shared, host) = (shared.clone(), host.clone());
        asked.spawn(async move {
            let found = ask(&shared, &host).await;
            (host, found)
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    answers
}

async fn ask(shared: &Shared, host: &HostStatus) -> Host {
    let node = host.node;
    let answer = match timeout(ASK, shared.peers.control(node)).await {
        Ok(Ok(_)) => said(shared, node).await,
        Ok(Err(error)) => Err(error.why()),
        Err(_) => Err(format!("no answer within {ASK:?}")),
    };
    let silence = answer.as_ref().err().map(|why| silence(shared, node, why));
    let (about, clock) = answer.ok().flatten().unzip();
    Host {
        asked: true,
        silence,
        version: about.as_ref().map(|about| shortened(&about.version)),
        feature_level: about.map(|about| about.feature_level),
        clock,
        ..seen(host)
    }
}

/// What a connected host says; nothing if its Odeon does not know the question.
async fn said(shared: &Shared, node: NodeId) -> Result<Option<(About, Clock)>, String> {
    let (begun, before) = (Instant::now(), wall());
    match shared.peers.ask_connected(node, &Request::About, ASK).await {
        Ok(Reply::About(about)) => {
            let clock = clock(micros(before), about.wall, begun.elapsed());
            Ok(Some((about, clock)))
        }
        Ok(_) => Ok(None),
        Err(error) => Err(error.why()),
    }
}

/// The other's clock beside this one's: it was read somewhen in the round trip that began at `before`.
fn clock(before: u64, other: u64, round_trip: Duration) -> Clock {
    let round_trip_us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
    let ahead = i128::from(other) - i128::from(before) - i128::from(round_trip_us / 2);
    let ahead_us = i64::try_from(ahead).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX });
    Clock { ahead_us, round_trip_us }
}

/// Why a host does not answer. The dials before this one know more than the wait for it.
fn silence(shared: &Shared, node: NodeId, why: &str) -> Silence {
    match shared.peers.failing(node) {
        Some(failing) => {
            Silence { why: shortened(&failing.why), dials: failing.dials, seconds: failing.since.elapsed().as_secs() }
        }
        None => Silence { why: shortened(why), dials: 0, seconds: 0 },
    }
}

/// Has hosts that answered dial back, voters first: they have to reach this one more than others do.
async fn have_dialled(shared: &Arc<Shared>, answers: &[(HostStatus, Host)]) -> Vec<DialBack> {
    let mut diallers: Vec<&HostStatus> =
        answers.iter().filter(|(_, said)| said.version.is_some()).map(|(host, _)| host).collect();
    diallers.sort_by_key(|host| host.role == HostRole::Member);
    let mut dialled = JoinSet::new();
    for host in diallers.into_iter().take(DIALLERS) {
        let (shared, node, by) = (shared.clone(), host.node, host.name.clone());
        dialled.spawn(async move {
            let answer = shared.peers.ask_connected(node, &Request::DialBack, TOLD).await;
            let (address, failed) = match answer {
                Ok(Reply::DialledBack { address, outcome }) => (Some(shortened(&address)), outcome.err()),
                Ok(other) => (None, Some(other.unexpected(node).why())),
                Err(error) => (None, Some(error.why())),
            };
            DialBack { by, address, failed: failed.as_deref().map(shortened) }
        });
    }
    let mut dialled = dialled.join_all().await;
    dialled.sort_by(|one, other| one.by.cmp(&other.by));
    dialled
}

fn certificate(shared: &Shared) -> Certificate {
    let (now, identity) = (wall(), &shared.identity);
    Certificate { left_s: seconds(now, identity.not_after()), renewal_in_s: seconds(now, identity.renew_at()) }
}

/// From one time to another; negative if that is over.
fn seconds(from: SystemTime, to: SystemTime) -> i64 {
    let whole = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    to.duration_since(from).map_or_else(|over| -whole(over.duration()), whole)
}

fn micros(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// What another host says, as a terminal may be shown it.
fn shortened(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_with_the_middle_of_the_round_trip() {
        let of = |other, millis| clock(10_000_000, other, Duration::from_millis(millis)).ahead_us;
        assert_eq!(of(10_050_000, 100), 0);
        assert_eq!(of(12_000_000, 0), 2_000_000);
        assert_eq!(of(9_000_000, 200), -1_100_000);
        // Whatever another host says.
        assert_eq!(of(u64::MAX, 0), i64::MAX);
        assert_eq!(clock(u64::MAX, 0, Duration::MAX).ahead_us, i64::MIN);
    }

    #[test]
    fn times_that_are_over_are_negative() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!((seconds(at(5), at(8)), seconds(at(8), at(5)), seconds(at(5), at(5))), (3, -3, 0));
    }

    #[test]
    fn what_others_say_is_cut_between_letters_and_commands_no_terminal() {
        assert_eq!(shortened(&"é".repeat(400)), "é".repeat(TEXT_MAX));
        assert_eq!(shortened("\u{1b}[2Jno\nway"), "[2Jnoway");
    }
}
