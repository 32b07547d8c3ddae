use super::*;
use crate::testing::{boot, claim, claim_of, declaration, founded, joiner, named, node, place};
use odeon_protocol::{
    control::{OnStop, Policy},
    limits::{ARGS_BYTES_MAX, NAME_BYTES_MAX},
};
use proptest::prelude::*;

fn answer(directory: &mut Directory, command: Command) -> Answer {
    directory.apply(&command).answer
}

fn token(id: u64, role: Role, uses: Option<u32>) -> Command {
    let token = Token { id: TokenId(id), role, admin: false, expires: 1_000, uses };
    Command::CreateToken { token, secret: Secret(vec![7; 32]), now: 0 }
}

fn admit(token: u64, joiner: Joiner) -> Command {
    Command::Admit { token: TokenId(token), joiner, now: 10 }
}

/// Three hosts, all with boot 1.
fn three() -> Directory {
    let mut directory = founded();
    answer(&mut directory, token(1, Role::Voter, None));
    for host in 2..=3 {
        let admitted = answer(&mut directory, admit(1, joiner(host)));
        assert!(matches!(admitted, Answer::Admitted(_)), "{admitted:?}");
    }
    directory
}

fn granted(answer: Answer) -> u64 {
    match answer {
        Answer::Granted { epoch } => epoch,
        other => panic!("not granted: {other:?}"),
    }
}

fn denied(answer: Answer) -> Denied {
    match answer {
        Answer::Denied(denied) => denied,
        other => panic!("not denied: {other:?}"),
    }
}

#[test]
fn nothing_happens_before_the_founding_and_it_happens_once() {
    let mut directory = Directory::default();
    assert_eq!(denied(answer(&mut directory, claim(1, "a", 1, 0))), Denied::NotFounded);
    directory = founded();
    let again = Command::Found {
        convention: directory.convention().unwrap().clone(),
        ca_key: Secret(vec![9]),
        founder: joiner(1),
    };
    assert!(matches!(answer(&mut directory, again), Answer::Admitted(_)));
    let other = Command::Found {
        convention: directory.convention().unwrap().clone(),
        ca_key: Secret(vec![9]),
        founder: joiner(2),
    };
    assert!(matches!(denied(answer(&mut directory, other)), Denied::Founded(_)));
    assert_eq!(directory.ca_key(), Some(&Secret(vec![1, 2, 3])), "a repetition leaves the key");
}

#[test]
fn a_token_admits_as_often_as_it_says() {
    let mut directory = founded();
    answer(&mut directory, token(1, Role::Member, Some(1)));
    let member = |host| Joiner { role: Role::Member, ..joiner(host) };
    assert!(matches!(answer(&mut directory, admit(1, member(2))), Answer::Admitted(_)));
    assert_eq!(directory.token(TokenId(1)).unwrap().uses, Some(0));
    let repeated = answer(&mut directory, admit(1, member(2)));
    assert!(matches!(repeated, Answer::Admitted(_)), "a repeated join costs no use: {repeated:?}");
    assert_eq!(denied(answer(&mut directory, admit(1, member(3)))), Denied::TokenUsedUp(TokenId(1)));
}

#[test]
fn a_token_is_refused_for_what_it_is_not() {
    let mut directory = founded();
    answer(&mut directory, token(1, Role::Member, None));
    assert!(matches!(denied(answer(&mut directory, admit(1, joiner(2)))), Denied::TokenRole { .. }));
    assert_eq!(denied(answer(&mut directory, admit(9, joiner(2)))), Denied::TokenUnknown(TokenId(9)));
    let late = Command::Admit { token: TokenId(1), joiner: Joiner { role: Role::Member, ..joiner(2) }, now: 1_000 };
    assert_eq!(denied(answer(&mut directory, late)), Denied::TokenExpired(TokenId(1)));
    answer(&mut directory, Command::RevokeToken { token: TokenId(1) });
    assert_eq!(denied(answer(&mut directory, admit(1, joiner(2)))), Denied::TokenUnknown(TokenId(1)));
    assert_eq!(directory.token_secret(TokenId(1)), None, "a revoked token's secret is gone");
}

