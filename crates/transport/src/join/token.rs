//! The token: `odeon1-<role>-<hash of the authority>-<id>-<secret>`.

use crate::{
    base32::{self, Base32Error},
    tls::Pin,
};
use odeon_protocol::directory::{Role, TokenId};
use rand::{TryRng as _, rngs::SysRng};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

const PREFIX: &str = "odeon1";
/// 130 bits.
const SECRET_CHARACTERS: usize = 26;
/// 20 bits over everything before, so that a token that was copied badly says so.
const CHECK_CHARACTERS: usize = 4;
const ID_CHARACTERS: usize = 16;

/// A join token with its secret. Its text is what [`fmt::Display`] writes; its debug text hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// What it makes of its bearer.
    pub role: Role,
    /// The authority of the convention that it belongs to.
    pub pin: Pin,
    /// Its public name.
    pub id: TokenId,
    secret: String,
}

impl JoinToken {
    /// Makes a token with a random id and secret.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn create(role: Role, pin: Pin) -> Result<Self, TokenError> {
        let mut random = [0; 8 + 17];
        SysRng.try_fill_bytes(&mut random).map_err(|error| TokenError::NoRandomness(error.to_string()))?;
        let (id, secret) = random.split_at(8);
        let id = TokenId(u64::from_le_bytes(id.try_into().unwrap_or_default()));
        let mut secret = base32::encode(secret);
        secret.truncate(SECRET_CHARACTERS);
        Ok(Self { role, pin, id, secret })
    }

    /// What the directory stores of the secret. Who has it can prove the token, so only voters do.
    #[must_use]
    pub fn stored(&self) -> StoredSecret {
        StoredSecret(blake3::derive_key("odeon join v1", self.secret.as_bytes()))
    }

    fn without_secret(&self) -> String {
        format!("{PREFIX}-{}-{}-{}", self.role, self.pin, self.id)
    }
}

/// What follows from a token's secret, and proves it.
#[derive(Clone, Serialize, Deserialize)]
pub struct StoredSecret(pub [u8; 32]);

impl StoredSecret {
    /// The proof that the token's bearer said `said`.
    pub(super) fn tag(&self, said: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0, said)
    }
}

impl fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredSecret(***)")
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}-{}", self.without_secret(), self.secret);
        write!(f, "{text}{}", check(&text))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}-***)", self.without_secret())
    }
}

fn check(text: &str) -> String {
    let mut check = base32::encode(&blake3::hash(text.as_bytes()).as_bytes()[..5]);
    check.truncate(CHECK_CHARACTERS);
    check
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let parts: Vec<&str> = text.split('-').collect();
        if parts[0] != PREFIX {
            return Err(match parts[0].strip_prefix("odeon") {
                Some(version) if !version.is_empty() && version.bytes().all(|c| c.is_ascii_digit()) => {
                    TokenError::Version(version.to_owned())
                }
                _ => TokenError::Prefix,
            });
        }
        let [_, role, pin, id, secret] = parts[..] else { return Err(TokenError::Parts { has: parts.len() }) };
        let role = role.parse().map_err(TokenError::Role)?;
        let pin = pin.parse().map_err(TokenError::Pin)?;
        let id =
            Some(id).filter(|id| id.len() == ID_CHARACTERS).and_then(|id| id.parse().ok()).ok_or(TokenError::Id)?;
        base32::check(secret, SECRET_CHARACTERS + CHECK_CHARACTERS).map_err(TokenError::Secret)?;
        let secret = secret[..SECRET_CHARACTERS].to_owned();
        let token = Self { role, pin, id, secret };
        if token.to_string() == text { Ok(token) } else { Err(TokenError::Checksum) }
    }
}

/// Why a text is no token. None of the texts repeats the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It does not begin as a token does.
    #[error("this is no join token: one begins with \"{PREFIX}-\", see `odeon token create`")]
    Prefix,
    /// A later form.
    #[error("the token has form {0}, this Odeon reads form 1: run the same Odeon version on both sides")]
    Version(String),
    /// Not five parts.
    #[error("the token has {has} parts instead of 5: copy it whole")]
    Parts {
        /// Parts found.
        has: usize,
    },
    /// The role.
    #[error("the token's role: {0}")]
    Role(String),
    /// The authority's hash.
    #[error("the token's third part is no hash of a certificate authority: {0}; copy it whole")]
    Pin(Base32Error),
    /// The id.
    #[error("the token's id is not {ID_CHARACTERS} hexadecimal digits: copy it whole")]
    Id,
    /// The secret.
    #[error("the token's secret is malformed: {0}; copy it whole")]
    Secret(Base32Error),
    /// All parts look right.
    #[error("the token is damaged, its checksum does not match: copy it again")]
    Checksum,
    /// Making one failed.
    #[error("the system gives no random numbers: {0}")]
    NoRandomness(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> JoinToken {
        let pin = "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq".parse().unwrap();
        JoinToken { role: Role::Member, pin, id: TokenId(0xfeed), secret: "abcdefghijklmnopqrstuvwxyz".into() }
    }

    #[test]
    fn golden_vector() {
        let text = "odeon1-member-aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq-000000000000feed-abcdefghijklmnopqrstuvwxyzd66g";
        assert_eq!(sample().to_string(), text);
        let hex: String = sample().stored().0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "cf5a3dab45100ca51533ab32ed0727bb1fe6c2e1b0b40ab78cb36a0df63abf1b");
    }

    #[test]
    fn a_token_is_read_back_and_hides_its_secret() {
        let token = JoinToken::create(Role::Voter, sample().pin).unwrap();
        assert_eq!(format!(" {token}\n").parse::<JoinToken>().unwrap(), token);
        assert!(!format!("{token:?} {:?}", token.stored()).contains(&token.secret));
        assert_ne!(JoinToken::create(Role::Voter, sample().pin).unwrap().stored().0, token.stored().0);
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        let text = sample().to_string();
        let damaged = |from: &str, to: &str| text.replace(from, to).parse::<JoinToken>().unwrap_err();
        assert_eq!("".parse::<JoinToken>().unwrap_err(), TokenError::Prefix);
        assert_eq!(damaged("odeon1", "SWMTKN"), TokenError::Prefix);
        assert_eq!(damaged("odeon1", "odeon2"), TokenError::Version("2".into()));
        assert_eq!(damaged("-000000000000feed", ""), TokenError::Parts { has: 4 });
        assert!(matches!(damaged("member", "boss"), TokenError::Role(_)));
        assert_eq!(damaged("aaaqe", "aaaq"), TokenError::Pin(Base32Error::Length { has: 51, wants: 52 }));
        assert_eq!(damaged("aaaqe", "aaaq1"), TokenError::Pin(Base32Error::Character('1')));
        assert_eq!(damaged("feed", "fee"), TokenError::Id);
        assert_eq!(damaged("feed", "fexd"), TokenError::Id);
        assert_eq!(damaged("feed", "feef"), TokenError::Checksum);
        assert_eq!(damaged("member", "voter"), TokenError::Checksum);
        assert_eq!(damaged("xyz", "xya"), TokenError::Checksum);
        assert_eq!(damaged("xyz", "xy"), TokenError::Secret(Base32Error::Length { has: 29, wants: 30 }));
        assert_eq!(damaged("xyz", "xyß"), TokenError::Secret(Base32Error::Character('ß')));
        for error in [damaged("odeon1", "x"), damaged("feed", "fee"), damaged("xyz", "xya")] {
            let text = error.to_string();
            assert!(!text.contains('\n') && !text.contains("abcdefgh"), "{text}");
        }
    }
}
