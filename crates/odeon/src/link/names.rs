//! Where global names are, as far as this process knows.
//!
//! The agent says it (`Resolved`, `Unresolved`); of actors in this very process the process knows it itself. What is not
//! known goes to the agent with the name on it. A version counts every change, so that a flow can tell whether the route
//! it took is still the name's first.
//!
//! - **NA-1.** Of two places of one name the one with the higher epoch counts; news of a lower epoch changes nothing.
//! - **NA-2.** A name whose bearer in this process has begun to end is held: its messages wait until what it left over
//!   has been sent back, so that nothing overtakes them.

use super::flow::{Now, Route};
use odeon_protocol::{Direct, Serial, simulated::RandomState};
use std::{collections::HashMap, sync::Arc, task::Waker};

/// Names of other processes that are remembered; beyond it they are forgotten and asked for anew.
const REMEMBERED: usize = 1 << 17;
/// Places that are remembered of each name.
const RECENT: usize = 4;

/// Where a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Unknown,
    There(Direct),
    Here(Serial),
    Ending,
}

#[derive(Debug)]
struct Name {
    place: Place,
    epoch: u64,
    since: u64,
    before: u64,
    /// Its last places elsewhere, the latest first: what the agent sent by the name went to one of them.
    recent: [Direct; RECENT],
    waiting: Vec<Waker>,
}

/// What to do with a message for a name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lookup {
    /// Its bearer is an actor of this process.
    Here(Serial),
    /// It goes out.
    Out(Now),
    /// Its bearer here is ending: wait.
    Ending,
}

/// All names that this process has heard of.
#[derive(Debug)]
pub(crate) struct Names {
    names: HashMap<Arc<str>, Name, RandomState>,
    /// With so many names, those of other processes are forgotten. Always [`REMEMBERED`] more than were kept the last time:
    /// a process may bear any number itself, and must not look through them at each new one.
    forgets_at: usize,
    version: u64,
    /// The version in which names were last forgotten: before it nothing is known of their changes.
    forgotten: u64,
}

impl Default for Names {
    fn default() -> Self {
        Self { names: HashMap::default(), forgets_at: REMEMBERED, version: 0, forgotten: 0 }
    }
}

impl Names {
    /// Where a name's messages go.
    pub(crate) fn look_up(&self, name: &str) -> Lookup {
        let unknown = Now { route: Route::Agent, version: self.version, since: self.forgotten, before: self.forgotten };
        let Some(entry) = self.names.get(name) else { return Lookup::Out(unknown) };
        let known = Now { since: entry.since, before: entry.before, ..unknown };
        match entry.place {
            Place::Unknown => Lookup::Out(known),
            Place::There(place) => Lookup::Out(Now { route: Route::Place(place, entry.epoch), ..known }),
            Place::Here(serial) => Lookup::Here(serial),
            Place::Ending => Lookup::Ending,
        }
    }

    fn set(&mut self, name: &Arc<str>, place: Place, epoch: u64) -> Vec<Waker> {
        if self.names.len() >= self.forgets_at && !self.names.contains_key(name) {
            self.names
                .retain(|_, entry| matches!(entry.place, Place::Here(_) | Place::Ending) || !entry.waiting.is_empty());
            self.forgets_at = self.names.len() + REMEMBERED;
            self.version += 1;
            self.forgotten = self.version;
        }
        let forgotten = self.forgotten;
        let entry = self.names.entry(name.clone()).or_insert_with(|| Name {
            place: Place::Unknown,
            epoch: 0,
            since: forgotten,
            before: forgotten,
            recent: [Direct::NONE; RECENT],
            waiting: Vec::new(),
        });
        if entry.place == place && entry.epoch == epoch {
            return Vec::new();
        }
        self.version += 1;
        if let Place::There(there) = place
            && entry.recent[0] != there
        {
            entry.recent.rotate_right(1);
            entry.recent[0] = there;
        }
        (entry.place, entry.epoch) = (place, epoch);
        (entry.before, entry.since) = (entry.since, self.version);
        std::mem::take(&mut entry.waiting)
    }

    /// The highest epoch known of a name; 0 if none is.
    pub(crate) fn epoch(&self, name: &str) -> u64 {
        self.names.get(name).map_or(0, |entry| entry.epoch)
    }

    fn is_here(&self, name: &str) -> bool {
        self.names.get(name).is_some_and(|entry| matches!(entry.place, Place::Here(_) | Place::Ending))
    }

    /// The agent says where a name is.
    #[must_use = "wake them"]
    pub(crate) fn resolved(&mut self, name: &Arc<str>, place: Direct, epoch: u64) -> Vec<Waker> {
        if epoch < self.epoch(name) || (epoch == self.epoch(name) && self.is_here(name)) {
            return Vec::new();
        }
        self.set(name, Place::There(place), epoch)
    }

    /// The agent says that a name is no longer where it was.
    #[must_use = "wake them"]
    pub(crate) fn unresolved(&mut self, name: &Arc<str>, epoch: u64) -> Vec<Waker> {
        if epoch < self.epoch(name) || self.is_here(name) {
            return Vec::new();
        }
        self.set(name, Place::Unknown, epoch)
    }

    /// An actor of this process bears the name.
    #[must_use = "wake them"]
    pub(crate) fn begin(&mut self, name: &Arc<str>, serial: Serial, epoch: u64) -> Vec<Waker> {
        if epoch < self.epoch(name) {
            return Vec::new();
        }
        self.set(name, Place::Here(serial), epoch)
    }

