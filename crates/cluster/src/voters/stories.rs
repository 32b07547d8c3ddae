//! Hosts come, go and fall silent as chance has it; each step is checked by `settle`.

use super::{
    tests::{HOUR, SECOND, group},
    *,
};
use crate::testing::node;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Happens {
    Comes(Option<String>),
    Leaves(u64),
    Dies(u64),
    Silent(u64, u64),
    Stuck(u64, u64),
    Lags(u64),
    Unheard(u64),
    Back(u64),
    Leads(u64),
    Passes,
}

fn happens() -> impl Strategy<Value = Happens> {
    let host = 1..10u64;
    prop_oneof![
        3 => prop::option::of("[abc]").prop_map(Happens::Comes),
        1 => host.clone().prop_map(Happens::Leaves),
        2 => host.clone().prop_map(Happens::Dies),
        3 => (host.clone(), 0..40u64).prop_map(|(number, seconds)| Happens::Silent(number, seconds)),
        1 => (host.clone(), 0..40u64).prop_map(|(number, seconds)| Happens::Stuck(number, seconds)),
        1 => host.clone().prop_map(Happens::Lags),
        1 => host.clone().prop_map(Happens::Unheard),
        4 => host.clone().prop_map(Happens::Back),
        1 => host.prop_map(Happens::Leads),
        2 => Just(Happens::Passes),
    ]
}

impl Group {
    fn happens(&mut self, what: &Happens) {
        let fresh = |zone| Host { zone, heard: Some(Duration::ZERO), caught_up: true, ..Host::default() };
        match what {
            Happens::Comes(zone) => {
                let free = (1..10).map(node).find(|node| !self.hosts.contains_key(node));
                if let Some(node) = free.filter(|node| !self.voters[0].contains(node)) {
                    self.hosts.insert(node, fresh(zone.clone()));
                }
            }
            Happens::Leads(number) => {
                let fit = self.voters[0].contains(&node(*number));
                if self.hosts.get(&node(*number)).is_some_and(|host| fit && host.is_well()) {
                    self.leader = node(*number);
                }
            }
            Happens::Passes => {
                self.hosts.values_mut().filter(|host| host.is_well()).for_each(|host| host.heard = Some(HOUR))
            }
            Happens::Leaves(number)
            | Happens::Dies(number)
            | Happens::Silent(number, _)
            | Happens::Stuck(number, _)
            | Happens::Lags(number)
            | Happens::Unheard(number)
            | Happens::Back(number) => {
                let node = node(*number);
                if node == self.leader {
                    return;
                }
                let Some(host) = self.hosts.get_mut(&node) else { return };
                match what {
                    Happens::Leaves(_) => drop(self.hosts.remove(&node)),
                    Happens::Dies(_) => (host.dead, host.silent) = (true, HOUR),
                    Happens::Silent(_, seconds) => host.silent = SECOND * *seconds as u32,
                    Happens::Stuck(_, seconds) => host.stuck = SECOND * *seconds as u32,
                    Happens::Lags(_) => host.caught_up = false,
                    Happens::Unheard(_) => host.heard = None,
                    _ => *host = fresh(host.zone.clone()),
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_step_is_sound_and_the_steps_end(story in prop::collection::vec(happens(), 1..60)) {
        let mut group = group("a");
        for what in &story {
            group.happens(what);
            group.settle();
        }
        // All that belong are back, and time passes.
        if group.has_majority(&group.voters[0]) {
            for number in 1..10 {
                group.happens(&Happens::Back(number));
            }
            group.happens(&Happens::Passes);
            group.settle();
            let voters = &group.voters[0];
            prop_assert_eq!(voters.len(), size(group.hosts.len()));
            prop_assert!(voters.iter().all(|node| group.hosts.contains_key(node)));
            let zones = group.zones(voters.iter());
            let most = group.hosts.iter().filter(|(node, _)| voters.contains(node)).map(|(_, host)| zones.near(host)).max();
            for (_, host) in group.hosts.iter().filter(|(node, _)| !voters.contains(node)) {
                prop_assert!(zones.near(host) + 2 > most.unwrap(), "{:?}", group);
            }
            prop_assert_eq!(group.stand_bys.len(), (group.hosts.len() - voters.len()).min(STAND_BYS_MAX));
        }
    }

    #[test]
    fn a_settled_group_bears_blips(zones in "[-abc]{1,9}", silent in prop::collection::vec((1..10u64, 0..10u64), 0..6)) {
        let mut group = group(&zones).settled();
        for (number, seconds) in silent {
            group.happens(&Happens::Silent(number, seconds));
        }
        prop_assert_eq!(group.next(), None);
    }

    #[test]
    fn the_same_group_gives_the_same_step(story in prop::collection::vec(happens(), 1..40)) {
        let mut group = group("a");
        for what in &story {
            group.happens(what);
            prop_assert_eq!(group.next(), group.clone().next());
            group.settle();
        }
    }
}
