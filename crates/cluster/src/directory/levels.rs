//! Feature levels: what may be in the log, and who therefore may belong.
//!
//! The directory has a level. Nothing above it is ever logged, and no agent below it is let in. It is raised by the first
//! command that needs it, by an entry of its own ([`Command::RaiseLevel`](super::Command::RaiseLevel), which every agent understands) right before:
//! so the log's order decides between a host that is upgraded, one that starts with an older Odeon, and that command.
//!
//! Who has to understand a command are the voters and stand-bys, whose log holds it, and every other host that is not
//! known to be dead: it follows the changes, and a copy that cannot read one stands still. A dead host's agent that
//! starts again is refused while it is too old, so it holds up nobody; a voter that is dead does, since it keeps its vote
//! and is fed as soon as it is back.

use super::{Behind, Change, Decision, Denied, Directory, Member, Standing};
use odeon_protocol::{NodeId, level::FIRST_LEVEL};
use std::collections::BTreeSet;

/// Hosts that one refusal names.
const NAMED_MAX: usize = 8;

impl Directory {
    /// The highest feature level that commands in the log may have.
    #[must_use]
    pub fn level(&self) -> u16 {
        self.state.level.max(FIRST_LEVEL)
    }

    /// Why a command of that level cannot be logged now: the hosts that do not understand it.
    ///
    /// # Errors
    /// [`Denied::HostsBehind`].
    pub fn all_understand(&self, level: u16, voters: &BTreeSet<NodeId>) -> Result<(), Denied> {
        let follows = |member: &Member| member.standing == Standing::In && member.role.is_host() && !member.dead;
        let has_to = |member: &&Member| member.level < level && (follows(member) || voters.contains(&member.node));
        let behind = |member: &Member| Behind { host: member.name.clone(), level: member.level };
        let mut hosts: Vec<Behind> = self.members().filter(has_to).map(behind).collect();
        if hosts.is_empty() {
            return Ok(());
        }
        hosts.sort_by(|one, other| one.host.cmp(&other.host));
        let more = hosts.len().saturating_sub(NAMED_MAX) as u64;
        hosts.truncate(NAMED_MAX);
        Err(Denied::HostsBehind { needs: level, hosts, more })
    }

    pub(super) fn raise_level(&self, level: u16, voters: &[NodeId]) -> Result<Decision, Denied> {
        if level <= self.level() {
            return Ok(Decision::done(Vec::new()));
        }
        self.all_understand(level, &voters.iter().copied().collect())?;
        Ok(Decision::done(vec![Change::LevelRaised(level)]))
    }

