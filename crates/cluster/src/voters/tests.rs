use super::*;
use crate::testing::node;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3600);

fn nodes(numbers: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
    numbers.into_iter().map(node).collect()
}

fn vote(numbers: impl IntoIterator<Item = u64>) -> Option<Step> {
    Some(Step::Vote(nodes(numbers)))
}

/// Hosts 1, 2, … in these zones (`-` for none), all well for an hour, host 1 leads and votes alone.
pub(super) fn group(zones: &str) -> Group {
    let zone = |letter: char| (letter != '-').then(|| letter.to_string());
    let hosts = zones.chars().zip(1..).map(|(letter, number)| {
        (node(number), Host { zone: zone(letter), heard: Some(HOUR), caught_up: true, ..Host::default() })
    });
    Group { leader: node(1), voters: vec![nodes([1])], stand_bys: BTreeSet::new(), hosts: hosts.collect() }
}

impl Group {
    fn with(mut self, voters: impl IntoIterator<Item = u64>, stand_bys: impl IntoIterator<Item = u64>) -> Self {
        (self.voters, self.stand_bys) = (vec![nodes(voters)], nodes(stand_bys));
        self
    }

    fn silent(mut self, number: u64, silent: Duration) -> Self {
        let host = self.hosts.get_mut(&node(number)).unwrap();
        (host.silent, host.heard) = (silent, Some(HOUR + silent));
        self
    }

    fn stuck(mut self, number: u64, stuck: Duration) -> Self {
        self.hosts.get_mut(&node(number)).unwrap().stuck = stuck;
        self
    }

    fn unheard(mut self, number: u64) -> Self {
        self.hosts.get_mut(&node(number)).unwrap().heard = None;
        self
    }

    fn dead(self, number: u64) -> Self {
        let mut group = self.silent(number, HOUR);
        group.hosts.get_mut(&node(number)).unwrap().dead = true;
        group
    }

    fn gone(mut self, number: u64) -> Self {
        self.hosts.remove(&node(number));
        self
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Vote(voters) => {
                self.stand_bys = self.stand_bys.difference(voters).copied().collect();
                self.voters = vec![voters.clone()];
            }
            Step::Follow(node) => assert!(self.stand_bys.insert(*node), "{node} stands by already"),
            Step::Forget(node) => assert!(self.stand_bys.remove(node), "{node} does not stand by"),
        }
    }

    /// Until nothing is to be done; the steps.
    pub(super) fn settle(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some(step) = self.next() {
            check(self, &step);
            self.take(&step);
            steps.push(step);
            assert!(steps.len() < 60, "no end: {steps:?}");
        }
        steps
    }

    pub(super) fn settled(mut self) -> Self {
        self.settle();
        self
    }

    fn seats(&self) -> (Vec<u64>, Vec<u64>) {
        let numbers = |nodes: &BTreeSet<NodeId>| nodes.iter().map(|node| node.0).collect();
        (numbers(&self.voters[0]), numbers(&self.stand_bys))
    }
}

/// What holds of every step of a group without a change under way.
fn check(group: &Group, step: &Step) {
    let [voters] = &group.voters[..] else { return };
    let Step::Vote(others) = step else {
        let more = usize::from(matches!(step, Step::Follow(_)));
        assert!(group.stand_bys.len() + more <= STAND_BYS_MAX, "{group:?}");
        return;
    };
    assert!(others != voters && others.len() % 2 == 1 && others.len() <= 5, "{step:?} of {group:?}");
    assert!(others.iter().all(|node| voters.contains(node) || group.stand_bys.contains(node)), "{step:?} of {group:?}");
    assert!(group.may_decide(voters) && group.has_majority(others), "{step:?} of {group:?}");
    assert!(!group.hosts.contains_key(&group.leader) || others.contains(&group.leader), "{step:?} of {group:?}");
    let unseated: Vec<_> = voters.difference(others).collect();
    let seated = others.difference(voters).count();
    assert!(seated <= 2 && (unseated.is_empty() || seated <= 1), "one at a time: {step:?} of {group:?}");
    let lost = unseated.iter().any(|node| !group.hosts.contains_key(node));
    let bears = |voters: &BTreeSet<NodeId>| group.there(voters) - majority(voters);
    assert!(lost || bears(others) >= bears(voters), "{step:?} of {group:?}");
    for host in unseated.iter().filter_map(|node| group.hosts.get(node)) {
        let near = |voters: &BTreeSet<NodeId>| group.zones(voters.iter()).near(host);
        let for_oddness = others.len() < voters.len() && (lost || voters.len() % 2 == 0);
        let for_zones = seated == 1 && near(others) < near(voters) && group.there(voters) == voters.len();
        assert!(host.is_out() || for_oddness || for_zones, "{step:?} of {group:?}");
    }
}

