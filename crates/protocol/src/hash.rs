//! FNV-1a, 64 bits: the hash behind type ids, computed at compile time.
//!
//! Source: Fowler, Noll, Vo, <http://www.isthe.com/chongo/tech/comp/fnv/>. Not for untrusted keys in hash tables.

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The FNV-1a hash of `text`; the type id of a message is that of its wire name.
#[must_use]
pub const fn fnv1a(text: &str) -> u64 {
    fnv1a_from(OFFSET, text.as_bytes())
}

/// Goes on hashing from an earlier state, so that parts can be chained.
#[must_use]
pub const fn fnv1a_from(state: u64, bytes: &[u8]) -> u64 {
    let mut hash = state;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(PRIME);
        at += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_test_vectors() {
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
    }
}
