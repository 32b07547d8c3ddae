//! What is between two agents: one connection at a time, which breaks and is dialled anew.
//!
//! A lane keeps its order within a connection; lanes overtake one another. A lost packet is a delay, as it is for those
//! above QUIC. What was under way when a connection broke may still arrive, after the next one has begun.

use crate::random::Random;
use bytes::Bytes;
use odeon_protocol::{Time, limits::LANES};
use odeon_transport::quic::lanes::simulation::Greeting;
use std::time::Duration;

/// Without a sign of life for so long a connection breaks.
pub(super) const IDLE: Duration = Duration::from_secs(2);

/// On its way to one of the ends.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Batch { lane: usize, first: u64, bytes: Bytes },
    Received([u64; LANES]),
}

/// A connection: what each end said first, and what is under way to each.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) greetings: [Greeting; 2],
    /// When each end hears the other's greeting, until it has.
    pub(super) greets_at: [Option<Time>; 2],
    /// The number of each lane's next batch, by the end that sends.
    pub(super) next: [[u64; LANES]; 2],
    pub(super) under_way: [Vec<(Time, Item)>; 2],
    /// When each end acknowledges next, if it has received something.
    pub(super) acks_at: [Option<Time>; 2],
}

/// Between two agents.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) connection: Option<Connection>,
    /// What of a broken connection still arrives: at which end, when, under which greeting.
    pub(super) late: Vec<(usize, Time, Greeting, Item)>,
    /// Until when nothing passes towards each end.
    pub(super) cut_until: [Time; 2],
    /// Since when that is so.
    pub(super) cut_since: [Time; 2],
    /// Until when every tenth packet is lost.
    pub(super) lossy_until: Time,
    pub(super) down_since: Time,
    /// When each end is told of a long absence next.
    pub(super) tell_at: [Time; 2],
    pub(super) dial_at: Time,
}

impl Pipe {
    pub(super) fn is_cut(&self, now: Time) -> bool {
        self.cut_until.iter().any(|until| *until > now)
    }

    /// Sends something to an end. It arrives after a while, behind what was sent before on the same lane.
    pub(super) fn send(&mut self, to: usize, item: Item, now: Time, random: &mut Random) {
        let lost = now < self.lossy_until && random.chance(10);
        let cut = self.cut_until[to];
        let Some(connection) = &mut self.connection else { return };
        let mut at = now + Duration::from_micros(200 + random.below(800));
        if let Item::Batch { bytes, .. } = &item {
            // 100 MB in a second.
            at = at + Duration::from_nanos(10 * bytes.len() as u64);
        }
        if lost {
            at = at + Duration::from_millis(50 + random.below(300));
        }
        if at < cut {
            at = cut + Duration::from_millis(random.below(200));
        }
        let lane_of = |item: &Item| if let Item::Batch { lane, .. } = item { *lane } else { LANES };
        let lane = lane_of(&item);
        let before =
            connection.under_way[to].iter().filter(|(_, other)| lane_of(other) == lane).map(|(at, _)| *at).max();
        connection.under_way[to].push((before.map_or(at, |before| before.max(at)), item));
    }

    /// A cut begins: what is under way waits for its end.
    pub(super) fn cut(&mut self, to: usize, now: Time, until: Time) {
        if self.cut_until[to] <= now {
            self.cut_since[to] = now;
        }
        self.cut_until[to] = self.cut_until[to].max(until);
        let until = self.cut_until[to];
        if let Some(connection) = &mut self.connection {
            for (at, _) in &mut connection.under_way[to] {
                *at = (*at).max(until);
            }
        }
    }

    /// The connection is gone. Some of what was under way arrives all the same, late.
    pub(super) fn break_off(&mut self, now: Time, random: &mut Random) {
        let Some(connection) = self.connection.take() else { return };
        (self.down_since, self.tell_at) = (now, [now; 2]);
        self.dial_at = now + Duration::from_millis(random.below(300));
        for (to, items) in connection.under_way.into_iter().enumerate() {
            let keep = random.below(items.len() as u64 + 1) as usize;
            if self.cut_until[to] > now || connection.greets_at[to].is_some() {
                continue;
            }
            for (_, item) in items.into_iter().take(keep) {
                let at = now + Duration::from_micros(random.below(1_500_000));
                let at = self
                    .late
                    .iter()
                    .filter(|late| late.0 == to)
                    .map(|late| late.1)
                    .max()
                    .map_or(at, |last| last.max(at));
                if matches!(item, Item::Batch { .. }) {
                    self.late.push((to, at, connection.greetings[1 - to], item));
                }
            }
        }
    }

    /// When something happens here next, if nothing new does.
    pub(super) fn next(&self) -> Option<Time> {
        let mut times: Vec<Time> = self.late.iter().map(|late| late.1).collect();
        if let Some(connection) = &self.connection {
            times.extend(connection.under_way.iter().flatten().map(|(at, _)| *at));
            times.extend(connection.acks_at.iter().flatten());
            times.extend(connection.greets_at.iter().flatten());
        }
        times.into_iter().min()
    }
}