#[test]
fn expired_tokens_are_forgotten_when_one_is_made() {
    let mut directory = founded();
    answer(&mut directory, token(1, Role::Member, None));
    let fresh = Token { id: TokenId(2), role: Role::Member, admin: false, expires: 9_000, uses: None };
    answer(&mut directory, Command::CreateToken { token: fresh, secret: Secret(vec![1]), now: 1_000 });
    assert_eq!(directory.tokens().map(|token| token.id).collect::<Vec<_>>(), [TokenId(2)]);
}

#[test]
fn a_host_name_is_borne_once() {
    let mut directory = three();
    let twin = Joiner { name: "host-2".to_owned(), ..joiner(4) };
    let refused = denied(answer(&mut directory, admit(1, twin.clone())));
    assert_eq!(refused, Denied::HostNameTaken { name: "host-2".to_owned(), node: node(2) });
    answer(&mut directory, Command::Leave { node: node(2) });
    assert!(matches!(answer(&mut directory, admit(1, twin)), Answer::Admitted(_)), "its bearer has left");
}

#[test]
fn a_second_key_under_a_node_id_is_refused() {
    let mut directory = three();
    let thief = Joiner { key_hash: [99; 32], ..joiner(2) };
    assert_eq!(denied(answer(&mut directory, admit(1, thief))), Denied::KeyDiffers(node(2)));
}

#[test]
fn an_evicted_host_stays_out_and_keeps_its_names_until_its_lease_has_run_out() {
    let mut directory = three();
    granted(answer(&mut directory, claim(1, "a", 2, 0)));
    answer(&mut directory, Command::Evict { node: node(2) });
    assert!(matches!(answer(&mut directory, claim(2, "a", 3, 0)), Answer::Held(_)));
    assert!(matches!(denied(answer(&mut directory, claim(3, "b", 2, 0))), Denied::Evicted { .. }));
    assert!(matches!(denied(answer(&mut directory, admit(1, joiner(2)))), Denied::Evicted { .. }));
    answer(&mut directory, Command::LeaseLost { node: node(2), generation: 1 });
    assert_eq!(granted(answer(&mut directory, claim(4, "a", 3, 1))), 2);
    assert_eq!(directory.hosts().count(), 2);
}

#[test]
fn a_name_is_claimed_started_stopped_and_free_again() {
    let mut directory = three();
    let epoch = granted(answer(&mut directory, claim(1, "a", 2, 0)));
    assert_eq!(directory.name("a").unwrap().state, NameState::Starting);
    assert_eq!(answer(&mut directory, Command::Started { name: "a".into(), epoch }), Answer::Done);
    assert_eq!(directory.name("a").unwrap().state, NameState::Live);
    let Answer::Held(record) = answer(&mut directory, claim(2, "a", 3, 0)) else { panic!("granted twice") };
    assert_eq!((record.holder, record.epoch), (Some(place(2, 1)), epoch));
    let stop = Command::Released { name: "a".into(), epoch, dormant: false };
    assert_eq!(answer(&mut directory, stop.clone()), Answer::Done);
    assert_eq!(directory.name("a"), None);
    assert_eq!(answer(&mut directory, stop), Answer::Done, "repeated");
    assert_eq!(granted(answer(&mut directory, claim(3, "a", 3, 0))), epoch + 1);
}

#[test]
fn a_failed_start_frees_the_name() {
    let mut directory = three();
    let epoch = granted(answer(&mut directory, claim(1, "a", 2, 0)));
    let failed = Command::StartFailed { name: "a".into(), epoch };
    assert_eq!(answer(&mut directory, failed.clone()), Answer::Done);
    assert_eq!(directory.name("a"), None);
    let second = granted(answer(&mut directory, claim(2, "a", 3, 0)));
    assert!(matches!(answer(&mut directory, failed), Answer::Changed { .. }), "it is not that grant's name any more");
    assert_eq!(directory.name("a").unwrap().epoch, second);
}

