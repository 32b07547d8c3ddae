//! The life of actors within one process: start, stop, kill, panics, restarts, children, timers, names, troupes.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, reason = "a test's own actors")]
#![allow(clippy::unwrap_used, reason = "a test's helpers and actors may fail it")]

mod common;

use common::{Note, Notebook, Notes, eventually, jot};
use odeon::{ExitCause, prelude::*};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// Does what it is told, and notes its life.
pub struct Worker {
    notebook: ActorRef<Notebook>,
    life: u64,
}
#[message]
pub struct Panic;
#[message(reply = u64)]
pub struct Life;
#[message]
pub struct Return {
    error: String,
}
#[message]
pub struct Sleep;
static LIVES: AtomicU64 = AtomicU64::new(0);

#[actor("test.worker", restart(max = 2, within = "60s"))]
impl Worker {
    fn start(notebook: ActorRef<Notebook>) -> odeon::Result<Self> {
        jot(&notebook, "start");
        Ok(Self { notebook, life: LIVES.fetch_add(1, Ordering::SeqCst) })
    }

    fn started(&mut self) {
        jot(&self.notebook, "started");
    }

    fn stopping(&mut self) {
        jot(&self.notebook, "stopping");
    }

    fn panic(&mut self, _: Panic) {
        panic!("on purpose");
    }

    fn life(&mut self, _: Life) -> u64 {
        self.life
    }

    fn fail(&mut self, wanted: Return) -> Result<(), String> {
        Err(wanted.error)
    }

    async fn sleep(&mut self, _: Sleep) {
        jot(&self.notebook, "asleep");
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        jot(&self.notebook, "dropped");
    }
}

async fn notes(notebook: &ActorRef<Notebook>) -> Vec<String> {
    notebook.ask(Notes).await.unwrap()
}

#[tokio::test]
async fn a_stopped_actor_handles_what_is_queued_then_stops() {
    let system = System::local();
    let notebook = system.create::<Notebook>(()).await.unwrap();
    let worker = system.create::<Worker>(notebook.clone()).await.unwrap();
    let life = tokio::spawn(worker.ask(Life));
    life.await.unwrap().unwrap();
    worker.stop();
    eventually("it is gone", async || notes(&notebook).await == ["start", "started", "stopping", "dropped"]).await;
    assert_eq!(worker.ask(Life).await.unwrap_err().kind(), "no_such_actor");
    system.stop().await;
}

#[tokio::test]
async fn a_killed_actor_ends_in_the_middle_of_its_handler() {
    let system = System::local();
    let notebook = system.create::<Notebook>(()).await.unwrap();
    let worker = system.create::<Worker>(notebook.clone()).await.unwrap();
    let sleeping = tokio::spawn(worker.ask(Sleep));
    eventually("it sleeps", async || notes(&notebook).await.len() == 3).await;
    let queued = tokio::spawn(worker.ask(Life));
    eventually("the second waits", async || system.stats().waiting == 1).await;
    worker.kill();
    let (sleeping, queued) = (sleeping.await.unwrap().unwrap_err(), queued.await.unwrap().unwrap_err());
    assert_eq!((sleeping.kind(), sleeping.may_have_run()), ("actor_stopped", true));
    assert_eq!((queued.kind(), queued.may_have_run()), ("actor_stopped", false));
    eventually("it is dropped without stopping", async || {
        notes(&notebook).await == ["start", "started", "asleep", "dropped"]
    })
    .await;
    system.stop().await;
}

