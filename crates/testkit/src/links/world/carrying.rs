//! Connections: dialled, greeted, used, broken.

use super::{Connection, DOWN_MAX, Duration, IDLE, Item, NodeId, Pipe, World};
use odeon_protocol::limits::LANES;
use odeon_transport::quic::Lanes;

impl World {
    /// Moves what is due between hosts. Whether anything happened.
    pub(super) fn carry(&mut self) -> bool {
        let mut moved = false;
        for pair in self.pipes.keys().copied().collect::<Vec<_>>() {
            let mut pipe = self.pipes.remove(&pair).expect("pipes stay");
            moved |= self.carry_pair([pair.0, pair.1], &mut pipe);
            self.pipes.insert(pair, pipe);
        }
        moved
    }

    fn awake(&self, node: NodeId) -> bool {
        self.hosts[&node].up && self.hosts[&node].paused_until <= self.now
    }

    fn carry_pair(&mut self, ends: [NodeId; 2], pipe: &mut Pipe) -> bool {
        let now = self.now;
        let mut moved = self.deliver_late(ends, pipe);
        for (end, other) in [(0, 1), (1, 0)] {
            if !self.awake(ends[end]) {
                continue;
            }
            let lanes = self.hosts[&ends[end]].lanes[&ends[other]].clone();
            let Some(connection) = &mut pipe.connection else { continue };
            if connection.greets_at[end].is_some_and(|at| at <= now) {
                connection.greets_at[end] = None;
                let firsts = lanes.simulated().connect(connection.greetings[other]);
                connection.next[end] = firsts.expect("the peer counts well");
                moved = true;
            }
            if connection.greets_at[end].is_some() {
                continue;
            }
            moved |= self.receive(ends, end, pipe);
            moved |= self.send(&lanes, other, pipe);
        }
        moved
    }

    fn deliver_late(&self, ends: [NodeId; 2], pipe: &mut Pipe) -> bool {
        let now = self.now;
        // An agent that pauses reads it afterwards: of a stream nothing is left out.
        let is_due = |to: usize, at| at <= now && (self.awake(ends[to]) || !self.hosts[&ends[to]].up);
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut pipe.late).into_iter().partition(|late| is_due(late.0, late.1));
        pipe.late = rest;
        let mut moved = false;
        for (to, _, greeting, item) in due {
            if !self.hosts[&ends[to]].up {
                continue;
            }
            if let Item::Batch { lane, first, bytes } = item {
                let lanes = &self.hosts[&ends[to]].lanes[&ends[1 - to]];
                lanes.simulated().receive(greeting, lane, first, &bytes).expect("whole frames were sent");
                moved = true;
            }
        }
        moved
    }

    /// What has arrived at an end.
    fn receive(&self, ends: [NodeId; 2], end: usize, pipe: &mut Pipe) -> bool {
        let now = self.now;
        let lanes = &self.hosts[&ends[end]].lanes[&ends[1 - end]];
        let Some(connection) = &mut pipe.connection else { return false };
        let all = std::mem::take(&mut connection.under_way[end]);
        let (due, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|(at, _)| *at <= now);
        connection.under_way[end] = rest;
        let moved = !due.is_empty();
        for (_, item) in due {
            match item {
                Item::Batch { lane, first, bytes } => {
                    let greeting = connection.greetings[1 - end];
                    lanes.simulated().receive(greeting, lane, first, &bytes).expect("whole frames were sent");
                    connection.acks_at[end].get_or_insert(now + Duration::from_millis(20));
                }
                Item::Received(received) => lanes.simulated().acknowledge(received).expect("the peer counts well"),
            }
        }
        moved
    }

    /// What an end has to send.
    fn send(&mut self, lanes: &Lanes, to: usize, pipe: &mut Pipe) -> bool {
        let (now, end) = (self.now, 1 - to);
        let mut moved = false;
        for lane in 0..LANES {
            while let Some(bytes) = lanes.simulated().take(lane) {
                let connection = pipe.connection.as_mut().expect("it is up");
                let first = connection.next[end][lane];
                connection.next[end][lane] += count(&bytes);
                pipe.send(to, Item::Batch { lane, first, bytes }, now, &mut self.random);
                moved = true;
            }
        }
        let connection = pipe.connection.as_mut().expect("it is up");
        if connection.acks_at[end].is_some_and(|at| at <= now) {
            connection.acks_at[end] = None;
            pipe.send(to, Item::Received(lanes.simulated().received()), now, &mut self.random);
        }
        moved
    }

    /// Dials where there is no connection, breaks those that are silent, tells of long absences.
    pub(super) fn tend_pipes(&mut self) {
        for pair in self.pipes.keys().copied().collect::<Vec<_>>() {
            let mut pipe = self.pipes.remove(&pair).expect("pipes stay");
            let ends = [pair.0, pair.1];
            if pipe.connection.is_some() && (self.is_silent(&pipe) || ends.iter().any(|node| !self.hosts[node].up)) {
                pipe.break_off(self.now, &mut self.random);
            }
            if pipe.connection.is_none() {
                self.dial(ends, &mut pipe);
            }
            if pipe.connection.is_none() {
                for (end, other) in [(0, 1), (1, 0)] {
                    let due = self.now.since(pipe.down_since) >= DOWN_MAX && pipe.tell_at[end] <= self.now;
                    if due && self.awake(ends[end]) {
                        pipe.tell_at[end] = self.now + Duration::from_millis(250);
                        self.host(ends[end]).agent.unreachable(ends[other]);
                    }
                }
            }
            self.pipes.insert(pair, pipe);
        }
    }

    fn is_silent(&self, pipe: &Pipe) -> bool {
        pipe.cut_since
            .iter()
            .zip(pipe.cut_until)
            .any(|(since, until)| until > self.now && self.now.since(*since) >= IDLE)
    }

    fn dial(&mut self, ends: [NodeId; 2], pipe: &mut Pipe) {
        let ready = ends.iter().all(|node| self.awake(*node)) && !pipe.is_cut(self.now) && pipe.dial_at <= self.now;
        if !ready {
            return;
        }
        let boots = ends.map(|node| self.hosts[&node].boot);
        let lanes = [(0, 1), (1, 0)].map(|(end, other)| self.hosts[&ends[end]].lanes[&ends[other]].clone());
        if lanes[0].boot() != boots[1] || lanes[1].boot() != boots[0] {
            return;
        }
        let delay = |random: &mut crate::Random| Some(self.now + Duration::from_micros(300 + random.below(3_000)));
        pipe.connection = Some(Connection {
            greetings: [lanes[0].simulated().greeting(), lanes[1].simulated().greeting()],
            greets_at: [delay(&mut self.random), delay(&mut self.random)],
            next: Default::default(),
            under_way: Default::default(),
            acks_at: [None; 2],
        });
    }
}

/// Frames in a batch.
fn count(mut bytes: &[u8]) -> u64 {
    let mut frames = 0;
    while let Some((head, _)) = bytes.split_first_chunk::<4>() {
        bytes = bytes.get(u32::from_le_bytes(*head) as usize + 4..).unwrap_or(&[]);
        frames += 1;
    }
    frames
}
