//! `probe.sequence`: notices what is lost, doubled or out of order, for each sender.
//!
//! A sender numbers its messages one by one. The first that arrives sets where the count begins; what was passed over
//! is missing until it arrives after all.
//!
//! Where `PROBE_LOG` names a directory, each sequence keeps in a file there how many messages it was given: eight bytes,
//! little-endian, written before anything else is done. They outlive the process, however it ends.

use odeon::prelude::*;
use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// The next message of its sender.
#[message]
#[derive(Clone, Debug)]
pub struct Next {
    /// Its number, one more than the one before.
    pub n: u64,
    /// Anything, to make it large. Shared, so that whoever sends many is not busy with making it.
    #[serde(default)]
    pub pad: Arc<String>,
}

/// From now on it takes so many a second at most.
#[message]
#[derive(Clone, Debug)]
pub struct Slow {
    /// How many; none for as fast as it can.
    pub per_second: Option<f64>,
}

/// Asks what was noticed.
#[message(reply = Report)]
#[derive(Clone, Debug)]
pub struct Gaps;

/// The answer to [`Gaps`], over all senders.
#[data]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages that arrived.
    pub received: u64,
    /// Numbers that were passed over and have not arrived since.
    pub gaps: u64,
    /// Messages whose number had arrived before.
    pub duplicates: u64,
    /// Messages that arrived after a later one.
    pub reordered: u64,
}

/// How much of its lateness a slow one makes up for.
const LATE: Duration = Duration::from_millis(20);

/// The actor.
#[derive(Debug, Default)]
pub struct Sequence {
    senders: HashMap<Option<String>, Numbers>,
    /// How long each message takes.
    each: Option<Duration>,
    /// Until when those before take.
    busy: Option<Instant>,
    log: Log,
}

#[actor("probe.sequence")]
impl Sequence {
    async fn next(&mut self, next: Next, ctx: &mut Context<Self>) {
        self.log.count();
        let sender = ctx.sender().map(|sender| sender.to_string());
        self.senders.entry(sender).or_default().take(next.n);
        if let Some(each) = self.each {
            // A timer may be late; the next message takes the less.
            let now = Instant::now();
            let from = self.busy.unwrap_or(now).max(now.checked_sub(LATE).unwrap_or(now));
            self.busy = Some(from + each);
            tokio::time::sleep_until((from + each).into()).await;
        }
    }

    fn slow(&mut self, slow: Slow) {
        let each = slow.per_second.and_then(|rate| Duration::try_from_secs_f64(1.0 / rate).ok());
        (self.each, self.busy) = (each.filter(|each| !each.is_zero()), None);
    }

    fn gaps(&mut self, _: Gaps) -> Report {
        self.senders.values().fold(Report::default(), |mut sum, numbers| {
            sum.received += numbers.report.received;
            sum.gaps += numbers.missing.iter().map(|(from, end)| end - from).sum::<u64>();
            sum.duplicates += numbers.report.duplicates;
            sum.reordered += numbers.report.reordered;
            sum
        })
    }
}

/// How many messages it was given, where the process' end does not reach.
#[derive(Debug)]
struct Log {
    file: Option<File>,
    given: u64,
}

impl Default for Log {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let name = || format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::var_os("PROBE_LOG").map(|directory| PathBuf::from(directory).join(name()));
        Self { file: path.and_then(|path| File::create(path).ok()), given: 0 }
    }
}

impl Log {
    fn count(&mut self) {
        self.given += 1;
        if let Some(file) = &self.file {
            // Whoever reads the log compares it with what the actor says.
            let _ = file.write_all_at(&self.given.to_le_bytes(), 0);
        }
    }
}

/// What arrived of one sender.
#[derive(Debug, Default)]
struct Numbers {
    /// All counts but `gaps`.
    report: Report,
    /// The numbers from the smallest to the largest that arrived; the end is not part of it.
    span: Option<(u64, u64)>,
    /// What is missing within: from → end, not part of it.
    missing: BTreeMap<u64, u64>,
}

impl Numbers {
    fn take(&mut self, n: u64) {
        self.report.received += 1;
        let after = n.saturating_add(1);
        match self.span {
            None => self.span = Some((n, after)),
            Some((first, end)) if n >= end => {
                self.miss(end, n);
                self.span = Some((first, after));
            }
            Some((first, end)) if n < first => {
                self.report.reordered += 1;
                self.miss(after, first);
                self.span = Some((n, end));
            }
            Some(_) => {
                if self.find(n) {
                    self.report.reordered += 1;
                } else {
                    self.report.duplicates += 1;
                }
            }
        }
    }

    fn miss(&mut self, from: u64, end: u64) {
        if from < end {
            self.missing.insert(from, end);
        }
    }

    /// Takes a number out of what is missing.
    fn find(&mut self, n: u64) -> bool {
        let Some((&from, &end)) = self.missing.range(..=n).next_back().filter(|&(_, &end)| n < end) else {
            return false;
        };
        self.missing.remove(&from);
        self.miss(from, n);
        self.miss(n + 1, end);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(numbers: &[u64], gaps: u64, duplicates: u64, reordered: u64) {
        let mut taken = Numbers::default();
        numbers.iter().for_each(|&n| taken.take(n));
        let missing: u64 = taken.missing.iter().map(|(from, end)| end - from).sum();
        assert_eq!((missing, taken.report.duplicates, taken.report.reordered), (gaps, duplicates, reordered));
        assert_eq!(taken.report.received, numbers.len() as u64);
    }

    #[test]
    fn what_is_lost_doubled_or_out_of_order_is_noticed() {
        check(&[], 0, 0, 0);
        check(&[7, 8, 9], 0, 0, 0);
        check(&[1, 2, 5], 2, 0, 0);
        check(&[1, 2, 5, 3], 1, 0, 1);
        check(&[1, 2, 5, 4, 3], 0, 0, 2);
        check(&[1, 2, 2, 3], 0, 1, 0);
        check(&[3, 1, 2], 0, 0, 2);
        check(&[1, 9, 5, 5], 6, 1, 1);
        check(&[0, u64::MAX], u64::MAX - 1, 0, 0);
    }
}
