//! Finding the leader: asked of everybody who might know, whenever it is not known or does not answer; and voters that
//! have moved while they or this agent were away.

use super::{
    recovered,
    shared::Shared,
    wire::{Reply, Request},
};
use odeon_protocol::NodeId;
use odeon_transport::quic::{DialError, Kind};
use std::{sync::Arc, time::Duration};
use tokio::{
    net::lookup_host,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// Between two looks while all is well.
const IDLE: Duration = Duration::from_secs(1);
/// Between two searches.
const PAUSE: Duration = Duration::from_millis(150);
/// For one search.
const SEARCH: Duration = Duration::from_millis(800);
/// Between two looks behind the ways in while a voter is missed: at first, and at most.
const MISSED: Duration = Duration::from_secs(1);
const MISSED_MAX: Duration = Duration::from_secs(60);
/// What a line names of the reasons.
const REASONS: usize = 3;

/// Looks for the leader when asked to, until the agent stops.
pub(crate) async fn seek(shared: Arc<Shared>, ways_in: Vec<String>) {
    let (mut fruitless, mut missed, mut said) = (0u32, Missed::default(), String::new());
    loop {
        let asked = tokio::select! {
            () = shared.seek.notified() => true,
            () = sleep(IDLE) => shared.leader().is_none(),
        };
        let heard = if asked { ask_all(&shared).await } else { true };
        fruitless = if heard { 0 } else { fruitless + 1 };
        if fruitless > 0 {
            let why = unreached(&shared);
            if fruitless % 20 == 1 || why != said {
                tracing::info!(%why, "waiting for another member of the convention to answer");
                said = why;
            }
        }
        if missed.is_due(&shared) || !heard {
            for way_in in &ways_in {
                look_behind(&shared, way_in).await;
            }
        }
        if asked {
            sleep(PAUSE).await;
        }
    }
}

/// Why those who might know a leader are not reached, as far as there were dials.
fn unreached(shared: &Shared) -> String {
    let failing = shared.sources().into_iter().filter_map(|node| shared.peers.failing(node));
    let mut whys: Vec<String> = failing.map(|failing| failing.why).take(REASONS).collect();
    whys.dedup();
    whys.join("; ")
}

/// When to look for a voter that no connection is open to. Others may have elected a leader without it, at an address
/// where nobody asks for it.
#[derive(Default)]
struct Missed {
    next: Option<Instant>,
    pause: Duration,
}

impl Missed {
    fn is_due(&mut self, shared: &Shared) -> bool {
        let reached = |voter: NodeId| voter == shared.me || shared.peers.connected_to(voter).is_some();
        if shared.voters().into_iter().all(reached) {
            *self = Self::default();
            return false;
        }
        let now = Instant::now();
        if self.next.is_some_and(|next| now < next) {
            return false;
        }
        let is_due = self.next.is_some();
        self.pause = (self.pause * 2).clamp(MISSED, MISSED_MAX);
        self.next = Some(now + self.pause);
        is_due
    }
}

/// Whether anybody knew a leader.
async fn ask_all(shared: &Arc<Shared>) -> bool {
    let mut asked = JoinSet::new();
    for node in shared.sources() {
        let shared = shared.clone();
        asked.spawn(async move { shared.peers.ask(node, Request::WhoLeads, SEARCH).await });
    }
    let mut heard = false;
    let all = async {
        while let Some(answer) = asked.join_next().await {
            if let Ok(Ok(Reply::Leader(leadership))) = answer {
                heard |= leadership.leader.is_some();
                shared.hear_leadership(&leadership);
            }
        }
    };
    drop(timeout(SEARCH, all).await);
    heard || shared.leads() && matches!(timeout(SEARCH, shared.confirm()).await, Ok(Ok(())))
}

/// Who is reached at an address that was given as a way in? Hosts may have moved while this agent was away.
async fn look_behind(shared: &Arc<Shared>, way_in: &str) {
    let Ok(addresses) = lookup_host(way_in).await else { return };
    for address in addresses {
        // Whoever answers shows its certificate first, whichever node was meant.
        let looked = shared.peers.endpoint.dial(address, NodeId(0), Kind::Control).await;
        let Err(DialError::OtherNode { has, .. }) = looked else { continue };
        if has == shared.me || shared.peers.connected_to(has).is_some() {
            continue;
        }
        match shared.peers.endpoint.dial(address, has, Kind::Control).await {
            Ok(connection) => drop(shared.peers.take_control(connection)),
            Err(DialError::OtherRecovery { has, wants, .. }) if has > wants => recovered::meet(shared, has),
            Err(_) => {}
        }
    }
}
