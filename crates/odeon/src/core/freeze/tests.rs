//! Freezes an actor in this process and thaws it in another: this test binary, run once more.

use super::*;
use crate::{
    core::{Cell, cell::Birth, cell::push, timers},
    outside::{Answer, BoxFuture, Outgoing, Outside, Sent},
    prelude::*,
    system::{Config, System},
};
use odeon_protocol::{
    Direct,
    control::{Placed, Refusal, Spec, Value},
};
use parking_lot::Mutex;
use std::{
    process::Command,
    task::Waker,
    time::{Duration, Instant},
};

/// Keeps what it is told, and answers when it is asked for all.
#[derive(Debug, Default)]
struct Keeper {
    kept: Vec<String>,
    owed: Vec<ReplyTo<String>>,
}
/// Something to keep.
#[message]
#[derive(Debug)]
struct Item {
    text: String,
}
/// All that is kept.
#[message(reply = String)]
#[derive(Debug)]
struct All;
/// Holds the actor until it is let go.
#[message]
#[derive(Debug)]
struct Hold;
/// Carries the right to answer somebody.
#[message]
#[derive(Debug)]
struct Owed {
    reply: ReplyTo<String>,
}
/// A timer's message.
#[message]
#[derive(Debug)]
struct Tick;

static LET_GO: tokio::sync::Notify = tokio::sync::Notify::const_new();

#[actor("freeze.keeper")]
impl Keeper {
    fn item(&mut self, item: Item) {
        self.kept.push(item.text);
    }

    fn all(&mut self, _: All) -> String {
        self.kept.join(" ")
    }

    async fn hold(&mut self, _: Hold) {
        LET_GO.notified().await;
    }

    fn owed(&mut self, owed: Owed) {
        self.owed.push(owed.reply);
        self.owed.drain(..).for_each(|reply| reply.send("owed".to_owned()));
    }

    fn tick(&mut self, _: Tick) {
        self.kept.push("tick".to_owned());
    }
}

/// Notes the answers that leave the process.
#[derive(Default)]
struct Recorder {
    answers: Mutex<Vec<(Direct, u64, Vec<u8>)>>,
}

