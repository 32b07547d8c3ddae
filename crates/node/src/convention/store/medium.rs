//! Where the directory's file is: on a disk, or in a simulation's memory.

use parking_lot::Mutex;
use redb::{Builder, Database, DatabaseError, StorageBackend, backends::FileBackend};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// See the module's head.
#[derive(Clone, Debug)]
pub(crate) enum Medium {
    File(PathBuf),
    Simulated(Disk),
}

impl Medium {
    /// For errors.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Simulated(_) => Path::new("a simulated disk"),
        }
    }

    pub(super) fn open(&self) -> Result<Database, DatabaseError> {
        match self {
            Self::File(path) => Builder::new().create_with_backend(FileBackend::new(private(path)?)?),
            Self::Simulated(disk) => Builder::new().create_with_backend(disk.clone()),
        }
    }
}

/// Opens a file, or makes one that its owner alone may read: the authority's key is in it.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
}

/// Loss of power takes or leaves each of these as a whole.
const SECTOR_BYTES: usize = 512;

/// A disk of a simulation. It outlives the process that writes it; what a process had asked for and was not told to be
/// written is lost with it. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    power: Arc<Mutex<Power>>,
    sync_micros: Arc<AtomicU64>,
    full: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Power {
    /// What was written since the last sync, sector by sector: where, what was there before, what is there now.
    unsynced: Vec<(usize, Vec<u8>, Vec<u8>)>,
    /// Writes and syncs until it goes, if it does.
    left: Option<u32>,
}

impl Power {
    fn spend(&mut self) -> io::Result<()> {
        match &mut self.left {
            Some(0) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "there is no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Disk {
    /// After so many writes and syncs the power goes: nothing is written any more.
    pub fn cut_power(&self, after: u32) {
        self.power.lock().left = Some(after);
    }

    /// Whether there is power.
    #[must_use]
    pub fn has_power(&self) -> bool {
        self.power.lock().left != Some(0)
    }

    /// The power is back. Of what was written and not synced, whatever is said to be `lost` is not there.
    pub fn restore_power(&self, mut lost: impl FnMut() -> bool) {
        let Power { unsynced, .. } = std::mem::take(&mut *self.power.lock());
        let mut bytes = self.bytes.lock();
        let mut put = |offset: usize, sector: &[u8]| {
            // It may have been shortened since.
            if let Some(place) = bytes.get_mut(offset..offset + sector.len()) {
                place.copy_from_slice(sector);
            }
        };
        unsynced.iter().rev().for_each(|(offset, before, _)| put(*offset, before));
        unsynced.iter().filter(|_| !lost()).for_each(|(offset, _, now)| put(*offset, now));
    }

    /// From now on it takes so long until something is written.
    pub fn set_sync(&self, takes: Duration) {
        self.sync_micros.store(takes.as_micros() as u64, Ordering::Relaxed);
    }

    /// Whether nothing more can be written from now on, for want of room.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    fn has_room(&self) -> io::Result<()> {
        if self.full.load(Ordering::Relaxed) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// How long it takes until something is written.
    pub(super) fn sync_takes(&self) -> Duration {
        Duration::from_micros(self.sync_micros.load(Ordering::Relaxed))
    }
}

fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the end of the disk")
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (bytes, offset) = (self.bytes.lock(), offset as usize);
        out.copy_from_slice(bytes.get(offset..offset + out.len()).ok_or_else(outside)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.has_room()?;
        self.power.lock().spend()?;
        self.bytes.lock().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut power = self.power.lock();
        power.spend()?;
        power.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.has_room()?;
        let mut power = self.power.lock();
        power.spend()?;
        let (mut bytes, mut offset) = (self.bytes.lock(), offset as usize);
        let mut place = bytes.get_mut(offset..offset + data.len()).ok_or_else(outside)?;
        let mut data = data;
        while !data.is_empty() {
            let length = data.len().min(SECTOR_BYTES - offset % SECTOR_BYTES);
            let (sector, rest) = place.split_at_mut(length);
            power.unsynced.push((offset, sector.to_vec(), data[..length].to_vec()));
            sector.copy_from_slice(&data[..length]);
            (place, data, offset) = (rest, &data[length..], offset + length);
        }
        Ok(())
    }
}
