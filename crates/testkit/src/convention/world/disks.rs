//! Machines that come back with an empty disk: each is a new host, under its old name and address.
//!
//! The old host is evicted, as its operator does it, since its name is taken until then.

use super::{AGREES, World};
use std::time::Duration;

impl World {
    /// Each host in turn loses its disk, and comes back as a new one.
    pub(in crate::convention) fn disks_lost(&mut self) -> Result<(), String> {
        self.form()?;
        for host in 0..self.machines.len() {
            self.tell(format!("h{} has lost its disk", host + 1));
            let was = self.machines[host].key().node();
            self.kill(host);
            self.machines[host].wipe();
            let until = self.now + Duration::from_millis(500 + self.random.below(4000));
            while self.now < until {
                self.step()?;
            }
            self.admit(host, Some(was))?;
            self.start(host, false)?;
            self.until_agreed(AGREES)?;
        }
        self.all_answer(AGREES)
    }
}
