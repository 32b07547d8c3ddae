//! A convention in one process, simulated network and clock, invariant checks.
