//! Errors as HTTP shows them: `{"error": {"kind", "message", "may_have_run"}}`.

use super::gateway::Failed;
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use odeon_protocol::{Reason, control::Refusal};
use serde_json::json;

/// What is answered in place of a result.
#[derive(Debug)]
pub(super) struct HttpError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    may_have_run: bool,
}

impl HttpError {
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), may_have_run: false }
    }
}

impl From<Failed> for HttpError {
    fn from(failed: Failed) -> Self {
        let (status, kind) = status_of(failed.reason);
        Self { status, kind, message: failed.text, may_have_run: failed.may_have_run }
    }
}

impl From<Refusal> for HttpError {
    fn from(refusal: Refusal) -> Self {
        Failed::from(refusal).into()
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let error = json!({ "kind": self.kind, "message": self.message, "may_have_run": self.may_have_run });
        (self.status, Json(json!({ "error": error }))).into_response()
    }
}

/// The status and the kind's word of each reason.
fn status_of(reason: Reason) -> (StatusCode, &'static str) {
    match reason {
        Reason::NoSuchActor => (StatusCode::NOT_FOUND, "no_such_actor"),
        Reason::ActorStopped => (StatusCode::NOT_FOUND, "actor_stopped"),
        Reason::NoSuchType => (StatusCode::NOT_FOUND, "no_such_type"),
        Reason::Taken => (StatusCode::CONFLICT, "name_taken"),
        Reason::TooBig => (StatusCode::PAYLOAD_TOO_LARGE, "too_big"),
        Reason::Decode => (StatusCode::UNPROCESSABLE_ENTITY, "decode"),
        Reason::Unsupported => (StatusCode::UNPROCESSABLE_ENTITY, "unsupported"),
        Reason::Full => (StatusCode::TOO_MANY_REQUESTS, "full"),
        Reason::NoQuorum => (StatusCode::SERVICE_UNAVAILABLE, "no_quorum"),
        Reason::NoHost => (StatusCode::SERVICE_UNAVAILABLE, "no_host"),
        Reason::Unreachable => (StatusCode::SERVICE_UNAVAILABLE, "unreachable"),
        Reason::HostLost => (StatusCode::SERVICE_UNAVAILABLE, "host_lost"),
        Reason::WorkerLost => (StatusCode::SERVICE_UNAVAILABLE, "worker_lost"),
        Reason::Fenced | Reason::Moved => (StatusCode::SERVICE_UNAVAILABLE, "held"),
        Reason::Deadline => (StatusCode::GATEWAY_TIMEOUT, "deadline"),
        Reason::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "handler_failed"),
        Reason::StartFailed => (StatusCode::INTERNAL_SERVER_ERROR, "start_failed"),
        _ => (StatusCode::BAD_REQUEST, "protocol"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_the_statuses_that_are_promised() {
        for (reason, status) in [
            (Reason::NoSuchActor, 404),
            (Reason::NoSuchType, 404),
            (Reason::Taken, 409),
            (Reason::TooBig, 413),
            (Reason::Decode, 422),
            (Reason::Full, 429),
            (Reason::NoQuorum, 503),
            (Reason::Unreachable, 503),
            (Reason::Deadline, 504),
        ] {
            assert_eq!(status_of(reason).0.as_u16(), status, "{reason:?}");
        }
    }
}
