//! The frame: a fixed little-endian header that routers read without serde, typed extensions, a body they leave closed.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | bytes that follow this field |
//! | 4 | 1 | protocol version |
//! | 5 | 1 | kind |
//! | 6 | 1 | class |
//! | 7 | 1 | codec of the body |
//! | 8 | 2 | flags |
//! | 10 | 2 | bytes of extensions |
//! | 12 | 4 | remaining time in milliseconds, 0 for none |
//! | 16 | 24 | to: node, boot, serial |
//! | 40 | 24 | from: node, boot, serial |
//! | 64 | 8 | epoch of the receiver, 0 for none |
//! | 72 | 8 | epoch of the sender, 0 for none |
//! | 80 | 4 | flow, chosen by the sender's worker |
//! | 84 | 4 | number in the flow |
//! | 88 | 8 | correlation of an ask and its answer |
//! | 96 | 8 | type id of the body |
//! | 104 | 8 | schema fingerprint of the body, 0 where it has none |
//! | 112 | | extensions, then the body |
//!
//! An extension is a tag (1 byte; the high bit marks it critical), its length (2 bytes) and its bytes. A reader skips
//! unknown ones, unless critical.
//!
//! - **F-1.** Reading never panics and never reserves memory by a length it has not checked.
//! - **F-2.** What [`Header::write`] writes, [`Header::read`] reads back unchanged.

use crate::{
    PROTOCOL_VERSION,
    address::Direct,
    id::{Boot, NodeId, Serial},
    limits::{EXTENSION_BYTES_MAX, FRAME_BYTES_MAX},
    reason::Reason,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The header's size, its length field included.
pub const HEADER_BYTES: usize = 112;
const LENGTH_BYTES: usize = 4;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A message without an answer.
    Tell = 1,
    /// A message that is answered by `Reply` or `Failure` with the same correlation.
    Ask = 2,
    /// The answer to an ask; the body is the reply.
    Reply = 3,
    /// The answer to an ask that failed; extension [`Extension::Reason`], the body is its text.
    Failure = 4,
    /// A message given back unhandled: body and type are the message's, `to` and `from` change places, [`Extension::Reason`].
    Returned = 5,
    /// So many messages of `flow` (in `correlation`), from number `sequence` on, are settled: their handlers have ended.
    /// `from` is their receiver, `from_epoch` its epoch.
    Settled = 6,
    /// A lifecycle signal to an actor: the body is a [`crate::control::Signal`].
    Signal = 7,
    /// Between a process and its agent: the body is a message of [`crate::control`].
    Control = 8,
}

impl Kind {
    const fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Tell,
            2 => Self::Ask,
            3 => Self::Reply,
            4 => Self::Failure,
            5 => Self::Returned,
            6 => Self::Settled,
            7 => Self::Signal,
            8 => Self::Control,
            _ => return None,
        })
    }
}

/// Traffic that must not wait for other traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// Messages.
    #[default]
    Normal = 0,
    /// Chunks of large messages.
    Bulk = 1,
    /// Settled reports, signals, control.
    Urgent = 2,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    #[default]
    Raw = 0,
    /// postcard, between processes.
    Postcard = 1,
    /// CBOR, for other languages.
    Cbor = 2,
    /// JSON, at the edges.
    Json = 3,
}

/// Flag bits of a header.
pub mod flags {
    /// The first frame of a flow: numbering starts anew.
    pub const OPENS: u16 = 1;
    /// A message whose actor is to be started where there is none.
    pub const STARTS: u16 = 1 << 1;
    /// A returned message or failure whose handler may have run.
    pub const MAY_HAVE_RUN: u16 = 1 << 2;
    /// The message type allows a second run.
    pub const IDEMPOTENT: u16 = 1 << 3;
    /// `to` is a troupe; its agent picks the member.
    pub const TROUPE: u16 = 1 << 4;
    /// The sender wants a `Settled` report as soon as this message is settled.
    pub const REPORT: u16 = 1 << 5;
    /// A name's message that an agent already sent on once; bounces are bounded by [`super::Header::bounced`].
    pub const BOUNCED_LOW: u16 = 1 << 8;
}

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub kind: Kind,
    /// What it may wait behind.
    pub class: Class,
    /// How the body is written.
    pub codec: Codec,
    /// Bits of [`flags`].
    pub flags: u16,
    /// Milliseconds left; 0 for no limit.
    pub remaining_ms: u32,
    /// The receiver; [`Direct::NONE`] where only [`Extension::To`] says it.
    pub to: Direct,
    /// The sender.
    pub from: Direct,
    /// The epoch that the sender knows of the receiver; 0 for none.
    pub to_epoch: u64,
    /// The sender's epoch; 0 for none.
    pub from_epoch: u64,
    /// The flow, chosen by the sender's process; 0 for none.
    pub flow: u32,
    /// The message's number in its flow, from 0.
    pub sequence: u32,
    /// Binds an answer to its ask.
    pub correlation: u64,
    /// FNV-1a of the message's wire name.
    pub type_id: u64,
    /// The message's schema; 0 with JSON and CBOR.
    pub fingerprint: u64,
}

