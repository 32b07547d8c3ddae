//! All hosts at once: the network between them, or their power.

use super::{AGREES, World};
use crate::convention::{faults::Fault, world::breaking::Lasting};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// For names to be granted before everything ends.
const LIVES: Duration = Duration::from_secs(10);

impl World {
    /// Nobody reaches anybody for a while.
    pub(in crate::convention) fn outage(&mut self, lasts: Duration) -> Result<(), String> {
        self.form()?;
        let until = self.now + lasts;
        let cut = |host| Lasting { fault: Fault::Cut, host, other: host, until };
        self.lasting.extend((0..self.machines.len()).map(cut));
        self.set_ways();
        while self.now <= until {
            self.step()?;
        }
        self.until_agreed(AGREES)
    }

    /// Every machine is killed, or loses its power, and starts again so much later, in any order.
    pub(in crate::convention) fn down_and_up(&mut self, lasts: Duration) -> Result<(), String> {
        self.form()?;
        let until = self.now + LIVES;
        while self.now < until {
            self.step()?;
        }
        // Whoever is used may stop, and its name is free then.
        self.quiet = true;
        self.until_nothing_is_open(AGREES)?;
        self.until_agreed(AGREES)?;
        let declared = self.declared();
        for host in 0..self.machines.len() {
            if self.random.chance(50) { self.kill(host) } else { self.lose_power(host) }
        }
        self.now = self.now + lasts;
        self.machines.iter_mut().for_each(|machine| machine.stand(lasts, false));
        let mut down: Vec<_> = (0..self.machines.len()).collect();
        while !down.is_empty() {
            let host = down.swap_remove(self.random.below(down.len() as u64) as usize);
            self.start(host, false)?;
            let until = self.now + Duration::from_millis(self.random.below(3000));
            while self.now < until {
                self.step()?;
            }
        }
        self.until_agreed(AGREES)?;
        let again = self.declared();
        if declared.is_empty() || declared != again {
            return Err(format!("declared were {declared:?}, and are {again:?}"));
        }
        self.all_answer(AGREES)
    }

    /// The names that the first host knows.
    fn declared(&self) -> BTreeSet<Arc<str>> {
        let names = |machine: &super::Machine| {
            machine.within(|handle| handle.directory(|all| all.names().map(|name| name.name.clone()).collect()))
        };
        self.machines.first().and_then(names).unwrap_or_default()
    }
}
