//! What a host can do changes, as its processes and its actors notice.

mod common;

use common::{Process, agent, spec, until};
use odeon_protocol::{
    ExitCause, Reason,
    control::{FromAgent, Policy, Spec, ToAgent},
    directory::NameState,
};
use std::time::Duration;

const SET: &str = r#"{"command":"capability set","set":["gpu=2"]}"#;
const UNSET: &str = r#"{"command":"capability unset","unset":["gpu"]}"#;

fn on_gpu(name: Option<&str>, wait: Duration) -> Spec {
    let policy = Some(Policy { requires: "gpu >= 1".into(), ..Policy::default() });
    let remaining_ms = u32::try_from((odeon_protocol::limits::TELL_WAIT + wait).as_millis()).expect("a short wait");
    Spec { policy, remaining_ms, ..spec("t.render", name) }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_hears_of_the_hosts_that_are_there_then_of_changes() {
    let (agent, _dir) = agent("h1").await;
    let client = Process::client(&agent).await;
    client.say(&ToAgent::WatchHosts);
    let is = |message: &FromAgent, capabilities: usize| matches!(message, FromAgent::Host(host) if host.name == "h1" && host.capabilities.len() == capabilities);
    client.told("the host that is there", |message| is(message, 0)).await;
    assert!(client.admin(SET).await.is_ok());
    client.told("its capability", |message| is(message, 1)).await;
    for wrong in [UNSET.replace("gpu", "ssd"), SET.replace("gpu=2", "2=gpu"), SET.replace("set", "sot")] {
        assert!(client.admin(&wrong).await.is_err(), "{wrong}");
    }
    assert_eq!(client.admin(UNSET).await.unwrap(), serde_json::json!([]));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_longer_fits_waits_for_a_host_and_starts_unasked() {
    let (agent, dir) = agent("h1").await;
    let host = common::Host::new(agent, dir);
    let worker = Process::worker(&host.agent, &[("t.render", Policy::default())]).await;
    let client = Process::client(&host.agent).await;
    assert!(client.admin(SET).await.is_ok());
    let request = client.number();
    client.say(&ToAgent::Create { request, spec: on_gpu(Some("r"), Duration::ZERO) });
    assert!(matches!(client.answer(request).await, FromAgent::Created { result: Ok(_), .. }));
    let first = worker.start(0).await;
    host.sees_name_in_state("r", NameState::Live).await;
    assert!(client.admin(UNSET).await.is_ok());
    worker.stop(first.serial);
    worker.ended(first.serial, ExitCause::Stopped);
    host.sees_name_in_state("r", NameState::GivenUp).await;
    assert_eq!(worker.starts(), 1);
    assert!(client.admin(SET).await.is_ok());
    let second = worker.start(1).await;
    assert!(second.epoch > first.epoch);
    host.sees_name_in_state("r", NameState::Live).await;
    host.agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_waits_as_long_as_it_says() {
    let (agent, _dir) = agent("h1").await;
    let worker = Process::worker(&agent, &[("t.render", Policy::default())]).await;
    let client = Process::client(&agent).await;
    let [patient, hasty, short] = [Duration::from_secs(60), Duration::ZERO, Duration::from_secs(1)].map(|wait| {
        let request = client.number();
        client.say(&ToAgent::Create { request, spec: on_gpu(None, wait) });
        request
    });
    for refused in [hasty, short] {
        let FromAgent::Created { result: Err(why), .. } = client.answer(refused).await else {
            panic!("it fits nowhere")
        };
        assert_eq!(why.reason, Reason::NoHost, "{}", why.text);
    }
    assert_eq!(worker.starts(), 0);
    assert!(client.admin(SET).await.is_ok());
    assert!(matches!(client.answer(patient).await, FromAgent::Created { result: Ok(_), .. }));
    until("its start", || (worker.starts() == 1).then_some(())).await;
    agent.stop().await;
}
