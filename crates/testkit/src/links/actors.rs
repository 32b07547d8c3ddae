//! The actors of a run: those that send numbered messages, and those that note what arrives.

use super::stage;
use crate::sleepers;
use odeon::{Returned, prelude::*};
use odeon_protocol::limits::{CHUNK_BYTES, LARGE_FRAME_BYTES};
use std::time::Duration;

/// The next message of a sender to a receiver.
#[message]
#[derive(Debug)]
pub(super) struct Next {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) number: u64,
    /// Makes some of them large.
    pub(super) filler: Vec<u8>,
}

/// The same as a question.
#[message(reply = u64)]
#[derive(Debug)]
pub(super) struct Question {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) number: u64,
    pub(super) filler: Vec<u8>,
}

/// The same, with the answer as large as the question.
#[message(reply = Vec<u8>)]
#[derive(Debug)]
pub(super) struct Echo {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) number: u64,
    pub(super) filler: Vec<u8>,
}

/// Has a sender send.
#[message]
#[derive(Debug)]
pub(super) struct Go {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) receiver: ActorRef<Sink>,
    pub(super) count: u64,
    /// Microseconds between two messages.
    pub(super) gap_us: u64,
    /// After so many messages it rests; 0 for never.
    pub(super) rest_every: u64,
    /// Every so many messages one is a question; 0 for none.
    pub(super) ask_every: u64,
    /// Every so many messages one is large; 0 for none.
    pub(super) large_every: u64,
}

impl Go {
    /// What makes a message as large as it is to be: of one to six chunks more than it takes to be large.
    fn filler(&self, number: u64) -> Vec<u8> {
        let large = self.large_every > 0 && number.is_multiple_of(self.large_every);
        let size = LARGE_FRAME_BYTES + (number % 6) as usize * CHUNK_BYTES + number as usize;
        if large { vec![number as u8; size] } else { Vec::new() }
    }
}

/// Sends what [`Go`] says, one message a turn, so that what comes back is heard in between.
#[derive(Debug, Default)]
pub(super) struct Source {
    me: u32,
}

#[actor("sim.source")]
impl Source {
    async fn go(&mut self, go: Go, ctx: &mut Context<Self>) -> odeon::Result {
        self.me = go.from;
        let flow = (go.from, go.to);
        if go.count == 0 {
            stage::with(|stage| stage.log.finished(flow));
            return Ok(());
        }
        let rests = go.rest_every > 0 && go.count.is_multiple_of(go.rest_every);
        sleepers::sleep(Duration::from_micros(if rests { 8_000_000 } else { go.gap_us })).await;
        let number = stage::with(|stage| {
            stage.waiting += 1;
            stage.log.next(flow)
        });
        if go.ask_every > 0 && number.is_multiple_of(go.ask_every) {
            let (from, to, filler) = (go.from, go.to, go.filler(number));
            let patience = Duration::from_secs(3600);
            let failed = if filler.is_empty() {
                go.receiver.ask(Question { from, to, number, filler }).timeout(patience).await.err()
            } else {
                let size = filler.len();
                let echo = go.receiver.ask(Echo { from, to, number, filler }).timeout(patience).await;
                echo.inspect(|echo| assert_eq!(echo.len(), size, "the answer came whole")).err()
            };
            let failed = failed.map(|error| error.may_have_run());
            stage::with(|stage| stage.log.answered(flow, number, failed));
        } else {
            let told = go.receiver.tell(Next { from: go.from, to: go.to, number, filler: go.filler(number) }).await;
            stage::with(|stage| stage.log.told(flow, number, told.is_ok()));
        }
        stage::with(|stage| stage.waiting -= 1);
        Ok(ctx.me().tell(Go { count: go.count - 1, ..go }).await?)
    }

    fn returned(&mut self, mut back: Returned) {
        let (count, reason, may_have_run) = (back.count(), back.reason(), back.may_have_run());
        let to = back.to().to_string();
        let message = back.take::<Next>();
        stage::with(|stage| match message {
            Some(Next { from, to, number, .. }) => stage.log.returned((from, to), number, reason, may_have_run),
            None => stage.log.lost(self.me, &to, count),
        });
    }
}

/// Notes what arrives.
#[derive(Debug)]
pub(super) struct Sink;

#[actor("sim.sink", on_stop = dormant)]
impl Sink {
    async fn start(_: String) -> odeon::Result<Self> {
        let span = stage::with(|stage| stage.start_takes);
        sleepers::sleep(span).await;
        Ok(Self)
    }

    async fn stopping(&mut self) -> odeon::Result {
        let span = stage::with(|stage| stage.stop_takes);
        sleepers::sleep(span).await;
        Ok(())
    }

    async fn next(&mut self, next: Next) {
        let slowness = stage::with(|stage| {
            stage.log.handled((next.from, next.to), next.number);
            stage.log.large += u64::from(!next.filler.is_empty());
            stage.slowness.get(&next.to).copied()
        });
        if let Some(slowness) = slowness {
            sleepers::sleep(slowness).await;
        }
    }

    async fn echo(&mut self, echo: Echo) -> Vec<u8> {
        let Echo { from, to, number, filler } = echo;
        stage::with(|stage| stage.log.large += 1);
        self.question(Question { from, to, number, filler: Vec::new() }).await;
        filler
    }

    async fn question(&mut self, question: Question) -> u64 {
        let slowness = stage::with(|stage| {
            stage.log.handled((question.from, question.to), question.number);
            stage.slowness.get(&question.to).copied()
        });
        if let Some(slowness) = slowness {
            sleepers::sleep(slowness).await;
        }
        question.number
    }
}
