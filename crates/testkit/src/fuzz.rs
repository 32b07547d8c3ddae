//! Feeds decoders: every input of their corpus, and seeded mutations of it; and counts what they allocate.
//!
//! The corpus is `tests/fuzz/corpus/TARGET/`, which a fuzzer uses as well.

use crate::random::Random;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

/// Memory that a decoder may use whatever its input: a few collections whose claimed length is believed up to 1 MiB.
const MEMORY_BASE: usize = 8 << 20;
/// Memory that it may use for each byte of its input.
const MEMORY_PER_BYTE: usize = 64;
/// Inputs do not grow beyond this.
const INPUT_BYTES_MAX: usize = 8 << 10;
/// Rounds, where `ODEON_FUZZ_ROUNDS` does not say another number.
const ROUNDS: u64 = 2000;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator; counts each thread's bytes. To be declared as `#[global_allocator]` by a test.
#[derive(Debug)]
pub struct Counting;

#[expect(unsafe_code, reason = "an allocator is unsafe to write; this one counts and hands on")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are those that are asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // What another thread allocated was counted there.
        let _ = LIVE.try_with(|live| live.set(live.get().saturating_sub(layout.size())));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn count(bytes: usize) {
    // A thread that is ending counts no more.
    let _ = LIVE.try_with(|live| {
        live.set(live.get().saturating_add(bytes));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

/// Runs a decoder over its corpus and over mutations of it.
///
/// # Panics
/// The decoder panics, or takes memory out of proportion to its input: the message holds the input. Or there is no corpus.
pub fn run(corpus: &Path, (name, target): (&str, fn(&[u8]))) {
    let seeds = seeds(&corpus.join(name));
    assert!(!seeds.is_empty(), "{}: no inputs: put some in", corpus.join(name).display());
    seeds.iter().for_each(|seed| check(name, target, seed));
    check(name, target, &[]);
    let rounds = std::env::var("ODEON_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let mut random = Random::new(name.bytes().fold(7, |seed, byte| seed.wrapping_mul(31) + u64::from(byte)));
    for _ in 0..rounds {
        check(name, target, &mutated(&mut random, &seeds));
    }
}

fn seeds(directory: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}

fn check(name: &str, target: fn(&[u8]), input: &[u8]) {
    let before = LIVE.get();
    PEAK.set(before);
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
    let used = PEAK.get().saturating_sub(before);
    let hex = || input.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(outcome.is_ok(), "{name} panics; mend it, and keep the input in its corpus: {}", hex());
    let most = MEMORY_BASE + MEMORY_PER_BYTE * input.len();
    assert!(used <= most, "{name} takes {used} bytes for an input of {}: {}", input.len(), hex());
}

/// One of the seeds, with a few changes.
fn mutated(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = random.one(seeds).unwrap_or_default();
    for _ in 0..=random.below(5) {
        mutate(random, seeds, &mut input);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn mutate(random: &mut Random, seeds: &[Vec<u8>], input: &mut Vec<u8>) {
    const BYTES: [u8; 9] = [0, 1, 2, 0x7f, 0x80, 0xff, b'"', b'\\', b'.'];
    // Lengths as postcard writes them, and fixed ones: small, huge, impossible.
    const LENGTHS: [&[u8]; 6] = [
        &[0xff, 0xff, 0x03],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0, 0, 0, 0],
        &[0xff, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    ];
    let length = input.len() as u64;
    let (at, end) = (place(random, length), place(random, length));
    let (at, end) = (at.min(end), at.max(end));
    match random.below(8) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.one(&BYTES).unwrap_or_default(),
        2 if at < input.len() => input[at] = random.number() as u8,
        3 => drop(input.drain(at..end)),
        4 => {
            let copy = input[at..end].to_vec();
            input.splice(at..at, copy);
        }
        5 => {
            let bytes = random.one(&LENGTHS).unwrap_or_default();
            input.splice(at..(at + bytes.len()).min(input.len()), bytes.iter().copied());
        }
        6 => {
            let other = random.one(seeds).unwrap_or_default();
            let from = place(random, other.len() as u64);
            input.splice(at..end, other[from..].iter().copied());
        }
        _ => {
            let bytes: Vec<u8> = (0..random.below(9)).map(|_| random.number() as u8).collect();
            input.splice(at..at, bytes);
        }
    }
}

/// A place in something of that length, its end included.
fn place(random: &mut Random, length: u64) -> usize {
    usize::try_from(random.below(length + 1)).unwrap_or(0)
}