#[tokio::test]
async fn a_panic_restarts_the_actor_until_the_policy_ends_and_keeps_its_mailbox() {
    let system = System::local();
    let notebook = system.create::<Notebook>(()).await.unwrap();
    let worker = system.create::<Worker>(notebook.clone()).await.unwrap();
    let first = worker.ask(Life).await.unwrap();
    let error = worker.ask(Panic).await.unwrap_err();
    assert!(error.to_string().contains("on purpose"), "{error}");
    assert_ne!(worker.ask(Life).await.unwrap(), first, "another incarnation answers, at the same address");
    worker.ask(Panic).await.unwrap_err();
    worker.ask(Life).await.unwrap();
    worker.ask(Panic).await.unwrap_err();
    eventually("the third panic ends it", async || {
        worker.ask(Life).await.is_err_and(|error| error.kind() == "no_such_actor")
    })
    .await;
    assert_eq!(system.stats().restarts, 2);
    assert_eq!(system.stats().panics, 3);
    system.stop().await;
}

// ---- parents, senders ----

pub struct Parent {
    notebook: ActorRef<Notebook>,
    child: Option<ActorRef<Worker>>,
}
#[message(reply = ActorRef<Worker>)]
pub struct Bear {
    restarts: bool,
}
#[message]
pub struct Pass {
    error: String,
}
#[message]
pub struct PassToNobody;

#[actor("test.parent")]
impl Parent {
    fn start(notebook: ActorRef<Notebook>) -> odeon::Result<Self> {
        Ok(Self { notebook, child: None })
    }

    async fn bear(&mut self, bear: Bear, ctx: &mut Context<Self>) -> odeon::Result<ActorRef<Worker>> {
        let mut creation = ctx.create::<Worker>(self.notebook.clone());
        if !bear.restarts {
            creation = creation.restart(0, Duration::from_secs(1));
        }
        let child = creation.await?;
        self.child = Some(child.clone());
        Ok(child)
    }

    async fn pass(&mut self, pass: Pass) -> odeon::Result {
        let child = self.child.clone().ok_or(Error::NotFound)?;
        Ok(child.tell(Return { error: pass.error }).await?)
    }

    async fn pass_to_nobody(&mut self, _: PassToNobody) -> odeon::Result {
        let child = self.child.take().ok_or(Error::NotFound)?;
        child.tell(Sleep).await?;
        child.tell(Return { error: "never handled".into() }).await?;
        child.kill();
        Ok(())
    }

    fn returned(&mut self, mut back: Returned) {
        let body = back.take::<Return>().map(|message| message.error);
        jot(&self.notebook, format!("returned {} {body:?} {}", back.reason(), back.may_have_run()));
    }

    fn child_exited(&mut self, exit: ChildExited) {
        jot(&self.notebook, format!("child {}", exit.cause));
    }
}

#[tokio::test]
async fn a_parent_learns_of_its_childs_end_once_with_the_cause() {
    let system = System::local();
    let notebook = system.create::<Notebook>(()).await.unwrap();
    let parent = system.create::<Parent>(notebook.clone()).await.unwrap();
    for (end, cause) in [("stop", "child stopped"), ("kill", "child killed"), ("panic", "child panicked: on purpose")] {
        let child = parent.ask(Bear { restarts: false }).await.unwrap();
        match end {
            "stop" => child.stop(),
            "kill" => child.kill(),
            _ => child.tell(Panic).await.unwrap(),
        }
        eventually(cause, async || notes(&notebook).await.iter().any(|note| note == cause)).await;
    }
    let told = notes(&notebook).await.iter().filter(|note| note.starts_with("child")).count();
    assert_eq!(told, 3);
    system.stop().await;
}

#[tokio::test]
async fn nameless_children_end_with_their_parent() {
    let system = System::local();
    let notebook = system.create::<Notebook>(()).await.unwrap();
    let parent = system.create::<Parent>(notebook.clone()).await.unwrap();
    let child = parent.ask(Bear { restarts: true }).await.unwrap();
    child.ask(Life).await.unwrap();
    parent.stop();
    eventually("the child is gone", async || child.ask(Life).await.is_err()).await;
    system.stop().await;
}

