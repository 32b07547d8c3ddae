//! Frames on their way back: returned messages, failures of asks, and messages that go out once more.

use bytes::BytesMut;
use odeon_protocol::{
    Direct, Reason,
    frame::{self, Extension, Frame, FrameError, Header, Kind, flags},
};

/// How often agents send a name's or troupe's message on before they give it back.
pub(crate) const BOUNCES_MAX: u16 = 8;

/// Why something goes back.
#[derive(Clone, Debug)]
pub(crate) struct Why {
    pub(crate) reason: Reason,
    pub(crate) text: String,
    /// Whether the handler may have run.
    pub(crate) may_have_run: bool,
}

impl Why {
    /// For messages that are known not to have been started.
    pub(crate) fn not_run(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into(), may_have_run: false }
    }

    fn flag(&self) -> u16 {
        if self.may_have_run { flags::MAY_HAVE_RUN } else { 0 }
    }
}

/// The message given back to its sender: `to` and `from` change places, everything else stays.
pub(crate) fn returned(message: &Frame, why: &Why) -> BytesMut {
    let header = Header {
        kind: Kind::Returned,
        to: message.header.from,
        from: message.header.to,
        to_epoch: message.header.from_epoch,
        from_epoch: message.header.to_epoch,
        flags: message.header.flags & !flags::MAY_HAVE_RUN | why.flag(),
        ..message.header
    };
    with_reason(&header, message, Some(why))
}

/// The message of a returned frame, to be sent again; counts as one bounce.
pub(crate) fn again(returned: &Frame) -> BytesMut {
    let header = Header {
        kind: if returned.header.correlation == 0 { Kind::Tell } else { Kind::Ask },
        to: Direct::NONE,
        from: returned.header.to,
        to_epoch: 0,
        from_epoch: returned.header.to_epoch,
        flags: returned.header.flags & !flags::MAY_HAVE_RUN,
        ..returned.header
    };
    let header = Header { flags: bounced(header.flags), ..header };
    with_reason(&header, returned, None)
}

/// The flags with one bounce more.
pub(crate) fn bounced(bits: u16) -> u16 {
    bits.saturating_add(flags::BOUNCED_LOW)
}

/// The failure of an ask whose body is no longer at hand.
pub(crate) fn failure((asker, correlation): (Direct, u64), of: Direct, why: &Why) -> BytesMut {
    let header = Header { to: asker, from: of, correlation, flags: why.flag(), ..Header::new(Kind::Failure) };
    let mut bytes = BytesMut::new();
    let reason = Extension::Reason { reason: why.reason, text: &why.text };
    frame::write(&mut bytes, &header, &[reason], why.text.as_bytes());
    bytes
}

/// Rewrites the sender of a whole frame.
pub(crate) fn set_from(frame: &mut [u8], from: Direct) {
    frame[40..48].copy_from_slice(&from.node.0.to_le_bytes());
    frame[48..56].copy_from_slice(&from.boot.0.to_le_bytes());
    frame[56..64].copy_from_slice(&from.serial.0.to_le_bytes());
}

/// Who waits for the answer to an ask: its sender, unless it was forwarded.
pub(crate) fn asker(ask: &Frame) -> (Direct, u64) {
    ask.reply_to().unwrap_or((ask.header.from, ask.header.correlation))
}

/// A frame of raw bytes.
pub(crate) fn read(bytes: &[u8]) -> Result<Frame, FrameError> {
    Frame::read(bytes.to_vec().into())
}

fn with_reason(header: &Header, original: &Frame, why: Option<&Why>) -> BytesMut {
    // First, so that it fits whatever the sender wrote.
    let reason = why.map(|why| Extension::Reason { reason: why.reason, text: &why.text });
    let others = original.extensions().flatten().filter(|extension| !matches!(extension, Extension::Reason { .. }));
    let extensions: Vec<_> = reason.into_iter().chain(others).collect();
    let mut bytes = BytesMut::new();
    frame::write(&mut bytes, header, &extensions, &original.body());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::{Boot, NodeId, Serial};

    fn place(serial: u64) -> Direct {
        Direct { node: NodeId(1), boot: Boot(1), serial: Serial(serial) }
    }

    fn ask(extensions: &[Extension<'_>]) -> Frame {
        let header = Header {
            to: place(2),
            from: place(3),
            to_epoch: 8,
            from_epoch: 9,
            flow: 4,
            sequence: 5,
            correlation: 6,
            flags: flags::STARTS,
            ..Header::new(Kind::Ask)
        };
        Frame::new(header, extensions, b"body")
    }

    #[test]
    fn what_comes_back_can_go_out_again() {
        let ask = ask(&[Extension::To("n"), Extension::Chain(b"chain")]);
        let why = Why::not_run(Reason::ActorStopped, "it stopped");
        let back = read(&returned(&ask, &why)).unwrap();
        assert_eq!((back.header.kind, back.header.to, back.header.from), (Kind::Returned, place(3), place(2)));
        assert_eq!((back.header.flow, back.header.sequence, back.header.correlation), (4, 5, 6));
        assert_eq!(back.reason(), Some((Reason::ActorStopped, "it stopped")));
        let out = read(&again(&back)).unwrap();
        assert_eq!((out.header.kind, out.header.from, out.header.bounced()), (Kind::Ask, place(3), 1));
        assert_eq!((out.header.from_epoch, out.header.to_epoch), (9, 0));
        assert!(out.header.to.is_none() && out.header.has(flags::STARTS));
        assert_eq!((out.to_name(), out.reason()), (Some("n"), None));
        assert_eq!(&out.body()[..], b"body");
    }

    #[test]
    fn a_reason_replaces_an_earlier_one() {
        let first = read(&returned(&ask(&[]), &Why::not_run(Reason::Moved, "one"))).unwrap();
        let second = Why { reason: Reason::WorkerLost, text: "two".into(), may_have_run: true };
        let back = read(&returned(&first, &second)).unwrap();
        assert_eq!(back.reason(), Some((Reason::WorkerLost, "two")));
        assert!(back.header.has(flags::MAY_HAVE_RUN));
    }

    #[test]
    fn the_sender_is_rewritten_in_place() {
        let mut bytes = BytesMut::from(&ask(&[Extension::To("n")]).bytes()[..]);
        set_from(&mut bytes, place(99));
        let frame = read(&bytes).unwrap();
        assert_eq!((frame.header.from, frame.header.to, frame.to_name()), (place(99), place(2), Some("n")));
    }

    #[test]
    fn a_forwarded_ask_is_answered_to_whoever_asked_first() {
        assert_eq!(asker(&ask(&[])), (place(3), 6));
        assert_eq!(asker(&ask(&[Extension::ReplyTo { to: place(9), correlation: 77 }])), (place(9), 77));
    }

    #[test]
    fn a_failure_says_why() {
        let why = Why { reason: Reason::WorkerLost, text: "gone".into(), may_have_run: true };
        let failure = read(&failure((place(3), 6), place(2), &why)).unwrap();
        assert_eq!((failure.header.to, failure.header.correlation), (place(3), 6));
        assert_eq!(failure.reason(), Some((Reason::WorkerLost, "gone")));
        assert!(failure.header.has(flags::MAY_HAVE_RUN));
    }
}
