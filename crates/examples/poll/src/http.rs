//! The service over HTTP: `POST /response`, `GET /analytics/{question}`.
//!
//! What comes in is checked here, so that actors only see what they can count. Errors are
//! `{"error": {kind, message, may_have_run, field?}}`; who gets `may_have_run: false` may safely send it again.

use crate::actors::{Analytics, Response, Translator};
use crate::client;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router, body::Bytes};
use odeon::ActorRef;
use serde::Serialize;
use serde_json::Value;
use std::borrow::Cow;
use std::time::Duration;

/// A question is part of a global name, which has its own limit.
pub const QUESTION_BYTES: usize = 480;
/// Answers, names and values of demographics.
pub const TEXT_BYTES: usize = 256;
/// Demographics of one respondent.
pub const DEMOGRAPHICS: usize = 32;
/// The body of a request.
const BODY_BYTES: usize = 64 << 10;
/// Longer than it takes to bring a lost host's questions up elsewhere.
const WAIT: Duration = Duration::from_secs(8);

/// The service's routes; `entry` is the troupe that every request goes to.
pub fn routes(entry: ActorRef<Translator>) -> Router {
    Router::new()
        .route("/response", post(respond))
        .route("/analytics/{question}", get(analytics))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(entry)
}

async fn respond(State(entry): State<ActorRef<Translator>>, body: Bytes) -> Result<StatusCode, Problem> {
    entry.ask(checked(&body)?).timeout(WAIT).await?;
    Ok(StatusCode::CREATED)
}

async fn analytics(
    State(entry): State<ActorRef<Translator>>,
    Path(question): Path<String>,
) -> Result<Json<client::Analytics>, Problem> {
    let tally = entry.ask(Analytics { question: question.clone() }).timeout(WAIT).await?;
    let tally = tally.ok_or_else(|| Problem::unknown(&question))?;
    Ok(Json(client::Analytics { question, total: tally.total, answers: tally.answers, by: tally.by }))
}

/// What a request is answered that failed.
#[derive(Debug, Serialize)]
struct Problem {
    #[serde(skip)]
    status: StatusCode,
    kind: Cow<'static, str>,
    message: String,
    may_have_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}

impl Problem {
    /// The request's own fault: 400 where its shape is wrong, 422 where a text will not do.
    fn invalid(status: StatusCode, field: Option<String>, why: impl std::fmt::Display) -> Self {
        let message = field.as_ref().map_or_else(|| why.to_string(), |field| format!("`{field}` {why}"));
        Self { status, kind: "invalid".into(), message, may_have_run: false, field }
    }

    fn unknown(question: &str) -> Self {
        let message = format!("nobody was ever asked {question:?}");
        let kind = "not_found".into();
        Self { status: StatusCode::NOT_FOUND, kind, message, may_have_run: false, field: Some("question".into()) }
    }
}

