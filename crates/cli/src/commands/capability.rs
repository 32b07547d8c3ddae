//! `odeon capability set | unset | list`.

use crate::{
    args::CapabilityCommand,
    client::Client,
    failure::{Failure, Outcome},
    output,
};
use odeon_node::capability;
use serde_json::{Value, json};

/// Runs `odeon capability …`; each command answers with what the host can do then.
pub(crate) async fn run(client: &Client, command: CapabilityCommand, as_json: bool) -> Outcome {
    let request = match command {
        CapabilityCommand::Set { pairs } => {
            check(&pairs)?;
            json!({ "command": "capability set", "set": pairs })
        }
        CapabilityCommand::Unset { keys } => json!({ "command": "capability unset", "unset": keys }),
        CapabilityCommand::List => json!({ "command": "capability list" }),
    };
    show(&client.admin(request).await?, as_json);
    Ok(())
}

fn check(pairs: &[String]) -> Outcome {
    pairs.iter().try_for_each(|pair| {
        capability::parse(pair).map(drop).map_err(|error| Failure::usage(format!("capability: {pair}: {error}")))
    })
}

fn show(capabilities: &Value, as_json: bool) {
    if as_json {
        return output::json(capabilities);
    }
    let columns = [("KEY", "key"), ("VALUE", "value"), ("FROM", "from")];
    output::list(capabilities, &columns, "no capabilities");
}