    /// The bearer in this process takes no more messages.
    pub(crate) fn ending(&mut self, name: &Arc<str>, serial: Serial) {
        if let Some(entry) = self.names.get_mut(name)
            && entry.place == Place::Here(serial)
        {
            // Nobody waits for a name that is here.
            self.version += 1;
            (entry.place, entry.before, entry.since) = (Place::Ending, entry.since, self.version);
        }
    }

    /// The bearer in this process has ended, and what it left over is on its way.
    #[must_use = "wake them"]
    pub(crate) fn ended(&mut self, name: &Arc<str>, epoch: u64) -> Vec<Waker> {
        if epoch < self.epoch(name) || !self.is_here(name) {
            return Vec::new();
        }
        self.set(name, Place::Unknown, epoch)
    }

    /// Registers who waits for a name that is ending. False if it no longer is.
    pub(crate) fn wait(&mut self, name: &str, waker: &Waker) -> bool {
        match self.names.get_mut(name) {
            Some(entry) if entry.place == Place::Ending => {
                if !entry.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
                    entry.waiting.push(waker.clone());
                }
                true
            }
            _ => false,
        }
    }

    /// The last places of a name elsewhere, the latest first: messages by the name alone may have gone there.
    pub(crate) fn recent(&self, name: &str) -> Vec<Direct> {
        let places = self.names.get(name).map(|known| known.recent).unwrap_or_default();
        places.into_iter().filter(|place| !place.is_none()).collect()
    }

    /// Forgets the places that fit: they are gone.
    pub(crate) fn lose(&mut self, fits: impl Fn(Direct) -> bool) {
        let gone: Vec<_> = self
            .names
            .iter()
            .filter(|(_, entry)| matches!(entry.place, Place::There(place) if fits(place)))
            .map(|(name, entry)| (name.clone(), entry.epoch))
            .collect();
        for (name, epoch) in gone {
            // Nobody waits for a name that is elsewhere.
            drop(self.set(&name, Place::Unknown, epoch));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::{Boot, NodeId};

    fn place(serial: u64) -> Direct {
        Direct { node: NodeId(1), boot: Boot(1), serial: Serial(serial) }
    }

    fn route(names: &Names, name: &str) -> Route {
        match names.look_up(name) {
            Lookup::Out(now) => now.route,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_higher_epoch_counts() {
        let (mut names, name) = (Names::default(), Arc::<str>::from("n"));
        assert_eq!(route(&names, "n"), Route::Agent);
        drop(names.resolved(&name, place(1), 5));
        assert_eq!(route(&names, "n"), Route::Place(place(1), 5));
        drop(names.resolved(&name, place(2), 4));
        drop(names.unresolved(&name, 4));
        assert_eq!(route(&names, "n"), Route::Place(place(1), 5));
        drop(names.unresolved(&name, 5));
        assert_eq!(route(&names, "n"), Route::Agent);
        drop(names.resolved(&name, place(2), 6));
        assert_eq!(route(&names, "n"), Route::Place(place(2), 6));
    }

    #[test]
    fn a_bearer_here_is_found_until_it_has_ended() {
        let (mut names, name) = (Names::default(), Arc::<str>::from("n"));
        drop(names.begin(&name, Serial(3), 2));
        assert!(matches!(names.look_up("n"), Lookup::Here(Serial(3))));
        drop(names.resolved(&name, place(3), 2));
        drop(names.unresolved(&name, 2));
        assert!(matches!(names.look_up("n"), Lookup::Here(Serial(3))));
        names.ending(&name, Serial(3));
        assert!(matches!(names.look_up("n"), Lookup::Ending));
        assert!(names.wait("n", Waker::noop()));
        assert_eq!(names.ended(&name, 2).len(), 1);
        assert!(!names.wait("n", Waker::noop()));
        assert_eq!(route(&names, "n"), Route::Agent);
    }

    #[test]
    fn versions_say_whether_a_place_is_the_first_since_then() {
        let (mut names, name) = (Names::default(), Arc::<str>::from("n"));
        let Lookup::Out(opened) = names.look_up("n") else { panic!() };
        drop(names.resolved(&name, place(1), 1));
        let Lookup::Out(first) = names.look_up("n") else { panic!() };
        assert!(opened.version < first.since && first.before <= opened.version);
        drop(names.unresolved(&name, 1));
        drop(names.resolved(&name, place(2), 2));
        let Lookup::Out(second) = names.look_up("n") else { panic!() };
        assert!(second.before > opened.version);
    }

    #[test]
    fn memory_is_bounded_and_bearers_here_are_kept() {
        let mut names = Names::default();
        drop(names.begin(&"here".into(), Serial(3), 1));
        for number in 0..REMEMBERED {
            drop(names.resolved(&number.to_string().into(), place(1), 1));
        }
        assert!(names.names.len() < 10);
        assert!(matches!(names.look_up("here"), Lookup::Here(_)));
    }

    #[test]
    fn bearers_here_are_not_looked_through_at_each_new_one() {
        let mut names = Names::default();
        let mut forgot = 0;
        for number in 0..REMEMBERED as u64 + 100 {
            let before = names.forgotten;
            drop(names.begin(&number.to_string().into(), Serial(number), 1));
            forgot += u64::from(names.forgotten > before);
        }
        assert_eq!((forgot, names.names.len()), (1, REMEMBERED + 100));
    }

    #[test]
    fn lost_places_are_forgotten() {
        let (mut names, name) = (Names::default(), Arc::<str>::from("n"));
        drop(names.resolved(&name, place(1), 1));
        drop(names.resolved(&name, place(2), 2));
        assert_eq!(names.recent("n"), [place(2), place(1)], "messages may have gone to either");
        names.lose(|at| at == place(2));
        assert_eq!(route(&names, "n"), Route::Agent);
    }
}
