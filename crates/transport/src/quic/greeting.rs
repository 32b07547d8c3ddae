//! The first exchange on a connection: each side says which boot it is, so that numbering and links know their epoch, and
//! which recovery of the directory it goes by, so that what is from before one never mixes with what is from after it.
//!
//! In TLS 1.3 the dialler finishes before its certificate was judged; the welcome is how it learns that it was let in.

use super::message;
use odeon_protocol::{
    Boot, PROTOCOL_VERSION,
    control::{DecodeError, decode, encode},
};
use std::io;

const KIND: u8 = 0;
const BYTES_MAX: usize = 1024;

/// What each side says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) protocol: u8,
    /// The Odeon version, for people.
    pub(super) version: String,
    pub(super) boot: Boot,
    /// See [`super::Settings::recovery`]. Not written where it is 0.
    pub(super) recovery: u64,
}

impl Greeting {
    pub(super) fn new(boot: Boot, recovery: u64) -> Self {
        Self { protocol: PROTOCOL_VERSION, version: env!("CARGO_PKG_VERSION").to_owned(), boot, recovery }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let Self { protocol, version, boot, recovery } = self;
        match recovery {
            0 => encode(&(protocol, version, boot)),
            recovery => encode(&(protocol, version, boot, recovery)),
        }
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let short = || decode(bytes).map(|(protocol, version, boot)| (protocol, version, boot, 0));
        let (protocol, version, boot, recovery) = decode(bytes).or_else(|_| short())?;
        Ok(Self { protocol, version, boot, recovery })
    }
}

/// The dialler's half.
pub(super) async fn greet(connection: &quinn::Connection, own: &Greeting) -> io::Result<Greeting> {
    let (mut send, mut receive) = connection.open_bi().await?;
    say(&mut send, own).await?;
    hear(&mut receive).await
}

/// The acceptor's half, before it has decided; the stream is for [`welcome`].
pub(super) async fn await_greeting(connection: &quinn::Connection) -> io::Result<(Greeting, quinn::SendStream)> {
    let (send, mut receive) = connection.accept_bi().await?;
    Ok((hear(&mut receive).await?, send))
}

/// The acceptor's answer.
pub(super) async fn welcome(mut send: quinn::SendStream, own: &Greeting) -> io::Result<()> {
    say(&mut send, own).await
}

async fn say(send: &mut quinn::SendStream, own: &Greeting) -> io::Result<()> {
    message::write(send, KIND, own.write().into()).await?;
    send.finish().map_err(io::Error::other)
}

async fn hear(receive: &mut quinn::RecvStream) -> io::Result<Greeting> {
    let (_, body) = message::read(receive, BYTES_MAX).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Greeting::read(&body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_vector() {
        let greeting = Greeting { protocol: 1, version: "0.1.0".into(), boot: Boot(0x0102), recovery: 0 };
        assert_eq!(greeting.write(), [1, 5, b'0', b'.', b'1', b'.', b'0', 0x82, 0x02]);
        let recovered = Greeting { recovery: 0x0103, ..greeting };
        assert_eq!(recovered.write(), [1, 5, b'0', b'.', b'1', b'.', b'0', 0x82, 0x02, 0x83, 0x02]);
    }

    #[test]
    fn both_lengths_are_read_back() {
        for recovery in [0, 1, u64::MAX] {
            let greeting = Greeting::new(Boot(7), recovery);
            assert_eq!(Greeting::read(&greeting.write()), Ok(greeting));
        }
    }
}
