//! - **CH-1.** A parent is told of a child's end at most once.
//! - **CH-2.** It is told, unless its own process has ended.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, Default)]
struct Child {
    process: u32,
    ended: bool,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(in crate::convention) struct Children {
    all: BTreeMap<String, Child>,
}

impl Children {
    pub(in crate::convention) fn born(&mut self, child: &str, process: u32) {
        self.all.entry(child.to_owned()).or_default().process = process;
    }

    /// A parent in that process is told. It may not have heard of the child's birth.
    pub(in crate::convention) fn ended(&mut self, child: &str, process: u32) -> Result<(), String> {
        let known = self.all.entry(child.to_owned()).or_default();
        if std::mem::replace(&mut known.ended, true) {
            return Err(format!("the end of child {child} is told twice, now in process {process}"));
        }
        Ok(())
    }

    /// A child of these processes of whose end nobody was told.
    pub(in crate::convention) fn open(&self, processes: &BTreeSet<u32>) -> Option<&str> {
        let open = |child: &Child| !child.ended && processes.contains(&child.process);
        self.all.iter().find(|(_, child)| open(child)).map(|(name, _)| &**name)
    }
}
