//! Who may speak to the HTTP interface.
//!
//! - An unknown `Host` header is refused: a web page that the operator looks at could otherwise reach the agent under a
//!   name of its own. Addresses written as numbers are no such name.
//! - Outside of loopback a bearer token is needed.
//! - A POST is JSON, or has no body and was not sent by a web page: pages cannot send JSON elsewhere unasked.

use super::error::HttpError;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
};

/// The rules of one interface.
#[derive(Debug)]
pub(super) struct Guard {
    /// Names under which the agent may be addressed.
    pub(super) names: Vec<String>,
    /// The bearer token, where one is needed.
    pub(super) token: Option<String>,
}

/// Lets a request through, or answers it.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.refuses(request.method(), request.uri().path(), request.headers()) {
        Some(error) => error.into_response(),
        None => next.run(request).await,
    }
}

impl Guard {
    fn refuses(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<HttpError> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !self.knows(host) {
            let text = format!("this agent is not called {host:?}: use its address, or its name");
            return Some(HttpError::new(StatusCode::MISDIRECTED_REQUEST, "unknown_host", text));
        }
        let open = matches!(path, "/healthz" | "/readyz");
        if !open && !self.token.as_ref().is_none_or(|token| bears(headers, token)) {
            let text = "a bearer token is needed: see --http-token-file";
            return Some(HttpError::new(StatusCode::UNAUTHORIZED, "token", text));
        }
        let json = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| {
            kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
        });
        let bare = !headers.contains_key(header::CONTENT_TYPE)
            && !headers.contains_key(header::ORIGIN)
            && !headers.contains_key("sec-fetch-site");
        if method == Method::POST && !json && !bare {
            let text = "bodies are application/json";
            return Some(HttpError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", text));
        }
        None
    }

    pub(super) fn knows(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.chars().all(|digit| digit.is_ascii_digit()) => name,
            _ => host,
        };
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        bare.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

fn bears(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    // As long for a wrong guess as for a right one.
    let differs = given.bytes().zip(token.bytes()).fold(0, |differs, (one, other)| differs | (one ^ other));
    given.len() == token.len() && differs == 0
}

/// The token of the file; made if there is none.
pub(super) fn token(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty: remove it, or put a token in"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let token: String = (0..4).map(|_| format!("{:016x}", rand::random::<u64>())).collect();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{token}")?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(guard: &Guard, method: &Method, path: &str, headers: &[(&'static str, &str)]) -> Option<u16> {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| drop(map.insert(*name, value.parse().unwrap())));
        guard.refuses(method, path, &map).map(|error| error.into_response().status().as_u16())
    }

    fn guard(token: Option<&str>) -> Guard {
        Guard { names: vec!["eu-1".into()], token: token.map(str::to_owned) }
    }

    #[test]
    fn only_known_hosts_are_served() {
        for (host, expected) in [
            ("127.0.0.1:7480", None),
            ("[::1]:7480", None),
            ("localhost", None),
            ("EU-1:7480", None),
            ("evil.example", Some(421)),
            ("", Some(421)),
        ] {
            assert_eq!(refused(&guard(None), &Method::GET, "/v1/status", &[("host", host)]), expected, "{host:?}");
        }
    }

    #[test]
    fn the_token_is_needed_but_for_health() {
        let guard = guard(Some("secret"));
        let get = |path, headers: &[(&'static str, &str)]| {
            let headers: Vec<_> = [("host", "localhost")].iter().chain(headers).copied().collect();
            refused(&guard, &Method::GET, path, &headers)
        };
        assert_eq!(get("/v1/status", &[]), Some(401));
        assert_eq!(get("/v1/status", &[("authorization", "Bearer secreT")]), Some(401));
        assert_eq!(get("/v1/status", &[("authorization", "Bearer secret")]), None);
        assert_eq!(get("/healthz", &[]), None);
    }

    #[test]
    fn a_form_of_a_web_page_is_no_message() {
        let post = |headers: &[(&'static str, &str)]| {
            let headers: Vec<_> = [("host", "localhost")].iter().chain(headers).copied().collect();
            refused(&guard(None), &Method::POST, "/v1/tell/a/b", &headers)
        };
        assert_eq!(post(&[("content-type", "application/json; charset=utf-8")]), None);
        assert_eq!(post(&[]), None);
        assert_eq!(post(&[("content-type", "text/plain")]), Some(415));
        assert_eq!(post(&[("origin", "http://evil.example")]), Some(415));
    }

    #[test]
    fn a_token_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let made = token(&path).unwrap();
        assert_eq!(made.len(), 64);
        assert_eq!(token(&path).unwrap(), made);
    }
}
