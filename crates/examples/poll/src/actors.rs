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
    pub(crate) question: String,
}
/// Tells the cast which questions were used, and how often.
#[message]
#[derive(Debug)]
pub struct Routed {
    pub(crate) uses: Vec<(ActorRef<Question>, f64)>,
}
/// Says that time has passed.
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
pub struct Translator {
    uses: HashMap<ActorRef<Question>, f64>,
}
#[actor("poll.translator", troupe(max = 16, idle = 2))]
impl Translator {
    fn route(&mut self, response: Response, ctx: &mut Context<Self>) -> Forwarded {
        let question = ctx.named::<Question>(&response.question); // no await, no error; started by its first message
        if self.uses.is_empty() {
            ctx.after(settings::heartbeat() / 50, Heartbeat);
        }
        *self.uses.entry(question.clone()).or_default() += 1.0;
        ctx.forward(&question, response)
    }
    fn report(&mut self, _: Heartbeat, ctx: &mut Context<Self>) {
        let _ = ctx.named::<Cast>("cast").try_tell(Routed { uses: self.uses.drain().collect() }); // only a hint
    }
    async fn analytics(&mut self, wanted: Analytics, ctx: &mut Context<Self>) -> odeon::Result<Forwarded> {
        Ok(match ctx.find::<Question>(&wanted.question).await? {
            Some(question) => ctx.forward(&question, wanted),
            None => ctx.forward(&ctx.named::<Archive>("archive"), wanted), // nobody counts it now, if anybody ever did
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
        routed.uses.into_iter().for_each(|(question, uses)| *self.heat.entry(question).or_default() += uses);
    }
    fn heartbeat(&mut self, _: Heartbeat) {
        let keep = settings::keep();
        self.heat.values_mut().for_each(|heat| *heat *= keep);
        self.heat.extract_if(|_, heat| *heat < 0.1).for_each(|(question, _)| question.stop()); // after what is queued
    }
}
