//! The decoders of this crate as functions that no bytes may make panic; `tests/fuzz` calls them. No part of the interface.

use crate::{
    address::{Address, Direct, check_name},
    control::{FromAgent, Signal, ToAgent, Value, decode, encode},
    directory::{Answer, Command, Delta, Role, TokenId},
    frame::{Extension, Frame, HEADER_BYTES, Splitter, set_to, to_of},
    limits::{EXTENSION_BYTES_MAX, EXTENSION_TEXT_BYTES_MAX},
    peer::{PeerReply, PeerRequest},
};
use bytes::{Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

/// A decoder's name and the decoder.
pub type Target = (&'static str, fn(&[u8]));

/// Every decoder.
pub const TARGETS: &[Target] = &[
    ("frame", frame),
    ("splitter", splitter),
    ("to_agent", again::<ToAgent>),
    ("from_agent", again::<FromAgent>),
    ("signal", again::<Signal>),
    ("peer_request", again::<PeerRequest>),
    ("peer_reply", again::<PeerReply>),
    ("command", again::<Command>),
    ("answer", again::<Answer>),
    ("delta", again::<Delta>),
    ("address", address),
    ("value", value),
];

/// What decodes encodes to something that decodes to the same.
///
/// # Panics
/// It does not.
pub fn again<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(value) = decode::<T>(bytes) else { return };
    let written = encode(&value);
    assert!(written.len() <= bytes.len(), "the shortest form is written");
    let read = decode::<T>(&written).map(|read| encode(&read));
    assert_eq!(read, Ok(written), "it is read back as it was written");
}

fn frame(bytes: &[u8]) {
    let Ok(frame) = Frame::read(Bytes::copy_from_slice(bytes)) else { return };
    assert_eq!(to_of(bytes), Some(frame.header.to));
    assert_eq!(frame.with_header(frame.header).bytes(), bytes, "the header is written as it was read");
    let mut moved = BytesMut::from(bytes);
    set_to(&mut moved, Direct::NONE, 0);
    let moved = Frame::read(moved.freeze()).map(|frame| frame.header.to);
    assert_eq!(moved, Ok(Direct::NONE));
    let known: Vec<Extension<'_>> = frame.extensions().flatten().collect();
    for extension in &known {
        let bytes = match extension {
            Extension::To(text) | Extension::From(text) | Extension::Message(text) => text.len(),
            Extension::Reason { text, .. } => text.len(),
            Extension::Chain(chain) => chain.len(),
            _ => 0,
        };
        assert!(bytes <= EXTENSION_TEXT_BYTES_MAX, "{extension:?} is too long");
    }
    let _ = (frame.to_name(), frame.from_name(), frame.reason(), frame.header.bounced());
    let rewritten = Frame::new(frame.header, &known, &frame.body());
    let Ok(read) = Frame::read(rewritten.bytes().clone()) else { panic!("what was written is no frame") };
    assert_eq!((read.header, read.body()), (frame.header, frame.body()));
    assert_eq!(read.extensions().flatten().collect::<Vec<_>>(), known);
    with_one_more(&frame, &known);
}

/// Agents add a reason to what they give back, whatever the frame carries already.
fn with_one_more(frame: &Frame, known: &[Extension<'_>]) {
    let text = "x".repeat(EXTENSION_TEXT_BYTES_MAX);
    let extensions: Vec<_> = [Extension::Message(&text)].into_iter().chain(known.iter().cloned()).collect();
    let grown = Frame::new(frame.header, &extensions, &frame.body());
    let bytes = grown.bytes().len() - grown.body().len();
    assert!(bytes <= HEADER_BYTES + EXTENSION_BYTES_MAX, "the extensions are within their limit");
    let first = Frame::read(grown.bytes().clone())
        .is_ok_and(|read| read.extensions().next() == Some(Ok(extensions[0].clone())));
    assert!(first, "what comes first is kept");
}

/// The first byte is the size of the pieces in which the others come.
fn splitter(bytes: &[u8]) {
    let Some((&size, bytes)) = bytes.split_first() else { return };
    let (mut splitter, mut taken) = (Splitter::default(), 0);
    for piece in bytes.chunks(usize::from(size).max(1)) {
        splitter.buffer().extend_from_slice(piece);
        loop {
            match splitter.next_frame() {
                Ok(Some(frame)) => {
                    assert_eq!(frame, bytes[taken..taken + frame.len()], "frames are cut out of the stream in order");
                    assert!(frame.len() >= HEADER_BYTES);
                    taken += frame.len();
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    assert_eq!(taken + splitter.buffer().len(), bytes.len(), "nothing is lost");
}

fn address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<Address>() {
        Ok(address) => {
            assert_eq!(address.to_string().parse(), Ok(address.clone()), "{text:?}");
            assert!(address.name().is_none_or(|name| check_name(name).is_ok()));
        }
        Err(error) => assert!(error.to_string().len() < 1024, "an error is one line of bounded length"),
    }
    if let Ok(place) = text.parse::<Direct>() {
        assert_eq!(place.to_string().parse(), Ok(place));
    }
    if let Ok(id) = text.parse::<TokenId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Ok(role) = text.parse::<Role>() {
        assert_eq!(role.word(), text);
    }
}

fn value(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(value) = text.parse::<Value>();
    assert_eq!(value.to_string().parse(), Ok(value), "{text:?}");
}
