//! The HTTP interface: gateway to actors, lists, metrics, health.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/actors` `{type, args?, name?, requires?, on?, wait?}` | 201 `{address, name?, host, created}` |
//! | `POST /v1/tell/{target}/{message}` | 202 once it is accepted |
//! | `POST /v1/tell/{target}/{message}?settled=1&timeout=5s` | 200 `{}` once it was handled |
//! | `POST /v1/ask/{target}/{message}?timeout=5s` | 200 and the reply |
//! | `DELETE /v1/actors/{target}` | 202 |
//! | `GET /v1/status`, `/v1/hosts`, `/v1/names`, `/v1/actors`, … | as the commands' JSON |
//! | `GET /metrics`, `/healthz`, `/readyz` | Prometheus text; alive; ready |

mod error;
mod gateway;
mod guard;

use crate::{
    config::Config,
    controller::Controller,
    event::{Continuation, Event},
    metrics::Metrics,
    queue::Queue,
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use error::HttpError;
use gateway::Gateway;
use guard::Guard;
use odeon_protocol::{
    Address, Direct, Reason,
    control::{Policy, Refusal, Spec, WireCodec},
    limits::{ASK_WAIT, BODY_BYTES_MAX, TELL_WAIT},
};
use odeon_transport::socket::Socket;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{io, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::oneshot};
use tokio_util::sync::CancellationToken;

/// The longest wait for a reply.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// What requests need.
struct Shared {
    gateway: Gateway,
    events: Arc<Queue<Event>>,
    metrics: Arc<Metrics>,
}

/// Binds the interface; a default port that is taken moves to a free one.
pub(crate) async fn bind(config: &Config) -> io::Result<Option<TcpListener>> {
    let Some(bind) = &config.http else { return Ok(None) };
    match (TcpListener::bind(bind.address).await, bind.fallback()) {
        (Err(error), Some(other)) if error.kind() == io::ErrorKind::AddrInUse => {
            let listener = TcpListener::bind(other).await?;
            tracing::info!(taken = %bind.address, address = %listener.local_addr()?, "the default HTTP port is taken, another one is used");
            Ok(Some(listener))
        }
        (bound, _) => bound.map(Some),
    }
}

/// Serves until `stop`. `socket` is the gateway's link to its agent.
pub(crate) async fn serve(
    config: &Config,
    listener: TcpListener,
    socket: Socket,
    (events, metrics): (Arc<Queue<Event>>, Arc<Metrics>),
    stop: CancellationToken,
) -> io::Result<()> {
    let token = config.http_token_file.as_deref().map(guard::token).transpose()?;
    let advertised =
        config.advertise.as_deref().and_then(|address| address.rsplit_once(':')).map(|(host, _)| host.to_owned());
    let names = [Some(config.name.clone()), advertised].into_iter().flatten().collect();
    let guard = Arc::new(Guard { names, token });
    let shared = Arc::new(Shared { gateway: Gateway::connect(socket).await?, events, metrics });
    let routes = routes(shared, guard);
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn routes(shared: Arc<Shared>, guard: Arc<Guard>) -> Router {
    Router::new()
        .route("/v1/actors", post(create).get(|state| list(state, "actors")))
        .route("/v1/actors/{target}", delete(stop))
        .route("/v1/tell/{target}/{message}", post(tell))
        .route("/v1/ask/{target}/{message}", post(ask))
        .route("/v1/status", get(|state| list(state, "status")))
        .route("/v1/hosts", get(|state| list(state, "hosts")))
        .route("/v1/names", get(|state| list(state, "names")))
        .route("/v1/troupes", get(|state| list(state, "troupes")))
        .route("/v1/workers", get(|state| list(state, "workers")))
        .route("/v1/types", get(|state| list(state, "types")))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .fallback(|| async { HttpError::new(StatusCode::NOT_FOUND, "no_such_page", "there is nothing here") })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(shared.clone(), count))
        .layer(middleware::from_fn_with_state(guard, guard::check))
        .with_state(shared)
}

async fn count(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    shared.metrics.http_requests.add(1);
    next.run(request).await
}

/// The body of `POST /v1/actors`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    #[serde(rename = "type")]
    type_name: String,
    args: Option<Value>,
    name: Option<String>,
    requires: Option<String>,
    on: Option<String>,
    /// How long to wait for a host that fits.
    wait: Option<String>,
}

