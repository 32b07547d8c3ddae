//! Keeps a valid join token in a file: 0600, written and renamed, replaced at half its life.

use super::{shared::Shared, tokens};
use crate::identity::replace;
use odeon_cluster::directory::Role;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::time::sleep;

/// A token's life.
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// Between two attempts.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the file until the agent stops.
pub(crate) async fn keep(shared: Arc<Shared>, role: Role, file: PathBuf) {
    let mut ready = shared.ready.subscribe();
    if ready.wait_for(|ready| *ready).await.is_err() {
        return;
    }
    loop {
        let pause = match tokens::create(&shared, role, LIFE, None).await {
            Ok(token) => match replace(&file, format!("{token}\n").as_bytes()) {
                Ok(()) => {
                    tracing::info!(%role, file = %file.display(), "a join token is kept in a file");
                    LIFE / 2
                }
                Err(error) => {
                    tracing::error!(file = %file.display(), %error, "the join token cannot be written");
                    RETRY
                }
            },
            Err(error) => {
                tracing::warn!(%error, "a join token cannot be made now");
                RETRY
            }
        };
        sleep(pause).await;
    }
}
