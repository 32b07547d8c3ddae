//! Programs that talk to actors and host none.

mod admin;
mod connect;

use std::{env, path::PathBuf};

pub use admin::{Admin, Failure};

/// Where the agent of this host listens: `ODEON_AGENT`, else its default.
#[must_use]
pub fn socket_path() -> PathBuf {
    if let Some(path) = env::var_os("ODEON_AGENT").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let state = env::var_os("XDG_STATE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/".into())).join(".local/state");
    state.unwrap_or_else(home).join("odeon/agent.sock")
}
