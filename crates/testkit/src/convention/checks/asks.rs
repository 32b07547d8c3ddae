//! - **CA-1.** A message is handled at most once, and never after its sender was told that it had not been.
//! - **CA-2.** An answer is of a message that was handled.
//! - **CA-3.** Every ask ends, unless its process has.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default)]
struct Ask {
    process: u32,
    handled: bool,
    ended: bool,
    /// Its sender was told that it had not been handled, and why.
    refused: Option<String>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(in crate::convention) struct Asks {
    all: BTreeMap<u64, Ask>,
    pub(in crate::convention) answered: u64,
    pub(in crate::convention) failed: u64,
}

impl Asks {
    pub(in crate::convention) fn begins(&mut self, id: u64, process: u32) {
        self.all.insert(id, Ask { process, ..Ask::default() });
    }

    pub(in crate::convention) fn handled(&mut self, id: u64) -> Result<(), String> {
        let ask = self.all.entry(id).or_default();
        if ask.handled {
            return Err(format!("message {id} is handled twice"));
        }
        ask.handled = true;
        match &ask.refused {
            Some(why) => Err(format!("message {id} is handled, and its sender was told otherwise: {why}")),
            None => Ok(()),
        }
    }

    pub(in crate::convention) fn ended(&mut self, id: u64, failed: Option<(bool, String)>) -> Result<(), String> {
        let ask = self.all.entry(id).or_default();
        ask.ended = true;
        if let Some((false, why)) = &failed {
            ask.refused = Some(why.clone());
        }
        if let Some((_, why)) = &failed {
            tracing::info!(id, why, "an ask failed");
        }
        match failed {
            None if !ask.handled => Err(format!("message {id} is answered, and nobody has handled it")),
            Some((false, why)) if ask.handled => {
                Err(format!("message {id} is said not to have been handled, and was: {why}"))
            }
            None => {
                self.answered += 1;
                Ok(())
            }
            Some(_) => {
                self.failed += 1;
                Ok(())
            }
        }
    }

    /// An ask of these processes that has not ended.
    pub(in crate::convention) fn open(&self, processes: &BTreeSet<u32>) -> Option<u64> {
        let open = |ask: &Ask| !ask.ended && processes.contains(&ask.process);
        self.all.iter().find(|(_, ask)| open(ask)).map(|(id, _)| *id)
    }
}
