//! `probe.echo`: round trips, time, sizes.

use odeon::prelude::*;

/// Comes back with where it was handled.
#[message(reply = Echoed)]
#[derive(Clone, Debug)]
pub struct Echo {
    /// Any text.
    pub text: String,
}

/// The answer to [`Echo`].
#[data]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Echoed {
    /// The text.
    pub text: String,
    /// The host that handled it.
    pub host: String,
    /// The process that handled it.
    pub pid: u32,
}

/// Takes so long, and the mailbox with it: an actor handles one message at a time.
#[message(reply = Slept)]
#[derive(Clone, Debug)]
pub struct Sleep {
    /// Milliseconds.
    pub ms: u64,
}

/// The answer to [`Sleep`].
#[data]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slept {
    /// Milliseconds that it took.
    pub slept_ms: u64,
}

/// Asks for a text of so many bytes.
#[message(reply = String)]
#[derive(Clone, Debug)]
pub struct Blob {
    /// How many.
    pub bytes: usize,
}

/// Asks how large its data is.
#[message(reply = Measured)]
#[derive(Clone, Debug)]
pub struct Size {
    /// Any text.
    pub data: String,
}

/// The answer to [`Size`].
#[data]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The data's size.
    pub bytes: usize,
}

/// More than the runtime carries, so that asking for it shows what is said then.
const BLOB_BYTES_MAX: usize = 256 << 20;

/// The actor.
#[derive(Debug, Default)]
pub struct Echoer;

#[actor("probe.echo")]
impl Echoer {
    fn echo(&mut self, echo: Echo, ctx: &mut Context<Self>) -> Echoed {
        Echoed { text: echo.text, host: ctx.host().to_string(), pid: std::process::id() }
    }

    async fn sleep(&mut self, sleep: Sleep) -> Slept {
        let started = tokio::time::Instant::now();
        tokio::time::sleep(Duration::from_millis(sleep.ms)).await;
        Slept { slept_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX) }
    }

    fn blob(&mut self, blob: Blob) -> Result<String, String> {
        if blob.bytes > BLOB_BYTES_MAX {
            return Err(format!("a blob has {BLOB_BYTES_MAX} bytes at most"));
        }
        Ok("x".repeat(blob.bytes))
    }

    fn size(&mut self, size: Size) -> Measured {
        Measured { bytes: size.data.len() }
    }
}
