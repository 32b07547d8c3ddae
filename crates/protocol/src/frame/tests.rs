use super::*;
use crate::{
    PROTOCOL_VERSION,
    address::Direct,
    id::{Boot, NodeId, Serial},
};
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
    assert_eq!(hex, include_str!("../../golden/frame.hex").trim());
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

#[test]
fn frames_of_one_flow_have_one_order_each_way() {
    let order = |kind, to: u64, from: u64, flow| {
        let header = Header { to: place(to), from: place(from), flow, ..Header::new(kind) };
        order_of(Frame::new(header, &[], b"body").bytes())
    };
    // Whether or not its receiver's place is known yet, and whoever answers.
    assert_eq!(order(Kind::Tell, 0, 7, 5), order(Kind::Ask, 9, 7, 5));
    assert_eq!(order(Kind::Settled, 7, 9, 5), order(Kind::Returned, 7, 1, 5));
    assert_eq!(order(Kind::Settled, 7, 9, 5), order(Kind::Reply, 7, 9, 5));
    assert_ne!(order(Kind::Tell, 7, 7, 5), order(Kind::Settled, 7, 7, 5));
    assert_ne!(order(Kind::Tell, 9, 7, 5), order(Kind::Tell, 9, 7, 6));
    assert_eq!(order(Kind::Tell, 9, 7, 5), order(Kind::Tell, 9, 7, 3 << FLOW_ORDER_BITS | 5));
    assert_eq!(order(Kind::Signal, 9, 7, 0), order(Kind::Tell, 9, 7, 0));
    assert_ne!(order(Kind::Tell, 9, 7, 0), order(Kind::Tell, 9, 8, 0));
    assert_eq!(order_of(b"short"), order_of(b"also short"));
}
