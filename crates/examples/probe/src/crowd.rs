//! `probe.crowd`: many senders in one process, and how long an ask from there takes meanwhile.

use crate::{Echo, Echoer, Relay, Send, Sequence};
use odeon::prelude::*;
use std::time::Instant;

/// Creates relays in this process' place, which all send to one actor; answers when all have been told.
#[message(reply = u32)]
#[derive(Clone, Debug)]
pub struct Flood {
    /// To whom they send.
    pub to: ActorRef<Sequence>,
    /// How many relays.
    pub senders: u32,
    /// How many messages each.
    pub each: u64,
    /// How large the padding of each message is.
    #[serde(default)]
    pub bytes: usize,
    /// On which hosts the relays are.
    pub requires: Option<String>,
}

/// Asks an echo so many times, one after the other, this often.
#[message(reply = Timing)]
#[derive(Clone, Debug)]
pub struct Time {
    /// Whom.
    pub to: ActorRef<Echoer>,
    /// How many times.
    pub count: u32,
    /// Milliseconds from one ask to the next.
    #[serde(default)]
    pub every_ms: u64,
}

/// The answer to [`Time`].
#[data]
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    /// Asks that were answered.
    pub answered: u32,
    /// Asks that were not.
    pub failed: u32,
    /// Half of them took no longer, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 took no longer.
    pub p99_us: f64,
    /// The slowest.
    pub max_us: f64,
}

/// The actor.
#[derive(Debug, Default)]
pub struct Crowd;

#[actor("probe.crowd")]
impl Crowd {
    async fn flood(&mut self, flood: Flood, ctx: &mut Context<Self>) -> odeon::Result<u32> {
        for _ in 0..flood.senders {
            let relay = match flood.requires.as_deref() {
                Some(requirement) => ctx.create::<Relay>(()).requires(requirement).await?,
                None => ctx.create::<Relay>(()).await?,
            };
            let send = Send { to: flood.to.clone(), count: flood.each, bytes: flood.bytes, rate: None, seconds: None };
            relay.tell(send).await?;
        }
        Ok(flood.senders)
    }

    async fn time(&mut self, time: Time) -> Timing {
        let (mut took, mut failed) = (Vec::new(), 0);
        let mut ticks = tokio::time::interval(Duration::from_millis(time.every_ms.max(1)));
        for _ in 0..time.count {
            if time.every_ms > 0 {
                ticks.tick().await;
            }
            let began = Instant::now();
            match time.to.ask(Echo { text: String::new() }).await {
                Ok(_) => took.push(began.elapsed().as_secs_f64() * 1e6),
                Err(_) => failed += 1,
            }
        }
        took.sort_by(f64::total_cmp);
        let at = |share: f64| took.get((took.len() as f64 * share) as usize).or(took.last()).copied().unwrap_or(0.0);
        Timing { answered: took.len() as u32, failed, p50_us: at(0.5), p99_us: at(0.99), max_us: at(1.0) }
    }
}
