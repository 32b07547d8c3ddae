//! A fast hash for tables whose keys this process or its agent chose: flows, correlations, places, types.
//!
//! Multiply and rotate, as rustc's own tables do; not for keys that strangers choose.

use std::hash::{BuildHasherDefault, Hasher};

/// For `HashMap<K, V, Fast>`.
pub(crate) type Fast = BuildHasherDefault<Mixer>;

const FACTOR: u64 = 0xf135_7aea_2e62_a9c5;

/// One hash in the making.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }

    fn finish(&self) -> u64 {
        // The tables take the top bits and the bottom ones.
        self.0 ^ self.0.rotate_left(26)
    }
}
