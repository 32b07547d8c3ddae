//! Who is who. Nothing is ever identified by an ip address and port.

use serde::{Deserialize, Serialize};
use std::{fmt, num::ParseIntError, str::FromStr};

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:x})"), self.0)
            }
        }
        impl FromStr for $name {
            type Err = ParseIntError;
            fn from_str(text: &str) -> Result<Self, ParseIntError> {
                u64::from_str_radix(text, 16).map(Self)
            }
        }
    };
}

hex_id! {
    /// An agent's identity: the first eight bytes of the blake3 hash of its public key. Zero is nobody.
    ///
    /// The directory admits no second key under a node id that it knows.
    NodeId
}
hex_id! {
    /// One start of an agent process; larger than every earlier one of the same data directory. Zero is none.
    Boot
}
hex_id! {
    /// A convention's identity, minted once by `--bootstrap`.
    ConventionId
}

/// An actor's number on its agent, unique within a boot. Zero is none.
///
/// Serials are leased in blocks of [`Serial::BLOCK`]; the block says to which worker a frame goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Serial(pub u64);

impl Serial {
    /// Serials in one block.
    pub const BLOCK: u64 = 1 << 20;

    /// The block of each agent's troupes: whoever has an address sees whether it is a troupe's.
    pub const TROUPES: u64 = 1;

    /// The block that this serial belongs to.
    #[must_use]
    pub const fn block(self) -> u64 {
        self.0 / Self::BLOCK
    }

    /// Whether it is a troupe's.
    #[must_use]
    pub const fn is_troupe(self) -> bool {
        self.block() == Self::TROUPES
    }

    /// The first serial of a block.
    #[must_use]
    pub const fn first_of(block: u64) -> Self {
        Self(block * Self::BLOCK)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A worker process of one agent; never used twice within a boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerId(pub u32);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}", self.0)
    }
}
