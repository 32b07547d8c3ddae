//! A set of numbers of a flow: they lie close together, as its window bounds them.

use crate::limits::FLOW_WINDOW;

const _: () = assert!(FLOW_WINDOW < Ring::BITS, "a ring has a bit for each number of a window, and one for a fence");

/// A set of numbers that lie within [`Ring::BITS`] of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ring([u64; 4]);

impl Ring {
    /// How far numbers may lie apart.
    pub const BITS: u32 = 256;

    #[inline]
    const fn at(number: u32) -> (usize, u64) {
        let bit = number % Self::BITS;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    /// Whether the number is in it, or one that lies a multiple of [`Ring::BITS`] apart.
    #[must_use]
    #[inline]
    pub const fn has(&self, number: u32) -> bool {
        let (word, bit) = Self::at(number);
        self.0[word] & bit != 0
    }

    /// Puts a number in.
    #[inline]
    pub const fn set(&mut self, number: u32) {
        let (word, bit) = Self::at(number);
        self.0[word] |= bit;
    }

    /// Takes a number out.
    #[inline]
    pub const fn clear(&mut self, number: u32) {
        let (word, bit) = Self::at(number);
        self.0[word] &= !bit;
    }

    /// Whether nothing is in it.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// How many numbers are in it.
    #[must_use]
    #[inline]
    pub const fn count(&self) -> u32 {
        self.0[0].count_ones() + self.0[1].count_ones() + self.0[2].count_ones() + self.0[3].count_ones()
    }
    /// Its numbers as ranges of a first one and a count, the oldest first; `latest` is the newest that may be in it.
    #[must_use]
    pub fn ranges(&self, latest: u32) -> Vec<(u32, u32)> {
        let mut ranges: Vec<(u32, u32)> = Vec::with_capacity(1);
        if self.is_empty() {
            return ranges;
        }
        let oldest = latest.wrapping_sub(Self::BITS - 1);
        for number in (0..Self::BITS).map(|offset| oldest.wrapping_add(offset)).filter(|number| self.has(*number)) {
            match ranges.last_mut() {
                Some((first, count)) if first.wrapping_add(*count) == number => *count += 1,
                _ => ranges.push((number, 1)),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_as_ranges_also_over_the_end() {
        let mut ring = Ring::default();
        for number in [u32::MAX - 1, u32::MAX, 0, 2] {
            ring.set(number);
        }
        ring.set(7);
        ring.clear(7);
        assert_eq!(ring.ranges(9), [(u32::MAX - 1, 3), (2, 1)]);
        assert_eq!((ring.count(), ring.has(2), ring.has(3)), (4, true, false));
        assert!(Ring::default().ranges(9).is_empty());
    }
}
