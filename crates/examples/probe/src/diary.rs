//! What a witness and a claimant write down: a file for each, a line for each thing that happened.
//!
//! Where `PROBE_LOG` names a directory, the files are there; else nothing is written. A line is one write, done before
//! anything else is: it outlives the process, however that ends. Times are the machine's, by a clock that all its
//! processes share and that goes on while it sleeps.

use rustix::time::{ClockId, clock_gettime};
use std::{
    fmt,
    fs::File,
    io::Write as _,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

/// Nanoseconds since the machine started.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Diary(Option<File>);

impl Diary {
    /// Begins one. Its first line says whose it is.
    pub(crate) fn begin(whose: &str, host: &str, global_name: Option<&str>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let pid = std::process::id();
        // A process may have the number of one that has ended.
        let name = || format!("{whose}-{pid}-{}-{}", now(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::var_os("PROBE_LOG").map(|directory| PathBuf::from(directory).join(name()));
        let open = |path: PathBuf| File::options().append(true).create_new(true).open(path).ok();
        let diary = Self(path.and_then(open));
        match global_name {
            Some(global_name) => diary.note(format_args!("{whose} {host} {global_name} {pid}")),
            None => diary.note(format_args!("{whose} {host} {pid}")),
        }
        diary
    }

    /// Writes one line.
    pub(crate) fn note(&self, line: fmt::Arguments<'_>) {
        if let Some(mut file) = self.0.as_ref() {
            // Whoever reads the diaries compares them with each other.
            let _ = file.write_all(format!("{line}\n").as_bytes());
        }
    }
}
