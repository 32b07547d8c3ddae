//! The actor types that this host's workers run.

use odeon_protocol::{
    WorkerId,
    control::{Policy, TypeInfo},
    limits::TYPES_MAX,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

#[derive(Debug)]
struct Known {
    info: TypeInfo,
    workers: BTreeSet<WorkerId>,
}

/// Types by name.
#[derive(Debug, Default)]
pub(super) struct Types {
    known: BTreeMap<Arc<str>, Known>,
}

impl Types {
    /// Whether a worker with these types may come in; else one line: what, why, what to do.
    pub(super) fn check(&self, types: &[TypeInfo]) -> Result<(), String> {
        if types.len() > TYPES_MAX {
            return Err(format!("it has {} actor types, over the limit of {TYPES_MAX}", types.len()));
        }
        let mut seen = BTreeSet::new();
        for info in types {
            if !seen.insert(&info.name) {
                return Err(format!("it lists the type {} twice: give each type a name of its own", info.name));
            }
            if let Some(known) = self.known.get(&*info.name) {
                same_messages(&known.info, info)?;
            }
        }
        Ok(())
    }

    /// A worker with these types was admitted.
    pub(super) fn add(&mut self, worker: WorkerId, types: &[TypeInfo]) {
        for info in types {
            let known = self.known.entry(info.name.as_str().into());
            let known = known.or_insert_with(|| Known { info: info.clone(), workers: BTreeSet::new() });
            if known.workers.is_empty() {
                known.info = info.clone();
            }
            known.workers.insert(worker);
        }
    }

    /// A worker is gone. Its types stay known: it may come again.
    pub(super) fn remove(&mut self, worker: WorkerId) {
        for known in self.known.values_mut() {
            known.workers.remove(&worker);
        }
    }

    /// The workers that run the type.
    pub(super) fn workers(&self, type_name: &str) -> impl Iterator<Item = WorkerId> {
        self.known.get(type_name).into_iter().flat_map(|known| known.workers.iter().copied())
    }

    /// What the type declares.
    pub(super) fn policy(&self, type_name: &str) -> Option<&Policy> {
        self.known.get(type_name).map(|known| &known.info.policy)
    }

    /// The names of the types that run now.
    pub(super) fn names(&self) -> BTreeSet<Arc<str>> {
        self.running().map(|(name, _)| name.clone()).collect()
    }

    /// The types that run now.
    pub(super) fn infos(&self) -> Vec<TypeInfo> {
        self.running().map(|(_, known)| known.info.clone()).collect()
    }

    /// The name of the message with that type id, if a type that is or was here takes it.
    pub(super) fn message_name(&self, type_id: u64) -> Option<&str> {
        let messages = self.known.values().flat_map(|known| &known.info.messages);
        messages.into_iter().find(|message| message.type_id == type_id).map(|message| &*message.name)
    }

    fn running(&self) -> impl Iterator<Item = (&Arc<str>, &Known)> {
        self.known.iter().filter(|(_, known)| !known.workers.is_empty())
    }
}

fn same_messages(known: &TypeInfo, new: &TypeInfo) -> Result<(), String> {
    for message in &new.messages {
        let other = known.messages.iter().find(|other| other.type_id == message.type_id);
        if other.is_some_and(|other| (other.fingerprint, other.reply) != (message.fingerprint, message.reply)) {
            return Err(format!(
                "its type {} takes {} with other fields than another worker's of this host: run one version of it",
                new.name, message.name
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::control::MessageInfo;

    fn info(name: &str, fingerprint: u64) -> TypeInfo {
        let message = MessageInfo { name: "m".into(), type_id: 1, fingerprint, reply: None };
        TypeInfo { name: name.into(), messages: vec![message], policy: Policy::default() }
    }

    #[test]
    fn two_workers_may_share_a_type_only_with_one_schema() {
        let mut types = Types::default();
        types.add(WorkerId(1), &[info("a", 5)]);
        assert_eq!(types.check(&[info("a", 5), info("b", 6)]), Ok(()));
        assert!(types.check(&[info("a", 6)]).unwrap_err().contains("other fields"));
        assert!(types.check(&[info("c", 6), info("c", 6)]).unwrap_err().contains("twice"));
    }

    #[test]
    fn a_type_is_offered_while_a_worker_runs_it() {
        let mut types = Types::default();
        types.add(WorkerId(1), &[info("a", 5)]);
        types.remove(WorkerId(1));
        assert!(types.names().is_empty());
        assert_eq!(types.workers("a").count(), 0);
        types.add(WorkerId(2), &[info("a", 6)]);
        assert_eq!(types.check(&[info("a", 6)]), Ok(()), "a new version after the old one is gone");
    }
}
