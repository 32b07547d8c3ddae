//! The poll as actors: translators take what comes in, each question counts its responses, the cast retires the quiet.
//!
//! A response is forwarded, so that whoever asked a translator to take it is answered when the question has counted
//! it: never before, and never twice. A question that was retired comes back with the next response.

use crate::archive::{Archive, Entry, SaveDue};
use crate::settings;
use crate::tally::Tally;
use odeon::prelude::*;

/// One answer of one respondent.
#[message]
#[derive(Clone, Debug)]
pub struct Response {
    /// The poll.
    pub question: String,
    /// What was answered.
    pub answer: String,
    /// Who answered: demographic → value.
    pub respondent: BTreeMap<String, String>,
}
/// Asks for a question's count; none if nobody was ever asked it.
#[message(reply = Option<Tally>)]
#[derive(Clone, Debug)]
pub struct Analytics {
    /// The poll.
    pub question: String,
}
/// Tells the cast that a question was used.
#[message]
#[derive(Debug)]
pub struct Routed {
    /// The poll.
    pub question: ActorRef<Question>,
}
/// Tells the cast that time has passed.
#[message]
#[derive(Debug)]
pub struct Heartbeat;

/// One question of the poll.
#[derive(Debug)]
pub struct Question {
    tally: Tally,
    entry: Entry,
}
#[actor("poll.question", on_stop = dormant)]
impl Question {
    async fn start(id: String, ctx: &mut Context<Self>) -> odeon::Result<Self> {
        let (entry, tally) = Entry::load(ctx, id).await?;
        Ok(Self { tally, entry })
    }
    fn count(&mut self, response: Response, ctx: &mut Context<Self>) {
        self.tally.add(response);
        self.entry.save_soon(ctx);
    }
    fn analytics(&mut self, _: Analytics) -> Option<Tally> {
        Some(self.tally.clone())
    }
    fn save(&mut self, _: SaveDue, ctx: &mut Context<Self>) {
        self.entry.save(&self.tally, ctx);
    }
    async fn stopping(&mut self, ctx: &mut Context<Self>) -> odeon::Result {
        self.entry.close(&self.tally, ctx).await
    }
}

/// Takes responses and queries from the front, and finds the question that they are for.
#[derive(Debug, Default)]
pub struct Translator;
#[actor("poll.translator", troupe(max = 16, idle = 2))]
impl Translator {
    fn route(&mut self, response: Response, ctx: &mut Context<Self>) -> Forwarded {
        let question = ctx.named::<Question>(&response.question); // no await, no error; started by its first message
        let _ = ctx.named::<Cast>("cast").try_tell(Routed { question: question.clone() }); // only a hint
        ctx.forward(&question, response)
    }
    async fn analytics(&mut self, wanted: Analytics, ctx: &mut Context<Self>) -> odeon::Result<Forwarded> {
        // Looks up, creates nothing. What no actor counts now, the archive may know.
        Ok(match ctx.find::<Question>(&wanted.question).await? {
            Some(question) => ctx.forward(&question, wanted),
            None => ctx.forward(&ctx.named::<Archive>("archive"), wanted),
        })
    }
}

/// Counts how much each question is used lately, and stops what has gone quiet.
#[derive(Debug, Default)]
pub struct Cast {
    heat: HashMap<ActorRef<Question>, f64>,
}
#[actor("poll.cast")]
impl Cast {
    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.every(settings::heartbeat(), Heartbeat);
    }
    fn routed(&mut self, routed: Routed) {
        *self.heat.entry(routed.question).or_default() += 1.0;
    }
    fn heartbeat(&mut self, _: Heartbeat) {
        let keep = settings::keep();
        self.heat.values_mut().for_each(|heat| *heat *= keep);
        for (question, _) in self.heat.extract_if(|_, heat| *heat < 0.1) {
            question.stop(); // after what is queued
        }
    }
}
