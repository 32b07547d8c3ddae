//! How changes are carried out, on the leader and on followers alike, and how followers catch up.

use super::{Change, Delta, Directory, NameState};
use odeon_protocol::{Direct, limits::DELTAS_KEPT};
use std::{collections::VecDeque, mem, sync::Arc};

/// A follower was given a step that does not follow its copy: it needs a snapshot, or the steps between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the directory's copy is at version {has}, the step given makes version {given}: steps are missing between")]
pub struct Gap {
    /// The copy's version.
    pub has: u64,
    /// The version that the step makes.
    pub given: u64,
}

impl Directory {
    /// Takes a step of the leader's directory; one that the copy has already is passed over.
    ///
    /// # Errors
    /// Steps between are missing; the copy is as before.
    pub fn follow(&mut self, delta: &Delta) -> Result<(), Gap> {
        let (has, given) = (self.state.version, delta.version);
        match given.checked_sub(has) {
            None | Some(0) => Ok(()),
            Some(1) => {
                self.state.version = given;
                delta.changes.iter().for_each(|change| self.carry_out(change));
                Ok(())
            }
            Some(_) => Err(Gap { has, given }),
        }
    }

    pub(super) fn carry_out(&mut self, change: &Change) {
        match change {
            Change::Founded(convention) => self.state.convention = Some(convention.clone()),
            Change::Member(member) => {
                self.state.members.insert(member.node, (**member).clone());
            }
            Change::MemberGone(node) => {
                self.state.members.remove(node);
            }
            Change::Name(record) => {
                self.forget_place(&record.name);
                self.state.epoch = self.state.epoch.max(record.epoch);
                self.state.names.insert(record.name.clone(), (**record).clone());
                self.note_place(&record.name);
            }
            Change::NameMoved { name, state, holder, epoch } => self.move_name(name, *state, *holder, *epoch),
            Change::NameGone(name) => {
                self.forget_place(name);
                self.state.names.remove(name);
            }
            Change::Unplaced(node) => {
                for name in self.held.get(node).cloned().unwrap_or_default() {
                    let epoch = self.state.names.get(&name).map_or(0, |record| record.epoch);
                    self.move_name(&name, NameState::Unplaced, None, epoch);
                }
            }
            Change::Token(token) => {
                self.state.tokens.insert(token.id, token.clone());
            }
            Change::TokenGone(id) => {
                self.state.tokens.remove(id);
                self.state.private.tokens.remove(id);
            }
            Change::LevelRaised(level) => self.state.level = self.state.level.max(*level),
            #[cfg(feature = "next-level")]
            Change::Noted(text) => self.state.note.clone_from(text),
            // One that this build does not know does not decode: none is made before every host's agent knows it.
            _ => {}
        }
    }

    fn move_name(&mut self, name: &Arc<str>, state: NameState, holder: Option<Direct>, epoch: u64) {
        self.forget_place(name);
        if let Some(record) = self.state.names.get_mut(name) {
            self.state.epoch = self.state.epoch.max(epoch);
            (record.state, record.holder, record.epoch) = (state, holder, epoch);
            record.host = holder.map_or(record.host, |place| place.node);
        }
        self.note_place(name);
    }

    fn forget_place(&mut self, name: &Arc<str>) {
        let Some(record) = self.state.names.get(name) else { return };
        if let Some(holder) = record.holder
            && let Some(held) = self.held.get_mut(&holder.node)
        {
            held.remove(name);
            if held.is_empty() {
                self.held.remove(&holder.node);
            }
        }
        self.unplaced.remove(name);
    }

    fn note_place(&mut self, name: &Arc<str>) {
        let Some(record) = self.state.names.get(name) else { return };
        if let Some(holder) = record.holder {
            self.held.entry(holder.node).or_default().insert(name.clone());
        }
        if record.state.is_unplaced() {
            self.unplaced.insert(name.clone());
        }
    }
}

/// The newest steps, kept for followers that resume.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    deltas: VecDeque<Arc<Delta>>,
}

impl Feed {
    /// Keeps a step. Versions have to be without gaps; after one (a snapshot was installed) the feed begins anew.
    pub fn push(&mut self, delta: Arc<Delta>) {
        if self.deltas.back().is_some_and(|last| last.version.checked_add(1) != Some(delta.version)) {
            drop(mem::take(&mut self.deltas));
        }
        self.deltas.push_back(delta);
        if self.deltas.len() > DELTAS_KEPT {
            self.deltas.pop_front();
        }
    }

    /// The steps after `version`, at most `most`; nothing if the follower has to take a snapshot first.
    ///
    /// `now` is the directory's version: a follower that has it is answered with no steps.
    #[must_use]
    pub fn since(&self, version: u64, now: u64, most: usize) -> Option<Vec<Arc<Delta>>> {
        if version == now {
            return Some(Vec::new());
        }
        let (first, last) = (self.deltas.front()?.version, self.deltas.back()?.version);
        if version >= last {
            return None;
        }
        let skip = usize::try_from((version + 1).checked_sub(first)?).ok()?;
        Some(self.deltas.iter().skip(skip).take(most).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(version: u64) -> Arc<Delta> {
        Arc::new(Delta { version, changes: Vec::new() })
    }

    fn versions(feed: &Feed, version: u64, now: u64) -> Option<Vec<u64>> {
        Some(feed.since(version, now, 100)?.iter().map(|delta| delta.version).collect())
    }

    #[test]
    fn a_feed_resumes_where_it_can() {
        let mut feed = Feed::default();
        assert_eq!(versions(&feed, 0, 0), Some(vec![]));
        assert_eq!(versions(&feed, 0, 5), None, "the steps were before this feed");
        (6..=9).for_each(|version| feed.push(step(version)));
        assert_eq!(versions(&feed, 5, 9), Some(vec![6, 7, 8, 9]));
        assert_eq!(versions(&feed, 8, 9), Some(vec![9]));
        assert_eq!(versions(&feed, 9, 9), Some(vec![]));
        assert_eq!(versions(&feed, 4, 9), None);
        assert_eq!(versions(&feed, 12, 9), None, "a follower of the future takes a snapshot");
    }

    #[test]
    fn a_feed_begins_anew_after_a_snapshot() {
        let mut feed = Feed::default();
        (1..=3).for_each(|version| feed.push(step(version)));
        feed.push(step(10));
        assert_eq!(versions(&feed, 2, 10), None);
        assert_eq!(versions(&feed, 9, 10), Some(vec![10]));
    }

    #[test]
    fn a_feed_is_bounded() {
        let mut feed = Feed::default();
        (1..=DELTAS_KEPT as u64 + 5).for_each(|version| feed.push(step(version)));
        assert_eq!(feed.deltas.len(), DELTAS_KEPT);
    }

    #[test]
    fn a_step_too_far_is_refused() {
        let mut copy = Directory::default();
        assert_eq!(copy.follow(&step(2)), Err(Gap { has: 0, given: 2 }));
        assert_eq!(copy.follow(&step(1)), Ok(()));
        assert_eq!(copy.follow(&step(1)), Ok(()), "known already");
        assert_eq!(copy.version(), 1);
    }
}
