//! `probe.relay`: sends numbered messages to another actor and accounts for every one of them.
//!
//! A message that was accepted is handled, or comes back: known not to have run (`returned`), or perhaps run
//! (`unsettled`). Order holds from here to there, so when the actor answers a question asked after the last message,
//! whatever comes back has come back, or is in this actor's mailbox before the note that ends the count.

use crate::{Gaps, Next, Sequence};
use odeon::{Deferred, ReplyTo, Returned, prelude::*};
use std::time::Instant;

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
    pub rate: Option<f64>,
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
}

/// Tells the relay itself that whatever comes back has come back.
#[message]
#[derive(Clone, Debug)]
pub struct Settled {
    /// Which run it concerns.
    pub run: u64,
}

/// How long the actor may take over what it was sent.
const SETTLING: Duration = Duration::from_secs(600);

/// A run that is not settled yet.
#[derive(Debug)]
struct Run {
    number: u64,
    began: Instant,
    to: String,
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
        let (began, to) = (Instant::now(), send.to.address().to_string());
        let sent = self.send_all(&send, &to).await;
        self.begun += 1;
        let (me, run) = (ctx.me(), self.begun);
        self.runs.push(Run { number: run, began, to, sent, reply });
        ctx.spawn(async move {
            // Its answer, or its failure, comes after whatever comes back.
            let _ = send.to.ask(Gaps).timeout(SETTLING).await;
            let _ = me.tell(Settled { run }).await;
        });
        deferred
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
        if back.may_have_run() { run.sent.unsettled += 1 } else { run.sent.returned += 1 }
    }
}

impl Relay {
    async fn send_all(&mut self, send: &Send, to: &str) -> Sent {
        let mut sent = Sent::default();
        let pad = "x".repeat(send.bytes);
        let number = self.numbers.entry(to.to_owned()).or_insert(1);
        let began = tokio::time::Instant::now();
        for at in 0..send.count {
            if let Some(rate) = send.rate.filter(|rate| *rate > 0.0) {
                tokio::time::sleep_until(began + Duration::from_secs_f64(at as f64 / rate)).await;
            }
            match send.to.tell(Next { n: *number, pad: pad.clone() }).await {
                Ok(()) => {
                    sent.accepted += 1;
                    *number += 1;
                }
                Err(_) => sent.refused += 1,
            }
        }
        sent
    }
}
