//! What happened to names, as the diaries of witnesses and claimants tell: see `probe.witness` and `probe.claimant`.

use std::collections::{BTreeMap, HashMap};

/// Times are nanoseconds of one clock for all processes.
pub(crate) type Time = u64;

/// One message that an instance of a name handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handling {
    /// Which diary it stands in: each instance writes one.
    pub(crate) instance: usize,
    /// The instance's process.
    pub(crate) pid: u64,
    pub(crate) epoch: u64,
    /// The message's number.
    pub(crate) ask: u64,
    pub(crate) began: Time,
    /// When it ended, and the value then; nothing if its process ended before.
    pub(crate) ended: Option<(Time, u64)>,
}

/// One ask, as whoever asked saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) id: u64,
    pub(crate) invoked: Time,
    pub(crate) end: End,
}

/// How an ask ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// When the answer came, and the epoch and the value in it.
    Answered { at: Time, epoch: u64, value: u64 },
    /// With an error.
    Failed { may_have_run: bool },
    /// Nobody knows: whoever asked was killed.
    Open,
}

/// All that is known of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) handlings: Vec<Handling>,
    pub(crate) asks: Vec<Ask>,
}

/// A name had a new bearer, who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failover {
    /// When its first answer came.
    pub(crate) at: Time,
    /// Whether it lived on another host than the last one that had answered.
    pub(crate) moved: bool,
}

/// See the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) names: BTreeMap<String, Name>,
    /// The host of each instance that wrote a diary.
    pub(crate) instances: Vec<String>,
}

impl History {
    /// Takes one diary. A line that is cut off is the last one of a process that was killed, and does not count.
    pub(crate) fn take(&mut self, diary: &str) -> Result<(), String> {
        let whole = diary.rfind('\n').map_or("", |end| &diary[..end]);
        let mut lines = whole.lines().map(|line| line.split(' ').collect::<Vec<&str>>());
        match lines.next().as_deref() {
            None => Ok(()),
            Some(["witness", host, name, pid]) => {
                self.instances.push((*host).to_owned());
                self.take_witness(name, number(pid)?, lines)
            }
            Some(["claimant", ..]) => self.take_claimant(lines),
            Some(other) => Err(format!("whose diary is this? {other:?}")),
        }
    }

    fn take_witness<'a>(
        &mut self,
        name: &str,
        pid: u64,
        lines: impl Iterator<Item = Vec<&'a str>>,
    ) -> Result<(), String> {
        let handlings = &mut self.names.entry(name.to_owned()).or_default().handlings;
        let (instance, first) = (self.instances.len() - 1, handlings.len());
        for line in lines {
            match line[..] {
                ["begin", epoch, ask, at] => {
                    let (epoch, ask, began) = (number(epoch)?, number(ask)?, number(at)?);
                    handlings.push(Handling { instance, pid, epoch, ask, began, ended: None });
                }
                ["end", epoch, ask, at, value] => {
                    let (epoch, ask) = (number(epoch)?, number(ask)?);
                    let begun = handlings[first..].last_mut().filter(|last| last.ended.is_none());
                    let begun = begun.filter(|last| (last.epoch, last.ask) == (epoch, ask));
                    begun.ok_or_else(|| format!("{name} ends what it has not begun: {line:?}"))?.ended =
                        Some((number(at)?, number(value)?));
                }
                _ => return Err(format!("a witness of {name} writes {line:?}")),
            }
        }
        Ok(())
    }

    fn take_claimant<'a>(&mut self, lines: impl Iterator<Item = Vec<&'a str>>) -> Result<(), String> {
        // Number → the name, and where its ask stands there.
        let mut open: HashMap<u64, (String, usize)> = HashMap::new();
        for line in lines {
            let (id, end) = match line[..] {
                ["invoke", id, at, name] => {
                    let (id, asks) = (number(id)?, &mut self.names.entry(name.to_owned()).or_default().asks);
                    open.insert(id, (name.to_owned(), asks.len()));
                    asks.push(Ask { id, invoked: number(at)?, end: End::Open });
                    continue;
                }
                ["return", id, at, epoch, value] => {
                    (id, End::Answered { at: number(at)?, epoch: number(epoch)?, value: number(value)? })
                }
                ["failed", id, _, may_have_run, _] => (id, End::Failed { may_have_run: may_have_run == "true" }),
                _ => return Err(format!("a claimant writes {line:?}")),
            };
            let known = open.remove(&number(id)?).ok_or_else(|| format!("nobody asked: {line:?}"))?;
            let name = self.names.get_mut(&known.0).expect("its ask stands there");
            name.asks[known.1].end = end;
        }
        Ok(())
    }

    /// What was completed: names that were answered under a higher epoch than before.
    pub(crate) fn failovers(&self) -> Vec<Failover> {
        self.names.values().flat_map(|known| known.failovers(&self.instances)).collect()
    }

    /// Lets an instance of some name handle one message more, after its successor has begun to; which name.
    ///
    /// Nothing where no name has had two instances.
    pub(crate) fn plant_overlap(&mut self) -> Option<&str> {
        self.names.iter_mut().find_map(|(name, known)| known.plant_overlap().map(|()| name.as_str()))
    }
}