#[test]
fn a_dormant_name_keeps_its_declaration() {
    let mut directory = three();
    let epoch = granted(answer(&mut directory, claim(1, "a", 2, 0)));
    answer(&mut directory, Command::Released { name: "a".into(), epoch, dormant: true });
    let record = directory.name("a").unwrap();
    assert_eq!((record.state, record.holder, record.host), (NameState::Dormant, None, node(2)));
    let mut other = claim_of(2, "a", 3, 0);
    other.declaration.args = b"other".to_vec();
    let Answer::Changed { record: Some(record) } = answer(&mut directory, Command::Claim(other.clone())) else {
        panic!("granted to a claimant that has not seen what to start")
    };
    assert_eq!(record.declaration, declaration());
    let seen = Claim { request: claim_of(3, "a", 3, 0).request, epoch_seen: record.epoch, ..other };
    assert_eq!(granted(answer(&mut directory, Command::Claim(seen))), epoch + 1);
    assert_eq!(directory.name("a").unwrap().declaration, declaration());
}

#[test]
fn the_same_declaration_wakes_a_dormant_name_at_once() {
    let mut directory = three();
    let epoch = granted(answer(&mut directory, claim(1, "a", 2, 0)));
    answer(&mut directory, Command::Released { name: "a".into(), epoch, dormant: true });
    assert_eq!(granted(answer(&mut directory, claim(2, "a", 3, 0))), epoch + 1);
}

#[test]
fn a_name_given_up_is_unplaced_until_another_host_takes_it() {
    let mut directory = three();
    let epoch = granted(answer(&mut directory, claim(1, "a", 2, 0)));
    answer(&mut directory, Command::Started { name: "a".into(), epoch });
    let given_up = Command::GivenUp { name: "a".into(), epoch };
    assert_eq!(answer(&mut directory, given_up.clone()), Answer::Done);
    let record = directory.name("a").unwrap();
    assert_eq!((record.state.word(), record.holder, record.epoch), ("unplaced", None, epoch));
    assert_eq!((directory.unplaced().count(), directory.names_held(node(2))), (1, 0));
    assert_eq!(answer(&mut directory, given_up.clone()), Answer::Done, "repeated");
    assert_eq!(granted(answer(&mut directory, claim(2, "a", 3, epoch))), epoch + 1);
    assert_eq!(directory.unplaced().count(), 0);
    assert!(matches!(answer(&mut directory, given_up), Answer::Changed { .. }), "the grant of another");
}

#[test]
fn another_type_does_not_get_the_name() {
    let mut directory = three();
    granted(answer(&mut directory, claim(1, "a", 2, 0)));
    let mut other = claim_of(2, "a", 3, 0);
    other.declaration.type_name = "poll.other".into();
    let mismatch = answer(&mut directory, Command::Claim(other));
    assert!(matches!(mismatch, Answer::TypeMismatch { .. }), "{mismatch:?}");
}

#[test]
fn the_holder_claims_again_after_a_worker_was_lost() {
    let mut directory = three();
    let epoch = granted(answer(&mut directory, claim(1, "a", 2, 0)));
    answer(&mut directory, Command::Started { name: "a".into(), epoch });
    let mut again = claim_of(2, "a", 2, epoch);
    again.holder.serial = odeon_protocol::Serial(77);
    assert_eq!(granted(answer(&mut directory, Command::Claim(again.clone()))), epoch + 1);
    assert_eq!(directory.name("a").unwrap().holder, Some(again.holder));
    let stranger = claim(3, "a", 3, epoch + 1);
    assert!(matches!(answer(&mut directory, stranger), Answer::Held(_)), "only the holder's host may");
    let old = Command::Released { name: "a".into(), epoch, dormant: false };
    assert!(matches!(answer(&mut directory, old), Answer::Changed { .. }), "the old grant releases nothing");
}

