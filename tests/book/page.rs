//! A page of the book, as something that can be followed word by word.

use serde_json::Value;
use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where the workspace is.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_owned()
}

/// The command lines of a page, to be taken in their order.
///
/// Every line has to be taken: a line that is added to a page and not to its scenario fails the scenario.
#[derive(Debug)]
pub(super) struct Page {
    name: &'static str,
    text: String,
    left: VecDeque<String>,
}

impl Page {
    pub(super) fn open(name: &'static str) -> Self {
        let text = std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let left = blocks(&text, "sh").flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        Self { name, text, left }
    }

    /// The first block of that language.
    pub(super) fn block(&self, language: &'static str) -> &str {
        blocks(&self.text, language).next().unwrap_or_else(|| panic!("{}: no {language} block", self.name))
    }

    /// What the page's tables explain, where that is code.
    pub(super) fn terms(&self) -> Vec<&str> {
        self.text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(term, _)| term).collect()
    }

    /// The next line, which begins like this.
    #[track_caller]
    pub(super) fn take(&mut self, start: &str) -> String {
        let line = self.left.pop_front().unwrap_or_default();
        assert!(line.starts_with(start), "{}: expected `{start}…`, the page has `{line}`", self.name);
        line
    }

    /// All lines were taken.
    #[track_caller]
    pub(super) fn end(self) {
        assert!(self.left.is_empty(), "{}: not followed: {:#?}", self.name, self.left);
    }
}

fn blocks<'a>(text: &'a str, language: &'a str) -> impl Iterator<Item = &'a str> {
    let code = text.split("\n```").filter_map(|block| block.split_once('\n'));
    code.filter(move |(head, _)| head.split(',').next() == Some(language)).map(|(_, code)| code)
}

/// The words of a command line as a shell reads them, without a comment at its end.
pub(super) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// What an HTTP server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

/// Does what a `curl` line says, at another address than it says.
pub(super) fn curl(line: &str, address: &str) -> Answer {
    let (mut method, mut headers, mut body, mut path) = ("GET".to_owned(), String::new(), String::new(), None);
    let mut words = words(line).into_iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-X" => method = words.next().expect("a method"),
            "-H" => headers += &format!("{}\r\n", words.next().expect("a header")),
            "-d" => body = words.next().expect("a body"),
            url => path = url.split_once('/').map(|(_, path)| path.to_owned()),
        }
    }
    let path = path.expect("a URL with a path");
    let length = body.len();
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    exchange(&request, address)
}

fn exchange(request: &str, address: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("the agent serves HTTP");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    stream.write_all(request.as_bytes()).expect("the agent reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the agent answers");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, body: serde_json::from_str(body).unwrap_or_default() }
}

#[test]
fn lines_are_read_as_a_shell_reads_them() {
    assert_eq!(words(r#"odeon tell c1 Add '{"by": 5}'"#), ["odeon", "tell", "c1", "Add", r#"{"by": 5}"#]);
    assert_eq!(words("odeon token create   # prints it"), ["odeon", "token", "create"]);
    let page = "text\n```sh\none\ntwo\n```\n```rust,no_run\ncode\n```\n";
    assert_eq!(blocks(page, "sh").collect::<Vec<_>>(), ["one\ntwo"]);
    assert_eq!(blocks(page, "rust").collect::<Vec<_>>(), ["code"]);
}
