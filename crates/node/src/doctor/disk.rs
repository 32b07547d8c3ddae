//! The data directory: its space, who may read its keys, how long a write takes.
//!
//! - **DD-1.** Whoever else writes to the disk, a voter above all, is left half of the time, and after a second all of it.
//! - **DD-2.** A disk that hangs holds one thread, however often it is looked at.
//! - **DD-3.** Nothing is written but a new file, and that is removed.

use super::{Disk, Writes};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Mutex, task::spawn_blocking, time::timeout};

/// Writes that are synced, and how long all of them may take, pauses included.
const WRITES: usize = 100;
const WRITING: Duration = Duration::from_secs(1);
const WRITE_BYTES: usize = 4096;
/// A disk that has not answered by then hangs.
const HANGS: Duration = Duration::from_secs(5);
/// The file that is written.
const WRITTEN: &str = "doctor.tmp";
/// The files of a data directory that hold keys.
const SECRET: [&str; 2] = ["identity.json", "directory.redb"];

/// Held by whoever looks at a data directory, for as long as the disk takes. Each data directory has its own.
pub type Turn = Arc<Mutex<()>>;

/// Looks at a data directory. Writes a file there, and removes it.
pub async fn disk(path: PathBuf, turn: Turn) -> Disk {
    within(HANGS, path, turn).await
}

async fn within(hangs: Duration, path: PathBuf, turn: Turn) -> Disk {
    let looks_at = path.clone();
    let looked = timeout(hangs, async move {
        let turn = turn.lock_owned().await;
        let looked = spawn_blocking(move || {
            let _turn = turn;
            look(&looks_at)
        });
        looked.await.map_err(io::Error::other)?
    });
    let failed = match looked.await {
        Ok(Ok(disk)) => return disk,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the disk did not answer within {hangs:?}"),
    };
    Disk { path, failed: Some(failed), ..Disk::default() }
}

fn look(path: &Path) -> io::Result<Disk> {
    let about = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(about.f_frsize);
    Ok(Disk {
        path: path.to_owned(),
        bytes: bytes(about.f_blocks),
        free_bytes: bytes(about.f_bavail),
        exposed: exposed(path),
        writes: Some(time_writes(path)?),
        failed: None,
    })
}

/// The files that others may read. A directory that lets nobody in keeps them all.
fn exposed(path: &Path) -> Vec<String> {
    let open = |path: &Path, bits: u32| fs::metadata(path).is_ok_and(|about| about.permissions().mode() & bits != 0);
    if !open(path, 0o011) {
        return Vec::new();
    }
    SECRET.into_iter().filter(|name| open(&path.join(name), 0o044)).map(str::to_owned).collect()
}

/// Times small writes, each brought to the disk.
fn time_writes(directory: &Path) -> io::Result<Writes> {
    let path = directory.join(WRITTEN);
    // An agent that was killed may have left it.
    let _ = fs::remove_file(&path);
    let written = write(&path);
    let _ = fs::remove_file(&path);
    Ok(sum_up(written?))
}

fn write(path: &Path) -> io::Result<Vec<Duration>> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    let (begun, mut took) = (Instant::now(), Vec::with_capacity(WRITES));
    while took.len() < WRITES && begun.elapsed() < WRITING {
        let before = Instant::now();
        file.write_all(&[0; WRITE_BYTES])?;
        file.sync_data()?;
        took.push(before.elapsed());
        pause(before.elapsed());
    }
    Ok(took)
}

#[expect(clippy::disallowed_methods, reason = "on a thread for blocking work")]
fn pause(time: Duration) {
    std::thread::sleep(time.min(WRITING));
}

fn sum_up(mut took: Vec<Duration>) -> Writes {
    took.sort_unstable();
    let percentile = |of_hundred: usize| {
        let at = (took.len() * of_hundred).div_ceil(100).saturating_sub(1);
        took.get(at).map_or(0, |took| took.as_micros() as u64)
    };
    Writes { count: took.len(), median_us: percentile(50), p99_us: percentile(99) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_written_to_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let disk = look(dir.path()).unwrap();
        let writes = disk.writes.unwrap();
        assert!(writes.count > 0 && writes.p99_us > 0 && writes.median_us <= writes.p99_us, "{disk:?}");
        assert!(disk.free_bytes <= disk.bytes && disk.bytes > 0, "{disk:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_lies_where_the_file_goes_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        fs::write(&precious, "kept").unwrap();
        std::os::unix::fs::symlink(&precious, dir.path().join(WRITTEN)).unwrap();
        assert!(look(dir.path()).unwrap().writes.is_some());
        assert_eq!(fs::read_to_string(&precious).unwrap(), "kept");
        // What cannot be removed is left alone, too.
        fs::create_dir(dir.path().join(WRITTEN)).unwrap();
        assert_eq!(look(dir.path()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[tokio::test]
    async fn what_cannot_be_written_to_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let disk = disk(dir.path().join("nowhere"), Turn::default()).await;
        assert!(disk.writes.is_none() && disk.failed.is_some_and(|why| why.contains("No such file")));
    }

    #[tokio::test]
    async fn a_disk_that_hangs_is_given_up_and_looked_at_by_nobody_else() {
        let (dir, turn) = (tempfile::tempdir().unwrap(), Turn::default());
        let _hanging = turn.clone().lock_owned().await;
        let disk = within(Duration::from_millis(20), dir.path().to_owned(), turn).await;
        assert_eq!(disk.failed.as_deref(), Some("the disk did not answer within 20ms"));
    }

    #[test]
    fn percentiles() {
        let millis = |took: &[u64]| took.iter().copied().map(Duration::from_millis).collect();
        assert_eq!(sum_up(Vec::new()), Writes::default());
        assert_eq!(sum_up(millis(&[3, 1, 2])), Writes { count: 3, median_us: 2000, p99_us: 3000 });
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(sum_up(millis(&hundred)), Writes { count: 100, median_us: 50_000, p99_us: 99_000 });
    }

    #[test]
    fn keys_are_exposed_where_directory_and_file_let_others_in() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let key = dir.path().join(SECRET[0]);
        fs::write(&key, "key").unwrap();
        for (of_directory, of_file, expected) in
            [(0o755, 0o644, true), (0o700, 0o644, false), (0o755, 0o600, false), (0o710, 0o640, true)]
        {
            mode(dir.path(), of_directory);
            mode(&key, of_file);
            assert_eq!(!exposed(dir.path()).is_empty(), expected, "{of_directory:o} {of_file:o}");
        }
    }
}
