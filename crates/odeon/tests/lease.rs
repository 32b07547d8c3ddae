//! What a process tells its agent about its named actors once its lease has run out.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test uses its part of the agent")]
mod agent;

use agent::{Agent, until};
use odeon::{System, prelude::*};
use odeon_protocol::{
    Time,
    control::{FromAgent, ToAgent},
};
use std::{
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

/// How often the named, and the nameless, one's spawned future went on.
static TICKS: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
/// Lets handlers of [`Hold`] go on.
static LET_GO: LazyLock<Mutex<Option<mpsc::Receiver<()>>>> = LazyLock::new(Mutex::default);

#[message(reply = u64)]
struct Count;
#[message]
struct Hold;
#[message(reply = ())]
struct Tick;

#[derive(Default)]
struct Counter(u64);
#[actor("lease.counter")]
impl Counter {
    fn count(&mut self, _: Count) -> u64 {
        self.0 += 1;
        self.0
    }
    /// Has something run beside it.
    fn tick(&mut self, _: Tick, ctx: &mut Context<Self>) {
        let ticks = &TICKS[usize::from(ctx.name().is_none())];
        ctx.spawn(async {
            loop {
                ticks.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
    /// Holds its thread, as a long calculation does.
    fn hold(&mut self, _: Hold) {
        let let_go = LET_GO.lock().unwrap().take().unwrap();
        let_go.recv().unwrap();
    }
}

async fn pair() -> (Agent, System, System) {
    let agent = Agent::new();
    let one = odeon::worker![Counter].attach(agent.socket()).await.unwrap();
    let two = odeon::worker![Counter].attach(agent.socket()).await.unwrap();
    (agent, one, two)
}

/// So long from now, by the clock of leases.
fn after(span: Duration) -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Time::from_nanos(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64) + span
}

fn lease(agent: &Agent, process: usize, pause_at: Time) {
    agent.say(process, &FromAgent::Lease { pause_at, kill_at: pause_at + Duration::from_secs(60) });
}

fn rests(agent: &Agent, process: usize, since: Time) -> bool {
    agent.was_told(|from, message| from == process && *message == ToAgent::AtRest { pause_at: since })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_says_that_its_named_actors_rest_whenever_a_lease_has_run_out() {
    let (agent, one, _two) = pair().await;
    agent.place_at(0);
    let named = one.named::<Counter>("rests");
    assert_eq!(named.ask(Count).await.unwrap(), 1);
    for round in 1..4 {
        let (far, near) = (after(Duration::from_secs(600)), after(Duration::from_millis(50)));
        lease(&agent, 0, far);
        assert_eq!(named.ask(Count).await.unwrap(), 2 * round);
        // An earlier end than was said before, as when the lease is lost.
        lease(&agent, 0, near);
        until("it says that they rest", || rests(&agent, 0, near)).await;
        assert!(!rests(&agent, 0, far));
        let asked = tokio::spawn(named.ask(Count).timeout(Duration::from_secs(60)));
        lease(&agent, 0, after(Duration::from_secs(600)));
        assert_eq!(asked.await.unwrap().unwrap(), 2 * round + 1, "a later lease lets them go on");
    }
}

/// The agent refuses those that come once the lease has run out.
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_says_under_which_epoch_it_was_made() {
    let (agent, one, _two) = pair().await;
    agent.place_at(1);
    one.named::<Counter>("replies").ask(Count).await.unwrap();
    let epochs = agent.reply_epochs();
    assert!(epochs.len() == 1 && epochs[0] > 0, "{epochs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_actor_in_the_middle_of_a_message_is_not_at_rest() {
    let (agent, one, two) = pair().await;
    agent.place_at(0);
    let named = one.named::<Counter>("holds");
    assert_eq!(named.ask(Count).await.unwrap(), 1);
    agent.place_at(1);
    assert_eq!(two.named::<Counter>("idle").ask(Count).await.unwrap(), 1);
    let (let_go, held) = mpsc::channel();
    *LET_GO.lock().unwrap() = Some(held);
    named.tell(Hold).await.unwrap();
    until("its handler runs", || LET_GO.lock().unwrap().is_none()).await;
    let over = after(Duration::ZERO);
    lease(&agent, 0, over);
    for _ in 0..3 {
        // Said by the other process, and looked at there as often: this one has had the time.
        let later = after(Duration::from_millis(20));
        lease(&agent, 1, later);
        until("the other process rests", || rests(&agent, 1, later)).await;
        assert!(!rests(&agent, 0, over), "a handler runs");
    }
    let_go.send(()).unwrap();
    until("this one rests", || rests(&agent, 0, over)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_named_actor_has_spawned_rests_with_it() {
    let (agent, one, _two) = pair().await;
    agent.place_at(0);
    lease(&agent, 0, after(Duration::from_secs(600)));
    one.named::<Counter>("spawns").ask(Tick).await.unwrap();
    let nameless = one.create::<Counter>(()).await.unwrap();
    nameless.ask(Tick).await.unwrap();
    let ticks = |of: usize| TICKS[of].load(Ordering::SeqCst);
    until("both go on", || ticks(0) > 3 && ticks(1) > 3).await;
    let near = after(Duration::from_millis(20));
    lease(&agent, 0, near);
    until("it says that they rest", || rests(&agent, 0, near)).await;
    let (named, other) = (ticks(0), ticks(1));
    until("the nameless one's goes on", || ticks(1) > other + 30).await;
    assert_eq!(ticks(0), named, "the named one's rests");
    lease(&agent, 0, after(Duration::from_secs(600)));
    until("it goes on", || ticks(0) > named + 3).await;
}
