//! The decoders of this crate as functions that no bytes may make panic; `tests/fuzz` calls them. No part of the interface.

use crate::{
    frame_io::{Gate, Inlet, Outbox},
    join::{Attempt, JoinAnswer, JoinToken, fuzz_request},
    quic,
    tls::{PeerCertificate, PublicKey},
};
use bytes::BytesMut;
use odeon_protocol::{
    frame::{HEADER_BYTES, Splitter},
    fuzz::{Target, again},
};

/// Every decoder.
pub const TARGETS: &[Target] = &[
    ("join_token", join_token),
    ("join_request", fuzz_request),
    ("join_attempt", again::<Attempt>),
    ("join_answer", again::<JoinAnswer>),
    ("certificate", certificate),
    ("greeting", quic::fuzz::greeting),
    ("message_head", quic::fuzz::message_head),
    ("lanes", quic::fuzz::lanes),
    ("chunks", chunks),
];

fn join_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<JoinToken>() {
        Ok(token) => assert_eq!(token.to_string(), text.trim()),
        Err(error) => assert!(error.to_string().len() < 1024 + text.len()),
    }
}

/// Frames of a process, in the pieces in which a socket gives them.
fn chunks(bytes: &[u8]) {
    let outbox = Outbox::default();
    let mut inlet = Inlet::new(outbox.clone(), Gate::default());
    let mut splitter = Splitter::default();
    for piece in bytes.chunks(200) {
        splitter.buffer().extend_from_slice(piece);
        let mut frames = Vec::new();
        while let Ok(Some(frame)) = splitter.next_frame() {
            frames.push(frame);
        }
        let came = frames.len();
        if inlet.take(&mut frames).is_err() {
            return;
        }
        let inner: usize = frames.iter().map(BytesMut::len).sum();
        assert!(inner + inlet.begun() <= bytes.len(), "no more comes out than went in");
        assert!(outbox.queued() <= bytes.len() && frames.len() <= came + bytes.len() / HEADER_BYTES);
    }
}

fn certificate(bytes: &[u8]) {
    if let Ok(read) = PeerCertificate::read(bytes) {
        assert_eq!(read.key.node(), read.node);
    }
    if let Ok(key) = PublicKey::from_spki(bytes) {
        assert!(!key.verify(b"said", b"no signature"));
    }
    if let Ok(key) = PublicKey::from_request(bytes) {
        assert!(PublicKey::from_spki(key.spki()).is_ok_and(|read| read == key));
    }
}
