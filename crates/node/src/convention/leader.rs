//! What only the leader does: it keeps the leases, gives up hosts that are silent, and finds new hosts for names.
//!
//! - **LD-1.** A renewal is answered only after a majority confirmed this leader in a round begun after it arrived.
//! - **LD-2.** Nothing of an earlier leadership is used in a later one.
//! - **LD-3.** Whoever was silent while this leader itself was out of reach of a majority is not given up for it.
//! - **LD-4.** What this leader has proposed to end is renewed by it no more, however long its log takes.

use super::{clock::random, error::CallError, now, proposals, raft::Group, shared::Shared, voters};
use odeon_cluster::{
    directory::{Command, NameRecord},
    lease::{Arrived, Leases, TIMING},
    placement::{Recent, Wanted, spread},
    requirement::Requirement,
};
use odeon_protocol::{
    Boot, NodeId, Time,
    control::Refusal,
    peer::{Adoption, PeerReply, PeerRequest, Renewal, Renewed},
    planted::{self, Fault},
};
use openraft::ServerState;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
    time::{Instant, sleep},
};

/// Between two looks at the leases.
const TICK: Duration = Duration::from_millis(50);
/// A leader that a majority has not confirmed for this long looks after that before anything else.
const CONFIRMED: Duration = Duration::from_millis(500);
/// Between two looks at names to be placed; longer where no host fits.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A name that was handed to a host is handed to another one after this.
const ADOPT_AGAIN: Duration = Duration::from_secs(3);
/// Hosts that refused names may be asked again after this.
const FORGIVE: Duration = Duration::from_secs(5);
/// For a host to take names in hand.
const ADOPT: Duration = Duration::from_secs(10);
/// Names in one request.
const ADOPT_MAX: usize = 500;

/// The leader's memory; empty on everybody else.
#[derive(Debug, Default)]
pub(crate) struct Leading {
    state: Mutex<Option<State>>,
    arrived: Notify,
}

#[derive(Debug)]
struct State {
    leases: Leases,
    waiting: BTreeMap<(NodeId, Boot, u64), oneshot::Sender<Renewed>>,
    /// When each boot's lease was last confirmed.
    confirmed: BTreeMap<(NodeId, Boot), Time>,
}

impl State {
    /// Of a leader that was elected just now.
    fn new() -> Self {
        Self { leases: Leases::new(TIMING, now()), waiting: BTreeMap::new(), confirmed: BTreeMap::new() }
    }

    /// Of a leader that was out of reach of a majority.
    fn begin_anew(&mut self) {
        self.leases.begin_anew(now());
        self.waiting.clear();
        self.confirmed.clear();
    }
}

impl Leading {
    /// Answers a renewal; nothing if this agent does not lead, or cannot say.
    pub(crate) async fn renew(&self, shared: &Shared, renewal: Renewal) -> Option<Renewed> {
        let group = shared.group.as_ref()?;
        let wait = {
            let machine = group.machine.read();
            let mut state = self.state.lock();
            let state = state.as_mut()?;
            match state.leases.arrived(renewal, &machine.directory, now()) {
                Arrived::Answer(answer) => return Some(answer),
                Arrived::Dropped => return None,
                Arrived::Waits => {
                    let (answer, wait) = oneshot::channel();
                    state.waiting.insert((renewal.node, renewal.boot, renewal.number), answer);
                    wait
                }
            }
        };
        self.arrived.notify_one();
        wait.await.ok()
    }

    /// How long a host's agent has been silent, and for how long it was heard without a gap, if it was; nothing if this
    /// agent does not lead.
    pub(crate) fn heard(&self, node: NodeId) -> Option<(Duration, Option<Duration>)> {
        let (state, now) = (self.state.lock(), now());
        state.as_ref().map(|state| (state.leases.silent_for(node, now), state.leases.heard_for(node, now)))
    }

    /// Whether that boot holds a lease now, confirmed under this leadership.
    fn holds(&self, node: NodeId, boot: Boot) -> bool {
        let state = self.state.lock();
        let confirmed = state.as_ref().and_then(|state| state.confirmed.get(&(node, boot)).copied());
        confirmed.is_some_and(|when| now().since(when) < TIMING.pause)
    }

