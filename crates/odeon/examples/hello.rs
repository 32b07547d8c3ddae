//! An actor, a message, a reply: `cargo run -p odeon --example hello`.
#![expect(clippy::print_stdout, reason = "what a hello is for")]

use odeon::prelude::*;

#[message(reply = String)]
struct Greet {
    name: String,
}

#[derive(Default)]
struct Greeter {
    greeted: u32,
}
#[actor("hello.greeter")]
impl Greeter {
    fn greet(&mut self, greet: Greet) -> String {
        self.greeted += 1;
        format!("Hello, {}! You are number {}.", greet.name, self.greeted)
    }
}

async fn serve(system: System) -> odeon::Result {
    let greeter = system.create::<Greeter>(()).await?;
    println!("{}", greeter.greet(Greet { name: "world".into() }).await?);
    Ok(())
}

fn main() -> odeon::Result {
    odeon::worker![Greeter].serve(serve).run()
}
