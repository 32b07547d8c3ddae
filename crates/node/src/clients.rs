//! The Unix socket for clients: whoever may open it is an operator. What they say wrong ends their connection alone.

use crate::{event::Greeting, workers, workers::Kit};
use odeon_protocol::limits::CLIENTS_MAX;
use odeon_transport::unix;
use std::{io, path::Path, sync::Arc, time::Duration};
use tokio::{net::UnixListener, sync::Semaphore, time};
use tracing::{debug, warn};

/// After an accept that failed, as it does without free descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens at `path`; to be called on the router's runtime.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    unix::listen(path)
}

/// Takes clients until the listener's task is dropped.
pub(crate) async fn accept(kit: Kit, listener: UnixListener) {
    // Those that have not said hello yet; one that never does gives its place back before long.
    let greeting = Arc::new(Semaphore::new(CLIENTS_MAX));
    while let Ok(permit) = greeting.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (kit, id) = (kit.clone(), kit.next_id());
                tokio::spawn(async move {
                    let _permit = permit;
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
