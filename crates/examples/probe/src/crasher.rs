//! `probe.crasher`: ends in every way there is.

use odeon::prelude::*;

/// Panics in its handler.
#[message]
#[derive(Clone, Debug)]
pub struct Panic {
    /// The panic's text.
    pub text: String,
}

/// Ends its process by SIGABRT.
#[message]
#[derive(Clone, Debug)]
pub struct Abort;

/// Ends its process by itself.
#[message]
#[derive(Clone, Debug)]
pub struct Exit {
    /// The exit code.
    pub code: i32,
}

/// Never ends its handler, and holds the thread.
#[message]
#[derive(Clone, Debug)]
pub struct Hang;

/// Asks for a sign of life.
#[message(reply = Living)]
#[derive(Clone, Debug)]
pub struct Alive;

/// The answer to [`Alive`].
#[data]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Living {}

/// The actor.
#[derive(Debug, Default)]
pub struct Crasher;

#[actor("probe.crasher")]
impl Crasher {
    fn panic(&mut self, panic: Panic) {
        panic!("{}", panic.text);
    }

    fn abort(&mut self, _: Abort) {
        std::process::abort();
    }

    fn exit(&mut self, exit: Exit) {
        std::process::exit(exit.code);
    }

    fn hang(&mut self, _: Hang) {
        loop {
            std::thread::park();
        }
    }

    fn alive(&mut self, _: Alive) -> Living {
        Living {}
    }
}