#[test]
fn a_name_freed_meanwhile_is_not_brought_back() {
    let mut directory = three();
    let epoch = granted(answer(&mut directory, claim(1, "a", 2, 0)));
    answer(&mut directory, Command::Released { name: "a".into(), epoch, dormant: false });
    assert_eq!(answer(&mut directory, claim(2, "a", 2, epoch)), Answer::Changed { record: None });
}

#[test]
fn a_lost_lease_unplaces_names_and_fences_claims_under_way() {
    let mut directory = three();
    granted(answer(&mut directory, claim(1, "a", 2, 0)));
    granted(answer(&mut directory, claim(2, "b", 3, 0)));
    answer(&mut directory, Command::LeaseLost { node: node(2), generation: 1 });
    assert_eq!(directory.unplaced().map(|record| &*record.name).collect::<Vec<_>>(), ["a"]);
    assert_eq!(directory.names_held(node(2)), 0);
    assert_eq!(directory.name("b").unwrap().state, NameState::Starting);
    let under_way = denied(answer(&mut directory, claim(3, "c", 2, 0)));
    assert_eq!(under_way, Denied::LeaseOver { node: node(2), generation: 1 });
    let version = directory.version();
    answer(&mut directory, Command::LeaseLost { node: node(2), generation: 1 });
    assert_eq!(directory.version(), version, "a repetition changes nothing");
    let renewed = Claim { generation: 2, ..claim_of(4, "c", 2, 0) };
    granted(answer(&mut directory, Command::Claim(renewed)));
    assert_eq!(granted(answer(&mut directory, claim(5, "a", 3, 1))), 4);
}

#[test]
fn a_new_boot_unplaces_what_the_old_one_held_and_ends_it() {
    let mut directory = three();
    granted(answer(&mut directory, claim(1, "a", 2, 0)));
    let started = |boot| Command::BootStarted { node: node(2), boot, address: "h2:7400".to_owned(), level: 1 };
    assert_eq!(answer(&mut directory, started(boot(2))), Answer::Booted { generation: 2 });
    assert_eq!(directory.unplaced().count(), 1);
    assert_eq!(answer(&mut directory, started(boot(2))), Answer::Booted { generation: 2 }, "repeated");
    assert!(matches!(denied(answer(&mut directory, started(boot(1)))), Denied::BootOver { .. }));
    assert!(matches!(denied(answer(&mut directory, claim(2, "b", 2, 0))), Denied::BootOver { .. }));
    assert!(directory.boot_lives(node(2), boot(2)) && !directory.boot_lives(node(2), boot(1)));
    assert!(directory.boot_lives(node(2), boot(3)), "its agent has begun anew, which is not known here yet");
}

#[test]
fn a_dead_boot_holds_nothing_and_a_new_one_may() {
    let mut directory = three();
    granted(answer(&mut directory, claim(1, "a", 2, 0)));
    answer(&mut directory, Command::HostDead { node: node(2), boot: boot(1) });
    assert_eq!(directory.unplaced().count(), 1);
    assert!(matches!(denied(answer(&mut directory, claim(2, "b", 2, 0))), Denied::BootOver { .. }));
    let again = Command::BootStarted { node: node(2), boot: boot(1), address: String::new(), level: 1 };
    assert!(matches!(denied(answer(&mut directory, again)), Denied::BootOver { .. }));
    let next = Command::BootStarted { node: node(2), boot: boot(2), address: String::new(), level: 1 };
    assert!(matches!(answer(&mut directory, next), Answer::Booted { .. }));
    assert!(directory.member(node(2)).unwrap().hosts_actors());
}

