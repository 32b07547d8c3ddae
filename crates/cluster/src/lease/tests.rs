use super::*;
use crate::{
    directory::{Answer, Token, TokenId},
    testing::{boot, claim, founded, joiner, node},
    voters,
};
use odeon_protocol::directory::{Role, Secret};

const MS: Duration = Duration::from_millis(1);

fn at(ms: u32) -> Time {
    Time::ZERO + MS * ms
}

fn renewal(host: u64, generation: u64, number: u64) -> Renewal {
    Renewal { node: node(host), boot: boot(1), generation, number }
}

/// Hosts 1 and 2; host 2 holds the name `a`.
fn two() -> Directory {
    let mut directory = founded();
    let token = Token { id: TokenId(1), role: Role::Voter, admin: false, expires: 100, uses: None };
    directory.apply(&Command::CreateToken { token, secret: Secret(vec![1]), now: 0 });
    directory.apply(&Command::Admit { token: TokenId(1), joiner: joiner(2), now: 0 });
    let applied = directory.apply(&claim(1, "a", 2, 0));
    assert!(matches!(applied.answer, Answer::Granted { .. }), "{applied:?}");
    directory
}

fn lost(host: u64, generation: u64) -> Command {
    Command::LeaseLost { node: node(host), generation }
}

fn dead(host: u64) -> Command {
    Command::HostDead { node: node(host), boot: boot(1) }
}

#[test]
fn the_spans_are_in_order() {
    let t = TIMING;
    assert!(t.heartbeat * 2 < t.election_min && t.election_min < t.election_max);
    assert!(t.renew * 4 <= t.pause, "a few renewals may be lost");
    // A missed leader is found after at most twice the longest wait; a renewal to the next one still comes in time.
    assert!(t.election_max * 2 + t.renew + t.heartbeat * 2 < t.pause);
    assert!(t.pause < t.kill && t.kill < t.lease && t.lease < t.regrant);
    assert!(t.kill - t.pause >= 400 * MS, "time to come to rest");
    assert!(t.regrant * 4 < t.dead, "a lease is lost long before a host is given up");
    assert!(
        t.regrant * 2 < voters::OUT && voters::OUT * 2 < t.dead,
        "a vote is neither lost by a blip nor kept for long"
    );
    // Failover within 5 s of a host's loss, an election in between not counted.
    assert!(t.regrant < Duration::from_secs(4));
}

#[test]
fn a_renewal_is_answered_only_by_a_round_that_began_after_it() {
    let directory = two();
    let mut leases = Leases::new(TIMING, at(0));
    assert!(!leases.begin_round(), "nothing to confirm");
    assert_eq!(leases.arrived(renewal(2, 1, 1), &directory, at(10)), Arrived::Waits);
    assert!(leases.begin_round());
    assert_eq!(leases.arrived(renewal(1, 1, 1), &directory, at(11)), Arrived::Waits);
    assert!(!leases.begin_round(), "one round at a time");
    assert_eq!(leases.end_round(true), [renewal(2, 1, 1)]);
    assert!(leases.begin_round());
    assert_eq!(leases.end_round(true), [renewal(1, 1, 1)]);
}

#[test]
fn an_unconfirmed_leader_answers_nothing() {
    let directory = two();
    let mut leases = Leases::new(TIMING, at(0));
    leases.arrived(renewal(2, 1, 1), &directory, at(10));
    leases.begin_round();
    assert_eq!(leases.end_round(false), []);
}

#[test]
fn a_new_leader_waits_a_full_lease() {
    let directory = two();
    let mut leases = Leases::new(TIMING, at(5_000));
    assert_eq!(leases.expired(&directory, at(5_000)), []);
    assert_eq!(leases.expired(&directory, at(7_749)), []);
    assert_eq!(leases.expired(&directory, at(7_750)), [lost(2, 1)]);
}

#[test]
fn a_gap_begins_anew_what_was_heard() {
    let directory = two();
    let mut leases = Leases::new(TIMING, at(0));
    leases.expired(&directory, at(0));
    assert_eq!(leases.heard_for(node(2), at(100)), None, "an election is no sign of life");
    for (number, ms) in [200, 2_199, 4_198].into_iter().enumerate() {
        leases.arrived(renewal(2, 1, number as u64), &directory, at(ms));
    }
    assert_eq!(leases.heard_for(node(2), at(4_200)), Some(MS * 4_000));
    leases.arrived(renewal(2, 1, 9), &directory, at(6_198));
    assert_eq!(leases.heard_for(node(2), at(6_200)), Some(MS * 2));
    leases.begin_anew(at(7_000));
    assert_eq!(leases.heard_for(node(2), at(7_000)), None, "nor is it that the leader itself was away");
}

