//! What an `#[actor]` block holds: hooks and handlers.

use odeon::prelude::*;

#[message]
struct Greet;
#[message]
struct Part;

#[derive(Default)]
struct Greeter {
    greeted: u32,
}

#[actor("ui.greeter")]
impl Greeter {
    fn greet(&mut self, _: Greet) {
        self.greeted += self.step();
    }

    fn greet_again(&mut self, _: Greet) {}

    fn step(&self) -> u32 {
        1
    }

    fn new() -> Self {
        Self { greeted: 0 }
    }

    fn stop(&mut self, _: Part) {}

    fn borrowed(&mut self, _: &Part) {}

    fn swapped(&mut self, _ctx: &mut Context<Self>, _: Part) {}

    fn too_much(&mut self, _: Part, _times: u32) {}

    fn generic<T>(&mut self, _: T) {}

    fn stopping(&mut self, _: Part) {}

    const LIMIT: u32 = 3;
}

fn main() {}
