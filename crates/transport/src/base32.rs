//! Base 32 as in RFC 4648, lower case, without padding: for what people copy by hand or by mouse.

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Why a text is no base 32 of the bytes wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Base32Error {
    /// Another length.
    #[error("it has {has} characters, not {wants}")]
    Length {
        /// Characters given.
        has: usize,
        /// Characters wanted.
        wants: usize,
    },
    /// A character outside the alphabet.
    #[error("it has the character {0:?}; only a to z and 2 to 7 occur")]
    Character(char),
    /// Bits set beyond the last byte.
    #[error("its last character is impossible")]
    Tail,
}

/// Characters that `bytes` bytes take.
pub(crate) const fn length(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(length(bytes.len()));
    let (mut held, mut bits) = (0u32, 0);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(held >> bits) as usize & 31]));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(held << (5 - bits)) as usize & 31]));
    }
    text
}

pub(crate) fn decode<const N: usize>(text: &str) -> Result<[u8; N], Base32Error> {
    check(text, length(N))?;
    let mut bytes = [0; N];
    let (mut held, mut bits, mut at) = (0u32, 0, 0);
    for character in text.bytes() {
        held = (held << 5) | value(character).unwrap_or(0);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes[at] = (held >> bits) as u8;
            at += 1;
            held &= (1 << bits) - 1;
        }
    }
    if held == 0 { Ok(bytes) } else { Err(Base32Error::Tail) }
}

/// Whether `text` is `length` characters of the alphabet.
pub(crate) fn check(text: &str, length: usize) -> Result<(), Base32Error> {
    if let Some(strange) = text.chars().find(|c| u8::try_from(*c).ok().and_then(value).is_none()) {
        return Err(Base32Error::Character(strange));
    }
    if text.len() == length { Ok(()) } else { Err(Base32Error::Length { has: text.len(), wants: length }) }
}

fn value(character: u8) -> Option<u32> {
    match character {
        b'a'..=b'z' => Some(u32::from(character - b'a')),
        b'2'..=b'7' => Some(u32::from(character - b'2') + 26),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648() {
        for (bytes, text) in
            [("f", "my"), ("fo", "mzxq"), ("foo", "mzxw6"), ("foob", "mzxw6yq"), ("foobar", "mzxw6ytboi")]
        {
            assert_eq!(encode(bytes.as_bytes()), text);
        }
        assert_eq!(&decode::<6>("mzxw6ytboi").unwrap(), b"foobar");
        assert_eq!(&decode::<4>("mzxw6yq").unwrap(), b"foob");
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(decode::<6>("mzxw6ytbo"), Err(Base32Error::Length { has: 9, wants: 10 }));
        assert_eq!(decode::<6>("mzxw6ytb1i"), Err(Base32Error::Character('1')));
        assert_eq!(decode::<6>("mzxw6ytbö"), Err(Base32Error::Character('ö')));
        assert_eq!(decode::<1>("mz"), Err(Base32Error::Tail));
    }
}
