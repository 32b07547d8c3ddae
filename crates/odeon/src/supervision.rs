//! Why actors end and messages come back, and what is done about it.

use crate::{core::Envelope, error::Error, message::Message};
use odeon_protocol::{Address, ExitCause, Reason, frame::Codec};
use std::{fmt, time::Duration};

pub use odeon_protocol::control::{OnStop, Restart, Troupe};

/// What an actor type declares about itself; a creation may replace parts of it.
///
/// `#[actor("type.name", on_stop = dormant, mailbox = 256)]` writes it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// What stopping does to its global name.
    pub on_stop: OnStop,
    /// After a panic or a hook's error.
    pub restart: Restart,
    /// Set for types whose creation makes a troupe.
    pub troupe: Option<Troupe>,
    /// How many messages may wait before senders do.
    pub mailbox: usize,
    /// Whether its handlers block their thread; they run on a pool then.
    pub blocking: bool,
    /// Whether each actor gets a process of its own under an agent.
    pub own_process: bool,
    /// Where it may run; empty for anywhere.
    pub requires: &'static str,
    /// Whether it outlives the others when their process stops, because they need it until the end.
    pub stops_last: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            on_stop: OnStop::Free,
            restart: Restart::Never,
            troupe: None,
            mailbox: odeon_protocol::limits::MAILBOX_DEFAULT,
            blocking: false,
            own_process: false,
            requires: "",
            stops_last: false,
        }
    }
}

impl Options {
    /// Sets [`Options::on_stop`].
    #[must_use]
    pub fn on_stop(mut self, on_stop: OnStop) -> Self {
        self.on_stop = on_stop;
        self
    }

    /// Allows `max` restarts within a span of time.
    #[must_use]
    pub fn restart(mut self, max: u32, within: Duration) -> Self {
        self.restart = Restart::UpTo { max, within_ms: u32::try_from(within.as_millis()).unwrap_or(u32::MAX) };
        self
    }

    /// Makes creations of this type troupes.
    #[must_use]
    pub fn troupe(mut self, max: u32, idle: u32) -> Self {
        self.troupe = Some(Troupe { max, idle });
        self
    }

    /// Sets [`Options::mailbox`].
    #[must_use]
    pub fn mailbox(mut self, messages: usize) -> Self {
        self.mailbox = messages.max(1);
        self
    }

    /// Sets [`Options::blocking`].
    #[must_use]
    pub fn blocking(mut self) -> Self {
        self.blocking = true;
        self
    }

    /// Sets [`Options::own_process`].
    #[must_use]
    pub fn own_process(mut self) -> Self {
        self.own_process = true;
        self
    }

    /// Sets [`Options::stops_last`].
    #[must_use]
    pub fn stops_last(mut self) -> Self {
        self.stops_last = true;
        self
    }

    /// Sets [`Options::requires`].
    #[must_use]
    pub fn requires(mut self, requirement: &'static str) -> Self {
        self.requires = requirement;
        self
    }
}

/// A child's end, given to `child_exited`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChildExited {
    /// The child.
    pub child: Address,
    /// Why it ended.
    pub cause: ExitCause,
}

/// A message that came back, given to `returned`.
pub struct Returned {
    pub(crate) body: ReturnedBody,
    pub(crate) reason: Reason,
    pub(crate) text: String,
    pub(crate) to: Address,
    pub(crate) may_have_run: bool,
}

/// What is left of the message itself.
pub(crate) enum ReturnedBody {
    /// The very value.
    Value(Envelope),
    /// From another process.
    Wire {
        /// The message's type id.
        type_id: u64,
        /// How the bytes are written.
        codec: Codec,
        /// The message.
        bytes: Vec<u8>,
    },
    /// The handler had it.
    Consumed {
        /// The message's name.
        name: &'static str,
    },
    /// So many messages went down with the process or host that had them.
    Lost {
        /// How many.
        count: u32,
    },
}

impl Returned {
    /// Why it came back.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Why it came back, in words.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whom it was for.
    #[must_use]
    pub fn to(&self) -> &Address {
        &self.to
    }

    /// Whether the receiver may have run it all the same.
    #[must_use]
    pub fn may_have_run(&self) -> bool {
        self.may_have_run
    }

    /// How many messages it stands for: 1, but for messages that went down with the process or host that had them. These
    /// are told together, once it is known that they are neither on their way back nor to a successor; they may have run,
    /// and nothing is left of them to [`take`](Self::take).
    #[must_use]
    pub fn count(&self) -> u32 {
        match self.body {
            ReturnedBody::Lost { count } => count,
            _ => 1,
        }
    }

    /// Why it came back, as an error.
    #[must_use]
    pub fn error(&self) -> Error {
        Error::from_wire(self.reason, self.text.clone(), self.may_have_run)
    }

    /// Whether it is a message of that type.
    #[must_use]
    pub fn is<M: Message>(&self) -> bool {
        match &self.body {
            ReturnedBody::Value(envelope) => envelope.is::<M>(),
            ReturnedBody::Wire { type_id, .. } => *type_id == M::TYPE_ID,
            ReturnedBody::Consumed { name } => *name == M::NAME,
            ReturnedBody::Lost { .. } => false,
        }
    }

    /// The message, if it is of that type and was not consumed by its handler. Can be taken once.
    pub fn take<M: Message>(&mut self) -> Option<M> {
        match std::mem::replace(&mut self.body, ReturnedBody::Consumed { name: "" }) {
            ReturnedBody::Value(envelope) => match envelope.into_message::<M>() {
                Ok(message) => {
                    self.body = ReturnedBody::Consumed { name: M::NAME };
                    Some(message)
                }
                Err(envelope) => {
                    self.body = ReturnedBody::Value(envelope);
                    None
                }
            },
            ReturnedBody::Wire { type_id, codec, bytes } if type_id == M::TYPE_ID => {
                self.body = ReturnedBody::Consumed { name: M::NAME };
                crate::core::wire::read(codec, &bytes).ok()
            }
            other => {
                self.body = other;
                None
            }
        }
    }
}

impl fmt::Debug for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Returned")
            .field("to", &self.to)
            .field("reason", &self.reason)
            .field("text", &self.text)
            .field("may_have_run", &self.may_have_run)
            .finish_non_exhaustive()
    }
}
