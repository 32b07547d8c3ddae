//! Agents' connections over the loopback interface, end to end.

mod common;
mod connections;
mod control;
mod garbage;
mod joining;
mod lanes;
