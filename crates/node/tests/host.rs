//! One host, in one process: a real agent with processes written by hand on memory links.

mod common;

use common::{Does, Process, agent, spec, until};
use odeon_protocol::{
    Address, Direct, ExitCause, PROTOCOL_VERSION, Reason, Serial,
    control::{FromAgent, OnStop, Placed, Policy, Refusal, Restart, Spec, ToAgent, Troupe},
    frame::{Extension, Frame, Kind, flags},
};

async fn create(process: &Process, spec: Spec) -> Result<Placed, Refusal> {
    let request = process.number();
    process.say(&ToAgent::Create { request, spec });
    match process.answer(request).await {
        FromAgent::Created { result, .. } => result,
        other => panic!("{other:?}"),
    }
}

fn place_of(placed: &Placed) -> Direct {
    match placed.address {
        Address::Direct(place) | Address::Troupe(place) => place,
        Address::Named { hint, .. } => hint,
    }
}

fn dormant() -> Policy {
    Policy { on_stop: OnStop::Dormant, ..Policy::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_is_created_asked_and_lost() {
    let (agent, _dir) = agent("h1").await;
    let worker = Process::worker(&agent, &[("t.echo", Policy::default())]).await;
    let client = Process::client(&agent).await;
    let placed = create(&client, spec("t.echo", None)).await.unwrap();
    let place = place_of(&placed);
    assert_eq!((placed.host.as_str(), worker.start(0).await.serial), ("h1", place.serial));

    client.send(&client.direct(Kind::Ask, place, 100));
    assert_eq!(&client.back(100).await.body()[..], place.serial.to_string().as_bytes());

    worker.actors_do(Does::Hangs);
    client.send(&client.direct(Kind::Ask, place, 101));
    worker.got(1).await;
    worker.die().await;
    assert_eq!(client.reason(101).await, (Reason::WorkerLost, true), "it had the message in hand");
    client.send(&client.direct(Kind::Ask, place, 102));
    assert_eq!(client.reason(102).await, (Reason::WorkerLost, false), "nobody saw it");
    client.told("the loss", |message| matches!(message, FromAgent::Lost { .. })).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_comes_back() {
    let (agent, _dir) = agent("h1").await;
    let client = Process::client(&agent).await;
    let unknown = Direct { serial: Serial(1 << 40), ..client.me() };
    client.send(&client.direct(Kind::Ask, unknown, 1));
    assert_eq!(client.reason(1).await, (Reason::NoSuchActor, false));
    client.send(&client.named(Kind::Ask, "nobody", true, 2));
    assert_eq!(client.reason(2).await.0, Reason::NoSuchActor);
    client.send(&client.named(Kind::Ask, "t.unknown/key", true, 3));
    assert_eq!(client.reason(3).await.0, Reason::NoSuchType);
    client.send(&client.named(Kind::Ask, "t.unknown/key", false, 4));
    assert_eq!(client.reason(4).await.0, Reason::NoSuchActor);
    assert_eq!(create(&client, spec("t.unknown", None)).await.unwrap_err().reason, Reason::NoSuchType);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_another_protocol_version_is_told_what_to_do() {
    let (agent, _dir) = agent("h1").await;
    let said = Process::of_version(&agent, PROTOCOL_VERSION + 1).await;
    assert!(said.contains("protocol version") && said.contains("build it with the agent's version"), "{said}");
    Process::worker(&agent, &[("t.echo", Policy::default())]).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_in_disguise_is_refused() {
    let (agent, _dir) = agent("h1").await;
    let worker = Process::worker(&agent, &[("t.echo", Policy::default())]).await;
    let client = Process::client(&agent).await;
    let place = place_of(&create(&client, spec("t.echo", None)).await.unwrap());
    let honest = client.direct(Kind::Tell, place, 0);
    let mut header = honest.header;
    header.from = worker.me();
    client.send(&honest.with_header(header));
    client.send(&honest);
    assert_eq!(worker.got(0).await.frame.header.from, client.me(), "only the honest one arrived");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_message_starts_a_name_and_order_is_kept() {
    let (agent, _dir) = agent("h1").await;
    let worker = Process::worker(&agent, &[("t.named", Policy::default())]).await;
    let client = Process::client(&agent).await;
    worker.slow_starts(true);
    let send = |sequence| {
        let frame = client.named(Kind::Tell, "t.named/key", true, 0);
        let mut header = frame.header;
        (header.flow, header.sequence) = (1, sequence);
        client.send(&frame.with_header(header));
    };
    (0..50).for_each(send);
    let start = worker.start(0).await;
    assert_eq!((&*start.args, start.global_name.as_deref()), (&b"key"[..], Some("t.named/key")));
    assert!(start.epoch > 0);
    (50..100).for_each(send);
    worker.say(&ToAgent::Started { serial: start.serial });
    worker.got(99).await;
    let numbers: Vec<_> = worker.all_got().iter().map(|got| got.frame.header.sequence).collect();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    client
        .told("the place", |message| matches!(message, FromAgent::Resolved { epoch, .. } if *epoch == start.epoch))
        .await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_creations_of_one_name_make_one_actor() {
    let (agent, _dir) = agent("h1").await;
    let worker = Process::worker(&agent, &[("t.named", Policy::default()), ("t.other", Policy::default())]).await;
    let client = Process::client(&agent).await;
    let requests: Vec<_> = (0..200)
        .map(|_| {
            let request = client.number();
            client.say(&ToAgent::Create { request, spec: spec("t.named", Some("n")) });
            request
        })
        .collect();
    let mut created = 0;
    for request in requests {
        match client.answer(request).await {
            FromAgent::Created { result: Ok(placed), .. } => created += u32::from(placed.created),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((created, worker.starts()), (1, 1));
    assert_eq!(create(&client, spec("t.other", Some("n"))).await.unwrap_err().reason, Reason::Taken);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_frees_the_name_and_everybody_learns_why() {
    let (agent, _dir) = agent("h1").await;
    let worker = Process::worker(&agent, &[("t.named", Policy::default())]).await;
    let client = Process::client(&agent).await;
    worker.refuse_starts("no disk", false);
    client.send(&client.named(Kind::Ask, "t.named/a", true, 1));
    assert_eq!(client.reason(1).await, (Reason::StartFailed, false));
    let failed = create(&client, spec("t.named", Some("b"))).await.unwrap_err();
    assert_eq!(failed.reason, Reason::StartFailed);
    assert!(failed.text.contains("no disk"), "{failed}");
    worker.refuse_starts("no such poll", true);
    assert_eq!(create(&client, spec("t.named", Some("b"))).await.unwrap_err().reason, Reason::NoSuchActor);
    assert_eq!(client.admin(r#"{"command":"names"}"#).await.unwrap(), serde_json::json!([]));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_worker_s_names_start_again_under_a_new_epoch() {
    let (agent, _dir) = agent("h1").await;
    let worker = Process::worker(&agent, &[("t.named", Policy::default())]).await;
    let client = Process::client(&agent).await;
    let first = create(&client, spec("t.named", Some("n"))).await.unwrap();
    worker.actors_do(Does::Hangs);
    client.send(&client.named(Kind::Ask, "n", false, 1));
    worker.got(0).await;
    let other = Process::worker(&agent, &[("t.named", Policy::default())]).await;
    worker.die().await;
    client.send(&client.named(Kind::Ask, "n", false, 3));
    assert_eq!(client.reason(1).await, (Reason::WorkerLost, true));
    let again = other.start(0).await;
    assert_eq!(client.back(3).await.header.kind, Kind::Reply, "what nobody saw goes to the next instance");
    let Address::Named { epoch, .. } = first.address else { panic!("{first:?}") };
    assert!(again.epoch > epoch, "{} after {epoch}", again.epoch);
    client.send(&client.named(Kind::Ask, "n", false, 2));
    assert_eq!(client.back(2).await.header.kind, Kind::Reply);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dormant_actor_left_goes_to_its_next_instance_first() {
    let (agent, _dir) = agent("h1").await;
    let worker = Process::worker(&agent, &[("t.dormant", dormant())]).await;
    let client = Process::client(&agent).await;
    let tell = |sequence| {
        let frame = client.named(Kind::Tell, "t.dormant/k", false, 0);
        let mut header = frame.header;
        (header.flow, header.sequence) = (1, sequence);
        frame.with_header(header)
    };
    create(&client, spec("t.dormant", Some("t.dormant/k"))).await.unwrap();
    let start = worker.start(0).await;
    client.send(&tell(0));
    client.send(&tell(1));
    let left = worker.got(1).await.frame;
    worker.stop(start.serial);
    // A message for a client's own actor goes through the same loop: the stop was taken when it is answered.
    assert!(client.admin(r#"{"command":"status"}"#).await.is_ok());
    client.send(&tell(2));
    for frame in [worker.all_got()[0].frame.clone(), left] {
        let mut header = frame.header;
        (header.kind, header.to, header.from) = (Kind::Returned, frame.header.from, frame.header.to);
        let extensions =
            [Extension::To("t.dormant/k"), Extension::Reason { reason: Reason::ActorStopped, text: "it stopped" }];
        worker.send(&Frame::new(header, &extensions, &frame.body()));
    }
    worker.ended(start.serial, ExitCause::Stopped);
    let again = worker.start(1).await;
    assert!(again.epoch > start.epoch);
    worker.got(4).await;
    let second: Vec<_> =
        worker.all_got().iter().filter(|got| got.by == again.serial).map(|got| got.frame.header.sequence).collect();
    assert_eq!(second, [0, 1, 2]);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_name_is_free_and_a_dormant_one_is_found() {
    let (agent, _dir) = agent("h1").await;
    let worker = Process::worker(&agent, &[("t.named", Policy::default()), ("t.dormant", dormant())]).await;
    let client = Process::client(&agent).await;
    create(&client, spec("t.named", Some("free"))).await.unwrap();
    create(&client, spec("t.dormant", Some("sleeps"))).await.unwrap();
    for number in 0..2 {
        let serial = worker.start(number).await.serial;
        worker.stop(serial);
        worker.ended(serial, ExitCause::Stopped);
    }
    let state = |list: &serde_json::Value| {
        list.as_array().map(|list| list.iter().map(|entry| entry["state"].clone()).collect::<Vec<_>>())
    };
    loop {
        let names = client.admin(r#"{"command":"names"}"#).await.unwrap();
        if state(&names) == Some(vec!["dormant".into()]) {
            break;
        }
    }
    client.send(&client.named(Kind::Ask, "free", false, 1));
    assert_eq!(client.reason(1).await.0, Reason::NoSuchActor);
    let request = client.number();
    client.say(&ToAgent::Find { request, name: "sleeps".into() });
    assert!(matches!(client.answer(request).await, FromAgent::Found { result: Ok(Some(_)), .. }));
    assert_eq!(worker.starts(), 2, "finding starts nothing");
    client.send(&client.named(Kind::Ask, "sleeps", false, 2));
    assert_eq!(client.back(2).await.header.kind, Kind::Reply);
    assert_eq!(worker.starts(), 3);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_actor_starts_again_as_often_as_its_policy_allows() {
    let (agent, _dir) = agent("h1").await;
    let policy = Policy { restart: Restart::UpTo { max: 1, within_ms: 60_000 }, ..Policy::default() };
    let worker = Process::worker(&agent, &[("t.fails", policy)]).await;
    let client = Process::client(&agent).await;
    let mut wanted = spec("t.fails", Some("n"));
    wanted.parent = client.me();
    create(&client, wanted).await.unwrap();
    worker.ended(worker.start(0).await.serial, ExitCause::Panicked("one".into()));
    worker.ended(worker.start(1).await.serial, ExitCause::Panicked("two".into()));
    let told = client.told("the child's end", |message| matches!(message, FromAgent::ChildExited { .. })).await;
    let FromAgent::ChildExited { cause, .. } = told else { panic!("{told:?}") };
    assert_eq!(cause, ExitCause::Panicked("two".into()));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_troupe_grows_while_its_members_are_busy() {
    let (agent, _dir) = agent("h1").await;
    let policy = Policy { troupe: Some(Troupe { max: 3, idle: 1 }), ..Policy::default() };
    let worker = Process::worker(&agent, &[("t.troupe", policy)]).await;
    let client = Process::client(&agent).await;
    worker.actors_do(Does::Hangs);
    let placed = create(&client, spec("t.troupe", None)).await.unwrap();
    let Address::Troupe(troupe) = placed.address else { panic!("{placed:?}") };
    let ask = |correlation| {
        let frame = client.direct(Kind::Ask, troupe, correlation);
        let mut header = frame.header;
        header.flags |= flags::TROUPE;
        client.send(&frame.with_header(header));
    };
    for number in 1..=20 {
        ask(number);
        worker.got(number as usize - 1).await;
    }
    until("three members", || (worker.starts() == 3).then_some(())).await;
    let troupes = client.admin(r#"{"command":"troupes"}"#).await.unwrap();
    assert_eq!(troupes[0]["members"].as_array().map(Vec::len), Some(3), "{troupes}");
    worker.die().await;
    assert_eq!(client.reason(1).await, (Reason::WorkerLost, true));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_stops_its_processes_and_ends() {
    let (agent, dir) = agent("h1").await;
    let worker = Process::worker(&agent, &[("t.named", Policy::default())]).await;
    let client = Process::client(&agent).await;
    create(&client, spec("t.named", Some("n"))).await.unwrap();
    agent.stop().await;
    assert_eq!(agent.wait().await, Ok(()));
    until("the worker's link to end", || worker.is_closed().then_some(())).await;
    assert!(!dir.path().join("agent.sock").exists());
}
