//! Messages between two workers, counted by how they ended.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test uses its part of the agent")]
mod agent;

use agent::{Agent, until};
use odeon::{Error, Stats, System, prelude::*};
use odeon_protocol::{
    Counts, Reason,
    control::ToAgent,
    limits::{BODY_BYTES_MAX, FLOW_WINDOW, LARGE_FRAME_BYTES},
};
use std::{
    cell::RefCell,
    sync::atomic::{AtomicUsize, Ordering},
};

#[message]
struct Note;
#[message]
struct Fail;
#[message]
struct Load {
    bytes: String,
}
/// Is written differently each time.
#[message]
struct Restless {
    #[data(opaque = "v1")]
    #[serde(serialize_with = "one_byte_more")]
    bytes: String,
}
#[message(reply = u64)]
struct Get;
#[message(reply = u64)]
struct Never;

#[derive(Default)]
struct Taker {
    notes: u64,
}
#[actor("test.taker")]
impl Taker {
    fn note(&mut self, _: Note) {
        self.notes += 1;
    }
    fn fail(&mut self, _: Fail) -> odeon::Result {
        Err(Error::other("on purpose"))
    }
    fn load(&mut self, load: Load) {
        self.notes += load.bytes.len() as u64;
    }
    fn restless(&mut self, restless: Restless) {
        self.notes += restless.bytes.len() as u64;
    }
    fn get(&mut self, _: Get) -> u64 {
        self.notes
    }
    async fn never(&mut self, _: Never) -> u64 {
        std::future::pending().await
    }
}

fn one_byte_more<S: serde::Serializer>(bytes: &str, to: S) -> Result<S::Ok, S::Error> {
    static MORE: AtomicUsize = AtomicUsize::new(0);
    to.serialize_str(&(bytes.to_owned() + &"x".repeat(MORE.fetch_add(1, Ordering::Relaxed))))
}

struct Pair {
    agent: Agent,
    one: System,
    two: System,
}

impl Pair {
    async fn new() -> Self {
        let agent = Agent::new();
        let one = odeon::worker![Taker].attach(agent.socket()).await.unwrap();
        let two = odeon::worker![Taker].attach(agent.socket()).await.unwrap();
        Self { agent, one, two }
    }

    /// An actor of the second worker, referred to from the first.
    async fn taker(&self) -> ActorRef<Taker> {
        let there = self.two.create::<Taker>(()).await.unwrap();
        self.one.reference(there.address())
    }

    async fn settled(&self) {
        until("all has ended", || self.one.stats().flows == 0 && self.two.stats().flows == 0).await;
    }

    /// What a process told its agent last.
    fn told(&self, process: usize) -> Counts {
        let last = RefCell::new(Counts::default());
        self.agent.was_told(|from, message| {
            if let ToAgent::Counts(counts) = message
                && from == process
            {
                last.replace(*counts.clone());
            }
            false
        });
        last.into_inner()
    }
}

/// What was sent: accepted, settled, returned, unsettled, outstanding.
fn sent(stats: &Stats) -> [u64; 5] {
    [stats.accepted, stats.settled, stats.returned, stats.unsettled, stats.outstanding]
}

