//! `probe.relay`: sends numbered messages to another actor and accounts for every one of them.
//!
//! A message that was accepted is handled, or comes back: known not to have run (`returned`), or perhaps run
//! (`unsettled`). Order holds from here to there, so when the actor answers a question asked after the last message,
//! whatever comes back has come back, or is in this actor's mailbox before the note that ends the count.

use crate::{Gaps, Next, Sequence};
use odeon::{Deferred, ReplyTo, Returned, prelude::*};
use std::{sync::Arc, time::Instant};

/// Sends so many numbered messages. Goes on counting where the last one for the same actor stopped.
#[message(reply = Sent)]
#[derive(Clone, Debug)]
pub struct Send {
    /// To whom: an address or a global name.
    pub to: ActorRef<Sequence>,
    /// How many.
    pub count: u64,
    /// How large the padding of each is.
    #[serde(default)]
    pub bytes: usize,
    /// How many a second, whether or not the receiver keeps up; without it, as fast as they are accepted.
    ///
    /// What could not go when it was due, as the runtime made this actor wait, goes as soon as it can.
    pub rate: Option<f64>,
    /// How many seconds at most; what is not sent by then is not sent at all.
    pub seconds: Option<f64>,
}

/// The answer to [`Send`], when all is settled.
#[data]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sent {
    /// Messages that the runtime accepted.
    pub accepted: u64,
    /// Of these, messages that came back unhandled.
    pub returned: u64,
    /// Of these, messages that came back and may have run.
    pub unsettled: u64,
    /// Messages that the runtime did not accept.
    pub refused: u64,
    /// How long it took until all was settled.
    pub seconds: f64,
    /// How many a second were accepted while it was sending.
    #[serde(default)]
    pub rate: f64,
    /// How many seconds it fell behind the rate that was asked for, at worst.
    #[serde(default)]
    pub behind: f64,
}

/// Tells the relay itself to go on sending.
#[message]
#[derive(Clone, Debug)]
pub struct GoOn {
    /// With which run.
    pub run: u64,
}

/// Tells the relay itself that whatever comes back has come back.
#[message]
#[derive(Clone, Debug)]
pub struct Settled {
    /// Which run it concerns.
    pub run: u64,
}

/// Messages that are due go together this often: no timer is finer, and at high rates none should be.
const BURST: Duration = Duration::from_millis(1);
/// So long it sends before it looks at what came back.
const TURN: Duration = Duration::from_millis(50);
/// How long the actor may take over what it was sent.
const SETTLING: Duration = Duration::from_secs(600);

/// A run that is not settled yet.
#[derive(Debug)]
struct Run {
    number: u64,
    send: Send,
    padding: Arc<String>,
    to: String,
    began: Instant,
    /// Messages tried so far.
    tried: u64,
    sent: Sent,
    reply: ReplyTo<Sent>,
}

/// The actor.
#[derive(Debug, Default)]
pub struct Relay {
    /// Receiver → the next number.
    numbers: HashMap<String, u64>,
    runs: Vec<Run>,
    /// Runs begun so far.
    begun: u64,
}

#[actor("probe.relay")]
impl Relay {
    async fn send(&mut self, send: Send, ctx: &mut Context<Self>) -> Deferred {
        let (reply, deferred) = ctx.defer::<Sent>();
        self.begun += 1;
        let (number, to) = (self.begun, send.to.address().to_string());
        let (padding, sent) = (Arc::new("x".repeat(send.bytes)), Sent::default());
        self.runs.push(Run { number, send, padding, to, began: Instant::now(), tried: 0, sent, reply });
        // To itself an actor can always tell.
        let _ = ctx.me().tell(GoOn { run: number }).await;
        deferred
    }

    async fn go_on(&mut self, turn: GoOn, ctx: &mut Context<Self>) {
        let Some(run) = self.runs.iter_mut().find(|run| run.number == turn.run) else { return };
        let number = self.numbers.entry(run.to.clone()).or_insert(1);
        let (me, to, all) = (ctx.me(), run.send.to.clone(), run.take_turn(number).await);
        if !all {
            let _ = me.tell(turn).await;
            return;
        }
        ctx.spawn(async move {
            // Its answer, or its failure, comes after whatever comes back.
            let _ = to.ask(Gaps).timeout(SETTLING).await;
            let _ = me.tell(Settled { run: turn.run }).await;
        });
    }

    fn settled(&mut self, settled: Settled) {
        if let Some(at) = self.runs.iter().position(|run| run.number == settled.run) {
            let run = self.runs.remove(at);
            run.reply.send(Sent { seconds: run.began.elapsed().as_secs_f64(), ..run.sent });
        }
    }

    fn returned(&mut self, back: Returned) {
        let to = back.to().to_string();
        let Some(run) = self.runs.iter_mut().find(|run| run.to == to) else { return };
        let ended = if back.may_have_run() { &mut run.sent.unsettled } else { &mut run.sent.returned };
        *ended += u64::from(back.count());
    }
}

impl Run {
    /// Sends for a while. Whether that was all.
    async fn take_turn(&mut self, number: &mut u64) -> bool {
        let end = self.began.elapsed() + TURN;
        let last = self.send.seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        loop {
            let passed = self.began.elapsed();
            let all = self.tried == self.send.count || last.is_some_and(|last| passed >= last);
            if all || passed >= end {
                self.sent.rate = self.sent.accepted as f64 / passed.as_secs_f64();
                return all;
            }
            if let Some(early) = self.early(passed) {
                tokio::time::sleep(early.max(BURST)).await;
                continue;
            }
            self.tried += 1;
            match self.send.to.tell(Next { n: *number, pad: self.padding.clone() }).await {
                Ok(()) => {
                    self.sent.accepted += 1;
                    *number += 1;
                }
                Err(_) => self.sent.refused += 1,
            }
        }
    }

    /// How long until the next message is due: in an open loop that does not depend on those before.
    fn early(&mut self, passed: Duration) -> Option<Duration> {
        let rate = self.send.rate.filter(|rate| *rate > 0.0)?;
        let due = Duration::try_from_secs_f64(self.tried as f64 / rate).unwrap_or(Duration::MAX);
        let behind = passed.saturating_sub(due).as_secs_f64();
        self.sent.behind = self.sent.behind.max(behind);
        (due > passed).then(|| due - passed)
    }
}
