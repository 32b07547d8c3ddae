//! Several hosts in one process: real agents on loopback, with processes written by hand.

mod common;

use common::{Does, PATIENCE, Process, hosts, spec, until};
use odeon_protocol::{
    Address, Direct, ExitCause, Reason,
    control::{FromAgent, OnStop, Placed, Policy, Refusal, Spec, ToAgent, Troupe},
    directory::NameState,
    frame::{Header, Kind, flags},
};
use std::time::Instant;

async fn create(process: &Process, spec: Spec) -> Result<Placed, Refusal> {
    let request = process.number();
    process.say(&ToAgent::Create { request, spec });
    match process.answer(request).await {
        FromAgent::Created { result, .. } => result,
        other => panic!("{other:?}"),
    }
}

fn on(host: &str, spec: Spec) -> Spec {
    Spec { on: Some(host.into()), ..spec }
}

fn place_of(placed: &Placed) -> Direct {
    match placed.address {
        Address::Direct(place) | Address::Troupe(place) => place,
        Address::Named { hint, .. } => hint,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_cross_hosts_and_losses_are_told() {
    let hosts = hosts(2).await;
    let far = Process::worker(&hosts[1].agent, &[("t.echo", Policy::default())]).await;
    let client = Process::client(&hosts[0].agent).await;
    hosts[0].sees_type("t.echo").await;
    let mut wanted = spec("t.echo", None);
    wanted.parent = client.me();
    let placed = create(&client, wanted).await.unwrap();
    assert_eq!(placed.host, "h2");
    let place = place_of(&placed);
    client.send(&client.direct(Kind::Ask, place, 100));
    assert_eq!(client.back(100).await.header.kind, Kind::Reply);

    far.actors_do(Does::Hangs);
    client.send(&client.direct(Kind::Ask, place, 101));
    far.got(1).await;
    far.die().await;
    assert_eq!(client.reason(101).await, (Reason::WorkerLost, true));
    client.told("the child's end", |message| matches!(message, FromAgent::ChildExited { .. })).await;
    client.told("the loss", |message| matches!(message, FromAgent::Lost { node, .. } if *node == place.node)).await;
    client.send(&client.direct(Kind::Ask, place, 102));
    assert_eq!(client.reason(102).await, (Reason::WorkerLost, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_one_actor_wherever_it_is_asked_for() {
    let hosts = hosts(3).await;
    let mut workers = Vec::new();
    for host in &hosts {
        workers.push(Process::worker(&host.agent, &[("t.named", Policy::default())]).await);
    }
    for host in &hosts {
        host.sees_hosts_with_type("t.named", 3).await;
    }
    let mut clients = Vec::new();
    for host in &hosts {
        clients.push(Process::client(&host.agent).await);
    }
    let requests: Vec<_> = (0..60)
        .map(|number| {
            let client = &clients[number % 3];
            let request = client.number();
            client.say(&ToAgent::Create { request, spec: spec("t.named", Some("n")) });
            (client, request)
        })
        .collect();
    let (mut created, mut places) = (0, Vec::new());
    for (client, request) in requests {
        match client.answer(request).await {
            FromAgent::Created { result: Ok(placed), .. } => {
                created += u32::from(placed.created);
                places.push(place_of(&placed));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(created, 1);
    places.dedup();
    assert_eq!(places.len(), 1);
    for client in &clients {
        client.send(&client.named(Kind::Ask, "n", true, 1000));
        assert_eq!(client.back(1000).await.header.kind, Kind::Reply);
    }
    assert_eq!(workers.iter().map(Process::starts).sum::<usize>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dormant_name_starts_again_and_its_senders_follow() {
    let hosts = hosts(2).await;
    let dormant = Policy { on_stop: OnStop::Dormant, ..Policy::default() };
    let far = Process::worker(&hosts[1].agent, &[("t.dormant", dormant)]).await;
    let client = Process::client(&hosts[0].agent).await;
    hosts[0].sees_type("t.dormant").await;
    client.send(&client.named(Kind::Ask, "t.dormant/k", true, 1));
    assert_eq!(client.back(1).await.header.kind, Kind::Reply);
    let serial = far.start(0).await.serial;
    far.stop(serial);
    far.ended(serial, ExitCause::Stopped);
    hosts[1].sees_name_in_state("t.dormant/k", NameState::Dormant).await;
    client.send(&client.named(Kind::Ask, "t.dormant/k", false, 2));
    assert_eq!(client.back(2).await.header.kind, Kind::Reply);
    assert!(far.start(1).await.epoch > far.start(0).await.epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_a_lost_host_live_on_elsewhere() {
    let hosts = hosts(3).await;
    let near = Process::worker(&hosts[0].agent, &[("t.named", Policy::default())]).await;
    let far = Process::worker(&hosts[2].agent, &[("t.named", Policy::default())]).await;
    let client = Process::client(&hosts[1].agent).await;
    hosts[1].sees_hosts_with_type("t.named", 2).await;
    let mut wanted = spec("t.named", Some("n"));
    wanted.near = Some(far.me());
    let placed = create(&client, wanted).await.unwrap();
    assert_eq!(placed.host, "h3");
    let epoch = far.start(0).await.epoch;
    client.send(&client.named(Kind::Ask, "n", false, 1));
    assert_eq!(client.back(1).await.header.kind, Kind::Reply);
    hosts[2].fall_silent().await;
    let again = near.start(0).await;
    assert!(again.epoch > epoch);
    let mut correlation = 10;
    loop {
        correlation += 1;
        client.send(&client.named(Kind::Ask, "n", false, correlation));
        if client.back(correlation).await.header.kind == Kind::Reply {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_troupe_spreads_and_is_used_from_other_hosts() {
    let hosts = hosts(2).await;
    let policy = Policy { troupe: Some(Troupe { max: 4, idle: 1 }), ..Policy::default() };
    let far = Process::worker(&hosts[1].agent, &[("t.troupe", policy.clone())]).await;
    let (one, two) = (Process::client(&hosts[0].agent).await, Process::client(&hosts[1].agent).await);
    hosts[0].sees_type("t.troupe").await;
    let mut wanted = spec("t.troupe", None);
    wanted.policy = Some(policy);
    let placed = create(&one, wanted).await.unwrap();
    let Address::Troupe(troupe) = placed.address else { panic!("{placed:?}") };
    far.actors_do(Does::Hangs);
    for (number, client) in (0..12).map(|number| (number, if number % 2 == 0 { &one } else { &two })) {
        let frame = client.direct(Kind::Ask, troupe, number + 1);
        let mut header = frame.header;
        header.flags |= flags::TROUPE;
        client.send(&frame.with_header(header));
        far.got(number as usize).await;
    }
    until("four members", || (far.starts() == 4).then_some(())).await;
}

/// Neither the sender's host nor the keeper's has a member.
#[tokio::test(flavor = "multi_thread")]
async fn a_named_troupe_is_used_and_stopped_from_everywhere() {
    let hosts = hosts(3).await;
    let policy = Policy { troupe: Some(Troupe { max: 2, idle: 2 }), ..Policy::default() };
    let near = Process::worker(&hosts[0].agent, &[("t.troupe", policy.clone())]).await;
    let far = Process::worker(&hosts[2].agent, &[("t.troupe", policy.clone())]).await;
    let mut clients = Vec::new();
    for host in &hosts {
        clients.push(Process::client(&host.agent).await);
        host.sees_hosts_with_type("t.troupe", 2).await;
    }
    let mut wanted = spec("t.troupe", Some("all"));
    (wanted.policy, wanted.near) = (Some(policy), Some(near.me()));
    let placed = create(&clients[1], wanted).await.unwrap();
    assert_eq!(placed.host, "h1");
    near.die().await;
    let mut got: usize = 0;
    for client in &clients {
        client.send(&client.named(Kind::Ask, "all", false, 1));
        assert_eq!(client.back(1).await.header.kind, Kind::Reply);
        let tell = client.named(Kind::Tell, "all", false, 0);
        client.send(&tell.with_header(Header { flow: 5, ..tell.header }));
        got += 2;
        far.got(got - 1).await;
    }
    far.actors_do(Does::Hangs);
    for (number, client) in clients.iter().enumerate() {
        client.send(&client.named(Kind::Ask, "all", false, 2));
        far.got(got + number).await;
    }
    until("two members", || (far.starts() == 2).then_some(())).await;
    clients[1].say(&ToAgent::End { target: Address::named("all", false), kill: false });
    until("both to be told to stop", || is_told_to_stop(&far, 0).and(is_told_to_stop(&far, 1))).await;
}

/// Whether the actor that was started so manieth was.
fn is_told_to_stop(worker: &Process, number: usize) -> Option<()> {
    let serial = worker.started(number);
    worker.all_got().iter().any(|got| got.by == serial && got.frame.header.kind == Kind::Signal).then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_troupe_stop_once_its_keepers_host_is_gone() {
    let hosts = hosts(3).await;
    let policy = Policy { troupe: Some(Troupe { max: 2, idle: 2 }), ..Policy::default() };
    let far = Process::worker(&hosts[2].agent, &[("t.troupe", policy.clone())]).await;
    let client = Process::client(&hosts[0].agent).await;
    hosts[0].sees_type("t.troupe").await;
    create(&client, Spec { policy: Some(policy), ..spec("t.troupe", None) }).await.unwrap();
    assert_eq!(far.starts(), 1);
    let keeper = client.me().node;
    hosts[0].fall_silent().await;
    // There may be no leader for a moment.
    let deadline = Instant::now() + PATIENCE;
    while let Err(why) = hosts[1].agent.convention().evict(keeper).await {
        assert!(Instant::now() < deadline, "{why}");
    }
    until("the member to be told to stop", || is_told_to_stop(&far, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_says_why_no_host_takes_it() {
    let hosts = hosts(2).await;
    let _far = Process::worker(&hosts[1].agent, &[("t.echo", Policy::default())]).await;
    let client = Process::client(&hosts[0].agent).await;
    hosts[0].sees_type("t.echo").await;
    let refused = create(&client, on("h1", spec("t.echo", None))).await.unwrap_err();
    assert_eq!(refused.reason, Reason::NoHost);
    let mut wanted = spec("t.echo", None);
    wanted.policy = Some(Policy { requires: "gpu >= 1".into(), ..Policy::default() });
    let refused = create(&client, wanted).await.unwrap_err();
    assert!(refused.reason == Reason::NoHost && refused.text.contains("gpu"), "{refused}");
}