    /// Refuses an agent that does not understand what the log may hold.
    pub(super) fn check_level(&self, name: &str, level: u16) -> Result<(), Denied> {
        if level < self.level() {
            return Err(Denied::Outdated { name: name.to_owned(), has: level, needs: self.level() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        directory::{Answer, Command, Joiner, Recovery, Role, Secret, Token, TokenId},
        testing::{boot, founded, joiner, node},
    };

    fn admit(host: u64, role: Role, level: u16) -> Command {
        Command::Admit { token: TokenId(1), joiner: Joiner { role, level, ..joiner(host) }, now: 10 }
    }

    fn started(host: u64, number: u64, level: u16) -> Command {
        Command::BootStarted { node: node(host), boot: boot(number), address: "h:7400".to_owned(), level }
    }

    /// Voters 1 to 3 and the member 4, all of level 1.
    fn four() -> Directory {
        let mut directory = founded();
        let token = Token { id: TokenId(1), role: Role::Voter, admin: false, expires: 1_000, uses: None };
        directory.apply(&Command::CreateToken { token, secret: Secret(vec![7; 32]), now: 0 });
        for (host, role) in [(2, Role::Voter), (3, Role::Voter), (4, Role::Member)] {
            let answer = directory.apply(&admit(host, role, 1)).answer;
            assert!(matches!(answer, Answer::Admitted(_)), "{answer:?}");
        }
        directory
    }

    fn raise_to(level: u16) -> Command {
        Command::RaiseLevel { level, voters: [1, 2, 3].map(node).into() }
    }

    /// As a leader does before a command of that level: whether it may be logged now, or who is behind.
    fn raise(directory: &mut Directory, level: u16) -> Result<(), Vec<String>> {
        match directory.apply(&raise_to(level)).answer {
            Answer::Done => Ok(()),
            Answer::Denied(Denied::HostsBehind { needs, hosts, more: 0 }) if needs == level => {
                Err(hosts.into_iter().map(|behind| behind.host).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    fn behind(hosts: &[&str]) -> Result<(), Vec<String>> {
        Err(hosts.iter().map(|host| (*host).to_owned()).collect())
    }

    #[test]
    fn a_command_waits_for_the_last_host() {
        let mut directory = four();
        assert_eq!(directory.level(), 1, "what every build knows needs nothing");
        let before = directory.version();
        for (host, left) in
            [(1, &["host-2", "host-3", "host-4"][..]), (2, &["host-3", "host-4"]), (4, &["host-3"]), (3, &[])]
        {
            assert!(raise(&mut directory, 2).is_err());
            directory.apply(&started(host, 2, 2));
            match left {
                [] => assert_eq!(raise(&mut directory, 2), Ok(())),
                left => assert_eq!(raise(&mut directory, 2), behind(left)),
            }
        }
        assert_eq!((directory.level(), directory.version()), (2, before + 5), "four starts and the level");
        assert_eq!(directory.apply(&raise_to(2)).delta, None, "a repetition changes nothing");
    }

    #[test]
    fn an_older_host_is_kept_out_once_its_level_is_too_low() {
        let mut directory = four();
        (1..=4).for_each(|host| drop(directory.apply(&started(host, 2, 2))));
        // Until the level is used anybody may go back.
        assert!(matches!(directory.apply(&started(4, 3, 1)).answer, Answer::Booted { .. }));
        assert_eq!(raise(&mut directory, 2), behind(&["host-4"]));
        directory.apply(&started(4, 4, 2));
        raise(&mut directory, 2).unwrap();
        let outdated = |name: &str| Denied::Outdated { name: name.to_owned(), has: 1, needs: 2 };
        assert_eq!(directory.apply(&started(4, 5, 1)).answer, Answer::Denied(outdated("host-4")));
        assert_eq!(directory.member(node(4)).unwrap().boot, boot(4));
        assert_eq!(directory.apply(&admit(5, Role::Member, 1)).answer, Answer::Denied(outdated("host-5")));
        assert_eq!(directory.apply(&admit(4, Role::Member, 1)).answer, Answer::Denied(outdated("host-4")));
        assert!(matches!(directory.apply(&admit(5, Role::Member, 3)).answer, Answer::Admitted(_)));
    }

    /// The order of the log decides: whichever of the two comes first keeps the other out.
    #[test]
    fn a_host_that_starts_with_an_older_build_and_a_raise_exclude_each_other() {
        let mut directory = four();
        (1..=4).for_each(|host| drop(directory.apply(&started(host, 2, 2))));
        let (back, raise) = (started(3, 3, 1), raise_to(2));
        let answers = |commands: [&Command; 2]| {
            let mut directory = directory.clone();
            commands.map(|command| directory.apply(command).answer)
        };
        assert!(matches!(answers([&back, &raise])[1], Answer::Denied(Denied::HostsBehind { .. })));
        assert!(matches!(answers([&raise, &back])[1], Answer::Denied(Denied::Outdated { .. })));
    }

    #[test]
    fn the_dead_and_the_gone_hold_up_nobody_unless_they_vote() {
        let mut directory = four();
        (1..=2).for_each(|host| drop(directory.apply(&started(host, 2, 2))));
        directory.apply(&Command::HostDead { node: node(3), boot: boot(1) });
        directory.apply(&Command::HostDead { node: node(4), boot: boot(1) });
        assert_eq!(raise(&mut directory, 2), behind(&["host-3"]), "a dead voter is fed when it is back");
        directory.apply(&Command::Evict { node: node(3) });
        assert_eq!(raise(&mut directory, 2), behind(&["host-3"]), "it has its vote still");
        let voters = vec![node(1), node(2)];
        assert_eq!(directory.apply(&Command::RaiseLevel { level: 2, voters }).answer, Answer::Done);
        assert!(matches!(directory.apply(&started(4, 2, 1)).answer, Answer::Denied(Denied::Outdated { .. })));
    }

    #[test]
    fn a_refusal_is_of_bounded_length() {
        let mut directory = four();
        (5..=40).for_each(|host| drop(directory.apply(&admit(host, Role::Member, 1))));
        let Err(Denied::HostsBehind { hosts, more, .. }) = directory.all_understand(2, &BTreeSet::new()) else {
            panic!("all are behind")
        };
        assert_eq!((hosts.len(), more), (NAMED_MAX, 40 - NAMED_MAX as u64));
    }

    #[test]
    fn the_level_outlives_snapshots_copies_and_recoveries() {
        let mut directory = four();
        (1..=4).for_each(|host| drop(directory.apply(&started(host, 2, 2))));
        let mut copy = directory.without_secrets();
        copy.follow(&directory.apply(&raise_to(2)).delta.unwrap()).unwrap();
        assert_eq!(copy.level(), 2);
        let bytes = postcard::to_stdvec(&directory).unwrap();
        assert_eq!(bytes[0], 2, "it is where every build finds it");
        assert_eq!(postcard::from_bytes::<Directory>(&bytes).unwrap().level(), 2);
        let recovery = |level| Recovery { keeper: Joiner { level, ..joiner(1) }, lost: BTreeSet::new(), steps: 1 };
        assert_eq!(directory.recovered(&recovery(2)).unwrap().level(), 2);
        assert!(matches!(directory.recovered(&recovery(1)), Err(Denied::Outdated { .. })));
    }
}
