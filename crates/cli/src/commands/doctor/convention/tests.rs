use super::*;
use odeon_node::doctor::Clock;

/// A host that is well.
fn well(name: &str) -> Host {
    Host {
        name: name.into(),
        address: format!("{name}:7400"),
        state: "up".into(),
        asked: true,
        silence: None,
        version: Some("0.1.0".into()),
        feature_level: Some(1),
        clock: Some(Clock { ahead_us: 400, round_trip_us: 300 }),
    }
}

fn silent(name: &str, state: &str) -> Host {
    let silence = Silence { why: "no answer within 5s".into(), dials: 3, seconds: 14 };
    Host { state: state.into(), silence: Some(silence), version: None, feature_level: None, clock: None, ..well(name) }
}

fn dialled(by: &str, failed: Option<&str>) -> DialBack {
    DialBack { by: by.into(), address: Some("h1:7400".into()), failed: failed.map(str::to_owned) }
}

/// What a healthy host of three finds.
fn facts() -> Facts {
    Facts {
        host: "h1".into(),
        version: "0.1.0".into(),
        feature_level: 1,
        leader: Some("h2".into()),
        listens_on: "0.0.0.0:7400".into(),
        address: "h1:7400".into(),
        hosts: vec![well("h2"), well("h3")],
        dialled_back: vec![dialled("h2", None), dialled("h3", None)],
        ..Facts::default()
    }
}

/// The findings that are to be looked at, each of which has to contain `parts`.
#[track_caller]
fn check(facts: &Facts, looks: &[(&str, &[&str])]) {
    let findings = judge(facts);
    let found: Vec<&Finding> = findings.iter().filter(|finding| !finding.ok).collect();
    assert_eq!(found.len(), looks.len(), "{found:#?}");
    for (finding, (what, parts)) in found.into_iter().zip(looks) {
        assert_eq!(finding.what, *what, "{finding:?}");
        let lacks = parts.iter().find(|part| !finding.text.contains(**part));
        assert_eq!(lacks, None, "{finding:?}");
    }
}

#[track_caller]
fn text_of(facts: &Facts, what: &str) -> String {
    judge(facts).into_iter().find(|finding| finding.what == what).expect("there is such a finding").text
}

#[test]
fn a_healthy_host_has_nothing_to_look_at() {
    check(&facts(), &[]);
    assert_eq!(text_of(&facts(), "udp"), "2 of 2 other hosts answer: h2, h3");
    assert_eq!(text_of(&facts(), "advertised address"), "h1:7400 was dialled from a new port by h2, h3, and answers");
    assert_eq!(text_of(&facts(), "clocks"), "within 0 ms of this one's (2 other hosts compared)");
    assert_eq!(text_of(&facts(), "versions"), "Odeon 0.1.0 on 3 of 3 hosts");
}

#[test]
fn a_host_alone_has_nothing_to_look_at() {
    let alone = Facts { hosts: Vec::new(), dialled_back: Vec::new(), ..facts() };
    check(&alone, &[]);
    assert_eq!(text_of(&alone, "advertised address"), "h1:7400; not tried: no other host answers that could");
}

#[test]
fn no_leader() {
    check(&Facts { leader: None, ..facts() }, &[("leader", &["no majority", "start the missing voters"])]);
}

#[test]
fn a_host_that_is_down_is_named_once() {
    let facts = Facts { hosts: vec![well("h2"), silent("h3", "down")], ..facts() };
    let parts = ["h3 at h3:7400 is down", "no answer within 5s; 3 dials in vain, the first 14 s ago", "odeon evict h3"];
    check(&facts, &[("host", &parts)]);
    assert_eq!(text_of(&facts, "udp"), "1 of 2 other hosts answer: h2");
    assert_eq!(text_of(&facts, "versions"), "Odeon 0.1.0 on 2 of 3 hosts");
}

#[test]
fn other_states_have_their_advice() {
    for (state, advice) in [("draining", "takes no new actors"), ("joining", "wait"), ("suspect", "start its agent")] {
        let facts = Facts { hosts: vec![well("h2"), Host { state: state.into(), ..well("h3") }], ..facts() };
        check(&facts, &[("host", &[state, advice])]);
    }
}

