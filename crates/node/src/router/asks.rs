//! The asks that went somewhere and are not answered: whoever asked gets an error when that place is lost.
//!
//! - **A-1.** An ask is known by its asker and the number that the asker gave it; where it went last counts.
//! - **A-2.** At most [`ASKS_MAX`] are kept. What is not kept still ends by the asker's own time limit.

use super::{
    hash::Fast,
    written_off::{Message, message_of},
};
use odeon_protocol::{Direct, NodeId, Time, WorkerId, frame::Header, limits::ASKS_MAX};
use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

/// Where an ask went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Towards {
    /// A process of this host.
    Process(WorkerId),
    /// Another agent.
    Peer(NodeId),
}

/// Who asked, and the number it gave its question.
pub(crate) type Key = (Direct, u64);

#[derive(Clone, Copy, Debug)]
struct Ask {
    towards: Towards,
    /// Of whom; the troupe's member counts its asks by it.
    of: Direct,
    /// The message that asks.
    message: Message,
    until: Time,
}

/// An ask that will not be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) key: Key,
    /// Of whom it was asked.
    pub(crate) of: Direct,
    /// The message that asked.
    pub(super) message: Message,
}

/// The table of unanswered asks.
#[derive(Debug, Default)]
pub(crate) struct Asks {
    open: HashMap<Key, Ask, Fast>,
}

/// Kept so long beyond the asker's own limit: its answer may be on its way.
const SLACK: Duration = Duration::from_secs(2);
/// For asks that say no limit.
const UNLIMITED: Duration = Duration::from_secs(3600);

impl Asks {
    /// The ask went there. Returns whom it was asked of before, if it went on from there.
    pub(crate) fn insert(&mut self, key: Key, towards: Towards, header: &Header, now: Time) -> Option<Direct> {
        let limit = match header.remaining_ms {
            0 => UNLIMITED,
            left => Duration::from_millis(u64::from(left)),
        };
        let ask = Ask { towards, of: header.to, message: message_of(header), until: now + limit + SLACK };
        let full = self.open.len() >= ASKS_MAX;
        match self.open.entry(key) {
            Entry::Occupied(mut entry) => Some(entry.insert(ask).of),
            Entry::Vacant(entry) => {
                if !full {
                    entry.insert(ask);
                }
                None
            }
        }
    }

    /// The ask is answered, or given back. Returns whom it was asked of.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Direct> {
        self.open.remove(key).map(|ask| ask.of)
    }

    /// Removes the asks that went there.
    pub(crate) fn lose(&mut self, towards: Towards) -> Vec<Lost> {
        self.lose_where(|ask| ask.towards == towards)
    }

    /// Removes the asks that were asked of that actor.
    pub(crate) fn lose_of(&mut self, place: Direct) -> Vec<Lost> {
        self.lose_where(|ask| ask.of == place)
    }

    fn lose_where(&mut self, is_lost: impl Fn(&Ask) -> bool) -> Vec<Lost> {
        let lost = self.open.extract_if(|_, ask| is_lost(ask));
        lost.map(|(key, Ask { of, message, .. })| Lost { key, of, message }).collect()
    }

    /// Removes the asks that were asked from there; nobody waits for them.
    pub(crate) fn lose_askers(&mut self, gone: impl Fn(Direct) -> bool) -> Vec<Direct> {
        self.open.extract_if(|(asker, _), _| gone(*asker)).map(|(_, ask)| ask.of).collect()
    }

    /// Removes the asks whose askers have given up.
    pub(crate) fn expire(&mut self, now: Time) -> Vec<Direct> {
        self.open.extract_if(|_, ask| ask.until <= now).map(|(_, ask)| ask.of).collect()
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::{Boot, Serial, frame::Kind};

    fn place(serial: u64) -> Direct {
        Direct { node: NodeId(1), boot: Boot(1), serial: Serial(serial) }
    }

    /// An ask of that place.
    fn ask(of: Direct, remaining_ms: u32) -> Header {
        Header { from: place(1), to: of, flow: 3, sequence: 4, remaining_ms, ..Header::new(Kind::Ask) }
    }

    const W1: Towards = Towards::Process(WorkerId(1));
    const W2: Towards = Towards::Process(WorkerId(2));

    #[test]
    fn a_forwarded_ask_counts_where_it_went_last() {
        let mut asks = Asks::default();
        assert_eq!(asks.insert((place(1), 7), W1, &ask(place(5), 0), Time::ZERO), None);
        assert_eq!(asks.insert((place(1), 7), W2, &ask(place(6), 0), Time::ZERO), Some(place(5)));
        assert!(asks.lose(W1).is_empty() && asks.lose_of(place(5)).is_empty());
        assert_eq!(asks.lose(W2), [Lost { key: (place(1), 7), of: place(6), message: (place(1), 3, 4) }]);
        assert_eq!(asks.len(), 0);
    }

    #[test]
    fn an_answered_ask_is_forgotten() {
        let mut asks = Asks::default();
        asks.insert((place(1), 7), W1, &ask(place(5), 0), Time::ZERO);
        assert_eq!(asks.remove(&(place(1), 7)), Some(place(5)));
        assert_eq!(asks.remove(&(place(1), 7)), None);
        assert!(asks.lose(W1).is_empty());
    }

    #[test]
    fn an_ask_outlives_its_askers_limit_only_a_little() {
        let mut asks = Asks::default();
        asks.insert((place(1), 7), W1, &ask(place(5), 1000), Time::ZERO);
        assert!(asks.expire(Time::ZERO + Duration::from_secs(2)).is_empty());
        assert_eq!(asks.expire(Time::ZERO + Duration::from_secs(3)), [place(5)]);
    }

    #[test]
    fn a_lost_asker_waits_for_nothing() {
        let mut asks = Asks::default();
        asks.insert((place(1), 7), W1, &ask(place(5), 0), Time::ZERO);
        asks.insert((place(2), 7), W1, &ask(place(5), 0), Time::ZERO);
        assert_eq!(asks.lose_askers(|asker| asker == place(1)), [place(5)]);
        assert_eq!(asks.len(), 1);
    }
}
