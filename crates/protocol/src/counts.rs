//! A process's messages to and from other processes, counted by how they ended.
//!
//! What goes from one actor to another within a process is not in it: there the mailbox is the account. Nor are fences,
//! which are no messages.
//!
//! - **CO-1 (sent).** `accepted = settled + returned + unsettled + outstanding`, in every process at any time.
//! - **CO-2 (received).** `taken = handled + given_back + waiting`, in every process at any time.

use crate::reason::Reason;
use serde::{Deserialize, Serialize};
use std::fmt;

/// See the module's head. A process tells its agent these by [`crate::control::ToAgent::Counts`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Messages that this process sent to other processes: numbered in a flow and queued towards the agent.
    pub accepted: u64,
    /// Of those, messages that their receivers reported as ended, or whose ask was answered, be it with an error.
    pub settled: u64,
    /// Of those, messages that came back, by reason; each reason at most once.
    pub returned: Vec<(Reason, u64)>,
    /// Of those, messages of which nobody will say what became of them: they went down with their receiver's process or
    /// host, or this process has lost its agent.
    pub unsettled: u64,
    /// Of those, messages that have not ended.
    pub outstanding: u64,
    /// Of [`Counts::returned`], messages that an agent gave back though they may have arrived: their host was not reached
    /// for too long. They may be counted as handled there as well.
    pub doubtful: u64,
    /// Messages sent beside the flows, as they must not wait and every window was used up. Nobody reports how they end, so
    /// they are in none of the other numbers.
    pub beside: u64,
    /// Messages of flows that this process received for an actor that was there.
    pub taken: u64,
    /// Of those, messages whose handler has ended, or whose ask was answered.
    pub handled: u64,
    /// Of those, messages that were sent back: not handled, or told and failed. Some have gone on to another actor.
    pub given_back: u64,
    /// Of those, messages that have not ended.
    pub waiting: u64,
}

impl Counts {
    /// All messages that came back.
    #[must_use]
    pub fn all_returned(&self) -> u64 {
        self.returned.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// So many messages came back for that reason.
    pub fn add_returned(&mut self, reason: Reason, count: u64) {
        match self.returned.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, all)) => *all = all.saturating_add(count),
            None => self.returned.push((reason, count)),
        }
    }

    /// Adds those of another process, or of another part of this one.
    pub fn add(&mut self, other: &Self) {
        let Self { accepted, settled, returned, unsettled, outstanding, doubtful, beside, .. } = other;
        for (sum, count) in [
            (&mut self.accepted, accepted),
            (&mut self.settled, settled),
            (&mut self.unsettled, unsettled),
            (&mut self.outstanding, outstanding),
            (&mut self.doubtful, doubtful),
            (&mut self.beside, beside),
            (&mut self.taken, &other.taken),
            (&mut self.handled, &other.handled),
            (&mut self.given_back, &other.given_back),
            (&mut self.waiting, &other.waiting),
        ] {
            *sum = sum.saturating_add(*count);
        }
        returned.iter().for_each(|(reason, count)| self.add_returned(*reason, *count));
    }

    /// Whether they add up.
    ///
    /// # Errors
    /// CO-1 or CO-2 does not hold.
    pub fn check(&self) -> Result<(), Unbalanced> {
        let Self { accepted, settled, unsettled, outstanding, taken, handled, given_back, waiting, .. } = *self;
        let sums = [
            ("CO-1", accepted, [settled, self.all_returned(), unsettled, outstanding]),
            ("CO-2", taken, [handled, given_back, waiting, 0]),
        ];
        let sum = |parts: [u64; 4]| parts.into_iter().fold(0, u64::saturating_add);
        match sums.into_iter().find(|(_, all, parts)| *all != sum(*parts)) {
            Some((rule, ..)) => Err(Unbalanced { rule, counts: Box::new(self.clone()) }),
            None => Ok(()),
        }
    }
}

/// As people read it.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, settled, unsettled, outstanding, taken, handled, given_back, waiting, .. } = self;
        write!(
            f,
            "{accepted} accepted = {settled} settled + {} returned + {unsettled} unsettled + {outstanding} outstanding; \
             {taken} taken = {handled} handled + {given_back} given back + {waiting} waiting",
            self.all_returned()
        )
    }
}

/// Numbers of one process that do not add up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule} does not hold: {counts}")]
pub struct Unbalanced {
    /// Which of the module's rules.
    pub rule: &'static str,
    /// The numbers.
    pub counts: Box<Counts>,
}

#[cfg(test)]
mod tests {
    use super::*;

    type Field = fn(&mut Counts) -> &mut u64;

    fn balanced() -> Counts {
        Counts {
            accepted: 10,
            settled: 4,
            returned: vec![(Reason::Full, 1), (Reason::Failed, 2)],
            unsettled: 2,
            outstanding: 1,
            taken: 6,
            handled: 3,
            given_back: 2,
            waiting: 1,
            ..Counts::default()
        }
    }

    #[test]
    fn each_number_counts_in_one_of_the_sums() {
        assert_eq!(balanced().check(), Ok(()));
        let fields: [(Field, &str); 8] = [
            (|counts| &mut counts.accepted, "CO-1"),
            (|counts| &mut counts.settled, "CO-1"),
            (|counts| &mut counts.unsettled, "CO-1"),
            (|counts| &mut counts.outstanding, "CO-1"),
            (|counts| &mut counts.taken, "CO-2"),
            (|counts| &mut counts.handled, "CO-2"),
            (|counts| &mut counts.given_back, "CO-2"),
            (|counts| &mut counts.waiting, "CO-2"),
        ];
        for (field, rule) in fields {
            let mut counts = balanced();
            *field(&mut counts) += 1;
            assert_eq!(counts.check().unwrap_err().rule, rule, "{counts}");
        }
        let mut counts = balanced();
        counts.add_returned(Reason::Full, 1);
        assert!(counts.check().unwrap_err().to_string().starts_with("CO-1 does not hold: 10 accepted = 4 settled + 4"));
    }

    #[test]
    fn sums_of_balanced_numbers_balance() {
        let mut sum = balanced();
        sum.add(&Counts {
            accepted: 1,
            returned: vec![(Reason::Failed, 1)],
            beside: 5,
            doubtful: 6,
            ..Counts::default()
        });
        assert_eq!(sum.check(), Ok(()));
        assert_eq!((sum.accepted, sum.beside, sum.doubtful), (11, 5, 6));
        assert_eq!(sum.returned, [(Reason::Full, 1), (Reason::Failed, 3)]);
    }

    #[test]
    fn numbers_that_nobody_can_have_do_not_overflow() {
        let mut sum = Counts { accepted: u64::MAX, returned: vec![(Reason::Full, u64::MAX)], ..Counts::default() };
        sum.add(&sum.clone());
        assert_eq!((sum.accepted, sum.all_returned()), (u64::MAX, u64::MAX));
    }
}
