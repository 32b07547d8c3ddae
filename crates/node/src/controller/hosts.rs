//! Hosts, for processes that watch them: those that are there first, then each that comes, changes or goes. And for who reads
//! the log: which are down.
//!
//! - **H-1.** What waits for a process is a set of hosts: of each only the newest state is told, however slow it reads.
//! - **H-2.** A host is there while it belongs and is not taken for down; this one always.
//! - **H-3.** Where nobody watches, nothing is kept.

use super::Controller;
use odeon_cluster::{HostView, Liveness};
use odeon_protocol::{HostInfo, NodeId, WorkerId, control::FromAgent};
use std::collections::{BTreeMap, BTreeSet};
use tracing::{info, warn};

/// Who watches, and what was seen last.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    /// Processes, each with the hosts of which it is to be told.
    waiting: BTreeMap<WorkerId, BTreeSet<NodeId>>,
    there: BTreeMap<NodeId, HostInfo>,
    /// The hosts that are down, as the log says.
    down: BTreeSet<NodeId>,
}

impl Watchers {
    /// A process watches from now on; it is told of all that are there.
    fn add(&mut self, process: WorkerId) {
        let all = self.there.keys().copied().collect();
        self.waiting.entry(process).or_insert(all);
    }

    fn remove(&mut self, process: WorkerId) {
        self.waiting.remove(&process);
        if self.waiting.is_empty() {
            self.there.clear();
        }
    }

    /// Takes who is down now; those that were not before, and those that are there again.
    fn look_for_down<'a>(&mut self, hosts: &'a [HostView]) -> (Vec<&'a str>, Vec<&'a str>) {
        let before = std::mem::take(&mut self.down);
        let was_down = |host: &&HostView| before.contains(&host.node);
        // One that starts again is down until it is up.
        let is_down = |host: &&HostView| match host.liveness {
            Liveness::Down => true,
            Liveness::Up => false,
            Liveness::Suspect | Liveness::Unknown => was_down(host),
        };
        self.down = hosts.iter().filter(is_down).map(|host| host.node).collect();
        let new = hosts.iter().filter(|host| is_down(host) && !was_down(host));
        let again = hosts.iter().filter(|host| was_down(host) && !is_down(host));
        (new.map(|host| &*host.name).collect(), again.map(|host| &*host.name).collect())
    }

    /// Takes what is there now; whoever watches is to be told of what differs.
    fn see(&mut self, now: BTreeMap<NodeId, HostInfo>) {
        let before = std::mem::replace(&mut self.there, now);
        let gone = before.keys().filter(|node| !self.there.contains_key(node));
        let new = self.there.iter().filter(|(node, host)| before.get(node) != Some(host)).map(|(node, _)| node);
        let differs: BTreeSet<NodeId> = gone.chain(new).copied().collect();
        self.waiting.values_mut().for_each(|waiting| waiting.extend(&differs));
    }

    /// Tells by `say`, which answers whether there was room; what was not told waits on.
    fn tell(&mut self, mut say: impl FnMut(WorkerId, &FromAgent) -> bool) {
        let there = &self.there;
        for (process, waiting) in &mut self.waiting {
            while let Some(node) = waiting.first().copied() {
                let message = match there.get(&node) {
                    Some(host) => FromAgent::Host(Box::new(host.clone())),
                    None => FromAgent::HostGone { node },
                };
                if !say(*process, &message) {
                    break;
                }
                waiting.remove(&node);
            }
        }
    }
}

impl Controller {
    /// A process wants to hear of hosts.
    pub(super) fn on_watch_hosts(&mut self, process: WorkerId) {
        self.watchers.add(process);
        self.tell_of_hosts();
    }

    /// A process is gone.
    pub(super) fn forget_watcher(&mut self, process: WorkerId) {
        self.watchers.remove(process);
    }

    /// Says which hosts are down since the last look, or up again.
    pub(super) fn say_who_is_down(&mut self, hosts: &[HostView]) {
        let (down, again) = self.watchers.look_for_down(hosts);
        down.into_iter().for_each(|host| warn!("host {host} is down: nothing is heard of it any more"));
        again.into_iter().for_each(|host| info!("host {host} is up again"));
    }

