//! `probe.steward`: changes what its host can do, and watches all hosts.

use odeon::{HostChange, Hosts, prelude::*};

/// Gives the host a capability; without a value takes it away.
#[message(reply = ())]
#[derive(Clone, Debug)]
pub struct Enable {
    /// Its key.
    pub key: String,
    /// A text.
    pub value: Option<String>,
}

/// Asks for the changes of hosts seen since the first time.
#[message(reply = Vec<String>)]
#[derive(Clone, Debug)]
pub struct Changes;

/// The actor.
#[derive(Debug, Default)]
pub struct Steward {
    hosts: Option<Hosts>,
    changes: Vec<String>,
}

#[actor("probe.steward")]
impl Steward {
    async fn enable(&mut self, enable: Enable, ctx: &mut Context<Self>) -> odeon::Result {
        match enable.value {
            Some(value) => ctx.system().set_capability(&enable.key, value).await,
            None => ctx.system().unset_capability(&enable.key).await,
        }
    }

    fn changes(&mut self, _: Changes, ctx: &mut Context<Self>) -> odeon::Result<Vec<String>> {
        if self.hosts.is_none() {
            self.hosts = Some(ctx.system().hosts()?);
        }
        while let Some(change) = self.hosts.as_mut().and_then(Hosts::try_next) {
            self.changes.push(match change {
                HostChange::Here(host) => {
                    let can = host.capabilities.iter().map(|(key, value)| format!(" {key}={value}"));
                    format!("here {}{}", host.name, can.collect::<String>())
                }
                HostChange::Gone(host) => format!("gone {}", host.name),
                _ => continue,
            });
        }
        Ok(self.changes.clone())
    }
}
