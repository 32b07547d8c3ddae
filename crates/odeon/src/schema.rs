//! The shape of what is sent, as one number known at compile time.
//!
//! Between processes messages are positional: a reader must have the very shape that the writer had. The fingerprint
//! travels beside each message and is compared first, so a reader with another shape says so instead of guessing.
//!
//! - **S-1.** It covers field names, their order, their types, and variants; not the names of types.
//! - **S-2.** Types with the same form on the wire have the same fingerprint: `Vec<u8>` and `Box<[u8]>`, `T` and `Box<T>`.

use odeon_protocol::hash::fnv1a_from;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    hash::{BuildHasher, Hash},
    marker::PhantomData,
    sync::Arc,
    time::Duration,
};

/// A type that can be part of a message.
///
/// `#[odeon::data]` and `#[odeon::message]` write it, and it is implemented here for the standard library's types.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a message",
    label = "not a message's field type",
    note = "write `#[odeon::data]` on your own type",
    note = "for free-form JSON use `odeon::Json` in place of `serde_json::Value`",
    note = "for a type of another crate write `#[data(opaque = \"v1\")]` on the field, and change \"v1\" when its shape changes"
)]
pub trait Schema: Serialize + DeserializeOwned {
    /// The shape's number. Equal numbers, equal shapes.
    const FINGERPRINT: u64;
}

/// Builds a fingerprint at compile time.
///
/// ```
/// use odeon::{Schema, hidden::{Fingerprint, serde}};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// #[serde(crate = "odeon::hidden::serde")]
/// struct Point { x: f64, y: f64 }
/// impl Schema for Point {
///     const FINGERPRINT: u64 =
///         Fingerprint::new("struct").part("x", f64::FINGERPRINT).part("y", f64::FINGERPRINT).finish();
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Fingerprint(u64);

impl Fingerprint {
    const SEED: u64 = 0x6f64_656f_6e20_7631;
    /// Stands between parts, so that moving a letter from one to the next is a change.
    const SEPARATOR: u8 = 0xff;

    /// Begins, with what kind of thing it is.
    #[must_use]
    pub const fn new(kind: &str) -> Self {
        Self(Self::SEED).text(kind)
    }

    /// A whole fingerprint of a thing without parts.
    #[must_use]
    pub const fn leaf(kind: &str) -> u64 {
        Self::new(kind).finish()
    }

    /// Adds a part: its name (or number) and its type's fingerprint.
    #[must_use]
    pub const fn part(self, name: &str, fingerprint: u64) -> Self {
        let named = self.text(name);
        Self(fnv1a_from(named.0, &fingerprint.to_le_bytes()))
    }

    /// The number.
    #[must_use]
    pub const fn finish(self) -> u64 {
        // Zero stands for "no fingerprint" in frames.
        if self.0 == 0 { 1 } else { self.0 }
    }

    const fn text(self, text: &str) -> Self {
        Self(fnv1a_from(fnv1a_from(self.0, text.as_bytes()), &[Self::SEPARATOR]))
    }
}

/// The fingerprint of a container of one type.
const fn of(kind: &str, item: u64) -> u64 {
    Fingerprint::new(kind).part("", item).finish()
}

macro_rules! leaves {
    ($($type:ty = $kind:literal),* $(,)?) => {$(
        impl Schema for $type {
            const FINGERPRINT: u64 = Fingerprint::leaf($kind);
        }
    )*};
}

leaves! {
    u8 = "u8", u16 = "u16", u32 = "u32", u64 = "u64", u128 = "u128", usize = "u64",
    i8 = "i8", i16 = "i16", i32 = "i32", i64 = "i64", i128 = "i128", isize = "i64",
    f32 = "f32", f64 = "f64", bool = "bool", char = "char", String = "string", () = "unit",
    Box<str> = "string", Arc<str> = "string", Cow<'static, str> = "string",
    std::num::NonZeroU8 = "u8", std::num::NonZeroU16 = "u16", std::num::NonZeroU32 = "u32",
    std::num::NonZeroU64 = "u64", std::num::NonZeroUsize = "u64",
    Duration = "duration", std::time::SystemTime = "system time",
    std::net::IpAddr = "ip", std::net::Ipv4Addr = "ipv4", std::net::Ipv6Addr = "ipv6",
    std::net::SocketAddr = "socket address", std::net::SocketAddrV4 = "ipv4 socket address",
    std::net::SocketAddrV6 = "ipv6 socket address",
    odeon_protocol::Address = "odeon address", odeon_protocol::ExitCause = "odeon exit cause",
    odeon_protocol::Reason = "odeon reason",
}

