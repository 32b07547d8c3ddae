//! `probe.parent`: creates children and is told of their ends.

use crate::{Counter, Crasher, Echoer, Relay, Sequence, alone::Alone};
use odeon::{ChildExited, prelude::*};

/// Creates children; answers their addresses.
#[message(reply = Vec<String>)]
#[derive(Clone, Debug)]
pub struct Spawn {
    /// How many.
    pub n: u32,
    /// Of which of this crate's types.
    #[serde(rename = "type")]
    pub type_name: String,
    /// On which hosts.
    pub requires: Option<String>,
}

/// Asks for the ends seen so far.
#[message(reply = Vec<Exited>)]
#[derive(Clone, Debug)]
pub struct Exits;

/// A child's end.
#[data]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exited {
    /// The child.
    pub address: String,
    /// Why it ended, in words.
    pub cause: String,
}

/// Stops a child.
#[message]
#[derive(Clone, Debug)]
pub struct StopChild {
    /// Which.
    pub address: String,
}

/// The actor.
#[derive(Default)]
pub struct Parent {
    /// How to stop each living child.
    children: HashMap<String, Box<dyn Fn() + std::marker::Send>>,
    exits: Vec<Exited>,
}

#[actor("probe.parent")]
impl Parent {
    async fn spawn(&mut self, spawn: Spawn, ctx: &mut Context<Self>) -> odeon::Result<Vec<String>> {
        let mut addresses = Vec::new();
        for _ in 0..spawn.n {
            let requires = spawn.requires.as_deref();
            let address = match spawn.type_name.as_str() {
                "probe.echo" => self.create::<Echoer>(requires, ctx).await,
                "probe.alone" => self.create::<Alone>(requires, ctx).await,
                "probe.counter" => self.create::<Counter>(requires, ctx).await,
                "probe.crasher" => self.create::<Crasher>(requires, ctx).await,
                "probe.parent" => self.create::<Self>(requires, ctx).await,
                "probe.sequence" => self.create::<Sequence>(requires, ctx).await,
                "probe.relay" => self.create::<Relay>(requires, ctx).await,
                other => Err(Error::NoSuchType(format!("{other} is none of the probe's: try probe.echo"))),
            };
            addresses.push(address?);
        }
        Ok(addresses)
    }

    fn exits(&mut self, _: Exits) -> Vec<Exited> {
        self.exits.clone()
    }

    fn stop_child(&mut self, stop: StopChild) -> odeon::Result {
        let child = self.children.get(&stop.address);
        child.ok_or_else(|| Error::NoSuchActor(format!("{} is no living child of this parent", stop.address)))?();
        Ok(())
    }

    fn child_exited(&mut self, exit: ChildExited) {
        let address = exit.child.to_string();
        self.children.remove(&address);
        self.exits.push(Exited { address, cause: exit.cause.to_string() });
    }
}

impl Parent {
    #[expect(clippy::needless_pass_by_ref_mut, reason = "a shared context cannot be held across an await")]
    async fn create<A: Actor<Args = ()>>(
        &mut self,
        requires: Option<&str>,
        ctx: &mut Context<Self>,
    ) -> odeon::Result<String> {
        let child = match requires {
            Some(requirement) => ctx.create::<A>(()).requires(requirement).await?,
            None => ctx.create::<A>(()).await?,
        };
        let address = child.address().to_string();
        self.children.insert(address.clone(), Box::new(move || child.stop()));
        Ok(address)
    }
}

impl std::fmt::Debug for Parent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parent").field("children", &self.children.keys()).field("exits", &self.exits).finish()
    }
}
