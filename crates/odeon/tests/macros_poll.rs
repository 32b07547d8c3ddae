//! The poll as a user writes it: one actor per question, a troupe that translates, a cast that retires the quiet.

#![expect(missing_docs, missing_debug_implementations, reason = "the shortest that a user would write")]

use odeon::prelude::*;

#[message]
pub struct Response {
    question: String,
    answer: String,
    respondent: BTreeMap<String, String>,
}
#[message(reply = Tally)]
pub struct Analytics {
    question: String,
}
#[message]
pub struct Routed {
    question: ActorRef<Question>,
}
#[message]
pub struct Heartbeat;

#[data]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    answers: BTreeMap<String, u64>,
    respondents: u64,
}

impl Tally {
    fn add(&mut self, response: Response) {
        *self.answers.entry(response.answer).or_default() += 1;
        self.respondents += u64::from(!response.respondent.is_empty());
    }
}

/// Keeps what questions know while they are dormant, in this process.
mod archive {
    use super::{Question, Tally};
    use odeon::prelude::*;
    use std::sync::{LazyLock, Mutex};

    static SAVED: LazyLock<Mutex<HashMap<String, Tally>>> = LazyLock::new(Mutex::default);

    pub(super) async fn load(_: &mut Context<Question>, id: &str) -> odeon::Result<Tally> {
        Ok(SAVED.lock().map_err(|_| Error::other("poisoned"))?.get(id).cloned().unwrap_or_default())
    }

    pub(super) async fn save(_: &mut Context<Question>, id: &str, tally: &Tally) -> odeon::Result {
        SAVED.lock().map_err(|_| Error::other("poisoned"))?.insert(id.to_owned(), tally.clone());
        Ok(())
    }
}

pub struct Question {
    id: String,
    tally: Tally,
}
#[actor("poll.question", on_stop = dormant)]
impl Question {
    async fn start(id: String, ctx: &mut Context<Self>) -> odeon::Result<Self> {
        Ok(Self { tally: archive::load(ctx, &id).await?, id })
    }
    fn count(&mut self, response: Response) {
        self.tally.add(response)
    }
    fn analytics(&mut self, _: Analytics) -> Tally {
        self.tally.clone()
    }
    async fn stopping(&mut self, ctx: &mut Context<Self>) -> odeon::Result {
        archive::save(ctx, &self.id, &self.tally).await
    }
}

#[derive(Default)]
pub struct Translator;
#[actor("poll.translator", troupe(max = 16, idle = 2))]
impl Translator {
    async fn route(&mut self, response: Response, ctx: &mut Context<Self>) -> odeon::Result {
        let question = ctx.named::<Question>(&response.question); // no await, no error; started by its first message
        ctx.named::<Cast>("cast").tell(Routed { question: question.clone() }).await?;
        Ok(question.tell(response).await?)
    }
    async fn analytics(&mut self, wanted: Analytics, ctx: &mut Context<Self>) -> odeon::Result<Forwarded> {
        let question = ctx.find::<Question>(&wanted.question).await?.ok_or(Error::NotFound)?; // looks up, creates nothing
        Ok(ctx.forward(&question, wanted)) // whoever asked gets the question's reply
    }
}

#[derive(Default)]
pub struct Cast {
    heat: HashMap<ActorRef<Question>, f64>,
}
#[actor("poll.cast")]
impl Cast {
    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.every(Duration::from_secs(5), Heartbeat);
    }
    fn routed(&mut self, routed: Routed) {
        *self.heat.entry(routed.question).or_default() += 1.0
    }
    fn heartbeat(&mut self, _: Heartbeat) {
        self.heat.values_mut().for_each(|heat| *heat *= 0.9);
        self.heat.retain(|question, heat| {
            *heat >= 0.1 || {
                question.stop();
                false
            }
        });
    }
}

fn response(question: &str, answer: &str) -> Response {
    let respondent = BTreeMap::from([("age".to_owned(), "30".to_owned())]);
    Response { question: question.into(), answer: answer.into(), respondent }
}

fn analytics(question: &str) -> Analytics {
    Analytics { question: question.into() }
}

/// Polls until the question has counted so many.
async fn counted(entry: &ActorRef<Translator>, question: &str, respondents: u64) -> odeon::Result<Tally> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        match entry.analytics(analytics(question)).await {
            Ok(tally) if tally.respondents == respondents => return Ok(tally),
            other => assert!(tokio::time::Instant::now() < deadline, "waited in vain for {respondents}: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn the_poll_counts_forgets_and_remembers() -> odeon::Result {
    let system = System::local().register::<Question>().register::<Cast>();
    let entry = system.create::<Translator>(()).await?;

    let error = entry.analytics(analytics("pizza")).await.unwrap_err();
    assert!(matches!(error, Error::Handler(_)), "nobody was asked about pizza yet: {error}");
    for answer in ["yes", "no", "yes"] {
        entry.route(response("pizza", answer)).await?;
    }
    let tally = counted(&entry, "pizza", 3).await?;
    assert_eq!(tally.answers, BTreeMap::from([("no".to_owned(), 1), ("yes".to_owned(), 2)]));

    // Its heat was 3; after 33 beats it is below 0.1, the cast stops it, and the next response wakes it up.
    let cast = system.named::<Cast>("cast");
    for _ in 0..40 {
        cast.heartbeat(Heartbeat).await?;
    }
    entry.route(response("pizza", "no")).await?;
    let tally = counted(&entry, "pizza", 4).await?;
    assert_eq!(tally.answers["no"], 2);
    system.stop().await;
    Ok(())
}
