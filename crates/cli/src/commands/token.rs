//! `odeon token create | list | revoke`.

use crate::{args::TokenCommand, client::Client, commands::lists::print_done, failure::Outcome, output};
use serde_json::json;

/// Runs `odeon token …`.
pub(crate) async fn run(client: &Client, command: TokenCommand, as_json: bool) -> Outcome {
    match command {
        TokenCommand::Create { role, ttl, uses } => {
            let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            let request = json!({ "command": "token create", "role": role, "ttl_ms": ttl_ms, "uses": uses });
            let made = client.admin(request).await?;
            if as_json {
                output::json(&made);
                return Ok(());
            }
            let (token, join) = (output::cell(&made["token"]), output::cell(&made["join"]));
            output::line(&token);
            output::line(format!("on the other host: odeon agent --join {join} --token {token}"));
        }
        TokenCommand::List => {
            let tokens = client.admin(json!({ "command": "token list" })).await?;
            if as_json {
                output::json(&tokens);
                return Ok(());
            }
            let columns = [("ID", "id"), ("ROLE", "role"), ("EXPIRES", "expires"), ("USES LEFT", "uses_left")];
            output::list(&tokens, &columns, "no tokens");
        }
        TokenCommand::Revoke { id } => {
            let done = client.admin(json!({ "command": "token revoke", "id": id })).await?;
            print_done(&done, as_json, &format!("token {id} revoked"));
        }
    }
    Ok(())
}