    fn begin_round(&self) -> bool {
        self.state.lock().as_mut().is_some_and(|state| state.leases.begin_round())
    }

    fn end_round(&self, confirmed: bool) {
        let mut state = self.state.lock();
        let Some(state) = state.as_mut() else { return };
        for renewal in state.leases.end_round(confirmed) {
            state.confirmed.insert((renewal.node, renewal.boot), now());
            if let Some(answer) = state.waiting.remove(&(renewal.node, renewal.boot, renewal.number)) {
                let _ = answer.send(Renewed::Held { number: renewal.number });
            }
        }
        state.waiting.retain(|_, answer| !answer.is_closed());
    }
}

/// Leads whenever this agent is elected, until it stops.
pub(crate) async fn run(shared: Arc<Shared>, group: Group) {
    let mut metrics = group.raft.metrics();
    loop {
        if metrics.wait_for(|now| now.state == ServerState::Leader).await.is_err() {
            return;
        }
        let term = metrics.borrow().current_term;
        tokio::select! {
            () = lead(&shared, &group) => {}
            _ = metrics.wait_for(|now| now.state != ServerState::Leader || now.current_term != term) => {}
        }
        *shared.leading.state.lock() = None;
        tracing::info!(term, "this agent no longer leads");
    }
}

async fn lead(shared: &Arc<Shared>, group: &Group) {
    // Once confirmed, the directory holds whatever earlier leaders committed.
    while shared.confirm().await.is_err() {
        sleep(TICK).await;
    }
    *shared.leading.state.lock() = Some(State::new());
    tracing::info!("this agent leads the convention");
    tokio::join!(rounds(shared), expire(shared, group), place(shared, group), voters::promote(shared, group));
}

async fn rounds(shared: &Shared) {
    loop {
        shared.leading.arrived.notified().await;
        while shared.leading.begin_round() {
            let confirmed = planted::is(Fault::RenewWithoutQuorum) || shared.confirm().await.is_ok();
            shared.leading.end_round(confirmed);
        }
    }
}

async fn expire(shared: &Shared, group: &Group) {
    let mut confirmed = now();
    loop {
        sleep(TICK).await;
        if now().since(confirmed) >= CONFIRMED {
            if shared.confirm().await.is_err() {
                continue;
            }
            if now().since(confirmed) >= TIMING.pause {
                // Not the others were away, but this agent: nobody pays for it (LD-3), and what was proposed stays so (LD-4).
                tracing::info!("a majority is reached again");
                if let Some(state) = shared.leading.state.lock().as_mut() {
                    state.begin_anew();
                }
            }
            confirmed = now();
        }
        let commands = {
            let machine = group.machine.read();
            let mut state = shared.leading.state.lock();
            let Some(state) = state.as_mut() else { return };
            state.leases.expired(&machine.directory, now())
        };
        // Else they would wait in the log of a leader that is cut off, and be carried out long after.
        if commands.is_empty() || shared.confirm().await.is_err() {
            continue;
        }
        if let Some(state) = shared.leading.state.lock().as_mut() {
            state.leases.proposed(&commands);
        }
        for command in &commands {
            match command {
                Command::LeaseLost { node, generation } => tracing::warn!(%node, generation, "a host lost its lease"),
                Command::HostDead { node, .. } => tracing::warn!(%node, "a host is given up"),
                _ => {}
            }
        }
        // What is not committed now is proposed again at the next look.
        drop(proposals::log_here(group, commands).await);
    }
}