impl From<odeon::Error> for Problem {
    /// Our actors fail only where something that they need cannot be reached, the archive first of all.
    fn from(error: odeon::Error) -> Self {
        let status = match error {
            odeon::Error::Deadline { .. } => StatusCode::GATEWAY_TIMEOUT,
            odeon::Error::Full(_) => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self {
            status,
            kind: error.kind().to_owned().into(),
            message: error.to_string(),
            may_have_run: error.may_have_run(),
            field: None,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        #[derive(Serialize)]
        struct Body {
            error: Problem,
        }
        (self.status, Json(Body { error: self })).into_response()
    }
}

/// The response in a request's body, if the actors can count it.
fn checked(body: &[u8]) -> Result<Response, Problem> {
    let response: Response = serde_json::from_slice(body).map_err(|error| wrong_shape(body, &error))?;
    check_text("question", &response.question, QUESTION_BYTES)?;
    check_text("answer", &response.answer, TEXT_BYTES)?;
    if response.respondent.len() > DEMOGRAPHICS {
        let why = format!("has {} demographics, more than {DEMOGRAPHICS}", response.respondent.len());
        return Err(Problem::invalid(StatusCode::UNPROCESSABLE_ENTITY, Some("respondent".into()), why));
    }
    for (demographic, value) in &response.respondent {
        let beginning: String = demographic.chars().take(40).collect();
        check_text(&format!("respondent.{beginning}"), demographic, TEXT_BYTES)?;
        check_text(&format!("respondent.{beginning}"), value, TEXT_BYTES)?;
    }
    Ok(response)
}

fn check_text(field: &str, text: &str, limit: usize) -> Result<(), Problem> {
    let why = if text.trim().is_empty() {
        "is empty".to_owned()
    } else if text.len() > limit {
        format!("is {} bytes long, more than {limit}", text.len())
    } else if text.contains(char::is_control) {
        "has a control character in it".to_owned()
    } else {
        return Ok(());
    };
    Err(Problem::invalid(StatusCode::UNPROCESSABLE_ENTITY, Some(field.to_owned()), why))
}

/// Says which field is not what it should be. Slow, as it reads the body again; only for what has failed.
fn wrong_shape(body: &[u8], error: &serde_json::Error) -> Problem {
    let invalid = |field: &str, why: String| Problem::invalid(StatusCode::BAD_REQUEST, Some(field.to_owned()), why);
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return Problem::invalid(StatusCode::BAD_REQUEST, None, format!("the body is not JSON: {error}"));
    };
    let Value::Object(fields) = value else {
        let why = format!("the body is {}, not an object", kind_of(&value));
        return Problem::invalid(StatusCode::BAD_REQUEST, None, why);
    };
    for field in ["question", "answer"] {
        match fields.get(field) {
            None => return invalid(field, "is missing".to_owned()),
            Some(Value::String(_)) => {}
            Some(other) => return invalid(field, format!("is {}, not a text", kind_of(other))),
        }
    }
    match fields.get("respondent") {
        None => return invalid("respondent", "is missing".to_owned()),
        Some(Value::Object(respondent)) => {
            if let Some((demographic, value)) = respondent.iter().find(|(_, value)| !value.is_string()) {
                return invalid(&format!("respondent.{demographic}"), format!("is {}, not a text", kind_of(value)));
            }
        }
        Some(other) => return invalid("respondent", format!("is {}, not an object of texts", kind_of(other))),
    }
    Problem::invalid(StatusCode::BAD_REQUEST, None, error)
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(body: &str) -> (u16, Option<String>, String) {
        let problem = checked(body.as_bytes()).unwrap_err();
        (problem.status.as_u16(), problem.field, problem.message)
    }

    #[test]
    fn takes_any_text() {
        let body = r#"{"question": "wie groß? a/b", "answer": "200 %", "respondent": {"Schuh \"Größe\"": "44"}}"#;
        let response = checked(body.as_bytes()).unwrap();
        assert_eq!(response.question, "wie groß? a/b");
        assert_eq!(response.respondent["Schuh \"Größe\""], "44");
        assert!(checked(br#"{"question": "q", "answer": "a", "respondent": {}}"#).is_ok());
    }

    #[test]
    fn a_wrong_shape_is_400_and_says_where() {
        let cases = [
            ("", None, "not JSON"),
            ("[1]", None, "the body is a list, not an object"),
            (r#"{"answer": "a", "respondent": {}}"#, Some("question"), "`question` is missing"),
            (r#"{"question": "q", "answer": 3, "respondent": {}}"#, Some("answer"), "`answer` is a number, not a text"),
            (r#"{"question": "q", "answer": "a"}"#, Some("respondent"), "`respondent` is missing"),
            (r#"{"question": "q", "answer": "a", "respondent": null}"#, Some("respondent"), "is null, not an object"),
            (r#"{"question": "q", "answer": "a", "respondent": {"age": 3}}"#, Some("respondent.age"), "is a number"),
        ];
        for (body, field, message) in cases {
            let problem = problem(body);
            assert_eq!((problem.0, problem.1.as_deref()), (400, field), "{body}");
            assert!(problem.2.contains(message), "{body}: {}", problem.2);
        }
    }

    #[test]
    fn a_text_that_will_not_do_is_422_and_says_why() {
        let long = "x".repeat(481);
        let many: Vec<String> = (0..33).map(|n| format!(r#""d{n}": "v""#)).collect();
        let cases = [
            (r#"{"question": " ", "answer": "a", "respondent": {}}"#.to_owned(), "question", "is empty"),
            (format!(r#"{{"question": "{long}", "answer": "a", "respondent": {{}}}}"#), "question", "481 bytes long"),
            (format!(r#"{{"question": "q", "answer": "{long}", "respondent": {{}}}}"#), "answer", "more than 256"),
            (r#"{"question": "q\u0000", "answer": "a", "respondent": {}}"#.to_owned(), "question", "control character"),
            (r#"{"question": "q", "answer": "a", "respondent": {"age": ""}}"#.to_owned(), "respondent.age", "is empty"),
            (
                format!(r#"{{"question": "q", "answer": "a", "respondent": {{{}}}}}"#, many.join(",")),
                "respondent",
                "33",
            ),
        ];
        for (body, field, message) in cases {
            let problem = problem(&body);
            assert_eq!((problem.0, problem.1.as_deref()), (422, Some(field)), "{body}");
            assert!(problem.2.contains(message), "{body}: {}", problem.2);
        }
    }
}
