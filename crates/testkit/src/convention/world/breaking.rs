//! Things break, and heal.

use super::{AGREES, World};
use crate::convention::{
    checks::may_run,
    faults::{FAULTS, Fault, LIGHT},
    programs::Program,
};
use odeon_protocol::Time;
use std::time::Duration;

/// For a host that is back to be heard.
const SHORT: Duration = Duration::from_secs(3);

/// A host may be given up so long after it is back: that was decided while it was away, and logged late, by a slow disk
/// or the next leader.
const LOGGED: Duration = Duration::from_secs(10);

/// When a host was out of the others' reach, or did not run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Away {
    /// From when, if it is away.
    since: Option<Time>,
    /// From when until when it was the last time.
    last: Option<(Time, Time)>,
}

impl Away {
    /// It is away from now on, or is not.
    fn look(&mut self, away: bool, now: Time) {
        match (self.since, away) {
            (None, true) => {
                // Who was back for a moment only has perhaps not been heard.
                let goes_on = self.last.filter(|(_, until)| now.since(*until) < SHORT);
                self.since = Some(goes_on.map_or(now, |(from, _)| from));
            }
            (Some(from), false) => {
                self.since = None;
                let longer = |(from, until): &(Time, Time), other: Time| until.since(*from) > now.since(other);
                let late = self.last.filter(|last| now.since(last.1) < LOGGED && longer(last, from));
                self.last = late.or(Some((from, now)));
            }
            _ => {}
        }
    }

    /// The longest absence for which it may be given up now.
    pub(super) fn lasts(&self, now: Time) -> Duration {
        let last = self.last.filter(|(_, until)| now.since(*until) < LOGGED).map(|(from, until)| until.since(from));
        self.since.map(|since| now.since(since)).max(last).unwrap_or_default()
    }
}

/// A fault that lasts.
pub(super) struct Lasting {
    pub(super) fault: Fault,
    pub(super) host: usize,
    pub(super) other: usize,
    pub(super) until: Time,
}

impl World {
    pub(super) fn end_faults(&mut self) -> Result<(), String> {
        while let Some(over) = self.lasting.iter().position(|lasting| lasting.until <= self.now) {
            let lasting = self.lasting.swap_remove(over);
            self.heal(&lasting)?;
        }
        Ok(())
    }

    fn choose(&mut self) -> (Fault, usize) {
        let leader = self.machines.iter().position(|machine| Some(machine.name()) == self.leader);
        let any = self.random.below(self.machines.len() as u64) as usize;
        if self.calm {
            let away = self.lasting.iter().any(|lasting| lasting.fault.is_outage());
            let faults = if Some(any) == leader || away { &LIGHT[..] } else { &FAULTS[..] };
            return (self.random.one(faults).unwrap_or(Fault::Lossy), any);
        }
        let host = leader.filter(|_| self.random.chance(40)).unwrap_or(any);
        (self.random.one(&FAULTS).unwrap_or(Fault::Lossy), host)
    }

    /// Breaks something.
    pub(super) fn inject(&mut self) {
        let (fault, host) = self.choose();
        let other = (host + 1 + self.random.below(self.machines.len() as u64 - 1) as usize) % self.machines.len();
        let busy = |lasting: &Lasting| {
            (lasting.host, lasting.fault) == (host, fault) || lasting.host == host && !self.machines[host].runs()
        };
        if self.lasting.iter().any(busy) {
            return;
        }
        let lasts = if self.calm { fault.lasts_long(&mut self.random) } else { fault.lasts(&mut self.random) };
        self.tell(format!("{fault:?} h{} (h{}) for {lasts:?}", host + 1, other + 1));
        *self.report.faults.entry(fault).or_default() += 1;
        match fault {
            Fault::Freeze | Fault::Suspend => {
                (self.machines[host].stands, self.machines[host].workers_stand) = (true, true);
            }
            Fault::FreezeAgent => self.machines[host].stands = true,
            Fault::FreezeWorkers => self.machines[host].workers_stand = true,
            Fault::Kill => self.kill(host),
            Fault::KillWorker => self.machines[host].programs.lock().iter().for_each(Program::kill),
            Fault::PowerCut => self.machines[host].disk.cut_power(self.random.below(60) as u32),
            Fault::Stop => {
                self.machines[host].stop();
                self.stopping.insert(host);
            }
            Fault::SlowDisk => {
                let takes = Duration::from_millis(50 + self.random.below(500));
                self.machines[host].disk.set_sync(takes);
            }
            Fault::FullDisk => self.machines[host].disk.set_full(true),
            _ => {}
        }
        self.lasting.push(Lasting { fault, host, other, until: self.now + lasts });
        self.set_ways();
    }

