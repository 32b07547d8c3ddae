//! A machine that has lost its disk comes back: it is new, under its old name and address.
//!
//! The old host is evicted, as its operator does it, since its name is taken until then.

use super::{AGREES, World};
use crate::convention::machine::Machine;
use odeon_cluster::directory::{Joiner, Role};
use odeon_node::{
    convention::{Handle, admit_simulated},
    identity::Belonging,
};
use odeon_protocol::{NodeId, Time, level::FEATURE_LEVEL};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};

/// Between two looks at what has come of it.
const LOOK_MS: u64 = 50;
/// Whoever was asked has not answered by then: somebody else is asked.
const PATIENCE: Duration = Duration::from_secs(4);

/// What an admission has come to.
type Outcome = Arc<Mutex<Option<Result<Belonging, String>>>>;

/// A host that is to be admitted as a new one.
pub(super) struct Wiped {
    pub(super) host: usize,
    was: NodeId,
    /// Whether the machine is there again.
    pub(super) is_back: bool,
    asked: Option<(Time, Outcome)>,
}

impl World {
    /// Whether a host's disk may be lost: no other one's is, and all that shall vote do.
    pub(super) fn may_lose_one(&self, host: usize) -> bool {
        let votes = |machine: &Machine| {
            let status = machine.within(Handle::status)?;
            Some(status.voters.len() == odeon_cluster::voters::size(self.machines.len()) && status.leader.is_some())
        };
        let others = self.machines.iter().enumerate().filter(|(other, _)| *other != host);
        self.wiped.is_none() && others.map(|(_, machine)| votes(machine)).all(|votes| votes == Some(true))
    }

    /// Whether that host is none at the moment.
    pub(super) fn is_wiped(&self, host: usize) -> bool {
        self.wiped.as_ref().is_some_and(|wiped| wiped.host == host)
    }

    /// Each host in turn loses its disk, and comes back as a new one.
    pub(in crate::convention) fn disks_lost(&mut self) -> Result<(), String> {
        self.form()?;
        for host in 0..self.machines.len() {
            self.tell(format!("h{} has lost its disk", host + 1));
            self.wipe(host);
            let until = self.now + Duration::from_millis(500 + self.random.below(4000));
            while self.now < until {
                self.step()?;
            }
            self.until_admitted()?;
            self.until_agreed(AGREES)?;
        }
        self.all_answer(AGREES)
    }

    /// A machine ends, and its disk is lost.
    pub(super) fn wipe(&mut self, host: usize) {
        let was = self.machines[host].key().node();
        self.kill(host);
        self.stopping.remove(&host);
        self.machines[host].wipe();
        self.wiped = Some(Wiped { host, was, is_back: false, asked: None });
    }

    /// A host that was wiped asks to be admitted, until it is.
    pub(super) fn admit_wiped(&mut self) -> Result<(), String> {
        let looks = self.is_each(LOOK_MS);
        let Some(wiped) = self.wiped.as_mut().filter(|wiped| wiped.is_back && looks) else { return Ok(()) };
        let host = wiped.host;
        match wiped.asked.as_ref().map(|(at, outcome)| (*at, outcome.lock().take())) {
            Some((_, Some(Ok(belonging)))) => {
                self.wiped = None;
                self.tell(format!("h{} is admitted as a new host", host + 1));
                self.machines[host].join(belonging);
                self.start(host, false)?;
                self.set_ways();
            }
            Some((at, None)) if self.now.since(at) < PATIENCE => {}
            failed => {
                tracing::info!(?failed, "not admitted yet");
                let outcome = Outcome::default();
                wiped.asked = Some((self.now, outcome.clone()));
                let was = wiped.was;
                self.ask_to_admit(host, was, outcome);
            }
        }
        Ok(())
    }

    /// Who holds itself for the leader evicts the old host, and admits the new one.
    fn ask_to_admit(&mut self, host: usize, was: NodeId, outcome: Outcome) {
        let (machine, joiner) = (&self.machines[host], self.joiner(host));
        let key = machine.key();
        let leads = |machine: &&Machine| {
            let leader = machine.within(|handle| handle.status().leader).flatten();
            machine.runs() && leader == Some(machine.name())
        };
        let leaders: Vec<_> = self.machines.iter().filter(leads).collect();
        let Some(leader) = self.random.one(&leaders) else { return };
        leader.within(|handle: &Handle| {
            let handle = handle.clone();
            tokio::spawn(async move {
                let admitted = match handle.evict(was).await {
                    Ok(()) => admit_simulated(&handle, key.public(), joiner).await,
                    Err(error) => Err(error.to_string()),
                };
                *outcome.lock() = Some(admitted);
            });
        });
    }

    /// A host as it asks to be admitted.
    pub(super) fn joiner(&self, index: usize) -> Joiner {
        let machine = &self.machines[index];
        let key = machine.key();
        Joiner {
            node: key.node(),
            key_hash: key.public().hash(),
            name: machine.name(),
            address: machine.address.to_string(),
            boot: odeon_protocol::Boot(1),
            role: Role::Voter,
            witness: false,
            level: FEATURE_LEVEL,
        }
    }

    /// Until every host is admitted that was wiped.
    pub(super) fn until_admitted(&mut self) -> Result<(), String> {
        let until = self.now + AGREES;
        while let Some(wiped) = &mut self.wiped {
            wiped.is_back = true;
            if self.now > until {
                return Err(format!("h{} is not admitted again within {AGREES:?}", wiped.host + 1));
            }
            self.step()?;
        }
        Ok(())
    }
}