impl Outside for Recorder {
    fn local(&self, _: &Arc<str>) -> Option<Arc<dyn AnyCell>> {
        None
    }
    fn send(&self, message: Outgoing, _: Option<&Waker>) -> Sent {
        Sent::Refused(Error::NoSuchActor(message.to.to_string()), message.envelope)
    }
    fn create(&self, _: Spec) -> BoxFuture<'static, Result<Placed, Refusal>> {
        Box::pin(std::future::ready(Err(Refusal { reason: Reason::NoHost, text: String::new() })))
    }
    fn find(&self, _: Arc<str>) -> BoxFuture<'static, Result<Option<Placed>, Refusal>> {
        Box::pin(std::future::ready(Ok(None)))
    }
    fn end(&self, _: Address, _: bool) {}
    fn stopping(&self, _: &Arc<dyn AnyCell>, close: &mut dyn FnMut() -> Vec<Envelope>) {
        drop(close());
    }
    fn ended(&self, _: &Arc<dyn AnyCell>, _: &ExitCause, _: Option<&Error>) -> bool {
        true
    }
    fn child_ended(&self, _: Direct, _: Address, _: &ExitCause) {}
    fn change_capability(&self, _: String, _: Option<Value>) -> BoxFuture<'static, Result<(), Refusal>> {
        Box::pin(std::future::ready(Ok(())))
    }
    fn answer(&self, answer: Answer) {
        self.answers.lock().push((answer.to, answer.correlation, answer.result.expect("a reply")));
    }
    fn lease(&self) {}
    fn close(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

const FROZEN: &str = "ODEON_TEST_FROZEN";
const ANSWERS: &str = "ODEON_TEST_ANSWERS";

async fn frozen(cell: &Arc<dyn AnyCell>) -> Frozen {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    freeze(cell, move |frozen| drop(sender.send(frozen)));
    // The handler that runs ends first.
    LET_GO.notify_one();
    receiver.await.expect("the runner writes it").expect("it can be written")
}

#[tokio::test]
async fn an_actor_frozen_here_goes_on_in_another_process() {
    let system = System::local();
    let keeper = system.create::<Keeper>(()).await.unwrap();
    let cell = system.inner.registry.all().pop().unwrap();
    keeper.tell(Hold).await.unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while system.stats().waiting > 0 && Instant::now() < until {
        tokio::task::yield_now().await;
    }
    // One batch is taken while the actor is held, the rest stays in the mailbox: both are written.
    for text in ["one", "two"] {
        keeper.tell(Item { text: text.into() }).await.unwrap();
    }
    timers::set(&cell, Tick::TYPE_ID, Vec::new(), 1_000_000, 0);
    cell.head().with_extra(|extra| extra.children.insert(Serial(77)));
    let asked = tokio::spawn(keeper.ask(All));
    let (owing, owed) = owing_slot(&system);
    keeper.tell(Owed { reply: owing }).await.unwrap();
    while system.stats().waiting < 4 && Instant::now() < until {
        tokio::task::yield_now().await;
    }
    let frozen = frozen(&cell).await;
    assert_eq!(frozen.children, [Serial(77)]);
    let answers = elsewhere(&frozen);
    assert_eq!(answers.len(), 2, "{answers:?}");
    for (to, correlation, bytes) in answers {
        assert!(system.inner.is_mine(to), "{to} is not of {:?}", system);
        system.inner.answer(Answer { to, correlation, codec: Codec::Postcard, result: Ok(bytes) });
    }
    let kept = asked.await.unwrap().unwrap();
    assert!(kept.starts_with("one two"), "{kept}");
    assert_eq!(owed.await, "owed");
    system.stop().await;
}

/// A right to answer that is no message's, and its answer.
fn owing_slot(system: &System) -> (ReplyTo<String>, impl Future<Output = String> + use<>) {
    let facts = super::current::ask_facts(&system.inner, None, "freeze.Owed");
    let slot = crate::core::reply::LocalSlot::<String>::new(facts, false);
    let waiting = slot.clone();
    let answer = async move { std::future::poll_fn(|cx| waiting.poll(cx)).await.unwrap() };
    (ReplyTo::new(crate::core::ReplyHandle::new(slot)), answer)
}

fn elsewhere(frozen: &Frozen) -> Vec<(Direct, u64, Vec<u8>)> {
    let folder = std::env::temp_dir().join(format!("odeon-freeze-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (input, output) = (folder.join("frozen"), folder.join("answers"));
    std::fs::write(&input, postcard::to_stdvec(frozen).unwrap()).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "core::freeze::tests::in_the_other_process", "--nocapture"])
        .env(FROZEN, &input)
        .env(ANSWERS, &output)
        .status()
        .unwrap();
    assert!(status.success(), "the other process: {status}");
    let answers = postcard::from_bytes(&std::fs::read(&output).unwrap()).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    answers
}

/// The other process. Run by itself it has nothing to do.
#[tokio::test]
async fn in_the_other_process() {
    let (Some(input), Some(output)) = (std::env::var_os(FROZEN), std::env::var_os(ANSWERS)) else { return };
    let frozen: Frozen = postcard::from_bytes(&std::fs::read(input).unwrap()).unwrap();
    let inner = Inner::start(Config::default()).unwrap();
    let recorder = Arc::new(Recorder::default());
    inner.set_outside(recorder.clone());
    let kind = ActorType::of::<Keeper>();
    let birth = Birth { serial: inner.next_serial().unwrap(), ..Birth::default() };
    let cell: Arc<dyn AnyCell> = Cell::<Keeper>::new(inner.clone(), kind, (), birth);
    for timer in &frozen.timers {
        timers::set(&cell, timer.type_id, timer.body.clone(), timer.at, timer.period);
    }
    for entry in frozen.read(&inner, kind).unwrap() {
        assert!(push(&cell, entry, true).is_ok());
    }
    inner.admit(cell).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while recorder.answers.lock().len() < 2 && Instant::now() < until {
        tokio::task::yield_now().await;
    }
    std::fs::write(output, postcard::to_stdvec(&*recorder.answers.lock()).unwrap()).unwrap();
}
