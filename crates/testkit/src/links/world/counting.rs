//! What the processes counted, and whether it adds up.

use super::{Worker, World};
use crate::balance::{Life, Process, balance};
use odeon_protocol::{Boot, NodeId, WorkerId};

impl World {
    /// A process is about to be over: it has counted what it will have counted.
    pub(super) fn note_counts(&mut self, (node, boot): (NodeId, Boot), id: WorkerId, worker: &Worker) {
        self.ended.push(process((node, boot), id, worker, Life::Ended));
    }

    /// What does not add up at rest.
    pub(super) fn unbalanced(&self) -> Vec<String> {
        let mut all = self.ended.clone();
        for host in self.hosts.values() {
            for (id, worker) in &host.workers {
                let life = if worker.dead { Life::Ended } else { Life::Lives };
                all.push(process((host.node, host.boot), *id, worker, life));
            }
        }
        balance(&all, 0).err().unwrap_or_default()
    }
}

fn process((node, boot): (NodeId, Boot), id: WorkerId, worker: &Worker, life: Life) -> Process {
    Process { name: format!("{id} of {node} in start {boot}"), life, counts: worker.process.counts() }
}