impl Header {
    /// A header of that kind with everything else zero.
    #[must_use]
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            class: Class::Normal,
            codec: Codec::Raw,
            flags: 0,
            remaining_ms: 0,
            to: Direct::NONE,
            from: Direct::NONE,
            to_epoch: 0,
            from_epoch: 0,
            flow: 0,
            sequence: 0,
            correlation: 0,
            type_id: 0,
            fingerprint: 0,
        }
    }

    /// Whether a bit of [`flags`] is set.
    #[must_use]
    pub const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// How often agents have sent this frame on to another instance (0 to 255).
    #[must_use]
    pub const fn bounced(&self) -> u16 {
        self.flags >> 8
    }

    /// Writes the header of a frame with that many bytes of extensions and body.
    pub fn write(&self, out: &mut BytesMut, extension_bytes: usize, body_bytes: usize) {
        debug_assert!(extension_bytes <= EXTENSION_BYTES_MAX, "extensions fit");
        let length = HEADER_BYTES - LENGTH_BYTES + extension_bytes + body_bytes;
        debug_assert!(length + LENGTH_BYTES <= FRAME_BYTES_MAX, "the frame fits");
        out.reserve(length + LENGTH_BYTES);
        out.put_u32_le(length as u32);
        out.put_slice(&[PROTOCOL_VERSION, self.kind as u8, self.class as u8, self.codec as u8]);
        out.put_u16_le(self.flags);
        out.put_u16_le(extension_bytes as u16);
        out.put_u32_le(self.remaining_ms);
        for place in [self.to, self.from] {
            out.put_u64_le(place.node.0);
            out.put_u64_le(place.boot.0);
            out.put_u64_le(place.serial.0);
        }
        out.put_u64_le(self.to_epoch);
        out.put_u64_le(self.from_epoch);
        out.put_u32_le(self.flow);
        out.put_u32_le(self.sequence);
        out.put_u64_le(self.correlation);
        out.put_u64_le(self.type_id);
        out.put_u64_le(self.fingerprint);
    }

    /// Reads the header of a whole frame and the size of its extensions.
    ///
    /// # Errors
    /// The frame is shorter than it says or than a header, of another protocol version, or holds unknown numbers.
    pub fn read(frame: &[u8]) -> Result<(Self, usize), FrameError> {
        if frame.len() < HEADER_BYTES {
            return Err(FrameError::Short { bytes: frame.len() });
        }
        let mut at = frame;
        let length = at.get_u32_le() as usize + LENGTH_BYTES;
        if length != frame.len() {
            return Err(FrameError::Length { says: length, is: frame.len() });
        }
        let version = at.get_u8();
        if version != PROTOCOL_VERSION {
            return Err(FrameError::Version { has: version });
        }
        let kind = at.get_u8();
        let kind = Kind::from_wire(kind).ok_or(FrameError::Unknown { field: "kind", value: kind })?;
        let class = match at.get_u8() {
            0 => Class::Normal,
            1 => Class::Bulk,
            2 => Class::Urgent,
            value => return Err(FrameError::Unknown { field: "class", value }),
        };
        let codec = match at.get_u8() {
            0 => Codec::Raw,
            1 => Codec::Postcard,
            2 => Codec::Cbor,
            3 => Codec::Json,
            value => return Err(FrameError::Unknown { field: "codec", value }),
        };
        let flags = at.get_u16_le();
        let extension_bytes = usize::from(at.get_u16_le());
        if extension_bytes > EXTENSION_BYTES_MAX || HEADER_BYTES + extension_bytes > frame.len() {
            return Err(FrameError::Extensions);
        }
        let remaining_ms = at.get_u32_le();
        let to = read_place(&mut at);
        let from = read_place(&mut at);
        let header = Self {
            kind,
            class,
            codec,
            flags,
            remaining_ms,
            to,
            from,
            to_epoch: at.get_u64_le(),
            from_epoch: at.get_u64_le(),
            flow: at.get_u32_le(),
            sequence: at.get_u32_le(),
            correlation: at.get_u64_le(),
            type_id: at.get_u64_le(),
            fingerprint: at.get_u64_le(),
        };
        Ok((header, extension_bytes))
    }
}