impl Name {
    fn failovers(&self, hosts: &[String]) -> Vec<Failover> {
        let mut firsts: BTreeMap<u64, Time> = BTreeMap::new();
        for ask in &self.asks {
            if let End::Answered { at, epoch, .. } = ask.end {
                firsts.entry(epoch).and_modify(|first| *first = at.min(*first)).or_insert(at);
            }
        }
        let host = |epoch| {
            self.handlings.iter().find(|handling| handling.epoch == epoch).map(|handling| &hosts[handling.instance])
        };
        let bearers: Vec<(Time, Option<&String>)> = firsts.into_iter().map(|(epoch, at)| (at, host(epoch))).collect();
        bearers.windows(2).map(|pair| Failover { at: pair[1].0, moved: pair[0].1 != pair[1].1 }).collect()
    }

    fn plant_overlap(&mut self) -> Option<()> {
        let newest = self.handlings.iter().max_by_key(|handling| (handling.epoch, u64::MAX - handling.began))?.clone();
        let older = self.handlings.iter().filter(|handling| handling.epoch < newest.epoch && handling.ended.is_some());
        let last = older.max_by_key(|handling| (handling.epoch, handling.began))?.clone();
        let (_, value) = last.ended?;
        let began = newest.began + 1;
        // No ask has the number 0: it was a tell.
        self.handlings.push(Handling { ask: 0, began, ended: Some((began + 1, value + 1)), ..last });
        Some(())
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diaries_are_read_and_what_is_cut_off_is_not() {
        let mut history = History::default();
        history.take("witness h2 n 7\nbegin 3 1 10\nend 3 1 12 1\nbegin 3 2 15\nend 3 2 1").expect("it is a diary");
        history.take("claimant h1 8\ninvoke 1 9 n\ninvoke 2 14 n\nreturn 1 13 3 1\n").expect("it is a diary");
        history.take("").expect("its writer was killed at once");
        let handling = |ask, began, ended| Handling { instance: 0, pid: 7, epoch: 3, ask, began, ended };
        let asks = vec![
            Ask { id: 1, invoked: 9, end: End::Answered { at: 13, epoch: 3, value: 1 } },
            Ask { id: 2, invoked: 14, end: End::Open },
        ];
        let known = Name { handlings: vec![handling(1, 10, Some((12, 1))), handling(2, 15, None)], asks };
        assert_eq!(
            (history.names.get("n"), history.names.len(), &history.instances[..]),
            (Some(&known), 1, &["h2".to_owned()][..])
        );
    }

    #[test]
    fn a_failover_is_an_answer_under_a_higher_epoch_on_this_or_another_host() {
        let mut history = History::default();
        let bearers = [("h1", 3, 10), ("h1", 4, 20), ("h2", 6, 30)];
        for (host, epoch, at) in bearers {
            let handled = format!("begin {epoch} {at} {at}\nend {epoch} {at} {} 1\n", at + 1);
            history.take(&format!("witness {host} n 7\n{handled}")).expect("it is a diary");
            let asked = format!("invoke {at} {at} n\nreturn {at} {} {epoch} 1\n", at + 2);
            history.take(&format!("claimant h3 9\n{asked}")).expect("it is a diary");
        }
        // Who handles without an answer has completed nothing.
        history.take("witness h3 n 7\nbegin 7 40 40\n").expect("it is a diary");
        let expected = [Failover { at: 22, moved: false }, Failover { at: 32, moved: true }];
        assert_eq!(history.failovers(), expected);
    }

    #[test]
    fn what_no_diary_can_say_is_refused() {
        for wrong in [
            "somebody\n",
            "witness h2 n x\n",
            "witness h2 n 7\nend 3 1 12 1\n",
            "witness h2 n 7\nbegin 3 1 10\nend 4 1 12 1\n",
            "witness h2 n 7\nbegin 3 1 10\nend 3 1 12 1\nend 3 1 13 1\n",
            "claimant h1 8\nreturn 1 13 3 1\n",
            "claimant h1 8\ninvoke 1 n\n",
        ] {
            assert!(History::default().take(wrong).is_err(), "{wrong:?}");
        }
    }
}
