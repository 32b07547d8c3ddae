//! Length-prefixed messages on a stream. The length makes a message that was cut off by a lost stream no message.

use bytes::{Bytes, BytesMut};
use std::io;

/// Memory reserved before anything of a message has come.
const FIRST_BYTES: usize = 64 << 10;
/// Kind and length.
const HEAD_BYTES: usize = 5;

/// Writes one message; `kind` goes before it.
pub(super) async fn write(send: &mut quinn::SendStream, kind: u8, body: Bytes) -> io::Result<()> {
    let mut parts = [Bytes::copy_from_slice(&write_head(kind, body.len())?), body];
    Ok(send.write_all_chunks(&mut parts).await?)
}

/// Reads one message of at most `limit` bytes; nothing at the stream's end.
pub(super) async fn read(receive: &mut quinn::RecvStream, limit: usize) -> io::Result<Option<(u8, Bytes)>> {
    match begin(receive, limit).await? {
        Some((kind, length)) => Ok(Some((kind, rest(receive, length).await?))),
        None => Ok(None),
    }
}

/// Reads a message's kind and length, at most `limit`; nothing at the stream's end.
pub(super) async fn begin(receive: &mut quinn::RecvStream, limit: usize) -> io::Result<Option<(u8, usize)>> {
    let mut head = [0; HEAD_BYTES];
    match receive.read_exact(&mut head).await {
        Ok(()) => {}
        Err(quinn::ReadExactError::FinishedEarly(0)) => return Ok(None),
        Err(error) => return Err(io::Error::other(error)),
    }
    read_head(head, limit).map(Some)
}

/// Reads what comes after that.
pub(super) async fn rest(receive: &mut quinn::RecvStream, length: usize) -> io::Result<Bytes> {
    let mut body = BytesMut::with_capacity(length.min(FIRST_BYTES));
    while body.len() < length {
        let chunk = receive.read_chunk(length - body.len(), true).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        body.extend_from_slice(&chunk.bytes);
    }
    Ok(body.freeze())
}

/// What goes before a message.
pub(super) fn write_head(kind: u8, length: usize) -> io::Result<[u8; HEAD_BYTES]> {
    let length = u32::try_from(length).map_err(io::Error::other)?.to_le_bytes();
    Ok([kind, length[0], length[1], length[2], length[3]])
}

/// The kind and length that a message says of itself.
pub(super) fn read_head(head: [u8; HEAD_BYTES], limit: usize) -> io::Result<(u8, usize)> {
    let [kind, length @ ..] = head;
    let length = u32::from_le_bytes(length) as usize;
    if length > limit {
        let text = format!("a message of {length} bytes is over the limit of {limit}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok((kind, length))
}
