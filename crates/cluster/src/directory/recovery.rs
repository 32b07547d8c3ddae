//! A directory for a group that begins anew, made of what one host still has of it.
//!
//! The majority of the voters is lost, and with it whatever only they knew: grants, boots, lease generations, steps. So
//! every number that only grows is raised beyond all that they may have given out, nobody holds a name until it is
//! granted again, and the lost hosts are evicted, that the new group never takes one of them for its own.

use super::{Denied, Directory, Joiner, Member, NameState, Role, Standing, members};
use odeon_protocol::NodeId;
use std::{collections::BTreeSet, mem};

/// By how much one recovery raises epochs, versions and lease generations: more than a group ever gives out.
pub const RECOVERY_RAISES: u64 = 1 << 32;

/// What a recovery is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The only voter of the new group. A member keeps its record; another key is admitted.
    pub keeper: Joiner,
    /// Who may have a log of the old group: they are evicted.
    pub lost: BTreeSet<NodeId>,
    /// How often [`RECOVERY_RAISES`] is added: once for each recovery that may lie between this copy and now, this one
    /// among them.
    pub steps: u64,
}

impl Recovery {
    /// What is added to every number that only grows; the largest possible one where it would not fit.
    #[must_use]
    pub const fn raises(&self) -> u64 {
        RECOVERY_RAISES.saturating_mul(self.steps)
    }
}

impl Directory {
    /// The directory that the new group begins with.
    ///
    /// Members, tokens and what names declare stay. Names that somebody held are unplaced, since nobody knows who held
    /// them last; members have to give up the leases that they had.
    ///
    /// # Errors
    /// It was never founded, or the keeper was evicted, has left, bears the name of another member, or is too old.
    pub fn recovered(&self, recovery: &Recovery) -> Result<Self, Denied> {
        if self.state.convention.is_none() {
            return Err(Denied::NotFounded);
        }
        let raises = recovery.raises();
        let mut state = self.state.clone();
        state.version = state.version.saturating_add(raises);
        state.epoch = state.epoch.saturating_add(raises);
        for record in state.names.values_mut() {
            record.epoch = record.epoch.saturating_add(raises);
            if mem::take(&mut record.holder).is_some() {
                record.state = NameState::Unplaced;
            }
        }
        for member in state.members.values_mut() {
            member.generation = member.generation.saturating_add(raises);
            if recovery.lost.contains(&member.node) && member.node != recovery.keeper.node {
                (member.standing, member.dead) = (Standing::Evicted, true);
            }
        }
        let mut directory = Self::from(state);
        directory.keep(&recovery.keeper)?;
        Ok(directory)
    }

    /// Has the keeper as a voter that belongs.
    fn keep(&mut self, keeper: &Joiner) -> Result<(), Denied> {
        let node = keeper.node;
        self.check_level(&keeper.name, keeper.level)?;
        match self.state.members.get_mut(&node) {
            Some(member) if member.key_hash != keeper.key_hash => return Err(Denied::KeyDiffers(node)),
            Some(member) if member.standing == Standing::In => {
                member.role = Role::Voter;
                return Ok(());
            }
            Some(member) if member.standing == Standing::Evicted => {
                return Err(Denied::Evicted { name: member.name.clone(), node });
            }
            Some(_) => return Err(Denied::NotMember(node)),
            None => {}
        }
        members::check_joiner(keeper)?;
        if let Some(other) = self.host_named(&keeper.name) {
            return Err(Denied::HostNameTaken { name: keeper.name.clone(), node: other.node });
        }
        let member = Member { role: Role::Voter, ..members::new_member(keeper) };
        self.state.members.insert(node, member);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        directory::{Answer, Claim, Command, Feed, Secret, Token, TokenId},
        lease::{Arrived, Leases, TIMING},
        testing::{boot, claim, claim_of, founded, joiner, named, node},
    };
    use odeon_protocol::{
        Time,
        peer::{Renewal, Renewed},
    };
    use std::sync::Arc;

    /// Voters 1 to 3 and member 4, which bears `b`; `a` is on the voter 2, `c` is dormant.
    fn convention() -> Directory {
        let mut directory = founded();
        let token = Token { id: TokenId(1), role: Role::Voter, admin: false, expires: 1_000, uses: None };
        directory.apply(&Command::CreateToken { token, secret: Secret(vec![7; 32]), now: 0 });
        for host in 2..=4 {
            let role = if host == 4 { Role::Member } else { Role::Voter };
            let joiner = Joiner { role, ..joiner(host) };
            directory.apply(&Command::Admit { token: TokenId(1), joiner, now: 10 });
        }
        for (name, host) in [("a", 2), ("b", 4), ("c", 3)] {
            let answer = directory.apply(&claim(host, name, host, 0)).answer;
            assert!(matches!(answer, Answer::Granted { .. }), "{answer:?}");
        }
        directory.apply(&Command::Started { name: named("b"), epoch: 2 });
        directory.apply(&Command::Released { name: named("c"), epoch: 3, dormant: true });
        directory
    }

    fn recovery(keeper: u64, lost: impl IntoIterator<Item = u64>) -> Recovery {
        Recovery { keeper: joiner(keeper), lost: lost.into_iter().map(node).collect(), steps: 1 }
    }