#[tokio::test]
async fn what_is_not_handled_comes_back_to_its_sender() {
    let system = System::local();
    let notebook = system.create::<Notebook>(()).await.unwrap();
    let parent = system.create::<Parent>(notebook.clone()).await.unwrap();
    parent.ask(Bear { restarts: false }).await.unwrap();
    parent.ask(Pass { error: "no".into() }).await.unwrap();
    eventually("the failed tell comes back", async || {
        notes(&notebook).await.iter().any(|note| note == "returned the handler failed None true")
    })
    .await;
    parent.ask(PassToNobody).await.unwrap();
    eventually("the queued tell comes back with its body", async || {
        let wanted = "returned the actor stopped Some(\"never handled\") false";
        notes(&notebook).await.iter().any(|note| note == wanted)
    })
    .await;
    let letters = Arc::new(AtomicU64::new(0));
    let counted = letters.clone();
    system.on_dead_letter(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let child = parent.ask(Bear { restarts: false }).await.unwrap();
    child.tell(Return { error: "from outside".into() }).await.unwrap();
    eventually("a tell without a sender is a dead letter", async || letters.load(Ordering::SeqCst) == 1).await;
    system.stop().await;
}

// ---- timers ----

pub struct Clock {
    ticks: u64,
    notebook: ActorRef<Notebook>,
}
#[message]
pub struct Tick;
#[message]
pub struct Once {
    text: String,
}
#[message(reply = u64)]
pub struct Ticks;

#[actor("test.clock")]
impl Clock {
    fn start(notebook: ActorRef<Notebook>, ctx: &mut Context<Self>) -> odeon::Result<Self> {
        ctx.every(Duration::from_millis(5), Tick);
        ctx.after(Duration::from_millis(1), Once { text: "once".into() });
        let cancelled = ctx.after(Duration::from_millis(1), Once { text: "never".into() });
        ctx.cancel(cancelled);
        Ok(Self { ticks: 0, notebook })
    }

    fn tick(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.ticks += 1;
        assert_eq!(ctx.sender(), Some(ctx.me().address()), "a timer's messages come from the actor itself");
    }

    fn once(&mut self, once: Once) {
        jot(&self.notebook, once.text);
    }

    fn ticks(&mut self, _: Ticks) -> u64 {
        self.ticks
    }
}

#[tokio::test]
async fn timers_ring_once_or_again_and_again() {
    let system = System::local();
    let notebook = system.create::<Notebook>(()).await.unwrap();
    let clock = system.create::<Clock>(notebook.clone()).await.unwrap();
    eventually("ten ticks", async || clock.ask(Ticks).await.unwrap() >= 10).await;
    assert_eq!(notes(&notebook).await, ["once"]);
    clock.stop();
    eventually("it is gone", async || system.stats().actors == 1).await;
    system.stop().await;
}

// ---- names ----

static SAVED: Mutex<BTreeMap<String, Vec<u64>>> = Mutex::new(BTreeMap::new());

/// Remembers numbers, and keeps them while it is dormant.
pub struct Memory {
    key: String,
    numbers: Vec<u64>,
}
#[message]
pub struct Keep {
    number: u64,
}
#[message(reply = Vec<u64>)]
pub struct Kept;
#[message(reply = u64)]
pub struct Epoch;
#[message]
pub struct Crash;

#[actor("test.memory", on_stop = dormant, mailbox = 64)]
impl Memory {
    async fn start(key: String, ctx: &mut Context<Self>) -> odeon::Result<Self> {
        assert_eq!(ctx.name(), Some(&*key));
        if key == "missing" {
            return Err(Error::NotFound);
        }
        if key == "broken" {
            return Err(Error::other("it is broken"));
        }
        tokio::task::yield_now().await;
        let numbers = SAVED.lock().unwrap().get(&key).cloned().unwrap_or_default();
        Ok(Self { key, numbers })
    }

    async fn stopping(&mut self) {
        tokio::task::yield_now().await;
        SAVED.lock().unwrap().insert(self.key.clone(), self.numbers.clone());
    }

    fn keep(&mut self, keep: Keep) {
        self.numbers.push(keep.number);
    }

    fn kept(&mut self, _: Kept) -> Vec<u64> {
        self.numbers.clone()
    }

    fn epoch(&mut self, _: Epoch, ctx: &mut Context<Self>) -> u64 {
        ctx.epoch()
    }

    fn crash(&mut self, _: Crash) {
        panic!("the memory fails");
    }
}

#[tokio::test]
async fn a_name_is_started_by_its_first_message_and_again_under_a_later_epoch() {
    let system = System::local();
    let memory = system.named::<Memory>("epochs");
    assert_eq!(system.find::<Memory>("epochs").await.unwrap(), None, "a reference starts nothing");
    let first = memory.ask(Epoch).await.unwrap();
    assert_eq!(system.find::<Memory>("epochs").await.unwrap(), Some(memory.clone()));
    memory.tell(Keep { number: 7 }).await.unwrap();
    memory.stop();
    assert_eq!(memory.ask(Kept).await.unwrap(), [7]);
    let second = memory.ask(Epoch).await.unwrap();
    assert!(second > first, "{second} > {first}");
    memory.ask(Crash).await.unwrap_err();
    assert!(memory.ask(Epoch).await.unwrap() > second);
    system.stop().await;
}

#[tokio::test]
async fn a_start_that_fails_leaves_no_name_and_says_why() {
    let system = System::local();
    let missing = system.named::<Memory>("missing");
    assert_eq!(missing.ask(Kept).await.unwrap_err().kind(), "not_found");
    assert_eq!(system.find::<Memory>("missing").await.unwrap(), None);
    let broken = system.named::<Memory>("broken").ask(Kept).await.unwrap_err();
    assert_eq!(broken.kind(), "start_failed");
    assert!(broken.to_string().contains("it is broken"), "{broken}");
    assert_eq!(system.find::<Memory>("broken").await.unwrap(), None);
    let unknown = system.reference::<Memory>("odeon:name/test.nobody/x".parse().unwrap()).ask(Kept).await.unwrap_err();
    assert_eq!(unknown.kind(), "no_such_type");
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dormancy_under_fire_loses_nothing_and_keeps_order() {
    let system = System::local();
    let memory = system.named::<Memory>("under-fire");
    let stops = Arc::new(AtomicU64::new(0));
    let senders = (0..4u64).map(|sender| {
        let memory = if sender % 2 == 0 { memory.clone() } else { system.named::<Memory>("under-fire") };
        let stops = stops.clone();
        tokio::spawn(async move {
            for number in 0..1_000 {
                memory.tell(Keep { number: sender * 10_000 + number }).await.unwrap();
                // Slow enough that the name is stopped some twenty times meanwhile.
                while stops.load(Ordering::SeqCst) < number / 50 {
                    tokio::task::yield_now().await;
                }
            }
        })
    });
    let senders: Vec<_> = senders.collect();
    while !senders.iter().all(|sender| sender.is_finished()) {
        memory.stop();
        stops.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let kept = memory.ask(Kept).await.unwrap();
    assert_eq!(kept.len(), 4_000);
    for sender in 0..4 {
        let of_sender: Vec<_> = kept.iter().filter(|number| **number / 10_000 == sender).collect();
        assert!(of_sender.is_sorted(), "sender {sender} out of order");
        assert_eq!(of_sender.len(), 1_000);
    }
    assert!(memory.ask(Epoch).await.unwrap() > 5, "it was dormant in between");
    system.stop().await;
}

#[derive(Default)]
pub struct Plain;
#[message(reply = u64)]
pub struct Which;
#[actor("test.plain")]
impl Plain {
    fn which(&mut self, _: Which, ctx: &mut Context<Self>) -> u64 {
        ctx.epoch()
    }
}

#[tokio::test]
async fn a_name_has_one_bearer_and_is_free_after_it() {
    let system = System::local();
    let one = system.create::<Plain>(()).global_name("the one").await.unwrap();
    let same = system.create::<Plain>(()).global_name("the one").await.unwrap();
    assert_eq!(one.ask(Which).await.unwrap(), same.ask(Which).await.unwrap());
    let other = system.create::<Notebook>(()).global_name("the one").await.unwrap_err();
    assert!(other.to_string().contains("test.plain"), "{other}");
    let epoch = one.ask(Which).await.unwrap();
    one.stop();
    eventually("the name is free", async || system.find_name::<Plain>("the one").await.unwrap().is_none()).await;
    assert_eq!(one.ask(Which).await.unwrap_err().kind(), "no_such_actor");
    let next = system.create::<Plain>(()).global_name("the one").await.unwrap();
    assert!(next.ask(Which).await.unwrap() > epoch);
    assert!(one.ask(Which).await.unwrap() > epoch, "an old reference means the name, not the instance");
    system.stop().await;
}

#[derive(Default)]
pub struct Picky;
#[message]
pub struct Hello;
#[actor("test.picky", requires = "gpu >= 1")]
impl Picky {
    fn hello(&mut self, _: Hello) {}
}

#[tokio::test]
async fn requirements_are_checked_against_the_capabilities() {
    let system = System::local();
    let refused = system.create::<Picky>(()).await.unwrap_err();
    assert_eq!(refused.kind(), "no_host");
    assert!(refused.to_string().contains("gpu"), "{refused}");
    let system = system.capability("gpu", 2);
    system.create::<Picky>(()).await.unwrap().ask(Hello).await.unwrap();
    let elsewhere = system.create::<Picky>(()).on("nowhere").await.unwrap_err();
    assert_eq!(elsewhere.kind(), "no_host");
    system.stop().await;
}

// ---- troupes ----

#[derive(Default)]
pub struct Member {
    served: u64,
}
#[message(reply = String)]
pub struct Serve {
    millis: u64,
}

#[actor("test.member", troupe(max = 4, idle = 1))]
impl Member {
    async fn serve(&mut self, serve: Serve, ctx: &mut Context<Self>) -> String {
        self.served += 1;
        tokio::time::sleep(Duration::from_millis(serve.millis)).await;
        ctx.me().address().to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_troupe_grows_on_demand_up_to_its_maximum() {
    let system = System::local();
    for troupe in [
        system.create::<Member>(()).await.unwrap(),
        system.create::<Member>(()).global_name("troupe/named").await.unwrap(),
    ] {
        troupe.ask(Serve { millis: 0 }).await.unwrap();
        let asks: Vec<_> = (0..32).map(|_| tokio::spawn(troupe.ask(Serve { millis: 10 }))).collect();
        let mut members = BTreeSet::new();
        for ask in asks {
            members.insert(ask.await.unwrap().unwrap());
        }
        assert_eq!(members.len(), 4, "{members:?}");
        troupe.stop();
        eventually("it ends", async || troupe.ask(Serve { millis: 0 }).await.is_err()).await;
    }
    system.stop().await;
}

#[tokio::test]
async fn a_system_stops_its_actors_and_takes_no_new_ones() {
    let system = System::local();
    let notebook = system.create::<Notebook>(()).await.unwrap();
    notebook.tell(Note { text: "x".into() }).await.unwrap();
    system.named::<Memory>("at the end").tell(Keep { number: 1 }).await.unwrap();
    let stopping = system.stopping();
    system.stop().await;
    stopping.await;
    assert_eq!(SAVED.lock().unwrap().get("at the end"), Some(&vec![1]), "stopping has run");
    assert!(system.create::<Notebook>(()).await.is_err());
    assert_eq!(system.stats().actors, 0);
    assert!(matches!(ExitCause::Stopped, ExitCause::Stopped));
}
