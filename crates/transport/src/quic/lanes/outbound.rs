//! The sending half of one lane: a state machine without I/O.
//!
//! Small frames gather in one buffer; a writer takes what has gathered as one batch. A batch stays until the peer has
//! acknowledged its last frame, so that a new connection can begin with the oldest one.

use super::Undelivered;
use bytes::{Bytes, BytesMut};
use odeon_protocol::{
    frame::{Header, Kind, is_urgent, write},
    limits::{
        LANE_BYTES_MAX, LANE_KEPT_BYTES, LANE_QUEUE_BYTES, LARGE_FRAME_BYTES, LARGE_LANE_BYTES, LARGE_LANE_BYTES_MAX,
    },
};
use std::{collections::VecDeque, task::Waker};

/// A frame of this size is a batch of its own, not copied.
const OWN_BATCH_BYTES: usize = 32 << 10;

/// How much a lane takes.
#[derive(Clone, Copy, Debug)]
struct Limits {
    unsent: usize,
    kept: usize,
    /// Both together, for urgent frames.
    all: usize,
}

#[derive(Debug)]
pub(super) struct Outbound {
    limits: Limits,
    /// Unacknowledged and unsent batches, the oldest first.
    batches: VecDeque<Batch>,
    /// The first batch that the current connection has not been handed.
    cursor: usize,
    /// The first batch that no connection has been handed.
    fresh: usize,
    gathering: BytesMut,
    gathered: u64,
    /// The number of the next batch's first frame.
    next: u64,
    /// Bytes of batches before `fresh`; after it, with what is gathering.
    kept_bytes: usize,
    unsent_bytes: usize,
    writer: Option<Waker>,
}

#[derive(Clone, Debug)]
struct Batch {
    first: u64,
    count: u64,
    bytes: Bytes,
    /// The frame of another lane before which it must not leave: the first number that its peer need not have received.
    after: Option<After>,
}

/// A place in another lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct After {
    pub(super) lane: usize,
    pub(super) number: u64,
}

impl Default for Outbound {
    fn default() -> Self {
        Self::new(Limits { unsent: LANE_QUEUE_BYTES, kept: LANE_KEPT_BYTES, all: LANE_BYTES_MAX })
    }
}

impl Batch {
    fn end(&self) -> u64 {
        self.first + self.count
    }
}

