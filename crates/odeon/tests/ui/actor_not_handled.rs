//! Sending what an actor does not handle names the actor and the message.

use odeon::prelude::*;

#[message]
struct Greet;
#[message]
struct Unknown;

#[derive(Default)]
struct Greeter;
#[actor("ui.greeter")]
impl Greeter {
    fn greet(&mut self, _: Greet) {}
}

async fn send(greeter: ActorRef<Greeter>) -> odeon::Result {
    greeter.tell(Greet).await?;
    greeter.tell(Unknown).await?;
    Ok(())
}

fn main() {
    let _ = send;
}
