//! The actors of a run: those that bear global names, and those that use them.

use super::stage::{self, Seen};
use odeon::prelude::*;
use odeon_protocol::simulated;

/// Is handled by whoever bears the name.
#[message(reply = u64)]
#[derive(Debug)]
pub(super) struct Use {
    /// Its number.
    pub(super) id: u64,
    /// The bearer stops after it.
    pub(super) last: bool,
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
        self.says(ctx, Some(message.id));
        stage::sleep(Duration::from_millis(random(40))).await;
        // The gate was looked at again.
        self.says(ctx, None);
        if message.last {
            ctx.stop();
        }
        ctx.epoch()
    }
}

impl Bearer {
    fn says(&self, ctx: &Context<Self>, begins: Option<u64>) {
        let name = ctx.global_name().unwrap_or_default().to_owned();
        let (host, _) = stage::turn();
        stage::saw(Seen::Handles { name, epoch: ctx.epoch(), instance: self.instance, host, begins });
    }
}

/// Has a name used.
#[message]
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) key: String,
}

/// Asks, and says what came.
#[derive(Debug, Default)]
pub(super) struct User;

/// An ask's limit.
const PATIENCE: Duration = Duration::from_secs(4);

#[actor("sim.user")]
impl User {
    async fn attempt(&mut self, attempt: Attempt, ctx: &mut Context<Self>) {
        let id = stage::number();
        stage::saw(Seen::Asks { id, process: stage::turn().1 });
        let bearer = ctx.named::<Bearer>(&attempt.key);
        let answer = bearer.ask(Use { id, last: random(40) == 0 }).timeout(PATIENCE).await;
        stage::saw(Seen::Answered { id, failed: answer.err().map(|error| (error.may_have_run(), error.to_string())) });
    }
}

fn random(below: u64) -> u64 {
    simulated::random().unwrap_or_default() % below
}
