//! The ways between hosts: how long packets take, which are lost, and who hears nothing of whom.

use crate::Random;
use odeon_protocol::Time;
use odeon_transport::quic::simulated::{Network, Packet};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

/// From host to host, one way.
pub(super) type Way = (SocketAddr, SocketAddr);
type Stream = (Way, (u64, u64));

/// A connection without a sign of life for this long breaks; see `odeon_transport::quic::Settings`.
const IDLE: Duration = Duration::from_secs(3);
/// A lost packet is sent again after this, then after twice as long, and so on.
const AGAIN: Duration = Duration::from_millis(60);
const AGAIN_MAX: Duration = Duration::from_millis(800);
/// Nobody sends longer.
const GIVEN_UP: Duration = Duration::from_secs(10);

/// See the module's head.
#[derive(Debug)]
pub(super) struct Paths {
    pub(super) network: Network,
    pub(super) cut: BTreeSet<Way>,
    /// Packets lost, of a hundred.
    pub(super) loss: BTreeMap<Way, u64>,
    /// The longest time that a packet takes.
    pub(super) delay: Duration,
    due: BTreeMap<(Time, u64), Sent>,
    number: u64,
    /// Streams with a packet under way, and what waits behind it.
    streams: BTreeMap<Stream, VecDeque<Packet>>,
    /// When each end of a connection last heard something.
    heard: BTreeMap<(SocketAddr, u64), Time>,
}

#[derive(Debug)]
struct Sent {
    packet: Packet,
    first: Time,
    again: Duration,
    /// It passed: it arrives.
    passed: bool,
}

impl Paths {
    pub(super) fn new() -> Self {
        Self {
            network: Network::default(),
            cut: BTreeSet::new(),
            loss: BTreeMap::new(),
            delay: Duration::from_millis(4),
            due: BTreeMap::new(),
            number: 0,
            streams: BTreeMap::new(),
            heard: BTreeMap::new(),
        }
    }

    /// Sends what agents have said.
    pub(super) fn send(&mut self, now: Time, random: &mut Random) {
        for packet in self.network.take_sent() {
            if let Some(stream) = stream_of(&packet) {
                if let Some(behind) = self.streams.get_mut(&stream) {
                    behind.push_back(packet);
                    continue;
                }
                self.streams.insert(stream, VecDeque::new());
            }
            self.try_to_pass(packet, now, (now, AGAIN), random);
        }
    }

    fn try_to_pass(&mut self, packet: Packet, now: Time, (first, again): (Time, Duration), random: &mut Random) {
        let way = (packet.from, packet.to);
        let lost = self.cut.contains(&way) || random.chance(self.loss.get(&way).copied().unwrap_or(0));
        let takes = match lost {
            true if !packet.is_reliable() => return,
            true => again,
            false => Duration::from_micros(500 + random.below(self.delay.as_micros() as u64)),
        };
        self.number += 1;
        let sent = Sent { packet, first, again: (again * 2).min(AGAIN_MAX), passed: !lost };
        self.due.insert((now + takes, self.number), sent);
    }

    /// What arrives now.
    pub(super) fn arriving(&mut self, now: Time, random: &mut Random) -> Vec<Packet> {
        let mut arriving = Vec::new();
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) {
            let Sent { packet, first, again, passed } = entry.remove();
            if !passed && now.since(first) < GIVEN_UP {
                self.try_to_pass(packet, now, (first, again), random);
                continue;
            }
            let next = stream_of(&packet).and_then(|stream| self.next_of(stream));
            if passed {
                arriving.push(packet);
            }
            if let Some(next) = next {
                self.try_to_pass(next, now, (now, AGAIN), random);
            }
        }
        arriving
    }

    fn next_of(&mut self, stream: Stream) -> Option<Packet> {
        let next = self.streams.get_mut(&stream)?.pop_front();
        if next.is_none() {
            self.streams.remove(&stream);
        }
        next
    }

    /// Breaks the ends at a host of connections over which it has heard nothing for too long: as their other ends are
    /// gone or do not run, or no packet gets through. Of what is heard keep-alives are not sent one by one.
    pub(super) fn break_silent(&mut self, now: Time, at: SocketAddr, runs: &BTreeSet<SocketAddr>) {
        let ends = self.network.ends(at);
        self.heard.retain(|(host, line), _| *host != at || ends.iter().any(|end| end.0 == *line));
        for (line, of, has_other_end) in ends {
            let heard = self.heard.entry((at, line)).or_insert(now);
            if has_other_end && runs.contains(&of) && !self.cut.contains(&(of, at)) {
                *heard = now;
            } else if now.since(*heard) >= IDLE {
                self.network.time_out(at, line);
            }
        }
    }
}

fn stream_of(packet: &Packet) -> Option<Stream> {
    packet.stream().map(|stream| ((packet.from, packet.to), stream))
}