fn read_place(at: &mut &[u8]) -> Direct {
    Direct { node: NodeId(at.get_u64_le()), boot: Boot(at.get_u64_le()), serial: Serial(at.get_u64_le()) }
}

/// Rewrites `to` and `to_epoch` of a frame in place, as routers do when they have resolved a name or picked a member.
///
/// # Panics
/// In debug builds, if the frame is shorter than a header: routers hold whole frames only.
pub fn set_to(frame: &mut [u8], to: Direct, to_epoch: u64) {
    debug_assert!(frame.len() >= HEADER_BYTES, "routers hold whole frames only");
    frame[16..24].copy_from_slice(&to.node.0.to_le_bytes());
    frame[24..32].copy_from_slice(&to.boot.0.to_le_bytes());
    frame[32..40].copy_from_slice(&to.serial.0.to_le_bytes());
    frame[64..72].copy_from_slice(&to_epoch.to_le_bytes());
}

/// Reads only `to` of a whole frame.
#[must_use]
pub fn to_of(frame: &[u8]) -> Option<Direct> {
    let mut at = frame.get(16..40)?;
    Some(read_place(&mut at))
}

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
        let text = || std::str::from_utf8(bytes).map_err(|_| FrameError::Extensions);
        Ok(Some(match tag {
            TAG_TO => Self::To(text()?),
            TAG_FROM => Self::From(text()?),
            TAG_MESSAGE => Self::Message(text()?),
            TAG_REPLY_TO => {
                let mut at = sized(bytes, 32)?;
                Self::ReplyTo { to: read_place(&mut at), correlation: at.get_u64_le() }
            }
            TAG_REASON => {
                let (number, text) = bytes.split_at_checked(2).ok_or(FrameError::Extensions)?;
                let number = u16::from_le_bytes([number[0], number[1]]);
                let reason = Reason::from_wire(number).ok_or(FrameError::Extensions)?;
                Self::Reason { reason, text: std::str::from_utf8(text).map_err(|_| FrameError::Extensions)? }
            }
            TAG_TRACE => Self::Trace(bytes.try_into().map_err(|_| FrameError::Extensions)?),
            TAG_TROUPE => Self::Troupe(read_place(&mut sized(bytes, 24)?)),
            TAG_CHAIN => Self::Chain(bytes),
            unknown if unknown & CRITICAL != 0 => return Err(FrameError::Critical { tag: unknown }),
            _ => return Ok(None),
        }))
    }

    /// Appends the extension to `out`. Texts are cut to 1,000 bytes at a character's border.
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
            Self::Chain(chain) => put(TAG_CHAIN, &[&chain[..chain.len().min(1000)]]),
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
    &text[..text.floor_char_boundary(1000)]
}

/// A whole frame: header read, extensions and body as the bytes they came in.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The fixed part.
    pub header: Header,
    bytes: Bytes,
    extension_bytes: usize,
}

impl Frame {
    /// Reads a whole frame, as [`Splitter`] cut it.
    ///
    /// # Errors
    /// As [`Header::read`].
    pub fn read(bytes: Bytes) -> Result<Self, FrameError> {
        let (header, extension_bytes) = Header::read(&bytes)?;
        Ok(Self { header, bytes, extension_bytes })
    }

    /// Makes a frame.
    #[must_use]
    pub fn new(header: Header, extensions: &[Extension<'_>], body: &[u8]) -> Self {
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES + body.len() + 32);
        let extension_bytes = write(&mut bytes, &header, extensions, body);
        Self { header, bytes: bytes.freeze(), extension_bytes }
    }

