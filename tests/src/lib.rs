//! Black-box scenarios run against the built executables.
