//! The whole service on `System::local()`, from HTTP to the file and back.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{LONG, Service, response, rows, until};
use poll::client::Failure;
use poll::replay::Options;
use poll::survey::{ANES96, responses};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn counts_what_is_posted() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(&dir.path().join("a.sqlite"), &[]).await;
    let mut client = service.client();
    let question = "wie groß? (cm, a/b & 100 %)";
    for answer in ["klein", "groß", "groß"] {
        client.respond(&response(question, answer)).await.unwrap();
    }
    let poll = client.analytics(question).await.unwrap().unwrap();
    assert_eq!((poll.question.as_str(), poll.total), (question, 3));
    assert_eq!(poll.answers, [("klein".to_owned(), 1), ("groß".to_owned(), 2)].into());
    assert_eq!(poll.by["age"]["30-39"], poll.answers);
}

#[tokio::test]
async fn an_unknown_question_is_404_and_creates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("a.sqlite");
    let service = Service::start(&archive, &[]).await;
    let mut client = service.client();
    client.respond(&response("known", "yes")).await.unwrap();
    for _ in 0..3 {
        assert_eq!(client.analytics("unknown").await.unwrap(), None);
    }
    service.stop().await;
    assert_eq!(rows(&archive), [("known".to_owned(), 1, 1)]);
}

/// A request as bytes, so that it can be as wrong as it likes.
async fn post(service: &Service, body: &str) -> (u16, serde_json::Value) {
    let mut stream = TcpStream::connect(service.urls[0].trim_start_matches("http://")).await.unwrap();
    let length = body.len();
    let request =
        format!("POST /response HTTP/1.1\r\nhost: poll\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test]
async fn what_is_wrong_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(&dir.path().join("a.sqlite"), &[]).await;
    let (status, body) = post(&service, r#"{"question": "q", "answer": 7, "respondent": {}}"#).await;
    assert_eq!((status, &body["error"]["field"]), (400, &"answer".into()), "{body}");
    let (status, body) = post(&service, r#"{"question": "", "answer": "a", "respondent": {}}"#).await;
    assert_eq!((status, &body["error"]["message"]), (422, &"`question` is empty".into()), "{body}");
    let (status, _) = post(&service, r#"{"question": "q", "answer": "a", "respondent": {}}"#).await;
    assert_eq!(status, 201);
}

#[tokio::test]
async fn without_its_archive_it_counts_nothing_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("not yet there");
    let service = Service::start(&folder.join("a.sqlite"), &[]).await;
    let (status, body) = post(&service, r#"{"question": "q", "answer": "a", "respondent": {}}"#).await;
    assert_eq!((status, &body["error"]["may_have_run"]), (503, &false.into()), "{body}");
    let failure = service.client().patience(Duration::ZERO).analytics("q").await.unwrap_err();
    assert!(matches!(failure, Failure::NotAccepted(_) | Failure::Unknown(_)), "{failure}");

    std::fs::create_dir(&folder).unwrap();
    let mut client = service.client();
    client.respond(&response("q", "a")).await.unwrap();
    assert_eq!(client.analytics("q").await.unwrap().unwrap().total, 1, "the refused one was not counted");
}

#[tokio::test]
async fn every_response_is_counted_once_though_questions_retire() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("a.sqlite");
    // Nothing stays warm: every heartbeat stops every question that was used.
    let service = Service::start(&archive, &[("POLL_HEARTBEAT", "5ms"), ("POLL_KEEP", "0")]).await;
    let survey = responses(ANES96.as_bytes(), 12).unwrap();
    let options = Options { in_flight: 16, patience: LONG };
    let report = poll::replay(&service.urls, survey, options, |_| ()).await;
    assert_eq!((report.accepted, report.failures), (5_664, 0), "{:?}", report.first_failure);
    let mismatches = poll::verify(&service.urls, &poll::expected(ANES96, 12)).await;
    assert!(mismatches.is_empty(), "{mismatches:?}");
    service.stop().await;
    let rows = rows(&archive);
    assert_eq!(rows.len(), 12);
    for (question, total, starts) in rows {
        assert!(starts > 20, "{question} ({total} responses) started only {starts} times");
    }
}

#[tokio::test]
async fn a_stop_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("a.sqlite");
    let service = Service::start(&archive, &[]).await;
    let survey = responses(ANES96.as_bytes(), 60).unwrap();
    let report = poll::replay(&service.urls, survey, Options::default(), |_| ()).await;
    assert_eq!(report.accepted, 5_664, "{:?}", report.first_failure);
    service.stop().await;

    let service = Service::start(&archive, &[]).await;
    let expected = poll::expected(ANES96, 60);
    let mismatches = poll::verify(&service.urls, &expected).await;
    assert!(mismatches.is_empty(), "the archive alone: {mismatches:?}");
    service.client().respond(&response("vote 0", "0")).await.unwrap();
    let poll = service.client().analytics("vote 0").await.unwrap().unwrap();
    assert_eq!(poll.total, expected["vote 0"].total + 1, "a question that comes back goes on from there");
}

#[tokio::test]
async fn a_kill_loses_what_was_counted_since_the_last_save() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("a.sqlite");
    let service = Service::start(&archive, &[]).await;
    let mut client = service.client();
    for _ in 0..10 {
        client.respond(&response("q", "before")).await.unwrap();
    }
    until("ten are saved", async || rows(&archive).iter().any(|(_, total, _)| *total == 10)).await;
    for _ in 0..5 {
        client.respond(&response("q", "after")).await.unwrap();
    }
    service.kill();

    let service = Service::start(&archive, &[]).await;
    let mut client = service.client();
    client.respond(&response("q", "again")).await.unwrap();
    let poll = client.analytics("q").await.unwrap().unwrap();
    assert_eq!((poll.answers["before"], poll.answers["again"]), (10, 1), "never less than was saved");
    assert!(poll.answers.get("after").is_none_or(|after| *after <= 5));
}

#[tokio::test]
async fn the_readme_is_true() {
    let readme = include_str!("../README.md");
    let line = |start: &str| readme.lines().find_map(|line| line.strip_prefix(start)).expect("README has the line");
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(&dir.path().join("a.sqlite"), &[]).await;
    let body = line("curl -i localhost:8080/response -d '").trim_end_matches('\'');
    assert_eq!(post(&service, body).await.0, 201);
    let shown: poll::client::Analytics = serde_json::from_str(&format!("{{{}", line("# {"))).unwrap();
    assert_eq!(service.client().analytics(&shown.question).await.unwrap(), Some(shown));

    let actors = include_str!("../src/actors.rs").lines().count();
    assert!(actors <= 110, "the actors are to be read at one sitting");
    assert!(readme.contains(&format!("The actors are {actors} lines")), "they are {actors}");
}