#[test]
fn a_group_grows_by_hosts_that_stand_by() {
    let mut group = group("---");
    assert_eq!(group.settle(), [Step::Follow(node(2)), Step::Follow(node(3)), Step::Vote(nodes([1, 2, 3]))]);
}

#[test]
fn the_number_is_odd_and_at_most_two_stand_by() {
    let seats = [
        ("-", (vec![1], vec![])),
        ("--", (vec![1], vec![2])),
        ("---", (vec![1, 2, 3], vec![])),
        ("----", (vec![1, 2, 3], vec![4])),
        ("-----", (vec![1, 2, 3, 4, 5], vec![])),
        ("--------", (vec![1, 2, 3, 4, 5], vec![6, 7])),
    ];
    for (zones, wanted) in seats {
        assert_eq!(group(zones).settled().seats(), wanted, "{zones}");
    }
}

#[test]
fn whoever_lacks_much_of_the_log_does_not_vote() {
    let mut group = group("---").with([1], [2, 3]);
    group.hosts.get_mut(&node(3)).unwrap().caught_up = false;
    assert_eq!(group.next(), None);
}

#[test]
fn no_two_voters_share_a_zone_while_another_has_a_host() {
    assert_eq!(group("aabc").settled().seats(), (vec![1, 3, 4], vec![2]));
    assert_eq!(group("aaaabbc").settled().seats().0.len(), 5);
    let spread = group("aaaaaabc").settled();
    assert!([7, 8].iter().all(|number| spread.voters[0].contains(&node(*number))), "{:?}", spread.seats());
    assert_eq!(group("aab").settled().seats().0, [1, 2, 3], "there are no more zones");
    assert_eq!(group("a-bb").settled().seats().0, [1, 2, 3], "hosts without a zone share one");
}

#[test]
fn a_zone_that_comes_gets_a_vote_once_its_host_is_steady() {
    let mut group = group("aaab").with([1, 2, 3], [4]);
    group.hosts.get_mut(&node(4)).unwrap().heard = Some(STEADY - SECOND);
    assert_eq!(group.next(), None);
    group.hosts.get_mut(&node(4)).unwrap().heard = Some(STEADY);
    assert_eq!(group.next(), vote([1, 2, 4]));
    assert_eq!(group.silent(2, 3 * SECOND).next(), None, "not while a voter is silent");
}

#[test]
fn a_blip_changes_nothing() {
    let group = group("abcabc").settled();
    for number in 2..=6 {
        assert_eq!(group.clone().silent(number, OUT - SECOND).next(), None, "{number}");
    }
}

#[test]
fn a_silent_voter_of_three_is_replaced_before_it_is_given_up() {
    let group = group("----").with([1, 2, 3], [4]);
    assert_eq!(group.clone().silent(2, OUT - SECOND).next(), None);
    assert_eq!(group.clone().silent(2, OUT).next(), vote([1, 3, 4]));
    assert_eq!(group.gone(4).with([1, 2, 3], []).silent(2, HOUR).next(), None, "nobody can take its place");
}

/// Its disk is full, say.
#[test]
fn a_voter_whose_log_stands_still_is_replaced_like_a_silent_one() {
    let three = group("----").with([1, 2, 3], [4]);
    assert_eq!(three.clone().stuck(2, OUT - SECOND).next(), None);
    assert_eq!(three.clone().stuck(2, OUT).next(), vote([1, 3, 4]));
    assert_eq!(three.clone().stuck(2, OUT).stuck(4, WELL).next(), None, "nor is a stand-by of use whose log does so");
    let five = group("------").with(1..=5, [6]).stuck(2, HOUR);
    assert_eq!(five.next(), None, "the others bear another loss");
    assert_eq!(five.stuck(3, OUT).next(), vote([1, 3, 4, 5, 6]), "now they do not");
}

#[test]
fn a_stand_by_whose_log_stands_still_keeps_its_place() {
    let mut group = group("abcd-").with([1, 2, 3], [4]).stuck(4, HOUR);
    assert_eq!(group.settle(), [Step::Follow(node(5))]);
    assert_eq!(group.gone(5).next(), Some(Step::Forget(node(5))));
}

