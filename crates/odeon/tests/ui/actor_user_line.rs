//! A mistake inside a handler is reported at the user's line.

use odeon::prelude::*;

#[message]
struct Greet {
    name: String,
}

struct NotAMessage;

#[derive(Default)]
struct Greeter;
#[actor("ui.greeter")]
impl Greeter {
    fn greet(&mut self, greet: Greet) {
        let length: u32 = greet.name;
        self.missing(length);
    }

    fn helper(&mut self, _: NotAMessage) {}
}

fn main() {}
