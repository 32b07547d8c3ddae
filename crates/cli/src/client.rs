//! A conversation with an agent, with failures in the command line's terms.

use crate::{
    args::CreateArgs,
    failure::{Code, Failure},
};
use odeon::client::{self, Admin};
use odeon_protocol::{
    Address, Direct,
    control::{Placed, Policy, Spec, WireCodec},
    limits::TELL_WAIT,
};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};

/// How long `odeon tell` looks whether its message comes back.
const TELL_LOOK: Duration = Duration::from_millis(500);

/// A connection to an agent.
#[derive(Debug)]
pub(crate) struct Client {
    admin: Admin,
}

impl From<client::Failure> for Failure {
    fn from(failure: client::Failure) -> Self {
        let maybe = if failure.may_have_run { ": it may have run" } else { "" };
        Self::reason(failure.reason, format!("{}{maybe}", failure.text))
    }
}

impl Client {
    /// Connects to the agent whose Unix socket is at `path`.
    pub(crate) async fn connect(path: &Path) -> Result<Self, Failure> {
        let admin = Admin::connect(path).await.map_err(|failure| Failure::new(Code::NoAgent, failure.text))?;
        Ok(Self { admin })
    }

    /// An operator's request.
    pub(crate) async fn admin(&self, request: Value) -> Result<Value, Failure> {
        let answer = self.admin.admin(request.to_string()).await?;
        serde_json::from_str(&answer)
            .map_err(|error| Failure::failed(format!("the agent's answer is no JSON: {error}")))
    }

    /// Creates an actor.
    pub(crate) async fn create(&self, args: &CreateArgs, fields: Option<Value>) -> Result<Value, Failure> {
        let policy = args.requires.clone().map(|requires| Policy { requires, ..Policy::default() });
        let spec = Spec {
            type_name: args.type_name.as_str().into(),
            args: fields.unwrap_or(Value::Null).to_string().into_bytes(),
            codec: WireCodec::Json,
            global_name: args.name.as_deref().map(Into::into),
            on: args.on.clone(),
            near: None,
            policy,
            parent: Direct::NONE,
            remaining_ms: u32::try_from(TELL_WAIT.saturating_add(args.wait).as_millis()).unwrap_or(u32::MAX),
        };
        let Placed { address, created, host } = self.admin.create(spec).await?;
        Ok(json!({ "address": address.to_string(), "name": args.name, "host": host, "created": created }))
    }

    /// Asks an actor.
    pub(crate) async fn ask(
        &self,
        target: &str,
        message: &str,
        fields: Value,
        wait: Duration,
    ) -> Result<Value, Failure> {
        let reply = self.admin.ask_json(&address(target)?, message, &fields.to_string(), wait).await?;
        serde_json::from_str(&reply).map_err(|error| Failure::failed(format!("the reply is no JSON: {error}")))
    }

    /// Tells an actor; fails if the message comes back at once.
    pub(crate) async fn tell(&self, target: &str, message: &str, fields: Value) -> Result<(), Failure> {
        self.admin.tell_json(&address(target)?, message, &fields.to_string(), TELL_LOOK).await?;
        Ok(())
    }

    /// Stops an actor, which has to be there.
    pub(crate) async fn end(&self, target: &str) -> Result<(), Failure> {
        let request = json!({ "command": "stop", "target": address(target)?.to_string() });
        self.admin(request).await.map(drop)
    }
}

fn address(target: &str) -> Result<Address, Failure> {
    target.parse().map_err(|error| Failure::usage(format!("{target}: {error}")))
}
