//! kill -9 in the middle of 10,000 changes, on a real file, and then the last writes torn
//! as a power loss tears them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redb::{BackendError, StorageBackend};

use super::TempDir;
use super::record::{Record, change, name};
use crate::embedded::clock::System;
use crate::embedded::file::{FileStorage, Storage};
use crate::{Embedded, EmbeddedOptions, OpenError};

const ROUNDS: u64 = 50;
const CHANGES: u64 = 10_000;
/// Sessions that change their settings at the same time.
const USERS: u64 = 250;
/// Where the child's file is.
const PATH: &str = "TIDEGATE_STORE_KILL_TEST";

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9_and_torn_writes() {
    let (mut torn, mut unfinished, mut acknowledged) = (0, 0, 0);
    for seed in 0..ROUNDS {
        let mut random = StdRng::seed_from_u64(seed);
        let directory = TempDir::new();
        let path = directory.file();
        let mut record = Record::default();
        let after = random.random_range(0..CHANGES);
        let all = run_child(&path, &mut record, after, random.random_range(0..200_000));
        unfinished += u64::from(!all);
        acknowledged += record.count();
        torn += tear(&path, &mut random);
        let store = Embedded::open(&path, EmbeddedOptions::default());
        let store = store.unwrap_or_else(|error| panic!("round {seed}: {error}"));
        if let Err(wrong) = record.check(&store).await {
            panic!("round {seed}: {wrong}");
        }
        // It goes on.
        change(&store, &name(0), 12).await.unwrap();
    }
    println!(
        "{ROUNDS} rounds, {unfinished} killed in the middle, {acknowledged} changes acknowledged, {torn} writes torn"
    );
    assert!(
        unfinished > ROUNDS / 2,
        "{unfinished} were killed in the middle"
    );
    assert!(torn > ROUNDS, "{torn} writes were torn");
}

/// Runs the child until it has acknowledged `after` changes, and for `spins` more turns;
/// kills it. Answers whether it was done by then.
fn run_child(path: &Path, record: &mut Record, after: u64, spins: u64) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::kill::child", "--ignored", "--nocapture"])
        .env(PATH, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let (mut line, mut killed) = (String::new(), false);
    // After the kill too: what is in the pipe was acknowledged.
    while lines.read_line(&mut line).unwrap() > 0 {
        if let Some((who, number)) = line.strip_prefix("ack ").and_then(parse) {
            record.asked(who, number + 1);
            record.acknowledged(who, number);
        }
        line.clear();
        if !killed && record.count() >= after {
            for _ in 0..spins {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    for who in 0..USERS {
        record.started(who);
    }
    record.count() == CHANGES
}

fn parse(line: &str) -> Option<(u64, u64)> {
    // A line that was cut short by the kill has no end.
    let (who, number) = line.strip_suffix('\n')?.split_once(' ')?;
    Some((who.parse().ok()?, number.parse().ok()?))
}

#[tokio::test]
#[ignore = "the process that the test above kills"]
async fn child() {
    let path = std::env::var_os(PATH).expect("it is started by the test above");
    let storage = Undoable(FileStorage::new(Path::new(&path)));
    storage.0.create_if_missing().unwrap();
    let options = EmbeddedOptions::default();
    let time = Arc::new(System::new());
    let store = Embedded::start(Arc::new(storage), options, time).unwrap();
    let users = (0..USERS).map(async |who| {
        for number in 1..=CHANGES / USERS {
            change(&store, &name(who), number).await.unwrap();
            io::stdout()
                .write_all(format!("ack {who} {number}\n").as_bytes())
                .unwrap();
        }
    });
    futures_util::future::join_all(users).await;
}

/// A file of which it is known what it was at the last sync: what is overwritten is noted
/// in another file first.
struct Undoable(FileStorage);

impl Storage for Undoable {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn open(&self) -> Result<Box<dyn StorageBackend>, OpenError> {
        let log = File::create(log_path(self.path())).unwrap();
        Ok(Box::new(Undo {
            file: self.0.open()?,
            log: Mutex::new(log),
        }))
    }

    fn free(&self) -> io::Result<u64> {
        self.0.free()
    }
}

fn log_path(path: &Path) -> PathBuf {
    path.with_extension("undo")
}

/// Bytes of a note before what was overwritten: the file's length, where, how much, and
/// whether the length was changed.
const HEAD: usize = 25;

#[derive(Debug)]
struct Undo {
    file: Box<dyn StorageBackend>,
    log: Mutex<File>,
}

impl Undo {
    /// Notes what is at `at`, how long the file is, and whether that is to change.
    fn note(&self, at: u64, length: usize, cuts: bool) -> io::Result<()> {
        let end = self.file.len()?;
        let mut old = vec![0; length.min(end.saturating_sub(at) as usize)];
        self.file.read(at, &mut old)?;
        let mut entry = Vec::with_capacity(old.len() + HEAD);
        entry.extend_from_slice(&end.to_le_bytes());
        entry.extend_from_slice(&at.to_le_bytes());
        entry.extend_from_slice(&(old.len() as u64).to_le_bytes());
        entry.push(u8::from(cuts));
        entry.extend_from_slice(&old);
        self.log.lock().unwrap().write_all(&entry)
    }
}

impl StorageBackend for Undo {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let end = self.file.len()?;
        self.note(length, end.saturating_sub(length) as usize, true)?;
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        let mut log = self.log.lock().unwrap();
        log.set_len(0)?;
        io::Seek::rewind(&mut *log)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.note(offset, data.len(), false)?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

/// Undoes any part of what was written since the last sync, by sectors and by bytes; the
/// file's length too, perhaps, which has what was cut off with it. Answers how many
/// writes there were.
fn tear(path: &Path, random: &mut StdRng) -> u64 {
    const SECTOR: usize = 512;
    let mut log = Vec::new();
    if let Ok(mut file) = File::open(log_path(path)) {
        file.read_to_end(&mut log).unwrap();
    }
    let Ok(file) = OpenOptions::new().write(true).open(path) else {
        return 0;
    };
    let mut notes = Vec::new();
    let mut rest = log.as_slice();
    while let Some((head, after)) = rest.split_first_chunk::<HEAD>() {
        let number = |i: usize| u64::from_le_bytes(head[i..i + 8].try_into().unwrap());
        let Some((old, after)) = after.split_at_checked(number(16) as usize) else {
            break; // Cut short by the kill: its write was not begun.
        };
        notes.push((number(0), number(8), head[24] == 1, old));
        rest = after;
    }
    let Some((first_end, ..)) = notes.first() else {
        return 0;
    };
    let undo_length = random.random_bool(0.5);
    let end = match undo_length {
        true => *first_end,
        false => fs::metadata(path).unwrap().len(),
    };
    let undone = random.random_range(0.0..=1.0);
    for (_, at, is_length, old) in notes.iter().rev() {
        if *is_length {
            if undo_length {
                file.write_all_at(old, *at).unwrap();
            }
            continue;
        }
        for (n, sector) in old.chunks(SECTOR).enumerate() {
            if random.random_bool(undone) {
                let from = match random.random_bool(0.1) {
                    true => random.random_range(0..sector.len()),
                    false => 0,
                };
                let at = at + (n * SECTOR + from) as u64;
                file.write_all_at(&sector[from..], at).unwrap();
            }
        }
    }
    file.set_len(end).unwrap();
    notes.len() as u64
}
