//! What this host can do: said by its workers, configured, and set while it runs.
//!
//! - **K-1.** Key by key what was set goes over what is configured, and that over what workers say.
//! - **K-2.** The newest word counts: a new configuration takes back what was set of the keys that it changes.
//! - **K-3.** A change is made as a whole or not at all.

use super::{Controller, admin::fact, refusal};
use odeon_cluster::capability::{self, CapabilityError, Map};
use odeon_protocol::{
    Reason,
    control::{Refusal, Value},
    limits::CAPABILITIES_MAX,
};
use serde_json::json;
use std::collections::BTreeMap;
use tracing::{info, warn};

/// Keys with their new values; nothing for those that are to go.
pub(super) type Changes = BTreeMap<String, Option<Value>>;

/// What is configured and set; workers are asked for theirs.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    configured: Map,
    set: Changes,
}

impl Own {
    pub(super) fn new(configured: Map) -> Self {
        Self { configured, set: Changes::new() }
    }

    /// Before any worker says something.
    pub(super) fn at_first(&self) -> Map {
        self.over(&Map::new()).unwrap_or_default()
    }

    /// All together, where workers say that.
    fn over(&self, said: &Map) -> Result<Map, CapabilityError> {
        let pairs = said.clone().into_iter().chain(self.configured.clone());
        let kept = pairs.filter(|(key, _)| !self.set.contains_key(key));
        let set = self.set.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
        capability::collect(kept.chain(set))
    }

    /// With these changes, where workers say that.
    fn changed(&self, said: &Map, changes: Changes) -> Result<Self, CapabilityError> {
        let mut new = self.clone();
        for (key, value) in changes {
            let comes_again = said.contains_key(&key) || new.configured.contains_key(&key);
            match value {
                None if !comes_again => drop(new.set.remove(&key)),
                value => drop(new.set.insert(key, value)),
            }
        }
        if new.set.len() > CAPABILITIES_MAX {
            return Err(CapabilityError::TooMany(new.set.len()));
        }
        new.over(said).map(|_| new)
    }

    /// With another configuration.
    fn configured_as(&self, configured: Map) -> Self {
        let kept = |key: &String| self.configured.get(key) == configured.get(key);
        let set = self.set.iter().filter(|(key, _)| kept(key)).map(|(key, value)| (key.clone(), value.clone()));
        Self { set: set.collect(), configured }
    }

    /// Where the value of a key comes from.
    fn source(&self, key: &str) -> &'static str {
        match (self.set.contains_key(key), self.configured.contains_key(key)) {
            (true, _) => "set",
            (false, true) => "configured",
            (false, false) => "worker",
        }
    }
}

impl Controller {
    /// What this host can do.
    pub(super) fn capabilities(&self) -> &Map {
        &self.can
    }

    /// What its workers say.
    fn said(&self) -> Map {
        let admitted = self.workers.values().filter(|worker| worker.is_admitted());
        admitted.flat_map(|worker| worker.capabilities.clone()).collect()
    }

    /// Something of it has changed, or may have: other hosts learn it at once, and what no longer fits is stopped.
    pub(super) fn capabilities_changed(&mut self) {
        let now = self.own.over(&self.said()).unwrap_or_else(|error| {
            warn!(%error, "capabilities of workers are left out");
            self.own.at_first()
        });
        let before = std::mem::replace(&mut self.can, now);
        self.publish_facts();
        if self.can != before {
            self.end_unfit();
        }
    }

    /// Takes the capabilities of a configuration that was read again.
    pub(crate) fn configure_capabilities(&mut self, configured: Map) {
        let new = self.own.configured_as(configured);
        if let Err(error) = new.over(&Map::new()) {
            return warn!(%error, "the configuration's capabilities are not taken: unset some that were set");
        }
        self.own = new;
        self.capabilities_changed();
        info!(count = self.can.len(), "the configuration's capabilities are taken");
    }

    /// `odeon capability set | unset`, until the agent's next start.
    pub(super) fn capability_change(&mut self, request: &serde_json::Value) -> Result<serde_json::Value, Refusal> {
        let changes = changes_of(request)?;
        if let Some((key, _)) = changes.iter().find(|(key, value)| value.is_none() && !self.can.contains_key(*key)) {
            let text = format!("{key:?}: this host has no such capability: see `odeon capability list`");
            return Err(refusal(Reason::NoSuchActor, text));
        }
        let new = self.own.changed(&self.said(), changes);
        self.own = new.map_err(|error| refusal(Reason::TooBig, error.to_string()))?;
        self.capabilities_changed();
        Ok(self.capability_list())
    }

