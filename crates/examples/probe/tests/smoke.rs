//! Every actor of the probe does its one thing, on a system in this process, and says it in the JSON that scripts rely on.
//! And the program starts: the scenarios in `tests/` take the executable that this test has built.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use odeon::prelude::*;
use probe::{
    Add, Alive, Blob, Changes, Claim, Claimant, Claims, Counter, Crasher, Crowd, Echo, Echoer, Enable, Exits, Flood,
    Gaps, Get, Name, Namer, Next, Panic, Parent, Relay, Send, Sequence, Size, Sleep, Slow, Spawn, Steward, StopChild,
    Time, Witness,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    process::{Command, Stdio},
    sync::Arc,
};
use tokio::time::Instant;

fn system() -> System {
    System::local()
        .register::<Echoer>()
        .register::<Counter>()
        .register::<Crasher>()
        .register::<Parent>()
        .register::<Sequence>()
        .register::<Relay>()
        .register::<Crowd>()
        .register::<Namer>()
        .register::<Steward>()
        .register::<Witness>()
        .register::<Claimant>()
}

fn as_json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}

#[tokio::test]
async fn echo_answers_where_it_is_and_how_much_it_got() -> odeon::Result {
    let system = system();
    let echo = system.create::<Echoer>(()).await?;
    let echoed = echo.echo(Echo { text: "hello".into() }).await?;
    assert_eq!(as_json(&echoed), json!({"text": "hello", "host": echoed.host, "pid": std::process::id()}));
    assert!(echo.sleep(Sleep { ms: 20 }).await?.slept_ms >= 20);
    assert_eq!(as_json(&echo.blob(Blob { bytes: 5 }).await?), json!("xxxxx"));
    assert_eq!(as_json(&echo.size(Size { data: "x".repeat(70_000) }).await?), json!({"bytes": 70_000}));
    system.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_namer_creates_each_name_once() -> odeon::Result {
    let system = system();
    let namer = system.create::<Namer>(()).await?;
    for _ in 0..2 {
        let granted = namer.name(Name { from: 5, until: 55, at_once: 8, on: None }).await?;
        assert_eq!((granted.granted, granted.failed, granted.why), (50, 0, None));
    }
    assert!(system.find::<Counter>("54").await?.is_some() && system.find::<Counter>("55").await?.is_none());
    system.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_steward_changes_what_its_host_can_do_and_sees_it() -> odeon::Result {
    let system = system();
    let steward = system.create::<Steward>(()).await?;
    let host = system.host().to_owned();
    assert_eq!(steward.changes(Changes).await?, [format!("here {host}")]);
    steward.enable(Enable { key: "zone".into(), value: Some("a".into()) }).await?;
    assert_eq!(steward.changes(Changes).await?.last(), Some(&format!("here {host} zone=\"a\"")));
    steward.enable(Enable { key: "zone".into(), value: None }).await?;
    assert!(steward.enable(Enable { key: "zone".into(), value: None }).await.is_err());
    assert!(steward.enable(Enable { key: "a=b".into(), value: Some("a".into()) }).await.is_err());
    system.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_counter_lives_under_its_key_and_shows_its_epoch() -> odeon::Result {
    let system = system();
    let counter = system.named::<Counter>("c1");
    counter.add(Add { by: 2 }).tell().await?;
    counter.tell(Add { by: 40 }).await?;
    let first = counter.get(Get).await?;
    assert_eq!(first.value, 42);
    assert!(first.epoch > 0);
    let expected = json!({
        "value": 42, "epoch": first.epoch, "host": first.host, "pid": std::process::id(), "version": first.version,
    });
    assert_eq!(as_json(&first), expected);
    system.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_crasher_panics_with_its_text() -> odeon::Result {
    let system = system();
    let crasher = system.create::<Crasher>(()).await?;
    assert_eq!(as_json(&crasher.alive(Alive).await?), json!({}));
    let error = crasher.panic(Panic { text: "as told".into() }).await.unwrap_err();
    assert!(error.may_have_run() && error.to_string().contains("as told"), "{error}");
    system.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_parent_is_told_of_its_childrens_ends() -> odeon::Result {
    let system = system();
    let parent = system.create::<Parent>(()).await?;
    let spawn = |type_name: &str| Spawn { n: 2, type_name: type_name.into(), requires: None };
    let children = parent.spawn(spawn("probe.crasher")).await?;
    assert_eq!(children.len(), 2);
    let error = parent.spawn(spawn("probe.nothing")).await.unwrap_err();
    assert!(error.to_string().contains("probe.nothing"), "{error}");
    parent.stop_child(StopChild { address: children[0].clone() }).await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    let exits = loop {
        let exits = parent.exits(Exits).await?;
        if !exits.is_empty() {
            break exits;
        }
        assert!(Instant::now() < deadline, "the child's end was not told");
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    assert_eq!(as_json(&exits), json!([{"address": children[0], "cause": "stopped"}]));
    system.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_relay_accounts_for_every_message() -> odeon::Result {
    let system = system();
    let (relay, sequence) = (system.create::<Relay>(()).await?, system.create::<Sequence>(()).await?);
    for rate in [None, Some(10_000.0)] {
        let sent = relay.send(Send { to: sequence.clone(), count: 500, bytes: 10, rate, seconds: None }).await?;
        assert_eq!((sent.accepted, sent.returned, sent.unsettled, sent.refused), (500, 0, 0, 0));
    }
    let gaps = sequence.gaps(Gaps).await?;
    assert_eq!(as_json(&gaps), json!({"received": 1000, "gaps": 0, "duplicates": 0, "reordered": 0}));
    sequence.next(Next { n: 7, pad: Arc::default() }).await?;
    assert_eq!(sequence.gaps(Gaps).await?.received, 1001, "another sender counts for itself");
    system.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_relay_ends_in_time_and_says_how_far_a_slow_receiver_made_it_fall_behind() -> odeon::Result {
    let system = system();
    let (relay, sequence) = (system.create::<Relay>(()).await?, system.create::<Sequence>(()).await?);
    sequence.slow(Slow { per_second: Some(10_000.0) }).await?;
    let count = 1_000_000;
    let send = Send { to: sequence.clone(), count, bytes: 0, rate: Some(1e6), seconds: Some(0.5) };
    let sent = relay.send(send).timeout(Duration::from_secs(30)).await?;
    assert!(sent.accepted > 0 && sent.accepted < count && sent.behind > 0.1, "{sent:?}");
    assert_eq!(sequence.gaps(Gaps).await?.received, sent.accepted);
    system.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_crowd_sends_from_many_and_times_an_ask() -> odeon::Result {
    let system = system();
    let (crowd, sequence) = (system.create::<Crowd>(()).await?, system.create::<Sequence>(()).await?);
    let flood = Flood { to: sequence.clone(), senders: 20, each: 50, bytes: 0, requires: None };
    assert_eq!(crowd.flood(flood).await?, 20);
    let deadline = Instant::now() + Duration::from_secs(20);
    while sequence.gaps(Gaps).await?.received < 1000 {
        assert!(Instant::now() < deadline, "the crowd did not send all");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let echo = system.create::<Echoer>(()).await?;
    let timing = crowd.time(Time { to: echo, count: 10, every_ms: 0 }).await?;
    assert_eq!((timing.answered, timing.failed), (10, 0));
    assert!(timing.p50_us <= timing.p99_us && timing.p99_us <= timing.max_us, "{timing:?}");
    system.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_claimant_asks_all_its_witnesses_and_each_counts_its_claims() -> odeon::Result {
    let system = system();
    let claimant = system.create::<Claimant>(()).await?;
    let keys = vec!["w1".to_owned(), "w2".to_owned()];
    let claims = Claims { keys, per_second: 100.0, seconds: 0.2, timeout_ms: 4000 };
    let claimed = claimant.claims(claims).await?;
    assert!(claimed.answered > 2 && claimed.names == 2 && claimed.failed.is_empty(), "{claimed:?}");
    let first = system.named::<Witness>("w1").claim(Claim { id: 1 }).await?;
    let second = system.named::<Witness>("w2").claim(Claim { id: 2 }).await?;
    assert_eq!(first.value + second.value, claimed.answered + 2);
    assert!(first.epoch > 0 && second.epoch > 0 && first.epoch != second.epoch, "{first:?} {second:?}");
    system.stop().await;
    Ok(())
}

#[test]
fn messages_read_the_json_that_people_write() {
    let next: Next = serde_json::from_value(json!({"n": 3})).unwrap();
    assert_eq!((next.n, next.pad.as_str()), (3, ""));
    let spawn: Spawn = serde_json::from_value(json!({"n": 1, "type": "probe.echo"})).unwrap();
    assert_eq!((spawn.type_name.as_str(), spawn.requires), ("probe.echo", None));
    let send: Send = serde_json::from_value(json!({"to": "probe.sequence/s1", "count": 10, "bytes": 64})).unwrap();
    assert_eq!((send.to.global_name(), send.count, send.rate), (Some("probe.sequence/s1"), 10, None));
}

#[test]
fn the_program_alone_says_so_and_ends_when_asked() {
    use std::io::{BufRead, BufReader};
    let mut command = Command::new(env!("CARGO_BIN_EXE_probe"));
    command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let status = child.wait().unwrap();
    assert!(said.contains("runs alone, as no agent started it"), "{said}");
    assert!(status.success(), "{status}");
}
