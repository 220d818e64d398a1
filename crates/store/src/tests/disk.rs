//! A disk in memory that does what disks do to programs: it forgets what was not synced
//! when the power goes, in any order and in the middle of a page; it fills up; it fails;
//! it is slow.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redb::StorageBackend;

use crate::embedded::OpenError;
use crate::embedded::database;
use crate::embedded::file::Storage;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// See the module. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What survives.
    durable: Vec<u8>,
    /// What reads give.
    seen: Vec<u8>,
    /// What became of `durable` since the last sync.
    unsynced: Vec<Step>,
    /// Writes, syncs and changes of length so far.
    steps: u64,
    syncs: u64,
    faults: Faults,
    opened: u64,
    frozen: bool,
    /// Calls that wait because it is frozen.
    stuck: u64,
}

/// A disk whose syncs wait.
pub(super) struct Frozen(Disk);

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.0.state.lock().frozen = false;
        self.0.0.changed.notify_all();
    }
}

#[derive(Debug)]
enum Step {
    Write(usize, Vec<u8>),
    Length(usize),
}

/// What goes wrong.
#[derive(Debug, Default, Clone)]
pub(super) struct Faults {
    /// From this step on nothing answers but with an error: the machine is off.
    pub(super) power_off_at: Option<u64>,
    /// This step fails, once: a write when half of it is done, a sync when the kernel
    /// forgets that what it has is not on the disk.
    pub(super) fail_at: Option<u64>,
    /// Bytes that the file may have.
    pub(super) room: Option<usize>,
    /// Reads fail.
    pub(super) reads_fail: bool,
}

impl Disk {
    /// A disk with an empty store.
    pub(super) fn new() -> Self {
        let disk = Self::default();
        database::initialise(&disk, Box::new(disk.clone())).unwrap();
        disk
    }

    /// A disk with these bytes.
    pub(super) fn with(bytes: Vec<u8>) -> Self {
        let disk = Self::default();
        {
            let mut state = disk.0.state.lock();
            state.durable.clone_from(&bytes);
            state.seen = bytes;
        }
        disk
    }

    pub(super) fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.0.state.lock().faults);
    }

    pub(super) fn steps(&self) -> u64 {
        self.0.state.lock().steps
    }

    pub(super) fn syncs(&self) -> u64 {
        self.0.state.lock().syncs
    }

    pub(super) fn opened(&self) -> u64 {
        self.0.state.lock().opened
    }

    /// The file's length.
    pub(super) fn size(&self) -> usize {
        self.0.state.lock().seen.len()
    }

    /// Lets syncs wait until what it answers is dropped.
    pub(super) fn freeze(&self) -> Frozen {
        self.0.state.lock().frozen = true;
        Frozen(self.clone())
    }

    /// Waits until a sync waits.
    pub(super) fn wait_until_stuck(&self) {
        let mut state = self.0.state.lock();
        while state.stuck == 0 {
            self.0.changed.wait(&mut state);
        }
    }

    /// What is left when the power goes now: of what was not synced any part, torn at
    /// sectors, and one of them at any byte.
    pub(super) fn after_power_loss(&self, seed: u64) -> Disk {
        let mut random = StdRng::seed_from_u64(seed);
        let state = self.0.state.lock();
        let mut left = state.durable.clone();
        // Sometimes most of it got there, sometimes little.
        let kept = random.random_range(0.0..=1.0);
        let torn = random.random_range(0..state.unsynced.len().max(1));
        for (i, step) in state.unsynced.iter().enumerate() {
            match step {
                Step::Length(length) => {
                    if random.random_bool(kept) {
                        left.resize(*length, 0);
                    }
                }
                Step::Write(at, bytes) => {
                    for (n, sector) in bytes.chunks(SECTOR).enumerate() {
                        let whole = random.random_bool(kept);
                        let cut = match i == torn && random.random_bool(0.2) {
                            true => random.random_range(0..=sector.len()),
                            false if whole => sector.len(),
                            false => 0,
                        };
                        put(&mut left, at + n * SECTOR, &sector[..cut]);
                    }
                }
            }
        }
        Disk::with(left)
    }
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = at + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[at..end].copy_from_slice(bytes);
}

impl State {
    /// Whether this step fails, though the power is on.
    fn step(&mut self) -> io::Result<bool> {
        let step = self.steps;
        self.check_power()?;
        self.steps += 1;
        let fails = self.faults.fail_at == Some(step);
        Ok(fails)
    }

    fn check_power(&self) -> io::Result<()> {
        match self.faults.power_off_at {
            Some(at) if self.steps >= at => Err(io::Error::other("the power is off")),
            _ => Ok(()),
        }
    }

    fn has_room(&self, length: usize) -> io::Result<()> {
        match self.faults.room {
            Some(room) if length > room => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        put(&mut self.seen, at, bytes);
        self.unsynced.push(Step::Write(at, bytes.to_vec()));
    }
}

impl Storage for Disk {
    fn path(&self) -> &Path {
        Path::new("simulated")
    }

    fn open(&self) -> Result<Box<dyn StorageBackend>, OpenError> {
        let sync = self.sync_data();
        sync.map_err(|error| self.failed(error))?;
        let mut state = self.0.state.lock();
        // What the kernel remembers and the disk does not have.
        state.seen = state.durable.clone();
        state.opened += 1;
        drop(state);
        Ok(Box::new(self.clone()))
    }

    fn free(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.state.lock().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.state.lock();
        state.check_power()?;
        if state.faults.reads_fail {
            return Err(io::Error::other("a bad sector"));
        }
        let at = offset as usize;
        let bytes = state.seen.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.0.state.lock();
        let length = length as usize;
        if state.step()? {
            return Err(io::Error::other("a fault"));
        }
        // As on most file systems: room is looked for when something is written.
        state.seen.resize(length, 0);
        state.unsynced.push(Step::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.state.lock();
        if state.frozen {
            state.stuck += 1;
            self.0.changed.notify_all();
            while state.frozen {
                self.0.changed.wait(&mut state);
            }
            state.stuck -= 1;
        }
        if state.step()? {
            state.unsynced.clear();
            return Err(io::Error::other("a fault"));
        }
        state.syncs += 1;
        let State {
            durable, unsynced, ..
        } = &mut *state;
        for step in unsynced.drain(..) {
            match step {
                Step::Write(at, bytes) => put(durable, at, &bytes),
                Step::Length(length) => durable.resize(length, 0),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.state.lock();
        let at = offset as usize;
        if state.step()? {
            state.write(at, &data[..data.len() / 2]);
            return Err(io::Error::other("a fault"));
        }
        state.has_room(at + data.len())?;
        state.write(at, data);
        Ok(())
    }
}
