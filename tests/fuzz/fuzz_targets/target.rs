//! Every executable is this file: its name says which decoder it feeds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let all = [
        odeon_protocol::fuzz::TARGETS,
        odeon_cluster::fuzz::TARGETS,
        odeon_transport::fuzz::TARGETS,
        odeon_node::fuzz::TARGETS,
        odeon::fuzz::TARGETS,
    ];
    let found = all.into_iter().flatten().find(|(name, _)| *name == env!("CARGO_BIN_NAME"));
    found.expect("every executable is named after a target").1
});

fuzz_target!(|bytes: &[u8]| TARGET(bytes));
