//! A set of numbers that lie close together.

use odeon_protocol::limits::FLOW_WINDOW;

const _: () = assert!(FLOW_WINDOW < Ring::BITS, "a ring has a bit for each number of a window, and one for a fence");

/// A set of numbers that lie within [`Ring::BITS`] of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ring([u64; 4]);

impl Ring {
    pub(super) const BITS: u32 = 256;

    pub(super) const fn at(number: u32) -> (usize, u64) {
        let bit = number % Self::BITS;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    pub(super) const fn has(&self, number: u32) -> bool {
        let (word, bit) = Self::at(number);
        self.0[word] & bit != 0
    }

    pub(super) const fn set(&mut self, number: u32) {
        let (word, bit) = Self::at(number);
        self.0[word] |= bit;
    }

    pub(super) const fn clear(&mut self, number: u32) {
        let (word, bit) = Self::at(number);
        self.0[word] &= !bit;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    pub(super) const fn count(&self) -> u32 {
        self.0[0].count_ones() + self.0[1].count_ones() + self.0[2].count_ones() + self.0[3].count_ones()
    }
}
