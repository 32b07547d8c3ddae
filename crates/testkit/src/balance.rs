//! Whether the messages of a whole convention add up, from what its processes counted.
//!
//! Taken when nothing is under way any more, so that each message has had its end:
//!
//! - **BA-1.** In every process CO-1 and CO-2 hold ([`Counts::check`]), and nothing is outstanding or waiting in those that
//!   live.
//! - **BA-2.** What was settled was handled: `settled ≤ handled`, in all processes together.
//! - **BA-3.** What was handled was sent, and by no other account than these: `handled ≤ settled + unsettled + doubtful +
//!   unknown + client messages`, where *unknown* is what ended processes had outstanding, and *client messages* are told ones
//!   of the command line and of HTTP, which no process counts as sent.
//!
//! Where nothing was lost, out of reach, or of such a client, that is `accepted = handled + returned`, exactly.
//!
//! BA-2 and BA-3 need the counts of every process. What a killed one did after it had last told its agent nobody knows; if
//! there are such, only BA-1 is checked, and they are named.

use odeon_protocol::Counts;
use std::fmt;

/// How a process stands when its counts are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It lives: the counts are those of now.
    Lives,
    /// It has ended, and the counts are those of its end.
    Ended,
    /// It has ended, and the counts are those that it last told.
    Silent,
}

/// One process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Host, worker, process id.
    pub name: String,
    /// Whether it lives.
    pub life: Life,
    /// What it counted.
    pub counts: Counts,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?}): {}", self.name, self.life, self.counts)
    }
}

/// A convention whose messages add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Over all processes.
    pub sum: Counts,
    /// Processes that can no longer say what they did last; with none, the sums are checked as well.
    pub silent: Vec<String>,
}

/// See the module's head.
///
/// # Errors
/// What does not hold, each with the process and the numbers that it is about.
pub fn balance(processes: &[Process], client_messages: u64) -> Result<Balance, Vec<String>> {
    let mut faults: Vec<String> = processes.iter().filter_map(fault_of).collect();
    let mut sum = Counts::default();
    processes.iter().for_each(|process| sum.add(&process.counts));
    let silent = processes.iter().filter(|process| process.life == Life::Silent);
    let silent: Vec<_> = silent.map(|process| process.name.clone()).collect();
    if faults.is_empty() && silent.is_empty() {
        // Those that live have nothing outstanding.
        let unknown = sum.outstanding;
        let most = sum.settled + sum.unsettled + sum.doubtful + unknown + client_messages;
        if sum.handled < sum.settled {
            faults.push(format!("BA-2: {} settled, {} handled", sum.settled, sum.handled));
        } else if sum.handled > most {
            faults.push(format!(
                "BA-3: {} handled, and at most {} settled + {} unsettled + {} doubtful + {unknown} unknown + \
                 {client_messages} of clients",
                sum.handled, sum.settled, sum.unsettled, sum.doubtful
            ));
        }
        if !faults.is_empty() {
            faults.extend(processes.iter().map(Process::to_string));
        }
    }
    if faults.is_empty() { Ok(Balance { sum, silent }) } else { Err(faults) }
}

/// What does not hold in one process.
fn fault_of(process: &Process) -> Option<String> {
    let Process { name, life, counts } = process;
    match counts.check() {
        Err(why) => Some(format!("BA-1: {name}: {why}")),
        Ok(()) if *life == Life::Lives && counts.outstanding + counts.waiting > 0 => {
            Some(format!("BA-1: {name}: not at rest: {counts}"))
        }
        Ok(()) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::Reason;

    fn sender(life: Life, accepted: u64, settled: u64, returned: u64, unsettled: u64) -> Process {
        let outstanding = accepted - settled - returned - unsettled;
        let returned = vec![(Reason::Full, returned)];
        let counts = Counts { accepted, settled, returned, unsettled, outstanding, ..Counts::default() };
        Process { name: "h1 w1 pid 7".to_owned(), life, counts }
    }

    fn receiver(life: Life, taken: u64, handled: u64) -> Process {
        let counts = Counts { taken, handled, waiting: taken - handled, ..Counts::default() };
        Process { name: "h2 w1 pid 8".to_owned(), life, counts }
    }

    fn fault(processes: &[Process], client_messages: u64) -> String {
        balance(processes, client_messages).expect_err("they do not add up")[0].clone()
    }

    #[test]
    fn where_nothing_is_lost_the_sums_are_equal() {
        let sent = sender(Life::Lives, 10, 8, 2, 0);
        let found = balance(&[sent.clone(), receiver(Life::Lives, 8, 8)], 0).expect("they add up");
        assert_eq!((found.sum.accepted, found.silent.len()), (10, 0));
        let missing = fault(&[sent.clone(), receiver(Life::Lives, 7, 7)], 0);
        assert_eq!(missing, "BA-2: 8 settled, 7 handled");
        let doubled = fault(&[sent.clone(), receiver(Life::Lives, 9, 9)], 0);
        assert!(doubled.starts_with("BA-3: 9 handled, and at most 8 settled"), "{doubled}");
        assert!(balance(&[sent, receiver(Life::Lives, 9, 9)], 1).is_ok(), "one was of a client");
    }

    #[test]
    fn what_nobody_knows_may_have_been_handled() {
        for handled in 8..=10 {
            assert!(balance(&[sender(Life::Lives, 10, 8, 0, 2), receiver(Life::Lives, handled, handled)], 0).is_ok());
            assert!(balance(&[sender(Life::Ended, 10, 8, 0, 0), receiver(Life::Lives, handled, handled)], 0).is_ok());
        }
        assert!(fault(&[sender(Life::Ended, 10, 8, 0, 0), receiver(Life::Lives, 11, 11)], 0).starts_with("BA-3"));
        assert!(balance(&[sender(Life::Lives, 8, 8, 0, 0), receiver(Life::Ended, 9, 8)], 0).is_ok());
    }

    #[test]
    fn a_process_is_named_that_does_not_balance_or_rest() {
        let mut wrong = sender(Life::Silent, 10, 8, 2, 0);
        wrong.counts.accepted += 1;
        assert!(fault(&[wrong], 0).starts_with("BA-1: h1 w1 pid 7: CO-1 does not hold: 11 accepted = 8 settled"));
        assert!(fault(&[sender(Life::Lives, 3, 2, 0, 0)], 0).starts_with("BA-1: h1 w1 pid 7: not at rest: 3 accepted"));
        assert!(fault(&[receiver(Life::Lives, 3, 2)], 0).contains("not at rest"));
    }

    #[test]
    fn who_can_no_longer_say_is_named() {
        let found =
            balance(&[sender(Life::Lives, 9, 8, 0, 1), receiver(Life::Silent, 2, 2)], 0).expect("what is known");
        assert_eq!(found.silent, ["h2 w1 pid 8"]);
    }
}