    pub(super) fn heal(&mut self, over: &Lasting) -> Result<(), String> {
        self.tell(format!("{:?} of h{} is over", over.fault, over.host + 1));
        match over.fault {
            Fault::Freeze | Fault::Suspend => {
                (self.machines[over.host].stands, self.machines[over.host].workers_stand) = (false, false);
            }
            Fault::FreezeAgent => self.machines[over.host].stands = false,
            Fault::FreezeWorkers => self.machines[over.host].workers_stand = false,
            Fault::PowerCut => {
                self.lose_power(over.host);
                self.start(over.host, false)?;
            }
            Fault::Kill | Fault::Stop => {
                // It may be stopping still, or have been started by the end of the other fault.
                self.stopping.remove(&over.host);
                self.kill(over.host);
                self.start(over.host, false)?;
            }
            Fault::SlowDisk => self.machines[over.host].disk.set_sync(Duration::from_millis(1)),
            Fault::FullDisk => self.machines[over.host].disk.set_full(false),
            _ => {}
        }
        self.set_ways();
        Ok(())
    }

    /// The leader's disk is full for so long: another leads meanwhile, and the host keeps its lease.
    pub(in crate::convention) fn full_disk(&mut self, lasts: Duration) -> Result<(), String> {
        self.form()?;
        let led = self.leader.clone().ok_or("nobody leads")?;
        let host = self.machines.iter().position(|machine| machine.name() == led).ok_or("the leader is no host")?;
        self.machines[host].disk.set_full(true);
        let until = self.now + lasts;
        while self.now < until {
            self.step()?;
        }
        if self.leader.as_ref() == Some(&led) {
            return Err(format!("{led} leads still, and its disk is full"));
        }
        if may_run(&self.machines[host]).is_none() {
            return Err(format!("{led} holds no lease: it does not find who leads instead"));
        }
        self.machines[host].disk.set_full(false);
        self.until_agreed(AGREES)
    }

    /// What the faults that last now mean for the ways between hosts, and for who is away.
    pub(super) fn set_ways(&mut self) {
        self.paths.cut.clear();
        self.paths.loss.clear();
        let addresses: Vec<_> = self.machines.iter().map(|machine| machine.address).collect();
        for Lasting { fault, host, other, .. } in &self.lasting {
            let (me, others) = (addresses[*host], addresses.iter().filter(|address| **address != addresses[*host]));
            match fault {
                Fault::Cut => self.paths.cut.extend(others.flat_map(|other| [(me, *other), (*other, me)])),
                Fault::Deaf => self.paths.cut.extend(others.map(|other| (*other, me))),
                Fault::Mute => self.paths.cut.extend(others.map(|other| (me, *other))),
                Fault::Split => self.paths.cut.extend([(me, addresses[*other]), (addresses[*other], me)]),
                Fault::Lossy => {
                    self.paths.loss.extend(others.flat_map(|other| [((me, *other), 25), ((*other, me), 25)]))
                }
                Fault::Freeze
                | Fault::FreezeAgent
                | Fault::FreezeWorkers
                | Fault::Suspend
                | Fault::Kill
                | Fault::KillWorker
                | Fault::PowerCut
                | Fault::Stop
                | Fault::SlowDisk
                | Fault::FullDisk => {}
            }
        }
        for (host, was) in self.away.iter_mut().enumerate() {
            let away = self.lasting.iter().any(|lasting| match lasting.fault {
                Fault::Split => lasting.host == host || lasting.other == host,
                fault => lasting.host == host && fault.is_outage(),
            });
            was.look(away, self.now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn an_absence_counts_for_a_while_after_it_is_over() {
        let mut away = Away::default();
        for (seconds, is_away, lasts) in [
            (10, true, 0),
            (41, true, 31),
            (41, false, 31),
            // It is back for long enough to be heard, and away again before the log says that it was given up.
            (45, true, 31),
            (46, false, 31),
            (50, false, 31),
            (51, false, 0),
            (60, true, 0),
            (61, false, 1),
            // So shortly that it is the same absence.
            (62, true, 2),
            (90, true, 30),
        ] {
            away.look(is_away, at(seconds));
            assert_eq!(away.lasts(at(seconds)).as_secs(), lasts, "at {seconds}");
        }
    }
}
