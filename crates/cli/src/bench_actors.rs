//! Actors for measuring between processes: a driver in one worker, an echo in another.

use odeon::prelude::*;
use std::time::Instant;

const OUTSTANDING: usize = 1000;

/// 64 bytes of fields, to be counted.
#[message]
pub(crate) struct Item {
    a: [u64; 8],
}

/// How many items came.
#[message(reply = u64)]
pub(crate) struct Counted;

/// Comes back as it is.
#[message(reply = Item)]
pub(crate) struct Ping {
    item: Item,
}

/// Counts and echoes.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    items: u64,
}

#[actor("bench.echo", mailbox = 4096)]
impl Echo {
    fn item(&mut self, _item: Item) {
        self.items += 1;
    }
    fn counted(&mut self, _: Counted) -> u64 {
        self.items
    }
    fn ping(&mut self, ping: Ping) -> Item {
        ping.item
    }
}

/// Figures of one run, times in microseconds.
#[odeon::data]
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// Messages or asks a second.
    pub(crate) rate: f64,
    /// Median of an ask.
    pub(crate) p50: f64,
    /// 99th percentile of an ask.
    pub(crate) p99: f64,
}

/// Tells an echo on that host for so long, until all is counted.
#[message(reply = Measured)]
pub(crate) struct Tell {
    host: String,
    ms: u64,
}

/// Asks an echo on that host for so long, one at a time.
#[message(reply = Measured)]
pub(crate) struct AskOne {
    host: String,
    ms: u64,
}

/// Asks an echo on that host for so long, from a thousand actors.
#[message(reply = Measured)]
pub(crate) struct AskMany {
    host: String,
    ms: u64,
}

/// Runs the measurements.
#[derive(Debug, Default)]
pub(crate) struct Driver {
    run: Option<Run>,
}

/// A measurement with a thousand askers under way.
#[derive(Debug)]
struct Run {
    reply: odeon::ReplyTo<Measured>,
    from: Instant,
    left: usize,
    asks: u64,
    failure: Option<String>,
}

#[actor("bench.driver")]
impl Driver {
    async fn tell_all(&mut self, run: Tell, ctx: &mut Context<Self>) -> odeon::Result<Measured> {
        let echo = ctx.create::<Echo>(()).on(run.host).await?;
        let (from, limit) = (Instant::now(), Duration::from_millis(run.ms));
        let mut sent = 0;
        while from.elapsed() < limit {
            for _ in 0..64 {
                echo.tell(Item { a: [sent; 8] }).await?;
                sent += 1;
            }
        }
        let counted = echo.ask(Counted).timeout(Duration::from_secs(30)).await?;
        let rate = counted as f64 / from.elapsed().as_secs_f64();
        echo.stop();
        if counted == sent {
            Ok(Measured { rate, ..Measured::default() })
        } else {
            Err(Error::other("items were lost"))
        }
    }

    async fn ask_one(&mut self, run: AskOne, ctx: &mut Context<Self>) -> odeon::Result<Measured> {
        let echo = ctx.create::<Echo>(()).on(run.host).await?;
        let (from, limit) = (Instant::now(), Duration::from_millis(run.ms));
        let mut times = Vec::new();
        while from.elapsed() < limit {
            let start = Instant::now();
            echo.ask(Ping { item: Item { a: [1; 8] } }).await?;
            times.push(start.elapsed());
        }
        let rate = times.len() as f64 / from.elapsed().as_secs_f64();
        echo.stop();
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
        Ok(Measured { rate, p50: at(0.5), p99: at(0.99) })
    }

    async fn ask_many(&mut self, run: AskMany, ctx: &mut Context<Self>) -> odeon::Result<odeon::Deferred> {
        let echo = ctx.create::<Echo>(()).on(run.host).await?;
        let (reply, deferred) = ctx.defer();
        self.run = Some(Run { reply, from: Instant::now(), left: OUTSTANDING, asks: 0, failure: None });
        for _ in 0..OUTSTANDING {
            let asker = ctx.create::<Asker>(()).await?;
            asker.tell(Go { echo: echo.clone(), ms: run.ms, driver: ctx.me() }).await?;
        }
        Ok(deferred)
    }

    fn done(&mut self, done: Done) {
        let Some(run) = &mut self.run else { return };
        run.asks += done.asks;
        run.left -= 1;
        run.failure = run.failure.take().or(done.failure);
        if run.left == 0
            && let Some(run) = self.run.take()
        {
            let rate = run.asks as f64 / run.from.elapsed().as_secs_f64();
            match run.failure {
                None => run.reply.send(Measured { rate, ..Measured::default() }),
                Some(failure) => run.reply.fail(failure),
            }
        }
    }
}

/// Ask that echo for so long, then say how often.
#[message]
pub(crate) struct Go {
    echo: ActorRef<Echo>,
    ms: u64,
    driver: ActorRef<Driver>,
}

/// How often an asker asked, and what ended it early.
#[message]
pub(crate) struct Done {
    asks: u64,
    failure: Option<String>,
}

/// One of a thousand.
#[derive(Debug, Default)]
pub(crate) struct Asker;

#[actor("bench.asker")]
impl Asker {
    async fn go(&mut self, go: Go, ctx: &mut Context<Self>) -> odeon::Result {
        let (from, limit) = (Instant::now(), Duration::from_millis(go.ms));
        let (mut asks, mut failure) = (0, None);
        while failure.is_none() && from.elapsed() < limit {
            match go.echo.ask(Ping { item: Item { a: [asks; 8] } }).await {
                Ok(_) => asks += 1,
                Err(error) => failure = Some(error.to_string()),
            }
        }
        go.driver.tell(Done { asks, failure }).await?;
        ctx.stop();
        Ok(())
    }
}
