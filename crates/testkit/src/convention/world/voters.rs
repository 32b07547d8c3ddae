//! Who votes while hosts come, go, and stay away.

use super::{AGREES, World, breaking::Lasting};
use crate::convention::faults::Fault;
use odeon_cluster::directory::{Command, TokenId};
use odeon_protocol::{Time, control::Value};
use std::{collections::BTreeSet, time::Duration};

/// The zones of the hosts.
const ZONES: [&str; 4] = ["a", "a", "b", "c"];
/// A silent voter of three keeps its vote so long.
const SHORT: Duration = Duration::from_secs(8);
/// It is replaced by then.
const LONG: Duration = Duration::from_secs(14);
/// A change of voters takes no longer where nothing else happens.
const CHANGE: Duration = Duration::from_secs(2);

impl World {
    /// Two hosts are lost for ever, one after the other: the others go on, as the first one's vote went to a stand-by.
    pub(in crate::convention) fn voters_lost(&mut self) -> Result<(), String> {
        self.form()?;
        for (machine, zone) in self.machines.iter().zip(ZONES) {
            machine.within(|handle| handle.set_capabilities([("zone".into(), Value::Text(zone.into()))].into()));
        }
        self.until_voters("no two of a zone vote", AGREES, |voters| {
            let zones: BTreeSet<&str> = voters.iter().map(|voter| ZONES[*voter]).collect();
            zones.len() == 3
        })?;
        self.until_agreed(AGREES)?;
        let before = self.voters();
        let blip = self.a_follower()?;
        self.lasting.push(Lasting { fault: Fault::Cut, host: blip, other: blip, until: self.now + SHORT });
        self.set_ways();
        self.go_on(SHORT)?;
        if self.voters() != before {
            return Err(format!("h{} was silent for a moment, and {:?} vote", blip + 1, self.voters()));
        }
        self.until_agreed(AGREES)?;
        if self.voters() != before {
            return Err(format!("h{} is back, and {:?} vote", blip + 1, self.voters()));
        }
        let first = self.a_follower()?;
        self.lose(first)?;
        self.until_voters("a lost voter is replaced", LONG, |voters| voters.len() == 3 && !voters.contains(&first))?;
        let second = self.a_follower()?;
        self.lose(second)?;
        let granted = self.checks.granted;
        self.go_on(LONG)?;
        if self.checks.granted == granted {
            return Err("after the second loss no name is granted".into());
        }
        Ok(())
    }

    /// The disk of a voter is full: its vote goes to the host that stands by, and it stands by itself once there is room.
    pub(in crate::convention) fn voter_full(&mut self) -> Result<(), String> {
        self.form()?;
        let full = self.a_follower()?;
        self.tell(format!("the disk of h{} is full", full + 1));
        self.machines[full].disk.set_full(true);
        self.until_voters("a voter whose disk is full is replaced", LONG, |voters| {
            voters.len() == 3 && !voters.contains(&full)
        })?;
        self.machines[full].disk.set_full(false);
        self.until_agreed(AGREES)?;
        match self.voters().contains(&full) {
            true => Err(format!("h{} votes again, though nobody was lost", full + 1)),
            false => Ok(()),
        }
    }

    /// Something for the log.
    fn write(&self) {
        let leader = self.machines.iter().find(|machine| Some(machine.name()) == self.leader);
        let write = |handle: &odeon_node::convention::Handle| {
            let handle = handle.clone();
            // Who was cut off answers nothing.
            tokio::spawn(async move { drop(handle.propose(Command::RevokeToken { token: TokenId(1) }).await) });
        };
        leader.map(|machine| machine.within(write));
    }

    /// The hosts that vote, as their leader says.
    fn voters(&self) -> BTreeSet<usize> {
        let leader = self.machines.iter().find(|machine| Some(machine.name()) == self.leader);
        let voters = leader.and_then(|machine| machine.within(|handle| handle.status().voters)).unwrap_or_default();
        self.machines
            .iter()
            .enumerate()
            .filter(|(_, machine)| voters.contains(&machine.name()))
            .map(|of| of.0)
            .collect()
    }

    /// A voter that does not lead.
    fn a_follower(&mut self) -> Result<usize, String> {
        let mut followers = self.voters();
        followers.retain(|host| Some(self.machines[*host].name()) != self.leader);
        let followers: Vec<usize> = followers.into_iter().collect();
        self.random.one(&followers).ok_or_else(|| "nobody follows".into())
    }

    fn lose(&mut self, host: usize) -> Result<(), String> {
        self.tell(format!("h{} is lost", host + 1));
        self.kill(host);
        let until = Time::ZERO + Duration::from_secs(1 << 30);
        self.lasting.push(Lasting { fault: Fault::Kill, host, other: host, until });
        self.set_ways();
        self.step()
    }

    fn go_on(&mut self, span: Duration) -> Result<(), String> {
        let until = self.now + span;
        while self.now < until {
            self.step()?;
            if self.is_each(1000) {
                self.write();
            }
            self.watch_voters()?;
        }
        Ok(())
    }

    /// An even number votes only while a change is under way.
    fn watch_voters(&mut self) -> Result<(), String> {
        let voters = self.voters();
        if voters.is_empty() || voters.len() % 2 == 1 {
            self.even = None;
            return Ok(());
        }
        match self.now.since(*self.even.get_or_insert(self.now)) {
            lasts if lasts > CHANGE => Err(format!("for {lasts:?} an even number votes: {voters:?}")),
            _ => Ok(()),
        }
    }

    fn until_voters(
        &mut self,
        what: &str,
        within: Duration,
        are: impl Fn(&BTreeSet<usize>) -> bool,
    ) -> Result<(), String> {
        let until = self.now + within;
        while !are(&self.voters()) {
            if self.now > until {
                return Err(format!("not within {within:?}: {what}; {:?} vote", self.voters()));
            }
            self.go_on(Duration::from_millis(50))?;
        }
        Ok(())
    }
}
