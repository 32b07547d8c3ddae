//! The actors that run here, by serial, and those with a global name by that as well.
//!
//! - **RC-1.** `by_name` holds exactly the serials of the records that have that name. A name has two for a moment only: where
//!   an instance is being ended and the next has begun.

use super::Record;
use odeon_protocol::{Serial, simulated::RandomState};
use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
};

/// See the module's head.
#[derive(Default)]
pub(super) struct Records {
    by_serial: HashMap<Serial, Record, RandomState>,
    by_name: HashMap<Arc<str>, Vec<Serial>, RandomState>,
}

impl Records {
    pub(super) fn insert(&mut self, serial: Serial, record: Record) {
        self.remove(serial);
        if let Some(name) = &record.name {
            self.by_name.entry(name.clone()).or_default().push(serial);
        }
        self.by_serial.insert(serial, record);
    }

    pub(super) fn remove(&mut self, serial: Serial) -> Option<Record> {
        let record = self.by_serial.remove(&serial)?;
        if let Some(name) = &record.name
            && let Some(serials) = self.by_name.get_mut(name)
        {
            serials.retain(|other| *other != serial);
            if serials.is_empty() {
                self.by_name.remove(name);
            }
        }
        Some(record)
    }

    /// Takes out what that is true of, in the order of serials.
    pub(super) fn take(&mut self, of: impl Fn(&Record) -> bool) -> Vec<(Serial, Record)> {
        let mut serials: Vec<_> = self.iter().filter(|(_, record)| of(record)).map(|(serial, _)| *serial).collect();
        serials.sort_unstable();
        serials.into_iter().filter_map(|serial| Some((serial, self.remove(serial)?))).collect()
    }

    pub(super) fn get(&self, serial: &Serial) -> Option<&Record> {
        self.by_serial.get(serial)
    }

    /// Must not change its name.
    pub(super) fn get_mut(&mut self, serial: &Serial) -> Option<&mut Record> {
        self.by_serial.get_mut(serial)
    }

    pub(super) fn of_name(&self, name: &str) -> impl Iterator<Item = (&Serial, &Record)> {
        self.by_name.get(name).into_iter().flatten().filter_map(|serial| self.by_serial.get_key_value(serial))
    }

    /// Those with a global name.
    pub(super) fn named(&self) -> impl Iterator<Item = (&Serial, &Record)> {
        self.by_name.values().flatten().filter_map(|serial| self.by_serial.get_key_value(serial))
    }

    pub(super) fn iter(&self) -> hash_map::Iter<'_, Serial, Record> {
        self.by_serial.iter()
    }

    pub(super) fn values(&self) -> hash_map::Values<'_, Serial, Record> {
        self.by_serial.values()
    }

    pub(super) fn len(&self) -> usize {
        self.by_serial.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use odeon_protocol::{
        Direct, WorkerId,
        control::{Policy, WireCodec},
    };

    fn record(name: Option<&str>, worker: u32) -> Record {
        Record {
            type_name: "test.type".into(),
            args: Vec::new(),
            codec: WireCodec::Postcard,
            name: name.map(Into::into),
            epoch: 1,
            parent: Direct::NONE,
            worker: WorkerId(worker),
            policy: Policy::default(),
            on: None,
            stopping: false,
            unfit: None,
            restarts: Vec::new(),
        }
    }

    #[test]
    fn a_record_is_found_by_its_name_as_long_as_it_is_there() {
        let mut records = Records::default();
        for (serial, name, worker) in [(1, Some("a"), 1), (2, None, 1), (3, Some("a"), 2), (4, Some("b"), 2)] {
            records.insert(Serial(serial), record(name, worker));
        }
        let of = |records: &Records, name: &str| records.of_name(name).map(|(serial, _)| serial.0).collect::<Vec<_>>();
        assert_eq!((of(&records, "a"), of(&records, "b"), records.len()), (vec![1, 3], vec![4], 4));
        // What is put in its place may bear no name.
        records.insert(Serial(4), record(None, 2));
        assert!(records.remove(Serial(1)).is_some() && records.remove(Serial(1)).is_none());
        assert_eq!((of(&records, "a"), of(&records, "b"), records.named().count()), (vec![3], vec![], 1));
        let taken: Vec<_> =
            records.take(|record| record.worker == WorkerId(2)).iter().map(|(serial, _)| serial.0).collect();
        assert_eq!((taken, records.named().count(), records.len()), (vec![3, 4], 0, 1));
    }
}
