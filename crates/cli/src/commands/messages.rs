//! `odeon create | ask | tell | stop`: JSON in, JSON out; the worker that knows the type decodes it.

use crate::{
    args::CreateArgs,
    client::Client,
    failure::{Failure, Outcome},
    output,
};
use serde_json::{Value, json};
use std::time::Duration;

/// `odeon create TYPE [ARGS-JSON]`
pub(crate) async fn create(client: &Client, args: CreateArgs, as_json: bool) -> Outcome {
    let fields = args.args.as_deref().map(|text| parse("create", text)).transpose()?;
    let made = client.create(&args, fields).await?;
    if as_json {
        output::json(&made);
    } else {
        output::line(output::cell(&made["address"]));
    }
    Ok(())
}

/// `odeon ask TARGET MESSAGE [JSON]`
pub(crate) async fn ask(
    client: &Client,
    target: &str,
    message: &str,
    json: Option<&str>,
    timeout: Duration,
) -> Outcome {
    let fields = json.map(|text| parse("ask", text)).transpose()?;
    let reply = client.ask(target, message, fields.unwrap_or(Value::Null), timeout).await?;
    output::line(reply.to_string());
    Ok(())
}

/// `odeon tell TARGET MESSAGE [JSON]`
pub(crate) async fn tell(client: &Client, target: &str, message: &str, json: Option<&str>, as_json: bool) -> Outcome {
    let fields = json.map(|text| parse("tell", text)).transpose()?;
    client.tell(target, message, fields.unwrap_or(Value::Null)).await?;
    if as_json {
        output::json(&json!({ "accepted": true }));
    }
    Ok(())
}

/// `odeon stop TARGET`
pub(crate) async fn stop(client: &Client, target: &str, as_json: bool) -> Outcome {
    client.end(target).await?;
    if as_json {
        output::json(&json!({ "stopping": target }));
    }
    Ok(())
}

fn parse(command: &str, text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::usage(format!("{command}: {text:?} is no JSON: {error}: quote it for the shell, like '{{\"by\": 1}}'"))
    })
}