impl Outbound {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            batches: VecDeque::new(),
            cursor: 0,
            fresh: 0,
            gathering: BytesMut::new(),
            gathered: 0,
            next: 0,
            kept_bytes: 0,
            unsent_bytes: 0,
            writer: None,
        }
    }

    /// The lane of large frames.
    pub(super) fn of_large() -> Self {
        Self::new(Limits { unsent: LARGE_LANE_BYTES, kept: LARGE_LANE_BYTES, all: LARGE_LANE_BYTES_MAX })
    }

    /// Queues a frame; returns the writer to wake.
    pub(super) fn push(&mut self, frame: Bytes) -> Result<Option<Waker>, Bytes> {
        if !is_urgent(&frame) && !self.has_room() || self.bytes() >= self.limits.all {
            return Err(frame);
        }
        self.queue(frame);
        Ok(self.writer.take())
    }

    /// Queues a large frame, or a small one that follows large ones and has always room.
    pub(super) fn push_large(&mut self, frame: Bytes, after: After) -> Result<Option<Waker>, Bytes> {
        let small = frame.len() <= LARGE_FRAME_BYTES;
        let room = is_urgent(&frame) && self.bytes() < self.limits.all || self.has_room();
        if !small && !room {
            return Err(frame);
        }
        self.queue(frame);
        if !small && let Some(batch) = self.batches.back_mut() {
            batch.after = Some(after);
        }
        Ok(self.writer.take())
    }

    /// The number after the last frame. What comes later is in another batch.
    pub(super) fn end(&mut self) -> u64 {
        self.seal();
        self.next
    }

    /// The peer has acknowledged all frames before this one.
    pub(super) fn outstanding_from(&self) -> u64 {
        self.batches.front().map_or(self.next, |batch| batch.first)
    }

    /// Before what the next batch for the connection must not leave.
    pub(super) fn next_after(&self) -> Option<After> {
        self.batches.get(self.cursor)?.after
    }

    /// Registers the writer, as [`Outbound::take`] does where there is nothing to take.
    pub(super) fn wait(&mut self, writer: &Waker) {
        self.writer = Some(writer.clone());
    }

    /// The writer, to be woken.
    pub(super) fn writer(&mut self) -> Option<Waker> {
        self.writer.take()
    }

    fn queue(&mut self, frame: Bytes) {
        self.unsent_bytes += frame.len();
        if frame.len() >= OWN_BATCH_BYTES {
            self.seal();
            self.append(frame, 1);
        } else {
            self.gathering.extend_from_slice(&frame);
            self.gathered += 1;
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.unsent_bytes < self.limits.unsent && self.kept_bytes < self.limits.kept
    }

    pub(super) fn bytes(&self) -> usize {
        self.kept_bytes + self.unsent_bytes
    }

    /// Makes a batch of what has gathered.
    fn seal(&mut self) {
        if self.gathered > 0 {
            let (bytes, count) = (self.gathering.split().freeze(), std::mem::take(&mut self.gathered));
            self.append(bytes, count);
        }
    }

    fn append(&mut self, bytes: Bytes, count: u64) {
        self.batches.push_back(Batch { first: self.next, count, bytes, after: None });
        self.next += count;
    }

    /// Begins a new connection, whose peer has received all before `received`, or knows nothing of this numbering.
    /// Returns the number of the first frame that will follow.
    pub(super) fn resume(&mut self, received: Option<u64>) -> Result<u64, Overstated> {
        if let Some(received) = received {
            self.acknowledge(received)?;
        }
        self.cursor = 0;
        Ok(self.batches.front().map_or(self.next, |batch| batch.first))
    }

    /// The peer has received all frames before `received`.
    pub(super) fn acknowledge(&mut self, received: u64) -> Result<(), Overstated> {
        let handed = self.batches.get(self.fresh).map_or(self.next, |batch| batch.first);
        if received > handed {
            return Err(Overstated { received, handed });
        }
        while self.batches.front().is_some_and(|batch| batch.end() <= received) {
            if let Some(batch) = self.batches.pop_front() {
                self.kept_bytes -= batch.bytes.len();
                self.cursor = self.cursor.saturating_sub(1);
                self.fresh -= 1;
            }
        }
        Ok(())
    }

    /// The next batch for the current connection, or nothing until the writer is woken.
    pub(super) fn take(&mut self, writer: &Waker) -> Option<Bytes> {
        if self.cursor == self.batches.len() {
            self.seal();
        }
        let Some(batch) = self.batches.get(self.cursor) else {
            self.writer = Some(writer.clone());
            return None;
        };
        self.cursor += 1;
        if self.cursor > self.fresh {
            self.fresh = self.cursor;
            self.kept_bytes += batch.bytes.len();
            self.unsent_bytes -= batch.bytes.len();
        }
        Some(batch.bytes.clone())
    }

    /// Forgets and returns all that is not acknowledged. Numbers that no connection has seen are used again.
    pub(super) fn give_up(&mut self) -> Undelivered {
        self.seal();
        let mut unsent = self.batches.split_off(self.fresh);
        let mut unknown = std::mem::take(&mut self.batches);
        if let Some(batch) = unsent.front() {
            self.next = batch.first;
        }
        (self.cursor, self.fresh, self.kept_bytes, self.unsent_bytes) = (0, 0, 0, 0);
        Undelivered { unsent: frames(unsent.make_contiguous()), unknown: frames(unknown.make_contiguous()) }
    }

    /// Takes back the frames that fit, of those not acknowledged; the others stay, in order. In the place of one that a
    /// connection was handed stands an empty one, so that its number is not another's: the peer may have it.
    pub(super) fn take_back(&mut self, fits: impl Fn(&[u8]) -> bool) -> Undelivered {
        self.seal();
        let unsent = self.batches.split_off(self.fresh);
        if let Some(batch) = unsent.front() {
            self.next = batch.first;
        }
        self.unsent_bytes = 0;
        let mut back = Undelivered::default();
        for batch in &mut self.batches {
            let parts = frames(std::slice::from_ref(batch));
            if !parts.iter().any(|frame| fits(frame)) {
                continue;
            }
            self.kept_bytes -= batch.bytes.len();
            let mut bytes = BytesMut::with_capacity(batch.bytes.len());
            for frame in parts {
                if fits(&frame) {
                    write(&mut bytes, &Header::new(Kind::Void), &[], &[]);
                    back.unknown.push(frame);
                } else {
                    bytes.extend_from_slice(&frame);
                }
            }
            batch.bytes = bytes.freeze();
            self.kept_bytes += batch.bytes.len();
        }
        for batch in unsent {
            for frame in frames(std::slice::from_ref(&batch)) {
                if fits(&frame) {
                    back.unsent.push(frame);
                    continue;
                }
                self.queue(frame);
                if batch.after.is_some()
                    && let Some(queued) = self.batches.back_mut()
                {
                    queued.after = batch.after;
                }
            }
        }
        back
    }
}