#[test]
fn a_witness_holds_no_names() {
    let mut directory = three();
    answer(&mut directory, admit(1, Joiner { witness: true, ..joiner(4) }));
    assert_eq!(denied(answer(&mut directory, claim(1, "a", 4, 0))), Denied::NoActors("host-4".to_owned()));
}

#[test]
fn a_late_repetition_is_not_granted_behind_the_claimants_back() {
    let mut directory = three();
    let epoch = granted(answer(&mut directory, claim(1, "a", 2, 0)));
    assert!(matches!(answer(&mut directory, claim(2, "a", 3, 0)), Answer::Held(_)));
    answer(&mut directory, Command::Released { name: "a".into(), epoch, dormant: false });
    assert_eq!(denied(answer(&mut directory, claim(2, "a", 3, 0))), Denied::TooLate);
    assert_eq!(answer(&mut directory, claim(1, "a", 2, 0)), Answer::Changed { record: None });
    assert_eq!(directory.name("a"), None);
}

#[test]
fn limits_are_kept() {
    let mut directory = three();
    let mut big = claim_of(1, "a", 2, 0);
    big.declaration.args = vec![0; ARGS_BYTES_MAX + 1];
    let refused = denied(answer(&mut directory, Command::Claim(big)));
    assert_eq!(refused.to_string(), "the actor's list of arguments has 16385 bytes, more than 16384: make it smaller");
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    assert!(matches!(denied(answer(&mut directory, claim(2, &long, 2, 0))), Denied::BadName(_)));
    let nameless = Joiner { name: String::new(), ..joiner(4) };
    assert!(matches!(denied(answer(&mut directory, admit(1, nameless))), Denied::BadName(_)));
}

#[test]
fn secrets_stay_with_voters() {
    let directory = three();
    assert!(directory.ca_key().is_some() && directory.token_secret(TokenId(1)).is_some());
    let copy = directory.without_secrets();
    assert!(copy.ca_key().is_none() && copy.token_secret(TokenId(1)).is_none());
    assert!(copy.token(TokenId(1)).is_some());
}

/// Any command of a small world, so that they meet.
fn command() -> impl Strategy<Value = Command> {
    let host = 1..=4u64;
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let epoch = 0..12u64;
    prop_oneof![
        6 => (0..40u64, name.clone(), host.clone(), 1..3u64, 1..3u64, prop_oneof![Just(0), 0..12u64], any::<bool>())
            .prop_map(|(request, name, host, boot_number, generation, epoch_seen, other)| {
                let mut claim = Claim { generation, ..claim_of(request, name, host, epoch_seen) };
                claim.holder.boot = boot(boot_number);
                if other {
                    claim.declaration.policy = Policy { on_stop: OnStop::Dormant, ..Policy::default() };
                }
                Command::Claim(claim)
            }),
        3 => (name.clone(), epoch.clone()).prop_map(|(name, epoch)| Command::Started { name: named(name), epoch }),
        1 => (name.clone(), epoch.clone()).prop_map(|(name, epoch)| Command::StartFailed { name: named(name), epoch }),
        1 => (name.clone(), epoch.clone()).prop_map(|(name, epoch)| Command::GivenUp { name: named(name), epoch }),
        2 => (name, epoch, any::<bool>())
            .prop_map(|(name, epoch, dormant)| Command::Released { name: named(name), epoch, dormant }),
        1 => (host.clone(), 1..4u64).prop_map(|(host, generation)| Command::LeaseLost { node: node(host), generation }),
        1 => (host.clone(), 1..3u64).prop_map(|(host, number)| Command::HostDead { node: node(host), boot: boot(number) }),
        2 => (host.clone(), 1..4u64, 1..4u16).prop_map(|(host, number, level)| Command::BootStarted {
            node: node(host),
            boot: boot(number),
            address: format!("h{host}:{number}"),
            level,
        }),
        1 => (host.clone(), 1..4u64).prop_map(|(host, number)| admit(1, Joiner { boot: boot(number), ..joiner(host) })),
        1 => (2..4u16, prop::collection::vec(host.clone(), 0..3)).prop_map(|(level, voters)| Command::RaiseLevel {
            level,
            voters: voters.into_iter().map(node).collect(),
        }),
        1 => host.clone().prop_map(|host| Command::Leave { node: node(host) }),
        1 => host.prop_map(|host| Command::Evict { node: node(host) }),
        1 => (1..4u64).prop_map(|id| token(id, Role::Voter, Some(3))),
        1 => (2..4u64).prop_map(|id| Command::RevokeToken { token: TokenId(id) }),
    ]
}

