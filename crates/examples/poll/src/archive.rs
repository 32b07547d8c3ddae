//! The archive: the one actor that owns the file in which the questions' tallies last.
//!
//! It bears a global name and runs on a host with the capability `archive`. A question loads its tally when it starts
//! and saves it now and then; a load that fails fails the start, so that nothing is ever counted from a fresh zero.
//! A save is answered when it lasts: saves gather for 20 ms and are committed in one transaction.

mod entry;
pub mod store;

pub use entry::{Entry, SaveDue};

use crate::actors::Analytics;
use crate::settings;
use crate::tally::Tally;
use odeon::prelude::*;
use odeon::{Deferred, ReplyTo};
use store::{Store, StoreError};

/// How long saves wait for more of them.
const GATHER: Duration = Duration::from_millis(20);

/// Asks for what was saved of a question; takes the question from earlier epochs.
#[message(reply = Option<String>)]
#[derive(Debug)]
pub struct Load {
    /// The question.
    pub question: String,
    /// Of the instance that starts.
    pub epoch: u64,
}

/// Puts a question's tally in the place of what was saved. The reply says whether it was kept: it was not if a newer
/// instance of the question has taken over.
#[message(reply = bool)]
#[derive(Debug)]
pub struct Keep {
    /// The question.
    pub question: String,
    /// Of the instance that saves.
    pub epoch: u64,
    /// Responses counted in the tally.
    pub total: u64,
    /// The tally as JSON.
    pub tally: String,
}

/// Makes last what has gathered.
#[message]
#[derive(Debug)]
pub struct Commit;

/// Owns the file.
#[derive(Debug)]
pub struct Archive {
    store: Store,
    /// Who waits for the next commit.
    waiting: Vec<ReplyTo<bool>>,
    commit_is_due: bool,
}

#[actor("poll.archive", blocking, mailbox = 4096, requires = "archive", stops = last)]
impl Archive {
    fn start(_: (), ctx: &mut Context<Self>) -> odeon::Result<Self> {
        let path = settings::archive();
        let store = Store::open(&path).and_then(|store| store.begin(ctx.epoch()).map(|()| store));
        let store = store.map_err(|e| Error::other(format!("{}: {e}", path.display())))?;
        Ok(Self { store, waiting: Vec::new(), commit_is_due: false })
    }

    fn load(&mut self, load: Load, ctx: &mut Context<Self>) -> Result<Option<String>, StoreError> {
        self.commit_soon(ctx);
        self.store.load(&load.question, load.epoch)
    }

    fn keep(&mut self, keep: Keep, ctx: &mut Context<Self>) -> Result<Deferred, StoreError> {
        self.commit_soon(ctx);
        let (reply, deferred) = ctx.defer();
        match self.store.save(&keep.question, keep.epoch, keep.total, &keep.tally) {
            Ok(()) => self.waiting.push(reply),
            Err(StoreError::Stale { .. }) => reply.send(false),
            Err(error) => return Err(error),
        }
        Ok(deferred)
    }

    fn commit(&mut self, _: Commit) -> Result<(), StoreError> {
        self.commit_is_due = false;
        let waiting = std::mem::take(&mut self.waiting);
        // If it fails, they are dropped unanswered, which those who wait learn.
        self.store.commit()?;
        waiting.into_iter().for_each(|reply| reply.send(true));
        Ok(())
    }

    /// For a question that no actor counts now.
    fn analytics(&mut self, wanted: Analytics) -> odeon::Result<Option<Tally>> {
        self.store.saved(&wanted.question).map_err(Error::other)?.as_deref().map(tally_of).transpose()
    }

    fn stopping(&mut self) -> odeon::Result {
        self.commit(Commit).map_err(Error::other)
    }
}

impl Archive {
    fn commit_soon(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.commit_is_due, true) {
            ctx.after(GATHER, Commit);
        }
    }
}

/// Reads a tally as it was saved.
fn tally_of(text: &str) -> odeon::Result<Tally> {
    serde_json::from_str(text).map_err(|e| Error::other(format!("the archive's tally does not read: {e}")))
}
