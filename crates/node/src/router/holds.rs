//! Frames that wait for their global name to be found, started, or started again.
//!
//! - **H-1.** What came back from earlier instances is released before what came later, and all by its numbers within a flow,
//!   from whichever places it came: order per flow is kept.
//! - **H-2.** At most [`HELD_BYTES`] and one frame wait, each at most [`HELD_FOR`]; then they go back.
//! - **H-3.** What waits is a copy: it does not keep the chunk alive that it was read in.

use super::{hash::Fast, written_off::message_of};
use bytes::BytesMut;
use odeon_protocol::{
    Direct, Time,
    frame::Header,
    limits::{HELD_BYTES, HELD_FOR, LARGE_FRAME_BYTES},
    simulated::RandomState,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// A frame that waits.
#[derive(Debug)]
pub(crate) struct Held {
    /// The whole frame.
    pub(crate) frame: BytesMut,
    /// Where it was sent to; nowhere if by its name alone.
    pub(crate) was: Direct,
    /// When it began to wait.
    pub(crate) since: Time,
    /// Whether it starts the actor where there is none.
    pub(crate) starts: bool,
}

/// What to do after a frame was put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    /// The controller is to be asked.
    Ask,
    /// It has been.
    Asked,
}

#[derive(Debug, Default)]
struct Queue {
    returned: VecDeque<Held>,
    fresh: VecDeque<Held>,
    /// Whether the controller was asked to start the name, not only to find it.
    asked_to_start: bool,
}

/// Everything that waits, by name.
#[derive(Debug)]
pub(crate) struct Holds {
    names: HashMap<Arc<str>, Queue, RandomState>,
    bytes: usize,
    limit: usize,
}

impl Default for Holds {
    fn default() -> Self {
        Self { names: HashMap::default(), bytes: 0, limit: HELD_BYTES }
    }
}

impl Holds {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether anything waits for the name; what comes later then waits, too.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Whether something that waits for the name starts its actor.
    pub(crate) fn starts(&self, name: &str) -> bool {
        self.names.get(name).is_some_and(|queue| queue.asked_to_start)
    }

    /// Puts a frame aside; `returned` if an instance gave it back. The frame, if too much waits already.
    pub(crate) fn push(
        &mut self,
        name: &str,
        (frame, was): (BytesMut, Direct),
        (returned, starts): (bool, bool),
        now: Time,
    ) -> Result<Asking, BytesMut> {
        if self.bytes >= self.limit {
            return Err(frame);
        }
        self.bytes += frame.len();
        // A large frame has its memory to itself.
        let frame = if frame.len() > LARGE_FRAME_BYTES { frame } else { BytesMut::from(&frame[..]) };
        let held = Held { frame, was, since: now, starts };
        let asking = match self.names.get(name) {
            Some(queue) if queue.asked_to_start || !starts => Asking::Asked,
            _ => Asking::Ask,
        };
        let queue = self.names.entry(name.into()).or_default();
        queue.asked_to_start |= starts;
        if returned { &mut queue.returned } else { &mut queue.fresh }.push_back(held);
        Ok(asking)
    }

    /// Everything that waits for the name, in order.
    pub(crate) fn release(&mut self, name: &str) -> Vec<Held> {
        let Some(queue) = self.names.remove(name) else { return Vec::new() };
        let released = by_number(queue.returned.into_iter().chain(queue.fresh).collect());
        self.bytes -= released.iter().map(|held| held.frame.len()).sum::<usize>();
        released
    }

    /// What waits for the name and does not start it, if the controller is still to answer for the rest.
    pub(crate) fn release_for_missing(&mut self, name: &str, was_start: bool) -> Vec<Held> {
        if was_start || !self.names.get(name).is_some_and(|queue| queue.asked_to_start) {
            return self.release(name);
        }
        self.take_where(name, |held| !held.starts)
    }

    /// What has waited too long, with its name.
    pub(crate) fn expire(&mut self, now: Time) -> Vec<(Arc<str>, Held)> {
        let mut expired = Vec::new();
        for name in self.names.keys().cloned().collect::<Vec<_>>() {
            let old = self.take_where(&name, |held| now.since(held.since) >= HELD_FOR);
            expired.extend(old.into_iter().map(|held| (name.clone(), held)));
            if self.names.get(&name).is_some_and(|queue| queue.returned.is_empty() && queue.fresh.is_empty()) {
                self.names.remove(&name);
            }
        }
        expired
    }

