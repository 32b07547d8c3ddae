//! The fixed part of a frame.

use super::FrameError;
use crate::{
    PROTOCOL_VERSION,
    address::Direct,
    id::{Boot, NodeId, Serial},
    limits::{EXTENSION_BYTES_MAX, FRAME_BYTES_MAX},
};
use bytes::{Buf, BufMut, BytesMut};
use serde::{Deserialize, Serialize};

/// The header's size, its length field included.
pub const HEADER_BYTES: usize = 112;
pub(super) const LENGTH_BYTES: usize = 4;

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
    /// The answer to an ask that failed; extension [`super::Extension::Reason`], the body is its text.
    Failure = 4,
    /// A message given back unhandled: body and type are the message's, `to` and `from` change
    /// places, [`super::Extension::Reason`].
    Returned = 5,
    /// So many messages of `flow` (in `correlation`), from number `sequence` on, are settled: their handlers have ended.
    /// `from` is their receiver, `from_epoch` its epoch. With [`flags::MAY_HAVE_RUN`] they are lost instead: they went down
    /// with that member of a troupe ([`super::Extension::Troupe`]).
    Settled = 6,
    /// A lifecycle signal to an actor: the body is a [`crate::control::Signal`].
    Signal = 7,
    /// Between a process and its agent: the body is a message of [`crate::control`].
    Control = 8,
    /// Between agents: stands for a frame that its agent has taken back, so that the lane's numbers stay. Nobody takes it.
    Void = 9,
    /// Between a process and its agent: the body is the next piece of a stream of large frames, see
    /// [`crate::limits::LARGE_FRAME_BYTES`].
    Chunk = 10,
    /// Between a process and its agent: so many chunks (in `correlation`) were taken, as many more may come.
    Credit = 11,
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
            9 => Self::Void,
            10 => Self::Chunk,
            11 => Self::Credit,
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
    /// Chunks of large frames, and what must not overtake any large frame.
    Bulk = 1,
    /// Settled reports, signals, control.
    Urgent = 2,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// A returned message or failure whose handler may have run; a settled report of messages that are lost.
    pub const MAY_HAVE_RUN: u16 = 1 << 2;
    /// The message type allows a second run.
    pub const IDEMPOTENT: u16 = 1 << 3;
    /// `to` is a troupe; its agent picks the member.
    pub const TROUPE: u16 = 1 << 4;
    /// The sender wants a `Settled` report as soon as this message is settled.
    pub const REPORT: u16 = 1 << 5;
    /// No message: a fence, which keeps its place among the messages of its flow. Its actor never sees it.
    pub const FENCE: u16 = 1 << 6;
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
    /// The receiver; [`Direct::NONE`] where only [`super::Extension::To`] says it.
    pub to: Direct,
    /// The sender.
    pub from: Direct,
    /// The epoch that the sender knows of the receiver; 0 for none.
    pub to_epoch: u64,
    /// The sender's epoch; 0 for none.
    pub from_epoch: u64,
    /// The flow, chosen by the sender's process; 0 for none. See [`FLOW_ORDER_BITS`].
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

pub(super) fn read_place(at: &mut &[u8]) -> Direct {
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

/// Reads only what a whole frame is.
#[must_use]
pub fn kind_of(frame: &[u8]) -> Option<Kind> {
    Kind::from_wire(*frame.get(5)?)
}

/// Whether a whole frame is of class urgent.
#[must_use]
pub fn is_urgent(frame: &[u8]) -> bool {
    frame.get(6) == Some(&(Class::Urgent as u8))
}

/// Whether a whole frame is of class bulk.
#[must_use]
pub fn is_bulk(frame: &[u8]) -> bool {
    frame.get(6) == Some(&(Class::Bulk as u8))
}

/// Lower bits of a flow's number that are the same for all flows of one sender to one receiver: they keep one order.
pub const FLOW_ORDER_BITS: u32 = 26;

/// A number that is the same for all frames that must keep their order: the messages of one flow, or the answers to
/// them; outside of flows what goes from one place to another. Others may have the same by chance.
#[must_use]
pub fn order_of(frame: &[u8]) -> u64 {
    let word = |at: usize| frame.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    // See the table at the head of `frame`.
    let (to, from, flow) = (word(32), word(56), word(80) & ((1 << FLOW_ORDER_BITS) - 1));
    let answers = !matches!(kind_of(frame), Some(Kind::Tell | Kind::Ask));
    let (one, other) = match (flow, answers) {
        (0, _) => (to, from),
        (flow, false) => (flow << 1, from),
        (flow, true) => (flow << 1 | 1, to),
    };
    let mixed = (one ^ other.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}