    #[test]
    fn every_epoch_is_beyond_what_the_lost_voters_may_have_granted() {
        let old = convention();
        let mut lost = old.clone();
        // A grant that only the lost voters saw.
        lost.apply(&claim(50, "unseen", 2, 0));
        let mut new = old.recovered(&recovery(1, [1, 2, 3])).unwrap();
        assert_eq!(new.epoch(), old.epoch() + RECOVERY_RAISES);
        for record in new.names() {
            assert_eq!(record.epoch, old.name(&record.name).unwrap().epoch + RECOVERY_RAISES);
        }
        let generation = new.member(node(1)).unwrap().generation;
        let anew = Command::Claim(Claim { generation, ..claim_of(51, "unseen", 1, 0) });
        let Answer::Granted { epoch } = new.apply(&anew).answer else { panic!("the name is free here") };
        assert!(epoch > lost.epoch() + 1_000_000);
    }

    #[test]
    fn nobody_holds_a_name_and_declarations_stay() {
        let (old, new) = (convention(), convention().recovered(&recovery(1, [1, 2, 3])).unwrap());
        let states: Vec<_> = new.names().map(|record| (&*record.name, record.state, record.holder)).collect();
        let expected = [("a", NameState::Unplaced), ("b", NameState::Unplaced), ("c", NameState::Dormant)];
        assert_eq!(states, expected.map(|(name, state)| (name, state, None)));
        assert!(old.names().zip(new.names()).all(|(old, new)| old.declaration == new.declaration));
        assert_eq!((new.unplaced().len(), new.names_held(node(4))), (2, 0));
        assert_eq!(new.tokens().count(), 1);
        assert_eq!(new.token_secret(TokenId(1)), old.token_secret(TokenId(1)));
        assert!(new.ca_key().is_some());
    }

    #[test]
    fn the_lost_are_evicted_and_their_names_free_for_their_successors() {
        let mut new = convention().recovered(&recovery(1, [1, 2, 3])).unwrap();
        let standing = |number| new.member(node(number)).unwrap().standing;
        let expected = [Standing::In, Standing::Evicted, Standing::Evicted, Standing::In];
        assert_eq!([1, 2, 3, 4].map(standing), expected);
        let again = Joiner { name: joiner(2).name, ..joiner(12) };
        let answer = new.apply(&Command::Admit { token: TokenId(1), joiner: again, now: 10 }).answer;
        assert!(matches!(answer, Answer::Admitted(_)), "{answer:?}");
    }

    #[test]
    fn a_member_that_is_up_loses_its_old_lease_and_keeps_its_boot() {
        let (old, new) = (convention(), convention().recovered(&recovery(1, [1, 2, 3])).unwrap());
        let generation = old.member(node(4)).unwrap().generation;
        let renewal = Renewal { node: node(4), boot: boot(1), generation, number: 1 };
        let raised = generation + RECOVERY_RAISES;
        let mut leases = Leases::new(TIMING, Time::ZERO);
        let arrived = leases.arrived(renewal, &new, Time::ZERO);
        assert_eq!(arrived, Arrived::Answer(Renewed::Lost { generation: raised }));
        let renewal = Renewal { node: node(2), boot: boot(1), generation: raised, number: 1 };
        assert_eq!(leases.arrived(renewal, &new, Time::ZERO), Arrived::Answer(Renewed::NotMember));
    }

    #[test]
    fn a_follower_that_was_ahead_takes_the_whole_directory() {
        let old = convention();
        let mut ahead = old.clone();
        for number in 0..100 {
            ahead.apply(&claim(100 + number, &format!("n{number}"), 2, 0));
        }
        let mut new = old.recovered(&recovery(1, [1, 2, 3])).unwrap();
        let (mut feed, before) = (Feed::default(), new.version());
        assert!(before > ahead.version());
        assert_eq!(feed.since(ahead.version(), new.version(), 9), None);
        let delta = new.apply(&Command::Leave { node: node(4) }).delta.unwrap();
        feed.push(Arc::new(delta));
        assert_eq!(feed.since(ahead.version(), new.version(), 9), None);
        assert_eq!(feed.since(before, new.version(), 9).map(|steps| steps.len()), Some(1));
    }

    #[test]
    fn a_new_host_may_be_the_keeper() {
        let keeper = Joiner { name: joiner(2).name, role: Role::Member, ..joiner(9) };
        let all = Recovery { keeper, steps: 3, ..recovery(9, [1, 2, 3]) };
        let new = convention().recovered(&all).unwrap();
        let member = new.member(node(9)).unwrap();
        assert_eq!((member.role, member.standing), (Role::Voter, Standing::In));
        assert_eq!(new.epoch(), convention().epoch() + 3 * RECOVERY_RAISES);
        let voters = new.hosts().filter(|host| host.role == Role::Voter).map(|host| host.node);
        assert_eq!(voters.collect::<Vec<_>>(), [node(9)]);
    }

    #[test]
    fn who_cannot_be_the_keeper_is_told_why() {
        assert_eq!(Directory::default().recovered(&recovery(1, [])), Err(Denied::NotFounded));
        let mut old = convention();
        let taken = Joiner { name: joiner(4).name, ..joiner(9) };
        let denied = old.recovered(&Recovery { keeper: taken, ..recovery(9, [1, 2, 3]) });
        assert!(matches!(denied, Err(Denied::HostNameTaken { .. })), "{denied:?}");
        let stranger = Joiner { key_hash: [0; 32], ..joiner(1) };
        let denied = old.recovered(&Recovery { keeper: stranger, ..recovery(1, [2]) });
        assert_eq!(denied, Err(Denied::KeyDiffers(node(1))));
        old.apply(&Command::Evict { node: node(3) });
        assert!(matches!(old.recovered(&recovery(3, [1, 2])), Err(Denied::Evicted { .. })));
    }
}