#[test]
fn a_host_that_is_up_and_silent_here_is_behind_a_wall() {
    let facts = Facts { hosts: vec![well("h2"), silent("h3", "up")], ..facts() };
    check(&facts, &[("udp", &["h3 at h3:7400", "said to be up", "UDP is blocked between the two", "--advertise"])]);
}

#[test]
fn if_nobody_answers_the_wall_is_here() {
    let facts = Facts { hosts: vec![silent("h2", "up"), silent("h3", "suspect")], ..facts() };
    check(
        &facts,
        &[("host", &["h3"]), ("udp", &["no other host answers", "h2:7400", "h3:7400", "UDP is blocked here"])],
    );
}

#[test]
fn hosts_that_were_not_asked_are_counted() {
    let left_out =
        Host { state: "down".into(), asked: false, version: None, feature_level: None, clock: None, ..well("h9") };
    let facts = Facts { hosts: vec![well("h2"), left_out], not_asked: 40, ..facts() };
    check(&facts, &[("host", &["h9 at h9:7400 is down"])]);
    assert_eq!(text_of(&facts, "udp"), "1 of 41 other hosts answer: h2; 40 were not asked");
    assert_eq!(text_of(&facts, "versions"), "Odeon 0.1.0 on 2 of 42 hosts");
}

#[test]
fn an_advertised_address_that_leads_nowhere() {
    let fails = |by| dialled(by, Some("no answer within 2s"));
    let parts = ["h2 dialled h1:7400: no answer within 2s", "let UDP in to 0.0.0.0:7400", "--advertise"];
    let some = Facts { dialled_back: vec![fails("h2"), dialled("h3", None)], ..facts() };
    check(
        &some,
        &[("advertised address", &[&parts[..], &["h1:7400 does not lead here from everywhere: h2"]].concat())],
    );
    let all = Facts { dialled_back: vec![fails("h2"), fails("h3")], ..facts() };
    check(&all, &[("advertised address", &[&parts[..], &["h1:7400 does not lead here: h2", "h3 dialled"]].concat())]);
}

#[test]
fn a_dial_that_was_not_made_proves_nothing() {
    let busy = DialBack { by: "h2".into(), address: None, failed: Some("it dials back for others just now".into()) };
    let facts = Facts { dialled_back: vec![busy.clone()], ..facts() };
    check(&facts, &[]);
    assert!(text_of(&facts, "advertised address").contains("not tried: h2: it dials back for others"));
    let reached = Facts { dialled_back: vec![busy, dialled("h3", None)], ..facts };
    assert!(text_of(&reached, "advertised address").contains("by h3"));
}

#[test]
fn clocks_that_differ_are_told_with_their_side() {
    let with = |ahead_us, round_trip_us| {
        let clock = Some(Clock { ahead_us, round_trip_us });
        Facts { hosts: vec![well("h2"), Host { clock, ..well("h3") }], ..facts() }
    };
    check(
        &with(5_200_000, 1000),
        &[("clocks", &["h3 is 5 s ahead of this host", "certificates", "leases do not", "NTP"])],
    );
    check(&with(-90_000_000, 1000), &[("clocks", &["h3 is 90 s behind this host"])]);
    check(&with(-900_000, 1000), &[]);
    // Half the round trip may explain it.
    check(&with(1_400_000, 1_000_000), &[]);
}

#[test]
fn versions_that_differ_are_told() {
    let newer = Host { version: Some("0.2.0".into()), feature_level: Some(2), ..well("h3") };
    let parts = ["Odeon 0.1.0 (feature level 1) on h1, h2;", "Odeon 0.2.0 (feature level 2) on h3:", "upgrade"];
    check(&Facts { hosts: vec![well("h2"), newer], ..facts() }, &[("versions", &parts)]);
}

#[test]
fn a_host_that_does_not_know_the_question_runs_something_older() {
    let older = Host { version: None, feature_level: None, clock: None, ..well("h3") };
    let parts = ["Odeon 0.1.0 (feature level 1) on h1, h2;", "unknown on h3, where it is older", "upgrade"];
    check(&Facts { hosts: vec![well("h2"), older], ..facts() }, &[("versions", &parts)]);
}

#[test]
fn spans_are_told_as_people_do() {
    for (seconds, expected) in [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 days")] {
        assert_eq!(span(seconds), expected);
    }
}
