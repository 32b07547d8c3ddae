//! What a frame says beyond its header, by tag.

use super::{FrameError, header::read_place};
use crate::{address::Direct, limits::EXTENSION_TEXT_BYTES_MAX, reason::Reason};
use bytes::{Buf, BufMut, BytesMut};

/// One typed extension of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extension<'a> {
    /// The global name of the receiver.
    To(&'a str),
    /// The global name of the sender: what it shows as its own address.
    From(&'a str),
    /// Where the answer goes instead of to `from` (a forwarded ask, or a `ReplyTo` that travels).
    ReplyTo {
        /// The asker.
        to: Direct,
        /// Its correlation.
        correlation: u64,
    },
    /// Why a message came back or an ask failed.
    Reason {
        /// The typed reason.
        reason: Reason,
        /// In words, with what and where.
        text: &'a str,
    },
    /// The message's name, where its type id is not known to the sender (JSON at the edges).
    Message(&'a str),
    /// Trace id and span.
    Trace([u8; 24]),
    /// The troupe through which the message came.
    Troupe(Direct),
    /// The asks that wait for one another, outermost first: an ask to one of them is a cycle.
    Chain(&'a [u8]),
}

const CRITICAL: u8 = 0x80;
const TAG_TO: u8 = CRITICAL | 1;
const TAG_FROM: u8 = 2;
const TAG_REPLY_TO: u8 = CRITICAL | 3;
const TAG_REASON: u8 = 4;
const TAG_MESSAGE: u8 = CRITICAL | 5;
const TAG_TRACE: u8 = 6;
const TAG_TROUPE: u8 = 7;
const TAG_CHAIN: u8 = 8;

impl<'a> Extension<'a> {
    fn read(tag: u8, bytes: &'a [u8]) -> Result<Option<Self>, FrameError> {
        let short = |bytes: &'a [u8]| {
            if bytes.len() > EXTENSION_TEXT_BYTES_MAX { Err(FrameError::Extensions) } else { Ok(bytes) }
        };
        let text = |bytes| std::str::from_utf8(short(bytes)?).map_err(|_| FrameError::Extensions);
        Ok(Some(match tag {
            TAG_TO => Self::To(text(bytes)?),
            TAG_FROM => Self::From(text(bytes)?),
            TAG_MESSAGE => Self::Message(text(bytes)?),
            TAG_REPLY_TO => {
                let mut at = sized(bytes, 32)?;
                Self::ReplyTo { to: read_place(&mut at), correlation: at.get_u64_le() }
            }
            TAG_REASON => {
                let (number, words) = bytes.split_at_checked(2).ok_or(FrameError::Extensions)?;
                let number = u16::from_le_bytes([number[0], number[1]]);
                let reason = Reason::from_wire(number).ok_or(FrameError::Extensions)?;
                Self::Reason { reason, text: text(words)? }
            }
            TAG_TRACE => Self::Trace(bytes.try_into().map_err(|_| FrameError::Extensions)?),
            TAG_TROUPE => Self::Troupe(read_place(&mut sized(bytes, 24)?)),
            TAG_CHAIN => Self::Chain(short(bytes)?),
            unknown if unknown & CRITICAL != 0 => return Err(FrameError::Critical { tag: unknown }),
            _ => return Ok(None),
        }))
    }

    /// Appends the extension to `out`. Texts are cut to [`EXTENSION_TEXT_BYTES_MAX`] at a character's border.
    pub fn write(&self, out: &mut BytesMut) {
        let mut put = |tag: u8, parts: &[&[u8]]| {
            out.put_u8(tag);
            out.put_u16_le(parts.iter().map(|part| part.len()).sum::<usize>() as u16);
            parts.iter().for_each(|part| out.put_slice(part));
        };
        match self {
            Self::To(name) => put(TAG_TO, &[cut(name).as_bytes()]),
            Self::From(name) => put(TAG_FROM, &[cut(name).as_bytes()]),
            Self::Message(name) => put(TAG_MESSAGE, &[cut(name).as_bytes()]),
            Self::ReplyTo { to, correlation } => put(TAG_REPLY_TO, &[&place_bytes(*to), &correlation.to_le_bytes()]),
            Self::Reason { reason, text } => put(TAG_REASON, &[&(*reason as u16).to_le_bytes(), cut(text).as_bytes()]),
            Self::Trace(trace) => put(TAG_TRACE, &[trace]),
            Self::Troupe(place) => put(TAG_TROUPE, &[&place_bytes(*place)]),
            Self::Chain(chain) => put(TAG_CHAIN, &[&chain[..chain.len().min(EXTENSION_TEXT_BYTES_MAX)]]),
        }
    }
}

fn sized(bytes: &[u8], size: usize) -> Result<&[u8], FrameError> {
    if bytes.len() == size { Ok(bytes) } else { Err(FrameError::Extensions) }
}

fn place_bytes(place: Direct) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&place.node.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&place.boot.0.to_le_bytes());
    bytes[16..].copy_from_slice(&place.serial.0.to_le_bytes());
    bytes
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(EXTENSION_TEXT_BYTES_MAX)]
}

/// Walks the extensions of a frame.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<Extension<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let taken = self.take();
            match taken {
                Ok((tag, bytes)) => match Extension::read(tag, bytes) {
                    Ok(None) => {}
                    Ok(Some(extension)) => return Some(Ok(extension)),
                    Err(error) => return Some(Err(self.fail(error))),
                },
                Err(error) => return Some(Err(self.fail(error))),
            }
        }
    }
}

impl<'a> Extensions<'a> {
    /// The global name of the receiver, if it is among them.
    #[must_use]
    pub fn to_name(self) -> Option<&'a str> {
        self.flatten().find_map(|extension| match extension {
            Extension::To(name) => Some(name),
            _ => None,
        })
    }

    /// The troupe through which the message went to its member, if it did.
    #[must_use]
    pub fn troupe(self) -> Option<Direct> {
        self.flatten().find_map(|extension| match extension {
            Extension::Troupe(troupe) => Some(troupe),
            _ => None,
        })
    }

    /// Why the message came back, if it did.
    #[must_use]
    pub fn reason(self) -> Option<Reason> {
        self.flatten().find_map(|extension| match extension {
            Extension::Reason { reason, .. } => Some(reason),
            _ => None,
        })
    }

    /// Who waits for the answer to an ask that was forwarded, and under which number.
    #[must_use]
    pub fn reply_to(self) -> Option<(Direct, u64)> {
        self.flatten().find_map(|extension| match extension {
            Extension::ReplyTo { to, correlation } => Some((to, correlation)),
            _ => None,
        })
    }

    fn take(&mut self) -> Result<(u8, &'a [u8]), FrameError> {
        let (head, rest) = self.rest.split_at_checked(3).ok_or(FrameError::Extensions)?;
        let length = usize::from(u16::from_le_bytes([head[1], head[2]]));
        let (bytes, rest) = rest.split_at_checked(length).ok_or(FrameError::Extensions)?;
        self.rest = rest;
        Ok((head[0], bytes))
    }

    fn fail(&mut self, error: FrameError) -> FrameError {
        self.rest = &[];
        error
    }
}
