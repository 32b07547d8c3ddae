//! Answers kept so that a repeated claim is not granted twice.
//!
//! A proposal whose answer was lost is proposed again, and the first one may still be in the log. Refusals are kept as
//! well: a claimant that was told `Held` has gone away, and a late repetition must not make it a holder unawares.

use super::{Answer, Claim, Denied, Directory, RequestId};
use odeon_protocol::limits::REQUESTS_KEPT;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// The newest answers, oldest forgotten first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Requests {
    kept: BTreeMap<RequestId, Kept>,
    order: VecDeque<RequestId>,
}

/// An answer without the record that it showed, which the directory has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kept {
    Granted(u64),
    Changed,
    Held,
    TypeMismatch,
    Denied(Denied),
}

impl Requests {
    pub(super) fn remember(&mut self, request: RequestId, answer: &Answer) {
        let kept = match answer {
            Answer::Granted { epoch } => Kept::Granted(*epoch),
            Answer::Held(_) => Kept::Held,
            Answer::TypeMismatch { .. } => Kept::TypeMismatch,
            Answer::Denied(denied) => Kept::Denied(denied.clone()),
            _ => Kept::Changed,
        };
        if self.kept.contains_key(&request) {
            return;
        }
        self.kept.insert(request, kept);
        self.order.push_back(request);
        if self.order.len() > REQUESTS_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.kept.remove(&oldest);
        }
    }
}

impl Directory {
    /// The answer to a claim that was decided before, as far as it still holds.
    pub(super) fn answered_before(&self, claim: &Claim) -> Option<Answer> {
        let kept = self.state.private.requests.kept.get(&claim.request)?;
        let record = self.state.names.get(&claim.name);
        Some(match (kept, record) {
            (Kept::Granted(epoch), Some(record)) if record.epoch == *epoch && record.holder == Some(claim.holder) => {
                Answer::Granted { epoch: *epoch }
            }
            (Kept::Held, Some(record)) if record.holder.is_some() => Answer::Held(Box::new(record.clone())),
            (Kept::TypeMismatch, Some(record)) if record.declaration.type_name != claim.declaration.type_name => {
                super::names::type_mismatch(record, claim)
            }
            (Kept::Granted(_) | Kept::Changed, record) => Answer::Changed { record: record.cloned().map(Box::new) },
            (Kept::Held | Kept::TypeMismatch, _) => Answer::Denied(Denied::TooLate),
            (Kept::Denied(denied), _) => Answer::Denied(denied.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::{Boot, NodeId};

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let mut requests = Requests::default();
        let id = |number| RequestId { node: NodeId(1), boot: Boot(1), number };
        for number in 0..REQUESTS_KEPT as u64 + 10 {
            requests.remember(id(number), &Answer::Granted { epoch: number });
        }
        assert_eq!(requests.kept.len(), REQUESTS_KEPT);
        assert_eq!(requests.order.len(), REQUESTS_KEPT);
        assert!(!requests.kept.contains_key(&id(9)));
        assert!(requests.kept.contains_key(&id(10)));
    }
}
