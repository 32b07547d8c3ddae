//! A question's entry in the archive, seen from the question: loaded once, saved once a second while there is something
//! new, and for the last time when the question stops.
//!
//! Saving does not hold the question up: it goes on counting while the archive writes.

use super::{Archive, Keep, Load, tally_of};
use crate::actors::Question;
use crate::tally::Tally;
use odeon::prelude::*;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::{Instant, sleep};

/// From a change to its save.
const SAVE_AFTER: Duration = Duration::from_secs(1);
/// A question's start must fail before whoever waits for it loses patience.
const LOAD_WAIT: Duration = Duration::from_secs(3);
/// How long a question that stops goes on trying to save, and how often.
const CLOSE_WAIT: Duration = Duration::from_secs(60);
const CLOSE_PAUSE: Duration = Duration::from_millis(200);

/// Tells a question that a save is due.
#[message]
#[derive(Debug)]
pub struct SaveDue;

/// What a question knows of its row.
#[derive(Debug)]
pub struct Entry {
    question: String,
    /// The total of the last tally that lasts.
    saved: Arc<AtomicU64>,
    save_is_due: bool,
}

impl Entry {
    /// Loads what was saved last.
    ///
    /// # Errors
    /// The archive cannot be reached, or knows of a newer instance. The question must not start then: it would count
    /// from zero.
    pub async fn load(ctx: &Context<Question>, question: String) -> odeon::Result<(Self, Tally)> {
        let load = Load { question: question.clone(), epoch: ctx.epoch() };
        let saved = ctx.named::<Archive>("archive").ask(load).timeout(LOAD_WAIT).await?;
        let tally = saved.as_deref().map_or_else(|| Ok(Tally::default()), tally_of)?;
        Ok((Self { question, saved: Arc::new(tally.total.into()), save_is_due: false }, tally))
    }

    /// Has a [`SaveDue`] come in a while, if none is on its way.
    pub fn save_soon(&mut self, ctx: &mut Context<Question>) {
        if !self.save_is_due {
            self.save_is_due = true;
            ctx.after(SAVE_AFTER, SaveDue);
        }
    }

    /// Saves the tally as it is now, if it is newer than what was saved; looks again later whether that went well.
    pub fn save(&mut self, tally: &Tally, ctx: &mut Context<Question>) {
        self.save_is_due = false;
        if self.lasts(tally) {
            return;
        }
        let saving = self.keep(tally, ctx);
        ctx.spawn(async move {
            if let Err(error) = saving.await {
                tracing::debug!(%error, "a save will be tried again");
            }
        });
        self.save_soon(ctx);
    }

    /// Saves before the question is gone, however often it takes.
    ///
    /// # Errors
    /// The archive could not be reached in all that time.
    pub async fn close(&self, tally: &Tally, ctx: &Context<Question>) -> odeon::Result {
        let given_up = Instant::now() + CLOSE_WAIT;
        while !self.lasts(tally) {
            match self.keep(tally, ctx).await {
                Ok(()) => break,
                Err(error) if Instant::now() < given_up => {
                    tracing::warn!(question = self.question, %error, "not saved yet");
                    sleep(CLOSE_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn lasts(&self, tally: &Tally) -> bool {
        self.saved.load(Ordering::Relaxed) >= tally.total
    }

    /// Ends when the tally lasts as it is now.
    fn keep(&self, tally: &Tally, ctx: &Context<Question>) -> impl Future<Output = odeon::Result> + Send + use<> {
        let text = serde_json::to_string(tally).map_err(Error::other);
        let (question, epoch, total, saved) =
            (self.question.clone(), ctx.epoch(), tally.total, Arc::clone(&self.saved));
        let archive = ctx.named::<Archive>("archive");
        async move {
            let keep = Keep { question: question.clone(), epoch, total, tally: text? };
            if !archive.ask(keep).await? {
                tracing::warn!(question, epoch, "a newer instance has taken the question over");
            }
            saved.fetch_max(total, Ordering::Relaxed);
            Ok(())
        }
    }
}
