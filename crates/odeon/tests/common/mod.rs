//! What the tests of one process share.
#![allow(dead_code, unreachable_pub, reason = "every test target uses its own part")]

use odeon::prelude::*;
use std::time::Instant;

/// Waits until a condition holds; fails the test after 20 s.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < until, "{what} did not come true within 20 s");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Notes what it is told.
#[derive(Debug, Default)]
pub struct Notebook {
    notes: Vec<String>,
}

/// Something to note.
#[message]
#[derive(Debug)]
pub struct Note {
    /// What.
    pub text: String,
}

/// All that was noted.
#[message(reply = Vec<String>)]
#[derive(Debug)]
pub struct Notes;

#[actor("test.notebook", mailbox = 100_000)]
impl Notebook {
    fn note(&mut self, note: Note) {
        self.notes.push(note.text);
    }

    fn notes(&mut self, _: Notes) -> Vec<String> {
        self.notes.clone()
    }
}

/// A notebook's helper: notes a text without waiting.
pub fn jot(notebook: &ActorRef<Notebook>, text: impl Into<String>) {
    let noted = notebook.try_tell(Note { text: text.into() });
    assert!(noted.is_ok(), "a notebook has room");
}