/// What was received: taken, handled, given back.
fn received(stats: &Stats) -> [u64; 3] {
    [stats.taken, stats.handled, stats.given_back]
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_count_the_same_ends() {
    let pair = Pair::new().await;
    let taker = pair.taker().await;
    for _ in 0..1000 {
        taker.tell(Note).await.unwrap();
    }
    taker.tell(Fail).await.unwrap();
    assert_eq!(taker.ask(Get).await.unwrap(), 1000);
    pair.settled().await;
    assert_eq!(sent(&pair.one.stats()), [1002, 1001, 1, 0, 0]);
    assert_eq!(received(&pair.two.stats()), [1002, 1001, 1]);
    assert_eq!((sent(&pair.two.stats()), received(&pair.one.stats())), ([0; 5], [0; 3]));
    let are_settled =
        |counts: &Counts| counts.accepted + counts.taken == 1002 && counts.outstanding + counts.waiting == 0;
    until("the agent is told", || are_settled(&pair.told(0)) && are_settled(&pair.told(1))).await;
    let (one, two) = (pair.told(0), pair.told(1));
    assert_eq!((one.check(), two.check()), (Ok(()), Ok(())));
    assert_eq!((one.settled, one.returned), (1001, vec![(Reason::Failed, 1)]));
    assert_eq!((two.taken, two.handled, two.given_back), (1002, 1001, 1));
    assert_eq!((one.doubtful, one.beside), (0, 0), "a handler that failed is certain");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_was_not_accepted() {
    let pair = Pair::new().await;
    let taker = pair.taker().await;
    taker.tell(Note).await.unwrap();
    let too_big = Load { bytes: "x".repeat(BODY_BYTES_MAX + 1) };
    assert!(taker.tell(too_big).await.is_err());
    pair.settled().await;
    assert_eq!((sent(&pair.one.stats()), received(&pair.two.stats())), ([1, 1, 0, 0, 0], [1, 1, 0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_message_that_is_written_differently_each_time_is_refused() {
    let pair = Pair::new().await;
    let taker = pair.taker().await;
    taker.tell(Restless { bytes: "x".repeat(LARGE_FRAME_BYTES) }).await.unwrap_err();
    let error = taker.tell(Restless { bytes: "x".repeat(LARGE_FRAME_BYTES) }).await.unwrap_err();
    assert_eq!(error.error.reason(), Reason::Decode);
    assert!(error.error.to_string().contains("its bytes must not change"), "{error}");
    let bytes = "x".repeat(LARGE_FRAME_BYTES + 1);
    taker.tell(Load { bytes }).await.unwrap();
    assert_eq!(taker.ask(Get).await.unwrap(), LARGE_FRAME_BYTES as u64 + 1, "the next one has its number");
    pair.settled().await;
    assert_eq!((sent(&pair.one.stats()), received(&pair.two.stats())), ([2, 2, 0, 0, 0], [2, 2, 0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_ended_actor_gets_is_returned_and_not_taken() {
    let pair = Pair::new().await;
    let taker = pair.taker().await;
    taker.stop();
    until("it has ended", || pair.two.stats().actors == 0).await;
    taker.tell(Note).await.unwrap();
    assert!(taker.ask(Get).await.is_err());
    pair.settled().await;
    assert_eq!((sent(&pair.one.stats()), received(&pair.two.stats())), ([2, 0, 2, 0, 0], [0; 3]));
    until("the agent is told", || pair.told(0).returned == [(Reason::NoSuchActor, 2)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_process_had_is_unsettled() {
    let pair = Pair::new().await;
    let taker = pair.taker().await;
    let asking = taker.clone();
    let ask = tokio::spawn(async move { asking.ask(Never).await });
    until("it is with the taker", || pair.two.stats().taken == 1).await;
    for _ in 1..FLOW_WINDOW {
        taker.tell(Note).await.unwrap();
    }
    until("all is there", || pair.two.stats().taken == u64::from(FLOW_WINDOW)).await;
    pair.agent.cut(1);
    assert!(ask.await.unwrap().unwrap_err().may_have_run());
    until("it is written off", || pair.one.stats().outstanding == 0).await;
    let all = u64::from(FLOW_WINDOW);
    until("the agent is told", || pair.told(0).unsettled == all).await;
    assert_eq!((sent(&pair.one.stats()), pair.told(0).check()), ([all, 0, 0, all, 0], Ok(())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stops_tells_its_last_counts() {
    let pair = Pair::new().await;
    let taker = pair.taker().await;
    for _ in 0..10 {
        taker.tell(Note).await.unwrap();
    }
    pair.settled().await;
    pair.two.stop().await;
    let stopped = |from, message: &ToAgent| from == 1 && *message == ToAgent::Stopped;
    until("it has stopped", || pair.agent.was_told(stopped)).await;
    assert_eq!(pair.told(1).handled, 10);
    let last = RefCell::new(None);
    pair.agent.was_told(|from, message| {
        if from == 1 && matches!(message, ToAgent::Counts(_) | ToAgent::Stopped) {
            last.replace(Some(message.clone()));
        }
        false
    });
    assert_eq!(last.into_inner(), Some(ToAgent::Stopped), "nothing comes after it");
}
