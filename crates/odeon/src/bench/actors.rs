//! The actors that are measured.

use crate::prelude::*;
use std::time::Instant;

/// Sixty-four bytes.
#[message]
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(super) words: [u64; 8],
}

/// When this many have come, the answer.
#[message(reply = u64)]
#[derive(Debug)]
pub(crate) struct WhenAll {
    pub(super) count: u64,
}

/// Counts.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    seen: u64,
    waiting: Option<(u64, ReplyTo<u64>)>,
}

#[actor("bench.sink")]
impl Sink {
    fn parcel(&mut self, parcel: Parcel) {
        self.seen += parcel.words[0];
        if let Some((count, reply)) = self.waiting.take_if(|waiting| waiting.0 == self.seen) {
            reply.send(count);
        }
    }

    fn when_all(&mut self, wanted: WhenAll, ctx: &mut Context<Self>) -> crate::Deferred {
        let (reply, deferred) = ctx.defer();
        if self.seen == wanted.count {
            reply.send(wanted.count);
        } else {
            self.waiting = Some((wanted.count, reply));
        }
        deferred
    }
}

/// Sends so many parcels.
#[message]
#[derive(Debug)]
pub(crate) struct Send {
    pub(super) count: u64,
    pub(super) to: ActorRef<Sink>,
}

/// Asks so often; answers each ask's time in nanoseconds.
#[message(reply = Vec<u32>)]
#[derive(Debug)]
pub(crate) struct AskOften {
    pub(super) count: u64,
    pub(super) whom: ActorRef<Echo>,
}

/// Sends and asks.
#[derive(Debug, Default)]
pub(crate) struct Source;

#[actor("bench.source")]
impl Source {
    async fn send(&mut self, send: Send) -> crate::Result {
        for _ in 0..send.count {
            send.to.tell(Parcel { words: [1; 8] }).await?;
        }
        Ok(())
    }

    async fn ask_often(&mut self, asks: AskOften) -> crate::Result<Vec<u32>> {
        let mut nanos = Vec::with_capacity(asks.count as usize);
        for number in 0..asks.count {
            let began = Instant::now();
            asks.whom.ask(Ping { number }).await?;
            nanos.push(began.elapsed().as_nanos() as u32);
        }
        Ok(nanos)
    }
}

/// Answered with its number.
#[message(reply = u64)]
#[derive(Debug)]
pub(crate) struct Ping {
    pub(super) number: u64,
}

/// A message that changes a counter.
#[message]
#[derive(Debug)]
pub(crate) struct Poke;

/// Answers.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    poked: u64,
}

#[actor("bench.echo")]
impl Echo {
    fn ping(&mut self, ping: Ping) -> u64 {
        ping.number
    }

    fn poke(&mut self, _: Poke) {
        self.poked += 1;
    }
}

/// Passed round a ring.
#[message]
#[derive(Debug)]
pub(crate) struct Token {
    pub(super) left: u64,
}

/// The next in the ring, and whom to tell at the end.
#[message]
#[derive(Debug)]
pub(crate) struct Link {
    pub(super) next: ActorRef<Hop>,
    pub(super) end: ActorRef<Sink>,
}

/// One of a ring.
#[derive(Debug, Default)]
pub(crate) struct Hop {
    link: Option<Link>,
}

#[actor("bench.hop")]
impl Hop {
    fn link(&mut self, link: Link) {
        self.link = Some(link);
    }

    async fn token(&mut self, token: Token) -> crate::Result {
        let Some(link) = &self.link else { return Ok(()) };
        if token.left == 0 {
            return Ok(link.end.tell(Parcel { words: [1; 8] }).await?);
        }
        Ok(link.next.tell(Token { left: token.left - 1 }).await?)
    }
}

/// How many to create, and whether each is told something and stopped.
#[message(reply = u64)]
#[derive(Debug)]
pub(crate) struct Breed {
    pub(super) count: u64,
    pub(super) stop: bool,
}

/// Creates actors and forgets them.
#[derive(Debug, Default)]
pub(crate) struct Breeder {
    ended: u64,
    waiting: Option<(u64, ReplyTo<u64>)>,
}

#[actor("bench.breeder")]
impl Breeder {
    async fn breed(&mut self, breed: Breed, ctx: &mut Context<Self>) -> crate::Result<crate::Deferred> {
        let (reply, deferred) = ctx.defer();
        self.ended = 0;
        self.waiting = breed.stop.then_some((breed.count, reply));
        for number in 0..breed.count {
            let child = ctx.create::<Echo>(()).await?;
            if breed.stop {
                child.tell(Poke).await?;
                child.stop();
                if number % 256 == 255 {
                    ctx.yield_now().await;
                }
            }
        }
        Ok(deferred)
    }

    fn child_exited(&mut self, _: ChildExited) {
        self.ended += 1;
        if let Some((count, reply)) = self.waiting.take_if(|waiting| waiting.0 == self.ended) {
            reply.send(count);
        }
    }
}

/// Works without end, in pieces of 20 µs.
#[message]
#[derive(Debug)]
pub(crate) struct Work;

/// Keeps a core busy by telling itself to.
#[derive(Debug, Default)]
pub(crate) struct Busy;

#[actor("bench.busy")]
impl Busy {
    async fn work(&mut self, _: Work, ctx: &mut Context<Self>) -> crate::Result {
        let began = Instant::now();
        while began.elapsed() < Duration::from_micros(20) {
            std::hint::spin_loop();
        }
        Ok(ctx.me().tell(Work).await?)
    }
}
