//! Agents' connections over the loopback interface, end to end.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
mod connections;
mod control;
mod garbage;
mod greedy;
mod joining;
mod lanes;
