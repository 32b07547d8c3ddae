//! The archive's file: a row a question, each with the epoch of the last instance that has had it.
//!
//! A lower epoch is refused, so that an instance that has been replaced (its host cut off, say) neither reads what it
//! would go on counting nor overwrites what its successor has saved. Writes gather in one transaction until
//! [`Store::commit`]; reads see them.

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// Why the file did not do it.
#[derive(Debug)]
pub enum StoreError {
    /// The row belongs to a newer instance of the question.
    Stale {
        /// The question.
        question: String,
        /// Of the instance that was refused.
        epoch: u64,
    },
    /// SQLite failed.
    Sqlite(rusqlite::Error),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale { question, epoch } => write!(f, "epoch {epoch} of question {question:?} has been replaced"),
            Self::Sqlite(error) => write!(f, "the archive's file: {error}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// `starts` counts the instances that have had the row.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS questions (
    question TEXT PRIMARY KEY, epoch INTEGER NOT NULL, starts INTEGER NOT NULL DEFAULT 1,
    total INTEGER NOT NULL DEFAULT 0, tally TEXT)";
const LOAD: &str = "INSERT INTO questions (question, epoch) VALUES (?1, ?2)
    ON CONFLICT DO UPDATE SET starts = starts + (excluded.epoch > epoch), epoch = excluded.epoch
    WHERE excluded.epoch >= epoch RETURNING tally";
// Within an epoch the total orders the saves.
const SAVE: &str = "INSERT INTO questions (question, epoch, total, tally) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT DO UPDATE SET starts = starts + (excluded.epoch > epoch), epoch = excluded.epoch,
        total = excluded.total, tally = excluded.tally
    WHERE excluded.epoch > epoch OR excluded.epoch = epoch AND excluded.total >= total";
const NEW_LIFE: &str = "UPDATE questions SET epoch = 0 WHERE ?1 < (SELECT max(epoch) FROM questions)";
const SAVED: &str = "SELECT tally FROM questions WHERE question = ?1";

/// The file, open.
#[derive(Debug)]
pub struct Store {
    file: Connection,
    /// Whether anything was written since the last commit.
    gathering: bool,
}

impl Store {
    /// Opens the file, and makes it where there is none.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::prepared(Connection::open(path)?)
    }

    /// Says which epoch the archive itself has. All rows' epochs were granted before it; where one is higher, the file
    /// comes from another life, whose epochs say nothing now: a convention that is gone, or a system without one.
    pub fn begin(&self, epoch: u64) -> Result<(), StoreError> {
        let rows = self.file.execute(NEW_LIFE, [epoch])?;
        if rows > 0 {
            tracing::info!(epoch, rows, "the archive's file comes from another life: its epochs begin anew");
        }
        Ok(())
    }

    fn prepared(file: Connection) -> Result<Self, StoreError> {
        file.busy_timeout(Duration::from_secs(2))?;
        file.pragma_update(None, "journal_mode", "wal")?;
        file.pragma_update(None, "synchronous", "full")?;
        file.execute(SCHEMA, [])?;
        Ok(Self { file, gathering: false })
    }

    /// The tally that was saved last, for the instance with this epoch.
    pub fn load(&mut self, question: &str, epoch: u64) -> Result<Option<String>, StoreError> {
        self.gather()?;
        let row = self.file.prepare_cached(LOAD)?.query_row(params![question, epoch], |row| row.get(0)).optional()?;
        row.ok_or_else(|| StoreError::Stale { question: question.to_owned(), epoch })
    }

    /// Puts a tally with `total` responses in the place of the last; it lasts from the next commit on.
    pub fn save(&mut self, question: &str, epoch: u64, total: u64, tally: &str) -> Result<(), StoreError> {
        self.gather()?;
        match self.file.prepare_cached(SAVE)?.execute(params![question, epoch, total, tally])? {
            0 => Err(StoreError::Stale { question: question.to_owned(), epoch }),
            _ => Ok(()),
        }
    }

    /// The tally that was saved last, for whoever only looks.
    pub fn saved(&self, question: &str) -> Result<Option<String>, StoreError> {
        let row = self.file.prepare_cached(SAVED)?.query_row([question], |row| row.get(0)).optional()?;
        Ok(row.flatten())
    }