#[test]
fn whom_a_new_leader_has_not_heard_of_counts_for_no_majority() {
    let grows = group("-----").with([1, 2, 3], [4, 5]);
    assert_eq!(grows.next(), vote(1..=5));
    assert_eq!(grows.clone().unheard(4).next(), None);
    assert_eq!(grows.unheard(2).unheard(3).next(), None);
    // What is left of five when one leaves must not rest on whoever fell silent at the election.
    let shrinks = group("-----").with(1..=5, []).gone(2).unheard(3);
    assert_eq!(shrinks.next(), vote([1, 4, 5]));
}

#[test]
fn of_five_voters_one_that_is_silent_is_replaced_when_it_is_given_up() {
    let group = group("------").with(1..=5, [6]);
    assert_eq!(group.clone().silent(2, OUT * 2).next(), None, "the others bear another loss");
    assert_eq!(group.clone().silent(2, OUT * 2).silent(3, OUT).next(), vote([1, 3, 4, 5, 6]), "now they do not");
    assert_eq!(group.dead(3).next(), vote([1, 2, 4, 5, 6]));
}

#[test]
fn two_of_five_that_are_given_up_are_dropped() {
    let group = group("-----").with(1..=5, []);
    assert_eq!(group.clone().dead(2).next(), None, "the others bear a loss");
    assert_eq!(group.clone().dead(2).silent(3, OUT).next(), None, "it may come back");
    assert_eq!(group.dead(2).dead(3).next(), vote([1, 4, 5]));
}

#[test]
fn one_that_left_loses_its_vote_at_once() {
    assert_eq!(group("----").with([1, 2, 3], [4]).gone(3).next(), vote([1, 2, 4]));
    assert_eq!(group("---").with([1, 2, 3], []).gone(2).next(), vote([1]));
    assert_eq!(group("aabbc").with(1..=5, []).gone(5).next(), vote([1, 2, 3]));
    let waits = group("----").with([1, 2, 3], []).gone(3);
    assert_eq!(waits.next(), Some(Step::Follow(node(4))), "first it has to know the log");
    assert_eq!(group("---").with([1, 2, 3], []).gone(1).next(), vote([2]), "the leader, too");
}

/// They answer until they have ended, and the leader would be alone with three votes for ever after that.
#[test]
fn those_that_leave_one_after_the_other_lose_their_votes() {
    assert_eq!(group("---").with([1, 2, 3], []).gone(2).gone(3).next(), vote([1]));
    assert_eq!(group("-----").with(1..=5, []).gone(3).gone(4).gone(5).next(), vote([1]));
    assert_eq!(group("---").with([1, 2, 3], []).gone(3).silent(2, WELL).next(), vote([1]), "two may be there");
    assert_eq!(group("-----").with(1..=5, []).gone(5).silent(2, WELL).silent(3, WELL).silent(4, WELL).next(), None);
}

#[test]
fn a_stand_by_that_is_gone_is_forgotten() {
    let group = group("-----").with([1, 2, 3], [4, 5]);
    assert_eq!(group.clone().gone(4).next(), Some(Step::Forget(node(4))));
    assert_eq!(group.dead(5).next(), Some(Step::Forget(node(5))));
}

#[test]
fn stand_bys_are_where_a_voter_would_be_missed() {
    let (voters, stand_bys) = group("abcaaabb").with([1, 2, 3], []).settled().seats();
    assert_eq!((voters, stand_bys), (vec![1, 2, 3, 4, 7], vec![5, 8]));
    let mut group = group("abcab").with([1, 2, 3], [4, 5]);
    group.hosts.get_mut(&node(5)).unwrap().caught_up = false;
    assert_eq!(group.dead(3).next(), vote([1, 2, 4]), "redundancy first");
}

#[test]
fn a_change_that_was_left_half_done_is_ended_or_taken_back() {
    let mut group = group("------");
    group.voters = vec![nodes([1, 2, 3]), nodes([1, 5, 6])];
    assert_eq!(group.next(), vote([1, 5, 6]));
    let unreached = group.silent(5, WELL).silent(6, WELL);
    assert_eq!(unreached.next(), vote([1, 2, 3]));
    assert_eq!(unreached.silent(2, WELL).silent(3, WELL).next(), None);
}

#[test]
fn without_a_majority_nothing_is_done() {
    let group = group("------").with([1, 2, 3], [4, 5]).dead(2).dead(3);
    assert_eq!(group.next(), None);
}
