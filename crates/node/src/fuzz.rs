//! The decoders of this crate as functions that no bytes may make panic; `tests/fuzz` calls them. No part of the interface.

use crate::{
    config::WorkerCommand,
    convention::wire::{Reply, Request, Step},
    http, recovery,
};
use odeon_protocol::fuzz::{Target, again};

/// Every decoder.
pub const TARGETS: &[Target] =
    &[("backup", backup), ("peer_message", peer_message), ("http", http::fuzz), ("worker_command", worker_command)];

/// The first byte says which of the three it is.
fn peer_message(bytes: &[u8]) {
    let Some((which, body)) = bytes.split_first() else { return };
    match which % 3 {
        0 => again::<Request>(body),
        1 => again::<Reply>(body),
        _ => again::<Step>(body),
    }
}

/// A file as it is, and as what is in a whole one.
fn backup(bytes: &[u8]) {
    recovery::fuzz(bytes);
}

fn worker_command(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(command) = WorkerCommand::parse(text) {
        let written = command.args.iter().map(String::len).sum::<usize>() + command.path.as_os_str().len();
        assert!(written <= text.len() && command.name().len() <= text.len());
    }
}