async fn create(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Response, HttpError> {
    let create: Create = serde_json::from_slice(&body)
        .map_err(|error| HttpError::new(StatusCode::UNPROCESSABLE_ENTITY, "decode", error.to_string()))?;
    let name = create.name;
    let host_wait = create.wait.as_deref().map(|text| wait(Some(text))).transpose()?.unwrap_or_default();
    let spec = Spec {
        type_name: create.type_name.into(),
        args: create.args.unwrap_or(Value::Null).to_string().into_bytes(),
        codec: WireCodec::Json,
        global_name: name.as_deref().map(Into::into),
        on: create.on,
        near: None,
        policy: create.requires.map(|requires| Policy { requires, ..Policy::default() }),
        parent: Direct::NONE,
        remaining_ms: u32::try_from(TELL_WAIT.saturating_add(host_wait).as_millis()).unwrap_or(u32::MAX),
    };
    let placement = shared.on_controller(|controller, reply| controller.create_for_http(spec, reply)).await?;
    let placed = placement.placed;
    let answer =
        json!({ "address": placed.address.to_string(), "name": name, "host": placed.host, "created": placed.created });
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

async fn tell(
    State(shared): State<Arc<Shared>>,
    Path((target, message)): Path<(String, String)>,
    Query(query): Query<TellQuery>,
    body: Bytes,
) -> Result<Response, HttpError> {
    let target = address(&target)?;
    if query.settled()? {
        shared.gateway.settle(&target, &message, &body, wait(query.timeout.as_deref())?).await?;
        return Ok(Json(json!({})).into_response());
    }
    shared.gateway.tell(&target, &message, &body).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

#[derive(Deserialize)]
struct TellQuery {
    settled: Option<String>,
    timeout: Option<String>,
}

impl TellQuery {
    /// Whether to wait until the message was handled.
    fn settled(&self) -> Result<bool, HttpError> {
        let wrong = |text| Err(HttpError::new(StatusCode::BAD_REQUEST, "settled", text));
        match self.settled.as_deref() {
            Some("1" | "true") => Ok(true),
            Some("0" | "false") | None if self.timeout.is_some() => {
                wrong("a tell has a timeout only with settled=1: it is accepted at once otherwise".to_owned())
            }
            Some("0" | "false") | None => Ok(false),
            Some(other) => wrong(format!("settled={other:?} is neither 1 nor 0")),
        }
    }
}

#[derive(Deserialize)]
struct AskQuery {
    timeout: Option<String>,
}

/// How long to wait for an answer.
fn wait(timeout: Option<&str>) -> Result<Duration, HttpError> {
    let Some(text) = timeout else { return Ok(ASK_WAIT) };
    let wait = duration(text).ok_or_else(|| {
        HttpError::new(StatusCode::BAD_REQUEST, "timeout", format!("{text:?} is no duration: use 250ms, 5s, 1m"))
    })?;
    Ok(wait.min(WAIT_MAX))
}

async fn ask(
    State(shared): State<Arc<Shared>>,
    Path((target, message)): Path<(String, String)>,
    Query(query): Query<AskQuery>,
    body: Bytes,
) -> Result<Response, HttpError> {
    let wait = wait(query.timeout.as_deref())?;
    let reply = shared.gateway.ask(&address(&target)?, &message, &body, wait).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], reply).into_response())
}

async fn stop(State(shared): State<Arc<Shared>>, Path(target): Path<String>) -> Result<StatusCode, HttpError> {
    let target = address(&target)?;
    shared.admin(json!({ "command": "stop", "target": target.to_string() })).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn list(State(shared): State<Arc<Shared>>, command: &'static str) -> Result<Json<Value>, HttpError> {
    Ok(Json(shared.admin(json!({ "command": command })).await?))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.metrics.render()).into_response()
}

async fn ready(State(shared): State<Arc<Shared>>) -> Result<Response, HttpError> {
    let health = shared.admin(json!({ "command": "health" })).await?;
    let status = if health["ready"] == true { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(health)).into_response())
}

impl Shared {
    async fn admin(&self, request: Value) -> Result<Value, HttpError> {
        self.on_controller(move |controller, reply| controller.admin(&request, reply)).await
    }

    /// Has the controller do something and waits for its answer.
    async fn on_controller<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Controller, Box<dyn FnOnce(Result<T, Refusal>) + Send>) + Send + 'static,
    ) -> Result<T, HttpError> {
        let (sender, answer) = oneshot::channel();
        // The request may be dropped before its answer comes.
        let reply = Box::new(move |result| drop(sender.send(result)));
        self.events.push(Event::Done(Continuation(Box::new(move |controller| work(controller, reply)))));
        let gone = || Refusal { reason: Reason::Unreachable, text: "the agent is stopping".to_owned() };
        Ok(answer.await.unwrap_or_else(|_| Err(gone()))?)
    }
}

fn address(target: &str) -> Result<Address, HttpError> {
    target.parse().map_err(|error: odeon_protocol::ParseAddressError| {
        HttpError::new(StatusCode::NOT_FOUND, "no_such_actor", error.to_string())
    })
}

/// Reads `250ms`, `5s`, `1m`, `1h`.
fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|character: char| !character.is_ascii_digit() && character != '.')?;
    let (number, unit) = text.split_at(split);
    let unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
}

/// What a request may hold, in each of its places. See [`crate::fuzz`].
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Ok(create) = serde_json::from_slice::<Create>(bytes) {
        assert!(create.type_name.len() <= bytes.len());
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(wait) = duration(text) {
        assert!(wait.min(WAIT_MAX) <= WAIT_MAX);
    }
    match address(text) {
        Ok(address) => assert_eq!(address.to_string().parse(), Ok(address)),
        Err(error) => assert_eq!(error.into_response().status(), StatusCode::NOT_FOUND),
    }
    let guard = Guard { names: vec!["eu-1".to_owned()], token: None };
    assert!(!guard.knows(text) || text.len() < 256, "a name that long is nobody's");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tell_waits_only_if_it_is_asked_to() {
        let query = |settled: Option<&str>, timeout: Option<&str>| {
            TellQuery { settled: settled.map(str::to_owned), timeout: timeout.map(str::to_owned) }.settled().ok()
        };
        assert_eq!((query(None, None), query(Some("0"), None)), (Some(false), Some(false)));
        assert_eq!((query(Some("1"), None), query(Some("true"), Some("5s"))), (Some(true), Some(true)));
        assert_eq!((query(None, Some("5s")), query(Some("yes"), None)), (None, None));
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("1.5s"), Some(Duration::from_millis(1500)));
        for wrong in ["", "5", "s", "-1s", "5 s"] {
            assert_eq!(duration(wrong), None, "{wrong:?}");
        }
    }
}