    /// `odeon capability list`
    pub(super) fn capability_list(&self) -> serde_json::Value {
        let entry =
            |(key, value): (&String, &Value)| json!({ "key": key, "value": fact(value), "from": self.own.source(key) });
        self.can.iter().map(entry).collect()
    }
}

/// Reads `{"set": ["gpu=2"], "unset": ["ssd"]}`.
fn changes_of(request: &serde_json::Value) -> Result<Changes, Refusal> {
    let wrong = |text: String| refusal(Reason::Protocol, text);
    let mut changes = Changes::new();
    for text in texts(request, "unset")? {
        changes.insert(text.to_owned(), None);
    }
    for text in texts(request, "set")? {
        let (key, value) = capability::parse(text).map_err(|error| wrong(error.to_string()))?;
        changes.insert(key, Some(value));
    }
    if changes.is_empty() {
        return Err(wrong("no capability is named: give K=V".to_owned()));
    }
    Ok(changes)
}

fn texts<'a>(request: &'a serde_json::Value, field: &str) -> Result<Vec<&'a str>, Refusal> {
    let listed = match &request[field] {
        serde_json::Value::Null => Some(Vec::new()),
        given => given.as_array().and_then(|given| given.iter().map(serde_json::Value::as_str).collect()),
    };
    listed.ok_or_else(|| refusal(Reason::Protocol, format!("{field:?} is to be a list of texts")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(texts: &[&str]) -> Map {
        texts.iter().map(|text| capability::parse(text).unwrap()).collect()
    }

    fn changes(set: &[&str], unset: &[&str]) -> Changes {
        changes_of(&json!({ "set": set, "unset": unset })).unwrap()
    }

    #[test]
    fn what_was_set_goes_over_the_configuration_and_that_over_workers() {
        let said = map(&["gpu=1", "zone=a", "probe"]);
        let own = Own::new(map(&["gpu=2", "zone=b"]));
        assert_eq!(own.over(&said), Ok(map(&["gpu=2", "zone=b", "probe"])));
        let own = own.changed(&said, changes(&["gpu=3"], &["probe", "zone"])).unwrap();
        assert_eq!(own.over(&said), Ok(map(&["gpu=3"])));
        assert_eq!(["gpu", "zone", "x"].map(|key| own.source(key)), ["set", "set", "worker"]);
    }

    #[test]
    fn a_configuration_read_again_takes_back_what_it_changes() {
        let own = Own::new(map(&["gpu=2", "zone=a"]));
        let own = own.changed(&Map::new(), changes(&["gpu=9", "zone=z", "warm"], &[])).unwrap();
        let own = own.configured_as(map(&["gpu=3", "zone=a", "ssd"]));
        assert_eq!(own.over(&Map::new()), Ok(map(&["gpu=3", "zone=z", "ssd", "warm"])));
        let own = own.configured_as(map(&["gpu=3"]));
        assert_eq!(own.over(&Map::new()), Ok(map(&["gpu=3", "warm"])));
    }

    #[test]
    fn what_was_set_and_unset_leaves_nothing_behind() {
        let own = Own::default().changed(&Map::new(), changes(&["gpu=1"], &[])).unwrap();
        let own = own.changed(&Map::new(), changes(&[], &["gpu"])).unwrap();
        assert!(own.set.is_empty());
    }

    #[test]
    fn too_many_are_refused_as_a_whole() {
        let many: Changes = (0..=CAPABILITIES_MAX).map(|n| (format!("k{n}"), Some(Value::Bool(true)))).collect();
        let refused = Own::default().changed(&Map::new(), many).unwrap_err();
        assert_eq!(refused, CapabilityError::TooMany(CAPABILITIES_MAX + 1));
    }

    #[test]
    fn a_request_has_to_name_capabilities_that_parse() {
        assert!(changes_of(&json!({})).is_err());
        for wrong in [json!({ "set": ["1=2"] }), json!({ "set": "a=1" }), json!({ "set": ["a=1", 2] }), json!([])] {
            assert!(changes_of(&wrong).is_err(), "{wrong}");
        }
        assert_eq!(changes(&["gpu"], &["ssd"]), [("gpu".into(), Some(Value::Bool(true))), ("ssd".into(), None)].into());
    }
}
