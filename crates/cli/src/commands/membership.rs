//! `odeon evict HOST`, `odeon leave`, `odeon run PATH`, `odeon health`.

use crate::{
    client::Client,
    commands::lists::print_done,
    failure::{Failure, Outcome},
    output,
};
use serde_json::json;
use std::path::Path;

/// Removes a host for good.
pub(crate) async fn evict(client: &Client, host: &str, as_json: bool) -> Outcome {
    let done = client.admin(json!({ "command": "evict", "host": host })).await?;
    print_done(&done, as_json, &format!("{host} is no longer a member; it cannot come back with its old key"));
    Ok(())
}

/// Takes this host out of its convention.
pub(crate) async fn leave(client: &Client, as_json: bool) -> Outcome {
    let done = client.admin(json!({ "command": "leave" })).await?;
    print_done(&done, as_json, "left the convention; the agent stops");
    Ok(())
}

/// Starts a worker under the running agent.
pub(crate) async fn run(client: &Client, path: &Path, args: &[String], as_json: bool) -> Outcome {
    let absolute = std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("run: {}: {error}: give the path of an executable", path.display())))?;
    let request = json!({ "command": "run", "path": absolute, "args": args });
    let done = client.admin(request).await?;
    print_done(&done, as_json, &format!("worker {} runs {}", output::cell(&done["id"]), path.display()));
    Ok(())
}

/// Keeps a line in the directory, or shows it.
#[cfg(feature = "next-level")]
pub(crate) async fn note(client: &Client, text: Option<String>, as_json: bool) -> Outcome {
    let note = client.admin(json!({ "command": "note", "text": text })).await?;
    print_done(&note, as_json, &output::cell(&note["note"]));
    Ok(())
}

/// Ends well if the agent is ready.
pub(crate) async fn health(client: &Client, as_json: bool) -> Outcome {
    let health = client.admin(json!({ "command": "health" })).await?;
    if health["ready"] != true {
        let why = output::cell(&health["waiting_for"]);
        return Err(Failure::failed(format!("health: not ready: {why}: wait, or see the agent's log")));
    }
    print_done(&health, as_json, "ready");
    Ok(())
}