#[test]
fn renewals_keep_a_lease() {
    let directory = two();
    let mut leases = Leases::new(TIMING, at(0));
    for ms in (0..10_000).step_by(250) {
        assert_eq!(leases.arrived(renewal(2, 1, u64::from(ms)), &directory, at(ms)), Arrived::Waits);
        assert_eq!(leases.expired(&directory, at(ms)), []);
    }
    assert_eq!(leases.expired(&directory, at(9_750 + 2_749)), []);
    assert_eq!(leases.expired(&directory, at(9_750 + 2_750)), [lost(2, 1)]);
}

#[test]
fn a_lost_generation_is_renewed_no_more() {
    let mut directory = two();
    let mut leases = Leases::new(TIMING, at(0));
    leases.expired(&directory, at(0));
    assert_eq!(leases.arrived(renewal(2, 1, 1), &directory, at(1)), Arrived::Waits);
    leases.begin_round();
    assert_eq!(leases.expired(&directory, at(2_751)), [lost(2, 1)]);
    assert_eq!(leases.end_round(true), [], "the round was too slow");
    assert_eq!(leases.arrived(renewal(2, 1, 2), &directory, at(2_760)), Arrived::Dropped);
    directory.apply(&lost(2, 1));
    let answer = leases.arrived(renewal(2, 1, 3), &directory, at(2_800));
    assert_eq!(answer, Arrived::Answer(Renewed::Lost { generation: 2 }));
    assert_eq!(leases.arrived(renewal(2, 2, 4), &directory, at(2_900)), Arrived::Waits);
    assert_eq!(leases.expired(&directory, at(9_000)), [], "it holds no names now");
}

#[test]
fn a_silent_host_is_given_up() {
    let mut directory = two();
    let mut leases = Leases::new(TIMING, at(0));
    leases.arrived(renewal(1, 1, 1), &directory, at(29_000));
    leases.expired(&directory, at(0));
    directory.apply(&lost(2, 1));
    assert_eq!(leases.expired(&directory, at(29_999)), []);
    assert_eq!(leases.expired(&directory, at(30_000)), [dead(2)], "losing the lease does not begin the count anew");
    directory.apply(&dead(2));
    assert_eq!(leases.expired(&directory, at(30_001)), []);
    let answer = leases.arrived(renewal(2, 2, 9), &directory, at(30_002));
    assert_eq!(answer, Arrived::Answer(Renewed::BootOver));
}

#[test]
fn a_renewal_after_a_proposal_does_not_take_it_back() {
    let mut directory = two();
    let mut leases = Leases::new(TIMING, at(0));
    leases.expired(&directory, at(0));
    assert_eq!(leases.expired(&directory, at(2_750)), [lost(2, 1)]);
    assert_eq!(leases.arrived(renewal(2, 1, 1), &directory, at(2_751)), Arrived::Dropped);
    assert_eq!(leases.expired(&directory, at(2_752)), [lost(2, 1)], "the first proposal may not have arrived");
    directory.apply(&lost(2, 1));
    leases.arrived(renewal(1, 1, 1), &directory, at(31_000));
    assert_eq!(leases.expired(&directory, at(33_000)), [dead(2)]);
    assert_eq!(leases.arrived(renewal(2, 2, 2), &directory, at(33_001)), Arrived::Dropped);
    assert_eq!(leases.expired(&directory, at(33_002)), [dead(2)]);
}

#[test]
fn an_evicted_host_loses_its_names_when_its_lease_has_run_out() {
    let mut directory = two();
    let mut leases = Leases::new(TIMING, at(0));
    leases.arrived(renewal(2, 1, 1), &directory, at(1_000));
    directory.apply(&Command::Evict { node: node(2) });
    let answer = leases.arrived(renewal(2, 1, 2), &directory, at(1_100));
    assert_eq!(answer, Arrived::Answer(Renewed::NotMember));
    assert_eq!(leases.expired(&directory, at(3_749)), []);
    assert_eq!(leases.expired(&directory, at(3_750)), [lost(2, 1), dead(2)]);
}

#[test]
fn a_new_boot_begins_anew() {
    let mut directory = two();
    let mut leases = Leases::new(TIMING, at(0));
    leases.expired(&directory, at(0));
    directory.apply(&Command::BootStarted { node: node(2), boot: boot(2), address: String::new(), level: 1 });
    assert_eq!(leases.expired(&directory, at(29_000)), []);
    assert_eq!(leases.expired(&directory, at(30_000)), [dead(1)], "only the other was silent since the election");
    let answer = leases.arrived(renewal(2, 2, 1), &directory, at(29_500));
    assert_eq!(answer, Arrived::Answer(Renewed::BootOver), "the old boot");
}

#[test]
fn a_stranger_is_no_member() {
    let directory = two();
    let mut leases = Leases::new(TIMING, at(0));
    let answer = leases.arrived(renewal(9, 1, 1), &directory, at(1));
    assert_eq!(answer, Arrived::Answer(Renewed::NotMember));
}

fn holder() -> Holder {
    Holder::new(TIMING, node(2), boot(1), 1)
}