    /// Makes all that was written since the last commit last; if that fails, none of it has been written.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.gathering) {
            return Ok(());
        }
        // It also fails where SQLite has rolled back by itself, after a full disk for one.
        self.file.execute_batch("COMMIT").inspect_err(|_| {
            if !self.file.is_autocommit() {
                let _ = self.file.execute_batch("ROLLBACK");
            }
        })?;
        Ok(())
    }

    fn gather(&mut self) -> Result<(), StoreError> {
        if !self.gathering {
            self.file.execute_batch("BEGIN IMMEDIATE")?;
            self.gathering = true;
        }
        Ok(())
    }
}

/// How many responses of each question have lasted, read beside the actor that owns the file.
pub fn totals(path: &Path) -> Result<BTreeMap<String, u64>, StoreError> {
    let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    file.busy_timeout(Duration::from_secs(2))?;
    let mut rows = file.prepare("SELECT question, total FROM questions")?;
    let totals = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Store {
        Store::prepared(Connection::open_in_memory().unwrap()).unwrap()
    }

    fn stale<T: fmt::Debug>(result: Result<T, StoreError>) -> bool {
        matches!(result, Err(StoreError::Stale { .. }))
    }

    #[test]
    fn keeps_the_last_tally() {
        let mut store = store();
        assert_eq!(store.load("q", 1).unwrap(), None);
        store.save("q", 1, 10, "ten").unwrap();
        store.save("q", 1, 11, "eleven").unwrap();
        assert_eq!(store.load("q", 2).unwrap().as_deref(), Some("eleven"));
    }

    #[test]
    fn a_lower_epoch_neither_saves_nor_loads() {
        let mut store = store();
        store.load("q", 5).unwrap();
        store.save("q", 5, 10, "five").unwrap();
        store.load("q", 6).unwrap();
        assert!(stale(store.save("q", 5, 99, "late")), "its successor has loaded already");
        assert!(stale(store.load("q", 5)));
        assert_eq!(store.load("q", 6).unwrap().as_deref(), Some("five"));
    }

    #[test]
    fn an_overtaken_save_of_the_same_epoch_is_refused() {
        let mut store = store();
        store.save("q", 1, 11, "eleven").unwrap();
        assert!(stale(store.save("q", 1, 10, "ten")));
    }

    #[test]
    fn a_file_of_another_life_serves_again() {
        let mut store = store();
        store.save("q", 700, 10, "ten").unwrap();
        store.begin(701).unwrap();
        assert!(stale(store.load("q", 3)), "of the same life: it was replaced");
        store.begin(2).unwrap();
        assert_eq!(store.load("q", 3).unwrap().as_deref(), Some("ten"));
        store.save("q", 3, 11, "eleven").unwrap();
    }

    #[test]
    fn looking_takes_nothing() {
        let mut store = store();
        assert_eq!(store.saved("q").unwrap(), None);
        store.load("q", 1).unwrap();
        assert_eq!(store.saved("q").unwrap(), None, "nothing was saved yet");
        store.save("q", 1, 1, "one").unwrap();
        assert_eq!(store.saved("q").unwrap().as_deref(), Some("one"));
        store.save("q", 1, 2, "two").unwrap();
    }

    #[test]
    fn a_batch_that_was_rolled_back_is_not_committed() {
        let mut store = store();
        store.save("q", 1, 1, "one").unwrap();
        store.file.execute_batch("ROLLBACK").unwrap();
        assert!(store.commit().is_err(), "whoever waits for it must not be told that it lasts");
        store.save("q", 1, 1, "one").unwrap();
        store.commit().unwrap();
    }

    #[test]
    fn what_is_committed_lasts() {
        let path = std::env::temp_dir().join(format!("poll-store-{}.sqlite", std::process::id()));
        let mut store = Store::open(&path).unwrap();
        store.save("q", 1, 1, "one").unwrap();
        store.commit().unwrap();
        store.commit().unwrap();
        store.save("q", 1, 2, "two").unwrap();
        drop(store);
        let kept = Store::open(&path).unwrap().load("q", 2).unwrap();
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
        }
        assert_eq!(kept.as_deref(), Some("one"), "what was not committed is gone");
    }
}
