//! A handler may be moved to another thread while it waits.

use odeon::prelude::*;
use std::rc::Rc;

#[message]
struct Greet;

#[derive(Default)]
struct Greeter;
#[actor("ui.greeter")]
impl Greeter {
    async fn greet(&mut self, _: Greet) {
        let shared = Rc::new(1);
        std::future::ready(()).await;
        drop(shared);
    }
}

fn main() {}