    /// The frame as it travels.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The body, sharing the frame's memory.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.bytes.slice(HEADER_BYTES + self.extension_bytes..)
    }

    /// The known extensions in order; ends at the first malformed one with its error.
    pub fn extensions(&self) -> Extensions<'_> {
        Extensions { rest: &self.bytes[HEADER_BYTES..HEADER_BYTES + self.extension_bytes] }
    }

    /// The global name of the receiver, if the frame has one.
    #[must_use]
    pub fn to_name(&self) -> Option<&str> {
        self.extensions().flatten().find_map(|extension| match extension {
            Extension::To(name) => Some(name),
            _ => None,
        })
    }

    /// The global name of the sender, if it has one.
    #[must_use]
    pub fn from_name(&self) -> Option<&str> {
        self.extensions().flatten().find_map(|extension| match extension {
            Extension::From(name) => Some(name),
            _ => None,
        })
    }

    /// The reason of a `Returned` or `Failure` frame, with its words.
    #[must_use]
    pub fn reason(&self) -> Option<(Reason, &str)> {
        self.extensions().flatten().find_map(|extension| match extension {
            Extension::Reason { reason, text } => Some((reason, text)),
            _ => None,
        })
    }

    /// The same frame with another header; extensions and body are copied.
    #[must_use]
    pub fn with_header(&self, header: Header) -> Self {
        let rest = &self.bytes[HEADER_BYTES..];
        let mut bytes = BytesMut::with_capacity(self.bytes.len());
        header.write(&mut bytes, self.extension_bytes, rest.len() - self.extension_bytes);
        bytes.put_slice(rest);
        Self { header, bytes: bytes.freeze(), extension_bytes: self.extension_bytes }
    }
}

/// Appends a whole frame to `out`; returns the bytes of its extensions.
pub fn write(out: &mut BytesMut, header: &Header, extensions: &[Extension<'_>], body: &[u8]) -> usize {
    if extensions.is_empty() {
        header.write(out, 0, body.len());
        out.put_slice(body);
        return 0;
    }
    let mut packed = BytesMut::with_capacity(64);
    extensions.iter().for_each(|extension| extension.write(&mut packed));
    header.write(out, packed.len(), body.len());
    out.put_slice(&packed);
    out.put_slice(body);
    packed.len()
}

/// Walks the extensions of a frame.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    rest: &'a [u8],
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

/// Cuts a stream of bytes into whole frames.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: BytesMut,
}

impl Splitter {
    /// Where the next bytes are read into.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole frame, or nothing until more bytes have come.
    ///
    /// # Errors
    /// The length is impossible or the version another: the stream cannot go on and its socket is to be closed.
    pub fn next_frame(&mut self) -> Result<Option<BytesMut>, FrameError> {
        let Some(head) = self.buffer.get(..LENGTH_BYTES + 1) else { return Ok(None) };
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize + LENGTH_BYTES;
        if head[4] != PROTOCOL_VERSION {
            return Err(FrameError::Version { has: head[4] });
        }
        if length < HEADER_BYTES {
            return Err(FrameError::Short { bytes: length });
        }
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooBig { bytes: length });
        }
        if self.buffer.len() < length {
            let missing = length - self.buffer.len();
            self.buffer.reserve(missing.min(1 << 20));
            return Ok(None);
        }
        Ok(Some(self.buffer.split_to(length)))
    }
}