macro_rules! transparent {
    ($($type:ty),* $(,)?) => {$(
        impl<T: Schema> Schema for $type {
            const FINGERPRINT: u64 = T::FINGERPRINT;
        }
    )*};
}
transparent!(Box<T>, Arc<T>);

macro_rules! sequences {
    ($($type:ty),* $(,)?) => {$(
        impl<T: Schema> Schema for $type {
            const FINGERPRINT: u64 = of("seq", T::FINGERPRINT);
        }
    )*};
}
sequences!(Vec<T>, VecDeque<T>, Box<[T]>, Arc<[T]>);

impl<T: Schema + Ord> Schema for BTreeSet<T> {
    const FINGERPRINT: u64 = of("seq", T::FINGERPRINT);
}

impl<T: Schema + Eq + Hash, S: BuildHasher + Default> Schema for HashSet<T, S> {
    const FINGERPRINT: u64 = of("seq", T::FINGERPRINT);
}

impl<K: Schema + Ord, V: Schema> Schema for BTreeMap<K, V> {
    const FINGERPRINT: u64 = map(K::FINGERPRINT, V::FINGERPRINT);
}

impl<K: Schema + Eq + Hash, V: Schema, S: BuildHasher + Default> Schema for HashMap<K, V, S> {
    const FINGERPRINT: u64 = map(K::FINGERPRINT, V::FINGERPRINT);
}

const fn map(key: u64, value: u64) -> u64 {
    Fingerprint::new("map").part("", key).part("", value).finish()
}

impl<T: Schema> Schema for Option<T> {
    const FINGERPRINT: u64 = of("option", T::FINGERPRINT);
}

impl<T: Schema, E: Schema> Schema for Result<T, E> {
    const FINGERPRINT: u64 = Fingerprint::new("result").part("", T::FINGERPRINT).part("", E::FINGERPRINT).finish();
}

impl<T: Schema, const N: usize> Schema for [T; N]
where
    Self: Serialize + DeserializeOwned,
{
    const FINGERPRINT: u64 = Fingerprint::new("array").part("", T::FINGERPRINT).part("", N as u64).finish();
}

impl<T> Schema for PhantomData<T> {
    const FINGERPRINT: u64 = <()>::FINGERPRINT;
}

macro_rules! tuples {
    ($($name:ident)+) => {
        impl<$($name: Schema),+> Schema for ($($name,)+) {
            const FINGERPRINT: u64 = Fingerprint::new("tuple")$(.part("", $name::FINGERPRINT))+.finish();
        }
    };
}
tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_on_the_wire_is_one_fingerprint() {
        assert_eq!(Vec::<u8>::FINGERPRINT, <Box<[u8]>>::FINGERPRINT);
        assert_eq!(String::FINGERPRINT, <Arc<str>>::FINGERPRINT);
        assert_eq!(HashMap::<String, u8>::FINGERPRINT, BTreeMap::<String, u8>::FINGERPRINT);
    }

    #[test]
    fn any_difference_in_shape_is_another_fingerprint() {
        let all = [
            u32::FINGERPRINT,
            i32::FINGERPRINT,
            Option::<u32>::FINGERPRINT,
            Vec::<u32>::FINGERPRINT,
            <(u32,)>::FINGERPRINT,
            <(u32, u32)>::FINGERPRINT,
            <[u32; 2]>::FINGERPRINT,
            <[u32; 3]>::FINGERPRINT,
            Result::<u32, String>::FINGERPRINT,
            Result::<String, u32>::FINGERPRINT,
            Fingerprint::new("struct").part("ab", 1).part("c", 1).finish(),
            Fingerprint::new("struct").part("a", 1).part("bc", 1).finish(),
            Fingerprint::new("struct").part("c", 1).part("ab", 1).finish(),
        ];
        let distinct: BTreeSet<u64> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