    /// Frames that wait.
    pub(crate) fn len(&self) -> usize {
        self.names.values().map(|queue| queue.returned.len() + queue.fresh.len()).sum()
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn take_where(&mut self, name: &str, wanted: impl Fn(&Held) -> bool) -> Vec<Held> {
        let Some(queue) = self.names.get_mut(name) else { return Vec::new() };
        let mut taken = Vec::new();
        for part in [&mut queue.returned, &mut queue.fresh] {
            let (out, kept): (Vec<_>, Vec<_>) = std::mem::take(part).into_iter().partition(&wanted);
            taken.extend(out);
            *part = kept.into();
        }
        self.bytes -= taken.iter().map(|held| held.frame.len()).sum::<usize>();
        taken
    }
}

/// The same with the numbers of each flow in their order; flows keep their places among one another.
fn by_number(held: Vec<Held>) -> Vec<Held> {
    let mut flows = HashMap::<_, (u32, Vec<(u32, usize)>), Fast>::default();
    let mut in_order = true;
    for (place, held) in held.iter().enumerate() {
        let Ok((header, _)) = Header::read(&held.frame) else { continue };
        let (from, flow, number) = message_of(&header);
        if flow == 0 {
            continue;
        }
        // They lie close together, but may wrap: they are counted from far below the first one.
        let (base, numbers) = flows.entry((from, flow)).or_insert_with(|| (number.wrapping_sub(1 << 31), Vec::new()));
        let number = number.wrapping_sub(*base);
        in_order &= numbers.last().is_none_or(|(last, _)| *last <= number);
        numbers.push((number, place));
    }
    if in_order {
        return held;
    }
    let mut held: Vec<_> = held.into_iter().map(Some).collect();
    let mut taken: Vec<_> = (0..held.len()).collect();
    for (_, numbers) in flows.into_values() {
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        numbers.iter().zip(sorted).for_each(|((_, place), (_, from))| taken[*place] = from);
    }
    taken.into_iter().filter_map(|from| held[from].take()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::frame::{Frame, Kind};
    use std::time::Duration;

    const FRESH: (bool, bool) = (false, false);
    const STARTS: (bool, bool) = (false, true);
    const BACK: (bool, bool) = (true, false);

    fn held(frame: &[u8]) -> (BytesMut, Direct) {
        (BytesMut::from(frame), Direct::NONE)
    }

    fn frames(held: &[Held]) -> Vec<&[u8]> {
        held.iter().map(|held| &held.frame[..]).collect()
    }

    #[test]
    fn what_came_back_goes_first() {
        let mut holds = Holds::default();
        for (frame, kind) in [(b"new1", FRESH), (b"old1", BACK), (b"old2", BACK), (b"new2", FRESH)] {
            holds.push("n", held(frame), kind, Time::ZERO).unwrap();
        }
        assert_eq!(holds.len(), 4);
        assert_eq!(frames(&holds.release("n")), [b"old1", b"old2", b"new1", b"new2"]);
        assert_eq!((holds.bytes(), holds.has("n")), (0, false));
    }

    #[test]
    fn what_comes_back_from_several_places_goes_by_its_numbers() {
        let mut holds = Holds::default();
        for (flow, sequence) in [(7, 1), (8, 5), (7, u32::MAX), (7, 0), (0, 3), (0, 2)] {
            let frame = Frame::new(Header { flow, sequence, ..Header::new(Kind::Tell) }, &[], b"");
            holds.push("n", held(frame.bytes()), BACK, Time::ZERO).unwrap();
        }
        let header = |held: &Held| Header::read(&held.frame).map(|(header, _)| (header.flow, header.sequence)).unwrap();
        let released: Vec<_> = holds.release("n").iter().map(header).collect();
        assert_eq!(released, [(7, u32::MAX), (8, 5), (7, 0), (7, 1), (0, 3), (0, 2)]);
    }

    #[test]
    fn the_controller_is_asked_once_and_again_when_a_frame_starts() {
        let mut holds = Holds::default();
        let mut push = |kind| holds.push("n", held(b"f"), kind, Time::ZERO);
        assert_eq!(push(FRESH), Ok(Asking::Ask));
        assert_eq!(push(FRESH), Ok(Asking::Asked));
        assert_eq!(push(STARTS), Ok(Asking::Ask));
        assert_eq!(push(STARTS), Ok(Asking::Asked));
    }

    #[test]
    fn a_missing_name_keeps_the_frames_that_start_it() {
        let mut holds = Holds::default();
        holds.push("n", held(b"find"), FRESH, Time::ZERO).unwrap();
        holds.push("n", held(b"start"), STARTS, Time::ZERO).unwrap();
        assert_eq!(frames(&holds.release_for_missing("n", false)), [b"find"]);
        assert_eq!(frames(&holds.release_for_missing("n", true)), [b"start"]);
    }

    #[test]
    fn too_much_is_refused() {
        let mut holds = Holds { limit: 3, ..Holds::default() };
        assert_eq!(holds.push("n", held(b"abc"), FRESH, Time::ZERO), Ok(Asking::Ask));
        assert_eq!(holds.push("n", held(b"d"), FRESH, Time::ZERO), Err("d".into()));
    }

    #[test]
    fn nothing_waits_for_ever() {
        let mut holds = Holds::default();
        let later = Time::ZERO + Duration::from_secs(6);
        holds.push("n", held(b"early"), FRESH, Time::ZERO).unwrap();
        holds.push("n", held(b"late"), FRESH, later).unwrap();
        assert!(holds.expire(later).is_empty());
        let expired = holds.expire(Time::ZERO + HELD_FOR);
        assert_eq!(expired.len(), 1);
        assert_eq!(&expired[0].1.frame[..], b"early");
        assert_eq!(holds.expire(later + HELD_FOR).len(), 1);
        assert!(!holds.has("n"));
    }
}
