//! The actors of a run: those that bear global names, those that use them, and the children of these.

use super::stage::{self, Seen};
use crate::sleepers::sleep;
use odeon::prelude::*;
use odeon_protocol::simulated;

/// Is handled by whoever bears the name.
#[message(reply = u64)]
#[derive(Debug)]
pub(super) struct Use {
    /// Its number.
    pub(super) id: u64,
    /// Its sender's.
    pub(super) by: u64,
    /// The bearer stops after it.
    pub(super) last: bool,
}

/// The same without an answer.
#[message]
#[derive(Debug)]
pub(super) struct Note {
    pub(super) id: u64,
    pub(super) by: u64,
}

/// Says what it handles, under which epoch.
#[derive(Debug)]
pub(super) struct Bearer {
    instance: u64,
}

#[actor("sim.bearer")]
impl Bearer {
    async fn start(_: String) -> odeon::Result<Self> {
        Ok(Self { instance: stage::number() })
    }

    async fn use_it(&mut self, message: Use, ctx: &mut Context<Self>) -> u64 {
        self.says(ctx, Some((message.id, message.by)));
        sleep(Duration::from_millis(random(40))).await;
        // The gate was looked at again.
        self.says(ctx, None);
        if message.last {
            ctx.stop();
        }
        ctx.epoch()
    }

    async fn note(&mut self, message: Note, ctx: &mut Context<Self>) {
        self.says(ctx, Some((message.id, message.by)));
    }
}

impl Bearer {
    fn says(&self, ctx: &Context<Self>, begins: Option<(u64, u64)>) {
        let name = ctx.global_name().unwrap_or_default().to_owned();
        let (host, _) = stage::turn();
        stage::saw(Seen::Handles { name, epoch: ctx.epoch(), instance: self.instance, host, begins });
    }
}

/// Has a name used, and perhaps an actor created.
#[message]
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) key: String,
    /// The host on which one is created.
    pub(super) born_on: Option<String>,
    /// How often it is told something before it is asked.
    pub(super) tells: u64,
}

/// Tells and asks, and says what came; has children.
#[derive(Debug)]
pub(super) struct User {
    number: u64,
}

/// An ask's limit.
const PATIENCE: Duration = Duration::from_secs(4);

#[actor("sim.user")]
impl User {
    async fn start(_: ()) -> odeon::Result<Self> {
        Ok(Self { number: stage::number() })
    }

    async fn attempt(&mut self, attempt: Attempt, ctx: &mut Context<Self>) {
        let process = stage::turn().1;
        if let Some(host) = attempt.born_on {
            let lives = Duration::from_millis(random(6000));
            if let Ok(child) = ctx.create::<Child>(lives).on(host).await {
                stage::saw(Seen::Born { child: child.address().to_string(), process });
            }
        }
        let (bearer, by) = (ctx.named::<Bearer>(&attempt.key), self.number);
        for _ in 0..attempt.tells {
            let id = stage::number();
            stage::saw(Seen::Tells { id });
            if let Err(error) = bearer.tell(Note { id, by }).await {
                stage::saw(Seen::Returned { id, why: (error.error.may_have_run(), error.error.to_string()) });
            }
        }
        let id = stage::number();
        stage::saw(Seen::Asks { id, process });
        let answer = bearer.ask(Use { id, by, last: random(40) == 0 }).timeout(PATIENCE).await;
        stage::saw(Seen::Answered { id, failed: answer.err().map(|error| (error.may_have_run(), error.to_string())) });
    }

    fn returned(&mut self, mut back: Returned) {
        let why = (back.may_have_run(), back.text().to_owned());
        if let Some(note) = back.take::<Note>() {
            stage::saw(Seen::Returned { id: note.id, why });
        }
    }

    fn child_exited(&mut self, exit: ChildExited) {
        stage::saw(Seen::Ended { child: exit.child.to_string(), process: stage::turn().1 });
    }
}

/// Lives for a while.
#[derive(Debug)]
pub(super) struct Child;

/// The child's time is over.
#[message]
#[derive(Debug)]
struct Over;

#[actor("sim.child")]
impl Child {
    fn start(lives: Duration, ctx: &mut Context<Self>) -> odeon::Result<Self> {
        ctx.after(lives, Over);
        Ok(Self)
    }

    fn over(&mut self, _: Over, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

fn random(below: u64) -> u64 {
    simulated::random().unwrap_or_default() % below
}