/// Why bytes are no frame. The peer's fault; its socket or stream is closed, nothing else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Shorter than a header.
    #[error("a frame of {bytes} bytes is shorter than its header")]
    Short {
        /// Its size.
        bytes: usize,
    },
    /// The length field and the bytes differ.
    #[error("the frame says {says} bytes and has {is}")]
    Length {
        /// What the length field says.
        says: usize,
        /// What there is.
        is: usize,
    },
    /// Over [`FRAME_BYTES_MAX`].
    #[error("a frame of {bytes} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooBig {
        /// Its size.
        bytes: usize,
    },
    /// Another protocol version, or no Odeon at all.
    #[error(
        "the peer speaks protocol version {has}, this process {PROTOCOL_VERSION}: run the same Odeon version on both sides"
    )]
    Version {
        /// The peer's version.
        has: u8,
    },
    /// A number without a meaning.
    #[error("the frame's {field} is {value}, which has no meaning")]
    Unknown {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u8,
    },
    /// The extensions are malformed.
    #[error("the frame's extensions are malformed")]
    Extensions,
    /// An extension that must be understood is not.
    #[error("the frame needs extension {tag}, which this version does not know")]
    Critical {
        /// Its tag.
        tag: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(seed: u64) -> Direct {
        Direct { node: NodeId(seed), boot: Boot(seed + 1), serial: Serial(seed + 2) }
    }

    fn sample() -> Header {
        Header {
            codec: Codec::Postcard,
            flags: flags::OPENS | flags::STARTS,
            remaining_ms: 5000,
            to: place(0x0102_0304_0506_0708),
            from: place(0x1112_1314_1516_1718),
            to_epoch: 3,
            from_epoch: 4,
            flow: 5,
            sequence: 6,
            correlation: 7,
            type_id: crate::hash::fnv1a("poll.Response"),
            fingerprint: 9,
            ..Header::new(Kind::Ask)
        }
    }

    #[test]
    fn golden_vector() {
        let frame = Frame::new(sample(), &[Extension::To("c1")], b"hi");
        let hex: String = frame.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("../golden/frame.hex").trim());
    }

    #[test]
    fn a_frame_is_read_back() {
        let extensions = [
            Extension::To("poll.question/pizza"),
            Extension::From("poll.cast/cast"),
            Extension::ReplyTo { to: place(9), correlation: 77 },
            Extension::Reason { reason: Reason::Failed, text: "why" },
            Extension::Message("Get"),
            Extension::Trace([7; 24]),
            Extension::Troupe(place(10)),
            Extension::Chain(&[1, 2, 3]),
        ];
        let frame = Frame::read(Frame::new(sample(), &extensions, b"body").bytes().clone()).unwrap();
        assert_eq!(frame.header, sample());
        assert_eq!(frame.extensions().map(Result::unwrap).collect::<Vec<_>>(), extensions);
        assert_eq!(&frame.body()[..], b"body");
    }

    #[test]
    fn an_unknown_extension_is_skipped_unless_critical() {
        for (tag, skipped) in [(0x7f, true), (0xff, false)] {
            let mut packed = BytesMut::new();
            packed.put_slice(&[tag, 1, 0, 9]);
            Extension::To("n").write(&mut packed);
            let mut bytes = BytesMut::new();
            sample().write(&mut bytes, packed.len(), 0);
            bytes.put_slice(&packed);
            let frame = Frame::read(bytes.freeze()).unwrap();
            assert_eq!(frame.to_name().is_some(), skipped);
        }
    }

    #[test]
    fn the_splitter_waits_for_whole_frames() {
        let frame = Frame::new(sample(), &[], b"body");
        let mut splitter = Splitter::default();
        for byte in frame.bytes().iter().take(frame.bytes().len() - 1) {
            splitter.buffer().put_u8(*byte);
            assert_eq!(splitter.next_frame().unwrap(), None);
        }
        splitter.buffer().put_slice(&frame.bytes()[frame.bytes().len() - 1..]);
        splitter.buffer().put_slice(frame.bytes());
        for _ in 0..2 {
            assert_eq!(splitter.next_frame().unwrap().unwrap(), frame.bytes());
        }
        assert_eq!(splitter.next_frame().unwrap(), None);
    }

    #[test]
    fn impossible_lengths_are_refused_before_memory_is_reserved() {
        for length in [0u32, 50, u32::MAX - 8] {
            let mut splitter = Splitter::default();
            splitter.buffer().put_u32_le(length);
            splitter.buffer().put_u8(PROTOCOL_VERSION);
            assert!(splitter.next_frame().is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_read_but_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(frame) = Frame::read(bytes.clone().into()) {
                let _ = (frame.extensions().count(), frame.body(), frame.to_name().is_some(), frame.reason().is_some());
            }
            let mut splitter = Splitter::default();
            splitter.buffer().put_slice(&bytes);
            while let Ok(Some(_)) = splitter.next_frame() {}
        }

        #[test]
        fn a_damaged_frame_never_panics(at in 0usize..160, value: u8) {
            let mut bytes = Frame::new(sample(), &[Extension::To("name"), Extension::From("other")], b"some body").bytes().to_vec();
            let index = at % bytes.len();
            bytes[index] = value;
            if let Ok(frame) = Frame::read(bytes.into()) {
                let _ = (frame.extensions().count(), frame.body());
            }
        }
    }
}