    /// Looks at the hosts, and tells of what has changed.
    pub(super) fn tell_of_hosts(&mut self) {
        if self.watchers.waiting.is_empty() {
            return;
        }
        let me = self.me();
        let there = self.hosts().into_iter().filter(|host| is_there(host, me)).map(info);
        self.watchers.see(there.map(|host| (host.node, host)).collect());
        let router = &self.parts.router;
        self.watchers.tell(|process, message| router.control_if_room(process, message));
    }
}

fn is_there(host: &HostView, me: NodeId) -> bool {
    host.node == me || matches!(host.liveness, Liveness::Up | Liveness::Suspect)
}

fn info(host: HostView) -> HostInfo {
    HostInfo {
        node: host.node,
        boot: host.boot,
        name: host.name,
        suspect: host.liveness == Liveness::Suspect,
        draining: host.draining,
        capabilities: host.capabilities.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::{Boot, control::Value};

    fn hosts(of: &[(u64, bool)]) -> BTreeMap<NodeId, HostInfo> {
        let host = |(number, gpu): &(u64, bool)| {
            let view = HostView {
                node: NodeId(*number),
                boot: Boot(1),
                liveness: Liveness::Up,
                capabilities: [("gpu".to_owned(), Value::Bool(*gpu))].into(),
                ..HostView::default()
            };
            (view.node, info(view))
        };
        of.iter().map(host).collect()
    }

    fn told(watchers: &mut Watchers, room: usize) -> Vec<(u32, u64, bool)> {
        let mut told = Vec::new();
        watchers.tell(|process, message| {
            let room = told.len() < room;
            if room {
                told.push(match message {
                    FromAgent::Host(host) => (process.0, host.node.0, true),
                    FromAgent::HostGone { node } => (process.0, node.0, false),
                    other => panic!("{other:?}"),
                });
            }
            room
        });
        told
    }

    #[test]
    fn those_that_are_there_come_first_then_what_changes() {
        let mut watchers = Watchers::default();
        watchers.add(WorkerId(1));
        watchers.see(hosts(&[(1, false), (2, false)]));
        assert_eq!(told(&mut watchers, 9), [(1, 1, true), (1, 2, true)]);
        watchers.add(WorkerId(2));
        assert_eq!(told(&mut watchers, 9), [(2, 1, true), (2, 2, true)]);
        watchers.see(hosts(&[(1, true), (3, false)]));
        assert_eq!(told(&mut watchers, 3), [(1, 1, true), (1, 2, false), (1, 3, true)]);
        assert_eq!(told(&mut watchers, 9), [(2, 1, true), (2, 2, false), (2, 3, true)]);
        watchers.see(hosts(&[(1, true), (3, false)]));
        assert_eq!(told(&mut watchers, 9), [], "nothing has changed");
    }

    #[test]
    fn who_is_down_is_said_once_and_when_it_is_up_again() {
        let mut watchers = Watchers::default();
        let mut look = |liveness| {
            let host = HostView { node: NodeId(2), name: "h2".into(), liveness, ..HostView::default() };
            let (down, again) = watchers.look_for_down(std::slice::from_ref(&host));
            (down.len(), again.len())
        };
        let states = [Liveness::Unknown, Liveness::Up, Liveness::Suspect, Liveness::Down, Liveness::Down];
        assert_eq!(states.map(&mut look), [(0, 0), (0, 0), (0, 0), (1, 0), (0, 0)]);
        assert_eq!([Liveness::Unknown, Liveness::Up, Liveness::Up].map(&mut look), [(0, 0), (0, 1), (0, 0)]);
        assert_eq!(watchers.look_for_down(&[]), (Vec::new(), Vec::new()));
    }

    #[test]
    fn what_waits_for_a_slow_process_is_bounded_by_the_hosts() {
        let mut watchers = Watchers::default();
        watchers.add(WorkerId(1));
        for round in 0..100 {
            watchers.see(hosts(&[(1, round % 2 == 0), (2, true)]));
            assert_eq!(told(&mut watchers, 0), []);
        }
        watchers.see(hosts(&[(1, true)]));
        assert_eq!(told(&mut watchers, 9), [(1, 1, true), (1, 2, false)]);
        watchers.remove(WorkerId(1));
        assert!(watchers.there.is_empty());
    }
}
