//! `odeon dead-letters`: messages that come back, on any host, as they do, until Ctrl-C.

use crate::{
    failure::{Code, Failure, Outcome},
    output, signals,
};
use odeon::{Codec, DeadLetter, System};
use serde_json::{Value, json};
use std::{fmt::Write, path::Path};

/// `odeon dead-letters`: one line a letter, or one JSON document a line.
pub(crate) async fn run(socket: &Path, as_json: bool) -> Outcome {
    let system = System::connect_to(socket).await.map_err(|error| Failure::unconnected(&error))?;
    let mut letters = system.dead_letters().map_err(Failure::failed)?;
    if !as_json {
        eprintln!("listening at {} for messages that come back on any host; Ctrl-C ends it", system.host());
    }
    let stopped = signals::wait();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            stopped = &mut stopped => return stopped,
            letter = letters.next() => match letter {
                Some(letter) if as_json => output::line(document(&letter).to_string()),
                Some(letter) => lines(&letter).iter().for_each(output::line),
                None => return Err(Failure::new(Code::NoAgent, "dead-letters: the agent went away: start it again")),
            },
        }
    }
}

/// A letter as JSON: the body as it is if it is whole JSON, else its bytes in hexadecimal.
fn document(letter: &DeadLetter) -> Value {
    let mut document = json!({
        "host": letter.host,
        "from": letter.from.to_string(),
        "to": letter.to.to_string(),
        "message": letter.message,
        "reason": letter.reason.to_string(),
        "text": letter.text,
        "may_have_run": letter.may_have_run,
        "codec": codec(letter.codec),
        "body_bytes": letter.body_bytes,
        "cut": letter.is_cut(),
        "missed": letter.missed,
        "count": letter.count,
    });
    match as_json(letter) {
        Some(body) => document["body"] = body,
        None => document["body_hex"] = hex(&letter.body).into(),
    }
    document
}

/// A letter for people, after a line that says how many are missing before it.
fn lines(letter: &DeadLetter) -> Vec<String> {
    let mut lines = Vec::new();
    if letter.missed > 0 {
        lines.push(format!("… {} more came back and are not shown: too many at once", letter.missed));
    }
    let ran = if letter.may_have_run { " (it may have run)" } else { "" };
    let body = match as_json(letter) {
        Some(body) => body.to_string(),
        None => format!("{} bytes of {}", letter.body_bytes, codec(letter.codec)),
    };
    // The text may have any character in it; a letter is one line.
    let text = letter.text.replace(char::is_control, " ");
    let message = match (&*letter.message, letter.count) {
        ("", 1) => "1 message".to_owned(),
        ("", count) => format!("{count} messages"),
        (name, _) => name.to_owned(),
    };
    let (host, from, to) = (&letter.host, &letter.from, &letter.to);
    lines.push(format!("{host}  {message}  {from} → {to}  {}: {text}{ran}  {body}", letter.reason));
    lines
}

fn as_json(letter: &DeadLetter) -> Option<Value> {
    (letter.codec == Codec::Json && !letter.is_cut()).then(|| serde_json::from_slice(&letter.body).ok()).flatten()
}

const fn codec(codec: Codec) -> &'static str {
    match codec {
        Codec::Raw => "raw",
        Codec::Postcard => "postcard",
        Codec::Cbor => "cbor",
        Codec::Json => "json",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::frame::{Extension, Frame, Header, Kind};

    fn letter(codec: Codec, body: &[u8]) -> DeadLetter {
        let header = Header { codec, ..Header::new(Kind::Returned) };
        let reason = Extension::Reason { reason: odeon::Reason::NoSuchActor, text: "two\nlines" };
        let frame = Frame::new(header, &[reason, Extension::Message("Add"), Extension::To("c1")], body);
        DeadLetter { missed: 2, ..DeadLetter::of_frame(&frame, "h1") }
    }

    #[test]
    fn json_is_shown_and_other_bodies_are_bytes() {
        let shown = document(&letter(Codec::Json, br#"{"by":1}"#));
        assert_eq!((&shown["body"]["by"], &shown["host"], &shown["missed"]), (&json!(1), &json!("h1"), &json!(2)));
        let shown = document(&letter(Codec::Postcard, &[1, 0xab]));
        assert_eq!((&shown["body_hex"], &shown["body"], &shown["cut"]), (&json!("01ab"), &Value::Null, &json!(false)));
    }

    #[test]
    fn a_letter_is_one_line_after_what_is_missing() {
        let lines = lines(&letter(Codec::Json, b"{}"));
        assert!(lines[0].contains("2 more") && lines.len() == 2, "{lines:?}");
        assert!(lines[1].starts_with("h1  Add  ") && lines[1].ends_with("no such actor: two lines  {}"), "{lines:?}");
        let lost = DeadLetter { message: String::new(), count: 12, ..letter(Codec::Raw, &[]) };
        assert!(super::lines(&lost)[1].starts_with("h1  12 messages  "));
    }
}
