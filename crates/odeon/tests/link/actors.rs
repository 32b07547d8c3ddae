//! The actors of these tests: receivers, one of which waits at a gate, and senders that send what they are asked to.

use odeon::{Error, prelude::*};
use odeon_protocol::Reason;
use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::Semaphore;

/// Gates by name: a handler of a gated actor waits for a permit.
static GATES: LazyLock<Mutex<HashMap<String, Arc<Semaphore>>>> = LazyLock::new(Mutex::default);

pub(super) fn gate(name: &str) -> Arc<Semaphore> {
    GATES.lock().unwrap().entry(name.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(0))).clone()
}

/// What came back to any teller of a test, by the test's name.
pub(super) static BACK: LazyLock<Mutex<Back>> = LazyLock::new(Mutex::default);
pub(super) type Back = HashMap<String, Vec<(Reason, Option<u64>)>>;

#[message]
pub(super) struct Record {
    pub(super) n: u64,
}
#[message(reply = Vec<u64>)]
pub(super) struct Seen;
#[message(reply = u64)]
pub(super) struct Double {
    pub(super) n: u64,
}
#[message]
pub(super) struct Fail;
#[message(reply = u64)]
pub(super) struct Wait;
#[message(reply = String)]
pub(super) struct WhoAsks;

#[derive(Default)]
pub(super) struct Recorder {
    seen: Vec<u64>,
}
#[actor("test.recorder")]
impl Recorder {
    fn record(&mut self, record: Record) {
        self.seen.push(record.n);
    }
    fn seen(&mut self, _: Seen) -> Vec<u64> {
        self.seen.clone()
    }
    fn double(&mut self, double: Double) -> u64 {
        double.n * 2
    }
    fn fail(&mut self, _: Fail) -> odeon::Result {
        Err(Error::other("on purpose"))
    }
    fn who(&mut self, _: WhoAsks, ctx: &mut Context<Self>) -> String {
        ctx.sender().map(|sender| sender.to_string()).unwrap_or_default()
    }
}

/// A keyed recorder that rests when it stops, and whose handlers pass a gate named as its key.
pub(super) struct Gated {
    gate: Arc<Semaphore>,
    seen: Vec<u64>,
}
pub(super) static KEPT: LazyLock<Mutex<HashMap<String, Vec<u64>>>> = LazyLock::new(Mutex::default);
#[actor("test.gated", on_stop = dormant)]
impl Gated {
    async fn start(key: String) -> odeon::Result<Self> {
        let seen = KEPT.lock().unwrap().get(&key).cloned().unwrap_or_default();
        Ok(Self { gate: gate(&key), seen })
    }
    async fn record(&mut self, record: Record) {
        self.gate.acquire().await.unwrap().forget();
        self.seen.push(record.n);
    }
    fn seen(&mut self, _: Seen) -> Vec<u64> {
        self.seen.clone()
    }
    async fn wait(&mut self, _: Wait) -> u64 {
        self.gate.acquire().await.unwrap().forget();
        7
    }
    fn stopping(&mut self, ctx: &mut Context<Self>) {
        KEPT.lock().unwrap().insert(ctx.name().unwrap_or_default().to_owned(), self.seen.clone());
    }
}

#[message(reply = u64)]
pub(super) struct TellMany {
    pub(super) to: ActorRef<Recorder>,
    pub(super) from: u64,
    pub(super) count: u64,
}
#[message]
pub(super) struct TellGated {
    pub(super) to: ActorRef<Gated>,
    pub(super) count: u64,
}
#[message]
pub(super) struct TellFail {
    pub(super) to: ActorRef<Recorder>,
}
#[message(reply = u64)]
pub(super) struct AskDouble {
    pub(super) to: ActorRef<Recorder>,
    pub(super) n: u64,
}
#[message(reply = u64)]
pub(super) struct ForwardDouble {
    pub(super) to: ActorRef<Recorder>,
    pub(super) n: u64,
}

/// Sends on request; accepted counts by test.
pub(super) struct Teller {
    test: String,
}
static ACCEPTED: LazyLock<Mutex<HashMap<String, Arc<AtomicU64>>>> = LazyLock::new(Mutex::default);
pub(super) fn accepted(test: &str) -> Arc<AtomicU64> {
    ACCEPTED.lock().unwrap().entry(test.to_owned()).or_default().clone()
}
#[actor("test.teller")]
impl Teller {
    async fn start(test: String) -> odeon::Result<Self> {
        Ok(Self { test })
    }
    async fn tell_many(&mut self, many: TellMany) -> odeon::Result<u64> {
        for n in many.from..many.from + many.count {
            many.to.tell(Record { n }).await?;
        }
        Ok(many.count)
    }
    async fn tell_gated(&mut self, many: TellGated) -> odeon::Result {
        let accepted = accepted(&self.test);
        for n in 0..many.count {
            many.to.tell(Record { n }).await?;
            accepted.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
    async fn tell_fail(&mut self, tell: TellFail) -> odeon::Result {
        Ok(tell.to.tell(Fail).await?)
    }
    async fn ask_double(&mut self, ask: AskDouble) -> odeon::Result<u64> {
        ask.to.ask(Double { n: ask.n }).await
    }
    fn forward(&mut self, forward: ForwardDouble, ctx: &mut Context<Self>) -> odeon::Forwarded {
        ctx.forward(&forward.to, Double { n: forward.n })
    }
    fn returned(&mut self, mut back: odeon::Returned) {
        let number = back.take::<Record>().map(|record| record.n);
        BACK.lock().unwrap().entry(self.test.clone()).or_default().push((back.reason(), number));
    }
}
