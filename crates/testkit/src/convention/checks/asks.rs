//! - **CA-1.** A message is handled at most once, and never after its sender was told that it had not been.
//! - **CA-2.** An answer is of a message that was handled.
//! - **CA-3.** Every ask ends, unless its process has.
//! - **CA-4.** A name handles the messages of each sender in the order in which they were sent.
//! - **CA-5.** Where nothing is broken, every tell is handled.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default)]
struct Ask {
    /// Nothing for a tell.
    process: Option<u32>,
    handled: bool,
    ended: bool,
    /// Its sender was told that it had not been handled, and why.
    refused: Option<String>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(in crate::convention) struct Asks {
    all: BTreeMap<u64, Ask>,
    /// The newest message that a name has handled of a sender.
    newest: BTreeMap<(String, u64), u64>,
    calm_from: Option<u64>,
    pub(in crate::convention) answered: u64,
    pub(in crate::convention) failed: u64,
}

impl Asks {
    /// It is sent from that process, or told.
    pub(in crate::convention) fn begins(&mut self, id: u64, process: Option<u32>) {
        self.all.insert(id, Ask { process, ..Ask::default() });
    }

    /// A tell came back.
    pub(in crate::convention) fn returned(
        &mut self,
        id: u64,
        (may_have_run, why): &(bool, String),
    ) -> Result<(), String> {
        let tell = self.all.entry(id).or_default();
        tell.ended = true;
        if *may_have_run {
            return Ok(());
        }
        tell.refused = Some(why.clone());
        (!tell.handled).then_some(()).ok_or_else(|| format!("message {id} came back, and it was handled: {why}"))
    }

    /// Nothing is broken any more; what is sent now has this number or a higher one.
    pub(in crate::convention) fn calm_from(&mut self, first: u64) {
        self.calm_from = Some(first);
    }

    /// Whether every tell since was handled.
    pub(in crate::convention) fn all_told(&self) -> Result<(), String> {
        let first = self.calm_from.unwrap_or(u64::MAX);
        let lost = self.all.range(first..).find(|(_, tell)| tell.process.is_none() && !tell.handled);
        lost.map_or(Ok(()), |(id, tell)| Err(format!("all was well, and message {id} was not handled: {tell:?}")))
    }

    pub(in crate::convention) fn handled(&mut self, id: u64, (name, by): (&str, u64)) -> Result<(), String> {
        let newest = self.newest.entry((name.to_owned(), by)).or_default();
        let ask = self.all.entry(id).or_default();
        if *newest > id {
            return Err(format!("{name} handles message {id} of {by} after its message {newest}"));
        }
        *newest = id.max(*newest);
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
        let open = |ask: &Ask| !ask.ended && ask.process.is_some_and(|process| processes.contains(&process));
        self.all.iter().find(|(_, ask)| open(ask)).map(|(id, _)| *id)
    }
}
