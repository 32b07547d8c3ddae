//! The first exchange on a connection: each side says which boot it is, so that numbering and links know their epoch.
//!
//! In TLS 1.3 the dialler finishes before its certificate was judged; the welcome is how it learns that it was let in.

use super::message;
use odeon_protocol::{
    Boot, PROTOCOL_VERSION,
    control::{decode, encode},
};
use serde::{Deserialize, Serialize};
use std::io;

const KIND: u8 = 0;
const BYTES_MAX: usize = 1024;

/// What each side says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Greeting {
    pub(super) protocol: u8,
    /// The Odeon version, for people.
    pub(super) version: String,
    pub(super) boot: Boot,
}

impl Greeting {
    pub(super) fn new(boot: Boot) -> Self {
        Self { protocol: PROTOCOL_VERSION, version: env!("CARGO_PKG_VERSION").to_owned(), boot }
    }
}

/// The dialler's half.
pub(super) async fn greet(connection: &quinn::Connection, boot: Boot) -> io::Result<Greeting> {
    let (mut send, mut receive) = connection.open_bi().await?;
    say(&mut send, boot).await?;
    hear(&mut receive).await
}

/// The acceptor's half, before it has decided; the stream is for [`welcome`].
pub(super) async fn await_greeting(connection: &quinn::Connection) -> io::Result<(Greeting, quinn::SendStream)> {
    let (send, mut receive) = connection.accept_bi().await?;
    Ok((hear(&mut receive).await?, send))
}

/// The acceptor's answer.
pub(super) async fn welcome(mut send: quinn::SendStream, boot: Boot) -> io::Result<()> {
    say(&mut send, boot).await
}

async fn say(send: &mut quinn::SendStream, boot: Boot) -> io::Result<()> {
    message::write(send, KIND, encode(&Greeting::new(boot)).into()).await?;
    send.finish().map_err(io::Error::other)
}

async fn hear(receive: &mut quinn::RecvStream) -> io::Result<Greeting> {
    let (_, body) = message::read(receive, BYTES_MAX).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    decode(&body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_vector() {
        let greeting = Greeting { protocol: 1, version: "0.1.0".into(), boot: Boot(0x0102) };
        assert_eq!(encode(&greeting), [1, 5, b'0', b'.', b'1', b'.', b'0', 0x82, 0x02]);
    }
}
