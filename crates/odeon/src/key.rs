//! The key of a global name as an actor's arguments: what lets a message start `poll.question/pizza`.

use crate::error::{Error, Result};
use std::sync::Arc;

/// Arguments that can be made from the key of a global name.
///
/// An actor whose `Args` implement it is started by the first message to `ctx.named::<A>(key)`.
///
/// ```
/// use odeon::{FromKey, prelude::*};
///
/// #[odeon::data]
/// struct Cell { x: i32, y: i32 }
///
/// impl FromKey for Cell {
///     fn from_key(key: &str) -> odeon::Result<Self> {
///         let (x, y) = key.split_once(',').ok_or_else(|| Error::other("a cell's key is `x,y`"))?;
///         Ok(Self { x: i32::from_key(x)?, y: i32::from_key(y)? })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made from the key of a global name",
    note = "implement `odeon::FromKey` for it, or use `String`, an integer or `()` as the actor's arguments"
)]
pub trait FromKey: Sized {
    /// Reads the key.
    ///
    /// # Errors
    /// The key does not fit; whoever sent the message that was to start the actor gets the text.
    fn from_key(key: &str) -> Result<Self>;
}

impl FromKey for String {
    fn from_key(key: &str) -> Result<Self> {
        Ok(key.to_owned())
    }
}

impl FromKey for Arc<str> {
    fn from_key(key: &str) -> Result<Self> {
        Ok(key.into())
    }
}

/// Whatever the key says, there is nothing to tell the actor; it reads its key by `ctx.name()`.
impl FromKey for () {
    fn from_key(_: &str) -> Result<Self> {
        Ok(())
    }
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl FromKey for $integer {
            fn from_key(key: &str) -> Result<Self> {
                key.parse().map_err(|error| {
                    Error::other(format!(concat!("the key {:?} is no ", stringify!($integer), ": {}"), key, error))
                })
            }
        }
    )*};
}
integers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

/// Finds out at compile time whether arguments implement [`FromKey`], for `#[actor]`.
///
/// Method calls prefer fewer references: `(&KeyProbe::<T>::new()).args_from_key(..)` takes [`ViaFromKey`] where it
/// applies, else [`WithoutFromKey`]. (David Tolnay's "autoref specialization".)
#[derive(Debug)]
pub struct KeyProbe<T>(std::marker::PhantomData<fn() -> T>);

impl<T> KeyProbe<T> {
    /// The probe.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "written by the macro only")]
    pub const fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

/// See [`KeyProbe`].
pub trait ViaFromKey<T> {
    /// Makes the arguments.
    ///
    /// # Errors
    /// The key does not fit.
    fn args_from_key(&self, type_name: &str, key: &str) -> Result<T>;
}

impl<T: FromKey> ViaFromKey<T> for KeyProbe<T> {
    fn args_from_key(&self, type_name: &str, key: &str) -> Result<T> {
        T::from_key(key).map_err(|error| Error::StartFailed(format!("{type_name}/{key}: {error}")))
    }
}

/// See [`KeyProbe`].
pub trait WithoutFromKey<T> {
    /// Says why there are none.
    ///
    /// # Errors
    /// Always.
    fn args_from_key(&self, type_name: &str, key: &str) -> Result<T>;
}

impl<T> WithoutFromKey<T> for &KeyProbe<T> {
    fn args_from_key(&self, type_name: &str, key: &str) -> Result<T> {
        Err(Error::StartFailed(format!(
            "{type_name}/{key}: a message cannot start it, because {} does not implement odeon::FromKey; \
             create it first, with `create::<..>(args).global_name(..)`",
            std::any::type_name::<T>()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_texts_are_read_from_keys() {
        assert_eq!(String::from_key("pizza").unwrap(), "pizza");
        assert_eq!(u32::from_key("42").unwrap(), 42);
        assert!(u8::from_key("300").unwrap_err().to_string().contains("300"));
    }

    #[test]
    #[expect(clippy::needless_borrow, reason = "as the macro writes it: the reference decides which method is found")]
    fn the_probe_tells_who_implements_it() {
        struct Foreign;
        assert_eq!((&KeyProbe::<u16>::new()).args_from_key("t", "7").unwrap(), 7);
        let error = (&KeyProbe::<Foreign>::new()).args_from_key("t", "7").err().map(|error| error.to_string()).unwrap();
        assert!(error.contains("Foreign does not implement odeon::FromKey"), "{error}");
    }
}
