//! Every decoder over its corpus and seeded mutations of it; see `docs/testing.md`.

use odeon_testkit::fuzz::{Counting, run};
use std::{
    fs,
    path::{Path, PathBuf},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz")
}

fn run_all(targets: &[odeon_protocol::fuzz::Target]) {
    targets.iter().for_each(|target| run(&directory().join("corpus"), *target));
}

/// A fuzzer, this test and the corpus know the same decoders; `agent_config` is run by the command line's own tests.
#[test]
fn every_decoder_is_everywhere() {
    let all = [
        odeon_protocol::fuzz::TARGETS,
        odeon_cluster::fuzz::TARGETS,
        odeon_transport::fuzz::TARGETS,
        odeon_node::fuzz::TARGETS,
        odeon::fuzz::TARGETS,
    ];
    let mut targets: Vec<String> = all.into_iter().flatten().map(|(name, _)| (*name).to_owned()).collect();
    targets.sort();
    let manifest = fs::read_to_string(directory().join("Cargo.toml")).unwrap();
    let names = manifest.split("[[bin]]").skip(1).filter_map(|bin| bin.split('"').nth(1).map(str::to_owned));
    let mut named: Vec<String> = names.collect();
    named.sort();
    assert_eq!(named, targets, "in tests/fuzz/Cargo.toml");
    let entries = fs::read_dir(directory().join("corpus")).unwrap();
    let mut kept: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    kept.retain(|name| name != "agent_config");
    kept.sort();
    assert_eq!(kept, targets, "in tests/fuzz/corpus");
}

#[test]
fn protocol() {
    run_all(odeon_protocol::fuzz::TARGETS);
}

#[test]
fn cluster() {
    run_all(odeon_cluster::fuzz::TARGETS);
}

#[test]
fn transport() {
    run_all(odeon_transport::fuzz::TARGETS);
}

#[test]
fn node() {
    run_all(odeon_node::fuzz::TARGETS);
}

#[test]
fn odeon() {
    run_all(odeon::fuzz::TARGETS);
}
