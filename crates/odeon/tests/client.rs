//! The light client against a tiny agent.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test uses its part of the agent")]
mod agent;

use agent::Agent;
use odeon::client::Admin;
use odeon_protocol::{
    Address, Direct, Reason,
    control::{Spec, WireCodec},
};
use odeon_transport::socket::Socket;
use std::{path::Path, time::Duration};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn requests_are_answered_and_refused() {
    let agent = Agent::new();
    let admin = Admin::over(agent.socket()).await.unwrap();
    assert_eq!(admin.welcome().host, "test");
    assert_eq!(admin.admin(r#"{"command":"hosts"}"#).await.unwrap(), r#"{"command":"hosts"}"#);
    assert_eq!(admin.find("nobody").await.unwrap(), None);
    let spec = Spec {
        type_name: "no.such".into(),
        args: Vec::new(),
        codec: WireCodec::Json,
        global_name: None,
        on: None,
        near: None,
        policy: None,
        parent: Direct::NONE,
        remaining_ms: 0,
    };
    assert_eq!(admin.create(spec).await.unwrap_err().reason, Reason::NoSuchType);
    let nobody: Address = "odeon:a9.1.12345".parse().unwrap();
    for failure in [
        admin.ask_json(&nobody, "Get", "", LONG).await.unwrap_err(),
        admin.tell_json(&nobody, "Get", "", LONG).await.unwrap_err(),
    ] {
        assert_eq!((failure.reason, failure.may_have_run), (Reason::NoSuchActor, false), "{failure}");
    }
}

#[tokio::test]
async fn an_agent_that_goes_away_ends_every_wait() {
    let agent = Agent::new();
    let admin = Admin::over(agent.socket()).await.unwrap();
    admin.admin("{}").await.unwrap();
    agent.cut(0);
    let failure = admin.admin("{}").await.unwrap_err();
    assert_eq!(failure.reason, Reason::Unreachable, "{failure}");
}

#[tokio::test]
async fn no_agent_is_said_with_what_to_do() {
    let failure = Admin::connect(Path::new("/nonexistent/agent.sock")).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Unreachable);
    assert!(failure.text.contains("odeon agent"), "{failure}");
}

#[tokio::test]
async fn whoever_is_no_agent_is_refused() {
    let (ours, theirs) = Socket::memory();
    let (_reader, mut writer) = theirs.split();
    tokio::io::AsyncWriteExt::write_all(&mut writer, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let failure = Admin::over(ours).await.unwrap_err();
    assert!(failure.text.contains("protocol version"), "{failure}");
}