#[test]
fn the_holder_counts_from_when_it_sent() {
    let mut holder = holder();
    assert_eq!(holder.phase(at(0)), Phase::Over, "no lease yet");
    assert_eq!(holder.renew_at(), Some(Time::ZERO));
    let first = holder.renew(at(1_000));
    assert_eq!(holder.renew_at(), Some(at(1_250)));
    let held = Renewed::Held { number: first.number };
    assert_eq!(holder.answered(held, at(2_500)), Answered::Extended);
    assert_eq!((holder.pause_at(), holder.kill_at()), (at(3_000), at(3_400)));
    assert_eq!(holder.phase(at(2_999)), Phase::Running);
    assert_eq!(holder.phase(at(3_000)), Phase::Paused);
    assert_eq!(holder.phase(at(3_400)), Phase::Over);
    assert_eq!(holder.answered(held, at(2_600)), Answered::Nothing, "the same answer twice");
}

#[test]
fn answers_out_of_order_never_shorten() {
    let mut holder = holder();
    let (one, two) = (holder.renew(at(0)), holder.renew(at(250)));
    assert_eq!(holder.answered(Renewed::Held { number: two.number }, at(300)), Answered::Extended);
    assert_eq!(holder.answered(Renewed::Held { number: one.number }, at(301)), Answered::Nothing);
    assert_eq!(holder.pause_at(), at(2_250));
}

#[test]
fn a_renewal_in_time_resumes_a_paused_holder() {
    let mut holder = holder();
    let first = holder.renew(at(0));
    holder.answered(Renewed::Held { number: first.number }, at(10));
    let late = holder.renew(at(2_100));
    assert_eq!(holder.phase(at(2_200)), Phase::Paused);
    holder.answered(Renewed::Held { number: late.number }, at(2_300));
    assert_eq!(holder.phase(at(2_301)), Phase::Running);
}

#[test]
fn a_lost_generation_rests_before_the_next_begins() {
    let mut holder = holder();
    let first = holder.renew(at(0));
    let second = holder.renew(at(250));
    holder.answered(Renewed::Held { number: first.number }, at(10));
    assert_eq!(holder.answered(Renewed::Lost { generation: 2 }, at(500)), Answered::Lost);
    assert_eq!((holder.phase(at(500)), holder.kill_at()), (Phase::Paused, at(900)));
    assert_eq!(holder.answered(Renewed::Held { number: second.number }, at(510)), Answered::Nothing);
    assert_eq!((holder.phase(at(511)), holder.renew_at()), (Phase::Paused, None));
    holder.rested();
    assert_eq!((holder.generation(), holder.phase(at(600))), (2, Phase::Over));
    assert_eq!(holder.answered(Renewed::Lost { generation: 2 }, at(610)), Answered::Nothing, "known");
    let third = holder.renew(at(620));
    assert_eq!(third.generation, 2);
    holder.answered(Renewed::Held { number: third.number }, at(630));
    assert_eq!(holder.pause_at(), at(2_620));
}

#[test]
fn what_was_sent_before_resting_does_not_extend_the_next_generation() {
    let mut holder = holder();
    let old = holder.renew(at(0));
    holder.lose(2, at(10));
    holder.rested();
    assert_eq!(holder.answered(Renewed::Held { number: old.number }, at(20)), Answered::Nothing);
    assert_eq!(holder.phase(at(21)), Phase::Over);
}

/// The proposal may be carried out long after a leader found its majority again.
#[test]
fn what_a_leader_proposed_before_it_was_away_is_renewed_no_more() {
    let mut directory = two();
    let mut leases = Leases::new(TIMING, at(0));
    assert_eq!(leases.expired(&directory, at(0)), []);
    assert_eq!(leases.expired(&directory, at(2_750)), [lost(2, 1)]);
    // Only due: nobody was told, and the host is not to pay for the leader's absence.
    leases.begin_anew(at(5_000));
    assert_eq!(leases.arrived(renewal(2, 1, 1), &directory, at(5_001)), Arrived::Waits);
    assert_eq!(leases.expired(&directory, at(7_750)), []);
    assert_eq!(leases.expired(&directory, at(7_751)), [lost(2, 1)]);
    leases.proposed(&[lost(2, 1)]);
    leases.begin_anew(at(20_000));
    assert_eq!(leases.arrived(renewal(2, 1, 2), &directory, at(20_001)), Arrived::Dropped);
    assert_eq!(leases.expired(&directory, at(20_002)), [lost(2, 1)]);
    directory.apply(&lost(2, 1));
    let told = leases.arrived(renewal(2, 1, 3), &directory, at(20_003));
    assert_eq!(told, Arrived::Answer(Renewed::Lost { generation: 2 }));
    assert_eq!(leases.arrived(renewal(2, 2, 4), &directory, at(20_004)), Arrived::Waits);
}
