//! A small HTTP client: one keep-alive connection, one request at a time, no pipelining.
//!
//! It repeats a response only when that is known not to have been accepted: the request was never written, or the
//! service said so (`may_have_run: false`). Everything else that goes wrong is [`Failure::Unknown`], and the caller's.

use crate::actors::Response;
use crate::tally::Answers;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// One attempt, from connecting to the last byte of the answer.
const ATTEMPT: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// What `GET /analytics/{question}` answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Analytics {
    /// The poll.
    pub question: String,
    /// All responses.
    pub total: u64,
    /// Responses by answer.
    pub answers: Answers,
    /// Responses by demographic, its value, and answer.
    pub by: BTreeMap<String, BTreeMap<String, Answers>>,
}

/// Why a request brought no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// It is known not to have been accepted, and was so until patience ended.
    NotAccepted(String),
    /// It may have been accepted.
    Unknown(String),
    /// The service will not have it (status 4xx).
    Refused(u16, String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAccepted(why) => write!(f, "not accepted: {why}"),
            Self::Unknown(why) => write!(f, "may have been accepted: {why}"),
            Self::Refused(status, why) => write!(f, "refused with {status}: {why}"),
        }
    }
}

impl std::error::Error for Failure {}

type Sender = SendRequest<Full<Bytes>>;

/// A client of the service, which runs on one or more hosts.
#[derive(Debug)]
pub struct Client {
    hosts: Vec<String>,
    at: usize,
    connection: Option<(Sender, HeaderValue)>,
    patience: Duration,
}

impl Client {
    /// A client of the hosts at `urls` (`http://host:port`), beginning with the one at `first` (modulo their number).
    ///
    /// It stays with a host until that fails it.
    #[must_use]
    pub fn new(urls: &[String], first: usize) -> Self {
        let hosts = urls.iter().map(|url| authority(url).to_owned()).collect::<Vec<_>>();
        Self { at: first % hosts.len().max(1), hosts, connection: None, patience: Duration::from_secs(30) }
    }

    /// How long to go on trying where that is harmless.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Posts a response; returns when it has been accepted (201).
    ///
    /// # Errors
    /// It was not accepted, or that is not known.
    pub async fn respond(&mut self, response: &Response) -> Result<(), Failure> {
        let body = serde_json::to_vec(response).map_err(|e| Failure::NotAccepted(e.to_string()))?;
        let mut request = Request::post(Uri::from_static("/response")).body(Full::new(Bytes::from(body)));
        if let Ok(request) = &mut request {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request = request.map_err(|e| Failure::NotAccepted(e.to_string()))?;
        match self.send(request, false).await? {
            (StatusCode::CREATED, _) => Ok(()),
            (status, body) => Err(Failure::Refused(status.as_u16(), text(&body))),
        }
    }

    /// The analytics of a question; none if it is unknown.
    ///
    /// # Errors
    /// The service gave no analytics for as long as patience lasted.
    pub async fn analytics(&mut self, question: &str) -> Result<Option<Analytics>, Failure> {
        let request = Request::get(format!("/analytics/{}", percent_encoded(question))).body(Full::default());
        match self.send(request.map_err(|e| Failure::NotAccepted(e.to_string()))?, true).await? {
            (StatusCode::OK, body) => {
                serde_json::from_slice(&body).map(Some).map_err(|e| Failure::Unknown(format!("not analytics: {e}")))
            }
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, body) => Err(Failure::Refused(status.as_u16(), text(&body))),
        }
    }

