//! SIGINT and SIGTERM as a future; SIGHUP as a stream.

use crate::failure::Failure;
use std::future::pending;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Returns at the first SIGINT or SIGTERM.
///
/// # Errors
/// The handlers cannot be installed.
pub(crate) async fn wait() -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// SIGHUPs, one after the other, if they are wanted; else the system does with them what it does.
pub(crate) struct Hangups(Option<Signal>);

impl Hangups {
    /// Listens, if they are wanted.
    ///
    /// # Errors
    /// The handler cannot be installed.
    pub(crate) fn new(wanted: bool) -> Result<Self, Failure> {
        let signals = wanted.then(|| signal(SignalKind::hangup())).transpose();
        signals.map(Self).map_err(Failure::failed)
    }

    /// The next one. May be dropped before it is ready, and called again.
    pub(crate) async fn next(&mut self) {
        match &mut self.0 {
            Some(signals) => drop(signals.recv().await),
            None => pending().await,
        }
    }
}