/// The peer claims to have received what was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer acknowledges frame {received} of {handed}")]
pub(super) struct Overstated {
    received: u64,
    handed: u64,
}

fn frames(batches: &[Batch]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    for batch in batches {
        let mut rest = batch.bytes.clone();
        // Every frame was whole when it was pushed: its length is its first field.
        while let Some(head) = rest.first_chunk::<4>() {
            let length = u32::from_le_bytes(*head) as usize + 4;
            frames.push(rest.split_to(length.min(rest.len())));
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::frame::{Class, Frame};
    use proptest::prelude::*;

    fn frame(number: u64, size: usize, class: Class) -> Bytes {
        let header = Header { class, correlation: number, ..Header::new(Kind::Tell) };
        Frame::new(header, &[], &vec![0; size]).bytes().clone()
    }

    fn numbers(frames: &[Bytes]) -> Vec<u64> {
        frames.iter().map(|bytes| Frame::read(bytes.clone()).unwrap().header.correlation).collect()
    }

    fn take_all(out: &mut Outbound) -> Vec<u64> {
        let mut all = Vec::new();
        while let Some(bytes) = out.take(Waker::noop()) {
            all.extend(numbers(&frames(&[Batch { first: 0, count: 0, bytes, after: None }])));
        }
        all
    }

    #[test]
    fn many_frames_are_one_batch_and_a_large_one_keeps_its_turn() {
        let mut out = Outbound::default();
        for (number, size) in [(0, 10), (1, 10), (2, OWN_BATCH_BYTES), (3, 10)] {
            out.push(frame(number, size, Class::Normal)).unwrap();
        }
        let mut batches = 0;
        let mut order = Vec::new();
        while let Some(bytes) = out.take(Waker::noop()) {
            batches += 1;
            order.extend(numbers(&frames(&[Batch { first: 0, count: 0, bytes, after: None }])));
        }
        assert_eq!((batches, order), (3, vec![0, 1, 2, 3]));
    }

    #[test]
    fn a_full_lane_takes_only_urgent_frames() {
        let mut out = Outbound::default();
        let mut number = 0;
        while out.push(frame(number, 100_000, Class::Normal)).is_ok() {
            number += 1;
        }
        assert!(out.bytes() <= LANE_QUEUE_BYTES + 100_200);
        let refused = out.push(frame(99, 10, Class::Bulk)).unwrap_err();
        assert_eq!(numbers(&[refused]), [99]);
        assert!(out.push(frame(number, 10, Class::Urgent)).is_ok());
        assert_eq!(take_all(&mut out).len() as u64, number + 1);
        assert!(out.push(frame(number + 1, 10, Class::Normal)).is_ok());
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again() {
        let mut out = Outbound::default();
        for number in 0..3 {
            out.push(frame(number, 10, Class::Normal)).unwrap();
            assert_eq!(take_all(&mut out), [number]);
        }
        out.push(frame(3, 10, Class::Normal)).unwrap();
        out.acknowledge(1).unwrap();
        assert_eq!(out.resume(Some(2)), Ok(2));
        assert_eq!(take_all(&mut out), [2, 3]);
        assert_eq!(out.resume(None), Ok(2));
        assert_eq!(take_all(&mut out), [2, 3]);
        out.acknowledge(4).unwrap();
        assert_eq!((out.bytes(), out.resume(Some(4))), (0, Ok(4)));
    }

    #[test]
    fn the_peer_cannot_acknowledge_what_it_was_not_sent() {
        let mut out = Outbound::default();
        out.push(frame(0, 10, Class::Normal)).unwrap();
        assert_eq!(out.acknowledge(1), Err(Overstated { received: 1, handed: 0 }));
        take_all(&mut out);
        assert_eq!(out.acknowledge(1), Ok(()));
        assert!(out.acknowledge(u64::MAX).is_err());
    }

    #[test]
    fn what_is_given_up_is_told_apart_and_unseen_numbers_are_used_again() {
        let mut out = Outbound::default();
        for number in 0..2 {
            out.push(frame(number, 10, Class::Normal)).unwrap();
        }
        take_all(&mut out);
        for number in 2..4 {
            out.push(frame(number, 10, Class::Normal)).unwrap();
        }
        let given = out.give_up();
        assert_eq!((numbers(&given.unknown), numbers(&given.unsent)), (vec![0, 1], vec![2, 3]));
        assert_eq!((out.bytes(), out.resume(Some(1))), (0, Ok(2)));
        out.push(frame(4, 10, Class::Normal)).unwrap();
        assert_eq!(take_all(&mut out), [4]);
    }

    #[test]
    fn what_is_taken_back_leaves_its_number() {
        let mut out = Outbound::default();
        for number in 0..6 {
            out.push(frame(number, 10, Class::Normal)).unwrap();
            if number == 3 {
                assert_eq!(take_all(&mut out), [0, 1, 2, 3]);
                out.acknowledge(0).unwrap();
            }
        }
        let odd = |frame: &[u8]| numbers(&[Bytes::copy_from_slice(frame)])[0] % 2 == 1;
        let back = out.take_back(odd);
        assert_eq!((numbers(&back.unknown), numbers(&back.unsent)), (vec![1, 3], vec![5]));
        // The peer turns out to have received the first two.
        let (bytes, count) = (out.bytes(), 4);
        assert_eq!(out.resume(Some(0)), Ok(0));
        let mut all = Vec::new();
        while let Some(bytes) = out.take(Waker::noop()) {
            all.extend(frames(&[Batch { first: 0, count: 0, bytes, after: None }]));
        }
        let kinds: Vec<_> = all.iter().map(|bytes| Frame::read(bytes.clone()).unwrap().header.kind).collect();
        assert_eq!(kinds, [Kind::Tell, Kind::Void, Kind::Tell, Kind::Void, Kind::Tell]);
        assert_eq!(bytes, all.iter().map(Bytes::len).sum::<usize>());
        out.push(frame(6, 10, Class::Normal)).unwrap();
        take_all(&mut out);
        out.acknowledge(count + 2).unwrap();
        assert_eq!(out.bytes(), 0);
    }

    proptest! {
        /// Any order of pushing, writing, acknowledging and reconnecting delivers each frame once, in order.
        #[test]
        fn nothing_is_lost_or_doubled(steps in proptest::collection::vec((0u8..5, 0usize..40_000), 1..200)) {
            let (mut out, mut pushed) = (Outbound::default(), 0u64);
            let (mut received, mut stream_at) = (0u64, 0u64);
            for (step, size) in steps {
                match step {
                    0 | 1 => if out.push(frame(pushed, size, Class::Normal)).is_ok() { pushed += 1 },
                    2 => if let Some(bytes) = out.take(Waker::noop()) {
                        for number in numbers(&frames(&[Batch { first: 0, count: 0, bytes, after: None }])) {
                            prop_assert_eq!(number, stream_at);
                            stream_at += 1;
                            received = received.max(stream_at);
                        }
                    },
                    3 => out.acknowledge(received).unwrap(),
                    // A connection breaks: what the peer got of it is unknown, but what it counts is true.
                    _ => stream_at = out.resume(Some(received)).unwrap(),
                }
            }
            stream_at = out.resume(Some(received)).unwrap();
            prop_assert!(stream_at <= received);
            for number in take_all(&mut out) {
                prop_assert_eq!(number, stream_at);
                stream_at += 1;
            }
            prop_assert_eq!(stream_at, pushed);
        }
    }
}
