//! #[actor], #[message], #[data]; re-exported by odeon.
