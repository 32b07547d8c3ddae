//! Length-prefixed messages on a stream. The length makes a message that was cut off by a lost stream no message.

use bytes::{Bytes, BytesMut};
use std::io;

/// Memory reserved before anything of a message has come.
const FIRST_BYTES: usize = 64 << 10;

/// Writes one message; `kind` goes before it.
pub(super) async fn write(send: &mut quinn::SendStream, kind: u8, body: Bytes) -> io::Result<()> {
    let mut head = [kind, 0, 0, 0, 0];
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    head[1..].copy_from_slice(&length.to_le_bytes());
    let mut parts = [Bytes::copy_from_slice(&head), body];
    Ok(send.write_all_chunks(&mut parts).await?)
}

/// Reads one message of at most `limit` bytes; nothing at the stream's end.
pub(super) async fn read(receive: &mut quinn::RecvStream, limit: usize) -> io::Result<Option<(u8, Bytes)>> {
    let mut head = [0; 5];
    match receive.read_exact(&mut head).await {
        Ok(()) => {}
        Err(quinn::ReadExactError::FinishedEarly(0)) => return Ok(None),
        Err(error) => return Err(io::Error::other(error)),
    }
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > limit {
        let text = format!("a message of {length} bytes is over the limit of {limit}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut body = BytesMut::with_capacity(length.min(FIRST_BYTES));
    while body.len() < length {
        let chunk = receive.read_chunk(length - body.len(), true).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        body.extend_from_slice(&chunk.bytes);
    }
    Ok(Some((head[0], body.freeze())))
}