fn bytes(directory: &Directory) -> Vec<u8> {
    postcard::to_stdvec(directory).unwrap()
}

fn check_invariants(directory: &Directory) {
    for record in directory.names() {
        let running = matches!(record.state, NameState::Starting | NameState::Live);
        assert_eq!(running, record.holder.is_some(), "{record:?}");
        assert!(record.epoch <= directory.epoch());
        if let Some(holder) = record.holder {
            assert_eq!(record.host, holder.node);
            let member = directory.member(holder.node).unwrap();
            assert_eq!(member.boot, holder.boot, "a name is held by an older boot");
            assert!(!member.dead, "a name is held by a dead boot");
        }
    }
    for host in directory.hosts().filter(|host| !host.dead) {
        assert!(host.level >= directory.level(), "{host:?} belongs and lives, and does not understand the log");
    }
    let rebuilt = Directory::from(directory.state.clone());
    assert_eq!(directory.held, rebuilt.held, "the index follows from the records");
    assert_eq!(directory.unplaced, rebuilt.unplaced);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_followers_copy_is_the_leaders_without_secrets(commands in prop::collection::vec(command(), 1..120)) {
        let mut leader = three();
        let mut copy = leader.without_secrets();
        for command in &commands {
            let applied = leader.apply(command);
            if let Some(delta) = &applied.delta {
                copy.follow(delta).unwrap();
            }
            prop_assert_eq!(&copy, &leader.without_secrets());
            check_invariants(&copy);
        }
        check_invariants(&leader);
    }

    #[test]
    fn each_grant_raises_the_epoch_and_nothing_lowers_it(commands in prop::collection::vec(command(), 1..120)) {
        let mut directory = three();
        for command in &commands {
            let (epoch, repeated) = (directory.epoch(), match command {
                Command::Claim(claim) => directory.answered_before(claim).is_some(),
                _ => false,
            });
            match directory.apply(command).answer {
                Answer::Granted { epoch: granted } if !repeated => {
                    prop_assert_eq!(granted, epoch + 1);
                    prop_assert_eq!(directory.epoch(), granted);
                }
                _ => prop_assert_eq!(directory.epoch(), epoch),
            }
        }
    }

    #[test]
    fn a_command_repeated_at_once_changes_nothing(commands in prop::collection::vec(command(), 1..120)) {
        let mut directory = three();
        for command in &commands {
            let first = directory.apply(command);
            let before = bytes(&directory);
            let second = directory.apply(command);
            if let Command::Claim(_) = command {
                prop_assert_eq!(&first.answer, &second.answer);
            }
            if !matches!(command, Command::RevokeToken { .. }) {
                prop_assert!(second.delta.is_none(), "{:?}", command);
                prop_assert_eq!(before, bytes(&directory));
            }
        }
    }

    #[test]
    fn the_same_commands_give_the_same_bytes_also_across_a_snapshot(
        commands in prop::collection::vec(command(), 1..120),
        at in 0..120usize,
    ) {
        let (mut straight, mut restored) = (three(), three());
        for (index, command) in commands.iter().enumerate() {
            if index == at {
                restored = postcard::from_bytes(&bytes(&restored)).unwrap();
            }
            prop_assert_eq!(straight.apply(command), restored.apply(command));
        }
        prop_assert_eq!(bytes(&straight), bytes(&restored));
        check_invariants(&restored);
    }
}
