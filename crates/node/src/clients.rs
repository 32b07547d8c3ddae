//! The Unix socket for clients: whoever may open it is an operator. What they say wrong ends their connection alone.

use crate::{event::Greeting, workers, workers::Kit};
use odeon_transport::unix;
use std::{io, path::Path, time::Duration};
use tokio::{net::UnixListener, time};
use tracing::{debug, warn};

/// After an accept that failed, as it does without free descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens at `path`; to be called on the router's runtime.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    unix::listen(path)
}

/// Takes clients until the listener's task is dropped.
pub(crate) async fn accept(kit: Kit, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (kit, id) = (kit.clone(), kit.next_id());
                tokio::spawn(async move {
                    match workers::greet(&kit, id, Greeting::Client, stream.into()).await {
                        Ok(()) => debug!(client = %id, "connected"),
                        Err(why) => warn!(client = %id, "connection closed: {why}"),
                    }
                });
            }
            Err(error) => {
                warn!(%error, "a client was not accepted");
                time::sleep(PAUSE).await;
            }
        }
    }
}
