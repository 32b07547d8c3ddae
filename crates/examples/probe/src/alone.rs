//! `probe.alone`: an echo in a process of its own, which may be killed without harm to any other actor.

use crate::echo::{Echo, Echoed};
use odeon::prelude::*;

/// The actor.
#[derive(Debug, Default)]
pub struct Alone;

#[actor("probe.alone", isolation = "process")]
impl Alone {
    fn echo(&mut self, echo: Echo, ctx: &mut Context<Self>) -> Echoed {
        Echoed { text: echo.text, host: ctx.host().to_string(), pid: std::process::id() }
    }
}
