//! Finding the leader: asked of everybody who might know, whenever it is not known or does not answer.

use super::{
    shared::Shared,
    wire::{Reply, Request},
};
use odeon_protocol::NodeId;
use odeon_transport::quic::{DialError, Kind};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{
    net::lookup_host,
    task::JoinSet,
    time::{sleep, timeout},
};

/// Between two looks while all is well.
const IDLE: Duration = Duration::from_secs(1);
/// Between two searches.
const PAUSE: Duration = Duration::from_millis(150);
/// For one search.
const SEARCH: Duration = Duration::from_millis(800);

/// Looks for the leader when asked to, until the agent stops.
pub(crate) async fn seek(shared: Arc<Shared>, ways_in: Vec<String>) {
    let mut fruitless = 0u32;
    loop {
        tokio::select! {
            () = shared.seek.notified() => {}
            () = sleep(IDLE) => if shared.leader().is_some() { continue },
        }
        let heard = ask_all(&shared).await;
        fruitless = if heard { 0 } else { fruitless + 1 };
        if !heard {
            if fruitless % 20 == 1 {
                tracing::info!("waiting for another member of the convention to answer");
            }
            for way_in in &ways_in {
                look_behind(&shared, way_in).await;
            }
        }
        sleep(PAUSE).await;
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
    heard || shared.leads()
}

/// Who is reached at an address that was given as a way in? Hosts may have moved while this agent was away.
async fn look_behind(shared: &Shared, way_in: &str) {
    let known: BTreeSet<NodeId> = shared.sources().into_iter().collect();
    let Some(&any) = known.first() else { return };
    let Ok(addresses) = lookup_host(way_in).await else { return };
    for address in addresses {
        let mut node = any;
        for _ in 0..2 {
            match shared.peers.endpoint.dial(address, node, Kind::Control).await {
                Ok(connection) => {
                    shared.peers.take_control(connection);
                    break;
                }
                Err(DialError::OtherNode { has, .. }) if has != shared.me => node = has,
                Err(_) => break,
            }
        }
    }
}