    /// An answer below 500, after as many attempts as are harmless and patience allows.
    async fn send(&mut self, request: Request<Full<Bytes>>, repeatable: bool) -> Result<(StatusCode, Bytes), Failure> {
        let deadline = Instant::now() + self.patience;
        let mut pause = FIRST_PAUSE;
        loop {
            let failure = match timeout(ATTEMPT, self.attempt(request.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failure)) => failure,
                Err(_) => {
                    self.connection = None;
                    Failure::Unknown(format!("no answer in {ATTEMPT:?}"))
                }
            };
            let harmless = repeatable || matches!(failure, Failure::NotAccepted(_));
            if !harmless || Instant::now() + pause >= deadline {
                return Err(failure);
            }
            self.turn_to_next_host();
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&mut self, mut request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Failure> {
        let (mut sender, host) = match self.connection.take() {
            Some((sender, host)) if !sender.is_closed() => (sender, host),
            _ => self.connect().await.map_err(|e| Failure::NotAccepted(e.to_string()))?,
        };
        sender.ready().await.map_err(|e| Failure::NotAccepted(e.to_string()))?;
        request.headers_mut().insert(HOST, host.clone());
        let answer = match sender.try_send_request(request).await {
            Ok(answer) => answer,
            Err(mut error) => {
                let never_written = error.take_message().is_some();
                let why = error.into_error().to_string();
                return Err(if never_written { Failure::NotAccepted(why) } else { Failure::Unknown(why) });
            }
        };
        let status = answer.status();
        let body = match answer.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) if status == StatusCode::CREATED => return Ok((status, Bytes::new())),
            Err(error) => return Err(Failure::Unknown(error.to_string())),
        };
        self.connection = Some((sender, host));
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(refusal(status, &body));
        }
        Ok((status, body))
    }

    async fn connect(&self) -> Result<(Sender, HeaderValue), Box<dyn std::error::Error + Send + Sync>> {
        let host = self.hosts.get(self.at).ok_or("no URL was given")?;
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with its sender; what goes wrong with it, the sender tells.
        tokio::spawn(connection);
        Ok((sender, HeaderValue::from_str(host)?))
    }

    fn turn_to_next_host(&mut self) {
        if self.hosts.len() > 1 {
            self.at = (self.at + 1) % self.hosts.len();
            self.connection = None;
        }
    }
}

/// The body of every error the service answers.
#[derive(Deserialize)]
struct Refusal {
    error: RefusalError,
}

#[derive(Deserialize)]
struct RefusalError {
    message: String,
    may_have_run: bool,
}

/// Whoever does not say that nothing has happened may have done it.
fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(Refusal { error }) if !error.may_have_run => Failure::NotAccepted(format!("{status}: {}", error.message)),
        Ok(Refusal { error }) => Failure::Unknown(format!("{status}: {}", error.message)),
        Err(_) => Failure::Unknown(format!("{status}: {}", text(body))),
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim().to_owned()
}

fn authority(url: &str) -> &str {
    url.trim_start_matches("http://").trim_end_matches('/')
}

/// `text` as one segment of a path.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn response() -> Response {
        Response { question: "q".into(), answer: "a".into(), respondent: BTreeMap::new() }
    }

    /// A server that reads a request per connection and answers it with the next of `answers` ("" hangs up).
    async fn answering(answers: Vec<String>) -> (Vec<String>, tokio::task::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            for answer in &answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            answers.len()
        });
        (vec![url], served)
    }

    fn answer(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    }

    fn created() -> String {
        answer("201 Created", "")
    }

    fn held(may_have_run: bool) -> String {
        let body = format!(r#"{{"error": {{"message": "held", "may_have_run": {may_have_run}}}}}"#);
        answer("503 Service Unavailable", &body)
    }

    #[tokio::test]
    async fn what_has_not_run_is_sent_again() {
        let (urls, served) = answering(vec![held(false), created()]).await;
        Client::new(&urls, 0).respond(&response()).await.unwrap();
        assert_eq!(served.await.unwrap(), 2);
    }

    #[tokio::test]
    async fn what_may_have_run_is_not_sent_again() {
        for answer in [held(true), String::new()] {
            let (urls, served) = answering(vec![answer, created()]).await;
            let failure = Client::new(&urls, 0).respond(&response()).await.unwrap_err();
            assert!(matches!(failure, Failure::Unknown(_)), "{failure}");
            assert!(!served.is_finished(), "the second answer must not have been asked for");
        }
    }

    #[tokio::test]
    async fn a_dead_host_is_passed_over() {
        let (mut urls, served) = answering(vec![created()]).await;
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        urls.insert(0, format!("http://{}", nobody.local_addr().unwrap()));
        drop(nobody);
        Client::new(&urls, 0).respond(&response()).await.unwrap();
        assert_eq!(served.await.unwrap(), 1);
    }

    #[test]
    fn any_question_fits_a_path() {
        assert_eq!(percent_encoded("wie groß? a/b"), "wie%20gro%C3%9F%3F%20a%2Fb");
    }
}
