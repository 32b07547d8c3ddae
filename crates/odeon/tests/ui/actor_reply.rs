//! A handler returns its message's reply.

use odeon::prelude::*;

#[message(reply = u32)]
struct Count;
#[message]
struct Forget;

#[derive(Default)]
struct Counter;
#[actor("ui.counter")]
impl Counter {
    fn count(&mut self, _: Count) -> String {
        String::new()
    }
    async fn forget(&mut self, _: Forget) -> u32 {
        0
    }
}

fn main() {}
