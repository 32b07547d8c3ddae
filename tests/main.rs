//! Black-box scenarios against the built executables. One target, so that it links once.

mod bad_input;
mod book;
mod builds;
mod capabilities;
mod clocks;
mod counters;
mod doctor;
#[expect(dead_code, reason = "the scenarios in namespaces use the rest")]
mod harness;
mod levels;
mod membership;
mod one_host;
mod poll_service;
mod recovery;
mod three_hosts;
mod tidy;