/// Hands unplaced names to hosts that fit, again and again until they are claimed.
async fn place(shared: &Arc<Shared>, group: &Group) {
    let (mut handed, mut changes) = (BTreeMap::<Arc<str>, Instant>::new(), shared.copies.changes());
    let mut able = shared.peers.facts().changes();
    let (mut recent, mut refused, mut asked) = (Recent::default(), Refusals::new(), JoinSet::new());
    let (mut forgiven, mut pause) = (Instant::now(), LOOK_AGAIN);
    loop {
        if forgiven.elapsed() >= FORGIVE {
            forgiven = Instant::now();
            refused.clear();
        }
        let wanted: Vec<NameRecord> = {
            let machine = group.machine.read();
            let unplaced: BTreeSet<&str> = machine.directory.unplaced().map(|record| &*record.name).collect();
            handed.retain(|name, when| when.elapsed() < ADOPT_AGAIN && unplaced.contains(&**name));
            refused.retain(|name, _| unplaced.contains(&**name));
            machine.directory.unplaced().filter(|record| !handed.contains_key(&record.name)).cloned().collect()
        };
        let chosen = choose(shared, &wanted, &mut recent, &refused);
        // Where no host fits, nothing happens until one changes; of most changes this loop is told.
        let idle = chosen.is_empty() && handed.is_empty();
        pause = if idle { (pause * 2).min(TIMING.lease) } else { LOOK_AGAIN };
        for (node, adoptions) in chosen {
            tracing::info!(%node, names = adoptions.len(), "names go to a new host");
            handed.extend(adoptions.iter().map(|adoption| (adoption.name.clone(), Instant::now())));
            for some in adoptions.chunks(ADOPT_MAX) {
                asked.spawn(adopt(shared.clone(), node, some.to_vec()));
            }
        }
        tokio::select! {
            Some(back) = asked.join_next() => {
                for (name, refuser) in back.unwrap_or_default() {
                    handed.remove(&name);
                    refused.entry(name).or_default().extend(refuser);
                }
                pause = LOOK_AGAIN;
            }
            _ = changes.changed() => {
                pause = LOOK_AGAIN;
                sleep(TICK).await;
            }
            _ = able.changed() => {
                // Whoever could not take a name may be able to now.
                refused.clear();
                pause = LOOK_AGAIN;
                sleep(TICK).await;
            }
            () = sleep(pause) => {}
        }
    }
}

/// Which hosts refused a name; they are not asked again for a while.
type Refusals = BTreeMap<Arc<str>, BTreeSet<NodeId>>;

fn choose(
    shared: &Shared,
    wanted: &[NameRecord],
    recent: &mut Recent,
    refused: &Refusals,
) -> BTreeMap<NodeId, Vec<Adoption>> {
    let mut chosen: BTreeMap<NodeId, Vec<Adoption>> = BTreeMap::new();
    if wanted.is_empty() {
        return chosen;
    }
    let hosts: Vec<_> =
        super::status::hosts(shared).into_iter().filter(|host| shared.leading.holds(host.node, host.boot)).collect();
    recent.keep_only(&hosts);
    let requirements: Vec<Requirement> = wanted
        .iter()
        .map(|record| record.declaration.policy.requires.parse().unwrap_or_else(|_| Requirement::anywhere()))
        .collect();
    let nowhere = BTreeSet::new();
    let sought: Vec<Wanted<'_>> = wanted
        .iter()
        .zip(&requirements)
        .map(|(record, requires)| Wanted {
            on: record.declaration.on.as_deref(),
            not: refused.get(&record.name).unwrap_or(&nowhere),
            ..Wanted::new(&record.declaration.type_name, requires)
        })
        .collect();
    for (record, place) in wanted.iter().zip(spread(&sought, &hosts, recent, random())) {
        match place {
            Ok(host) => chosen.entry(host.node).or_default().push(Adoption {
                name: record.name.clone(),
                epoch: record.epoch,
                declaration: record.declaration.clone(),
            }),
            Err(error) => tracing::debug!(name = %record.name, lacks = ?error.lacks, "no host for a name now"),
        }
    }
    chosen
}

/// Hands names to a host; answers those that it does not take, with its id if it said so.
async fn adopt(shared: Arc<Shared>, node: NodeId, adoptions: Vec<Adoption>) -> Vec<(Arc<str>, Option<NodeId>)> {
    let names: Vec<Arc<str>> = adoptions.iter().map(|adoption| adoption.name.clone()).collect();
    match shared.peers.call(node, PeerRequest::Adopt(adoptions), ADOPT).await {
        Ok(PeerReply::Adopted { refused }) => {
            let said = |(name, refusal): (Arc<str>, Refusal)| {
                tracing::debug!(%name, %node, %refusal, "a host does not take a name");
                (name, Some(node))
            };
            refused.into_iter().map(said).collect()
        }
        // It may be at it still.
        Err(CallError::Unanswered { .. }) => Vec::new(),
        Ok(_) | Err(_) => names.into_iter().map(|name| (name, None)).collect(),
    }
}
