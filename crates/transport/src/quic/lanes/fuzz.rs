//! What a peer says of lanes, to a lane's two halves. See [`crate::fuzz`].

use super::{inbound::Inbound, link::Resume, outbound::Outbound};
use bytes::{Bytes, BytesMut};
use odeon_protocol::{
    frame::{Class, Frame, Header, Kind},
    limits::LANE_BYTES_MAX,
};
use std::task::Waker;

/// Each byte is something that happens to a lane; what the peer says is followed by its number.
pub(crate) fn lanes(mut bytes: &[u8]) {
    resume(bytes);
    let (mut out, mut inbound, mut received, mut large) = (Outbound::default(), Inbound::default(), 0, 0);
    inbound.begin(1);
    while let Some((&what, rest)) = bytes.split_first() {
        bytes = rest;
        match what % 8 {
            0 => drop(out.push(frame(10, Class::Normal))),
            // No more of them than a test has memory for.
            1 if large == 100 => {}
            1 => {
                large += 1;
                drop(out.push(frame(40 << 10, Class::Urgent)));
            }
            2 | 3 => drop(out.take(Waker::noop())),
            // An error closes the connection; the next one resumes.
            4 => drop(out.acknowledge(number(&mut bytes))),
            5 => drop(out.resume(Some(number(&mut bytes)).filter(|number| number % 2 == 0))),
            6 => {
                let (session, first) = (u64::from(what >> 7), number(&mut bytes));
                let fresh = inbound.fresh(session, first, vec![BytesMut::new(); 3]);
                assert!(fresh.len() <= 3 && (session == 1 || fresh.is_empty()));
                assert!(inbound.received() >= received, "what was received stays so");
                received = inbound.received();
            }
            _ => drop(out.give_up()),
        }
        assert!(out.bytes() <= LANE_BYTES_MAX);
    }
}

/// What each end says first is read as it was written.
fn resume(bytes: &[u8]) {
    if let Some(said) = bytes.get(..Resume::BYTES) {
        assert_eq!(Resume::read(said).write()[1..], *said);
    }
}

fn number(bytes: &mut &[u8]) -> u64 {
    let (number, rest) = bytes.split_first_chunk::<8>().unwrap_or((&[0xff; 8], &[]));
    *bytes = rest;
    u64::from_le_bytes(*number)
}

fn frame(size: usize, class: Class) -> Bytes {
    Frame::new(Header { class, ..Header::new(Kind::Tell) }, &[], &vec![0; size]).bytes().clone()
}
