//! `probe.witness`: bears a global name, and writes down when it began and ended to handle each message, and under which
//! epoch. Who reads what all the witnesses of a name wrote sees whether two ever bore it at once.
//!
//! ```text
//! witness h3 probe.witness/17 4711           the host, the name, the process
//! begin 12 88172 5029411007300               epoch, the message's number, when
//! end 12 88172 5029413100411 3               epoch, the message's number, when, how many it has handled
//! ```

use crate::diary::{self, Diary};
use odeon::prelude::*;

/// Asks who bears the name.
#[message(reply = Held)]
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its number, which no other has.
    pub id: u64,
}

/// The answer to [`Claim`].
#[data]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The instance's epoch.
    pub epoch: u64,
    /// How many claims this instance has handled, with this one.
    pub value: u64,
}

/// How long a claim takes: the runtime looks at the lease before it and after it. Long enough that a process that is stopped
/// has mostly one in hand.
const HANDLING: Duration = Duration::from_millis(20);

/// The actor.
#[derive(Debug, Default)]
pub struct Witness {
    handled: u64,
    diary: Option<Diary>,
}

#[actor("probe.witness")]
impl Witness {
    async fn claim(&mut self, claim: Claim, ctx: &mut Context<Self>) -> Held {
        let (began, epoch) = (diary::now(), ctx.epoch());
        let diary = self.diary.get_or_insert_with(|| Diary::begin("witness", ctx.host(), ctx.global_name()));
        diary.note(format_args!("begin {epoch} {} {began}", claim.id));
        self.handled += 1;
        tokio::time::sleep(HANDLING).await;
        diary.note(format_args!("end {epoch} {} {} {}", claim.id, diary::now(), self.handled));
        Held { epoch, value: self.handled }
    }
}
