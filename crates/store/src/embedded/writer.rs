//! The thread that changes the database.
//!
//! It takes what waits, as one transaction: a commit waits for the disk, and that wait is
//! shared. It also removes what has expired, and when the database has failed it opens it
//! again.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redb::{Database, Error};
use tidegate::store::StoreError;

use super::change::{Change, Room, Tables};
use super::database::{self, begin, caught};
use super::queue::Taken;
use super::{OpenError, Operation, Shared};

/// Operations in one transaction.
const MOST: usize = 1024;
/// Between the first tries to open a database that failed; doubled up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// How long saves are refused after the disk was full, before it is tried again.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at what has expired.
const SWEEP_PAUSE: Duration = Duration::from_millis(500);

/// Runs until the queue is closed; then closes the database.
pub(super) fn run(shared: &Shared) -> Result<(), StoreError> {
    let mut writer = Writer {
        shared,
        next_sweep: Some(Instant::now()),
        failed: None,
        full_until: None,
    };
    writer.run();
    writer.close()
}

struct Writer<'s> {
    shared: &'s Shared,
    /// When to look at what has expired; none when nothing will.
    next_sweep: Option<Instant>,
    /// There while the database is not.
    failed: Option<Failed>,
    /// Until when saves are refused.
    full_until: Option<Instant>,
}

struct Failed {
    next_try: Instant,
    pause: Duration,
    verify: bool,
}

/// A transaction that did not come to its end.
struct Failure {
    error: StoreError,
    /// Whether there was no room on the disk.
    full: bool,
}

/// How a transaction went.
struct Done {
    answers: Vec<Result<(), StoreError>>,
    /// In milliseconds of the store's clock.
    next_due: Option<u64>,
}

impl Writer<'_> {
    fn run(&mut self) {
        loop {
            let until = match &self.failed {
                Some(failed) => Some(failed.next_try),
                None => self.next_sweep,
            };
            let Some(mut operations) = self.shared.changes.take(MOST, until) else {
                return;
            };
            // Who gave up has been told that it failed: then it better does.
            operations.retain(|taken| !taken.item.reply.is_closed());
            if self.shared.broken.swap(false, Ordering::AcqRel) && self.failed.is_none() {
                let error = StoreError::Unavailable("a read failed".into());
                self.fail(error, self.shared.options.verify);
            }
            if self.failed.is_some() {
                self.reopen_when_due();
            }
            self.serve(operations);
        }
    }

    fn serve(&mut self, operations: Vec<Taken<Operation>>) {
        let sweep_is_due = self.next_sweep.is_some_and(|at| at <= Instant::now());
        if operations.is_empty() && !sweep_is_due {
            return;
        }
        let result = match &*self.shared.database.read() {
            Ok(database) => self.commit(database, &operations, sweep_is_due),
            Err(error) => {
                answer(operations, |_| Err(error.clone()));
                return;
            }
        };
        match result {
            Ok(done) => {
                self.plan_sweep(done.next_due, sweep_is_due);
                let mut answers = done.answers.into_iter();
                answer(operations, |_| answers.next().unwrap_or(Ok(())));
            }
            Err(Failure { error, full }) => {
                if full {
                    self.full_until = Some(Instant::now() + FULL_PAUSE);
                }
                // A write that found no room is no reason to doubt what is there.
                self.fail(error.clone(), !full && self.shared.options.verify);
                answer(operations, |_| Err(error.clone()));
            }
        }
    }

    /// Does the operations in one transaction, which is on the disk when this returns.
    fn commit(
        &self,
        database: &Database,
        operations: &[Taken<Operation>],
        sweep: bool,
    ) -> Result<Done, Failure> {
        let room = self.room(operations);
        let now = self.shared.clock.now();
        let run = || -> Result<Done, Error> {
            let transaction = begin(database)?;
            let mut tables = Tables::open(&transaction, now)?;
            let mut answers = Vec::with_capacity(operations.len());
            for Taken { item, .. } in operations {
                answers.push(tables.apply(&item.change, self.shared.options.max_users, room)?);
            }
            let next_due = match sweep {
                true => tables.sweep()?,
                false => tables.next_due()?,
            };
            if tables.finish()? {
                transaction.commit()?;
            } else {
                transaction.abort()?;
            }
            Ok(Done { answers, next_due })
        };
        let error = match caught(run) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(Error::Corrupted(detail))) => StoreError::Corrupt(detail),
            Ok(Err(Error::Io(error))) if is_full(&error) => {
                let error = StoreError::Unavailable(error.to_string());
                return Err(Failure { error, full: true });
            }
            Ok(Err(error)) => StoreError::Unavailable(error.to_string()),
            Err(panic) => StoreError::Corrupt(panic),
        };
        Err(Failure { error, full: false })
    }

    /// What the disk has for saves. It is asked before: a database that found no room in
    /// the middle has to be opened again.
    fn room(&self, operations: &[Taken<Operation>]) -> Room {
        let saves = |taken: &Taken<Operation>| matches!(taken.item.change, Change::Save { .. });
        if !operations.iter().any(saves) {
            return Room::Any;
        }
        if self.full_until.is_some_and(|until| Instant::now() < until) {
            return Room::None;
        }
        match self.shared.storage.free() {
            Ok(free) if free < self.shared.options.keep_free => Room::InFile,
            // If it cannot be asked, the write will tell.
            _ => Room::Any,
        }
    }

    fn plan_sweep(&mut self, next_due: Option<u64>, swept: bool) {
        let now = self.shared.clock.now();
        let planned = next_due.map(|at| {
            let pause = Duration::from_millis(at.saturating_sub(now));
            // More than one sweep's worth is due: no pause but for who waits.
            let more = swept && pause.is_zero();
            Instant::now() + if more { pause } else { pause.max(SWEEP_PAUSE) }
        });
        self.next_sweep = match self.next_sweep {
            // Work that keeps coming does not put it off.
            Some(earlier) if !swept => planned.map(|at| at.min(earlier)),
            _ => planned,
        };
    }

    /// Gives the database up, and plans to open it again.
    fn fail(&mut self, error: StoreError, verify: bool) {
        tracing::error!(path = ?self.shared.storage.path(), error = ?error.to_string(), "the store failed; it will be opened again");
        let broken = std::mem::replace(&mut *self.shared.database.write(), Err(error));
        // No reader has it any more, and what one has found is being looked after.
        self.shared.broken.store(false, Ordering::Release);
        // What it says on the way out has been said.
        let _ = caught(|| drop(broken));
        self.failed = Some(Failed {
            next_try: Instant::now(),
            pause: FIRST_PAUSE,
            verify,
        });
        self.reopen_when_due();
    }

    fn reopen_when_due(&mut self) {
        let Some(failed) = &mut self.failed else {
            return;
        };
        if failed.next_try > Instant::now() {
            return;
        }
        let cache_bytes = self.shared.options.cache_bytes;
        match database::open(&*self.shared.storage, cache_bytes, failed.verify) {
            Ok(opened) => {
                tracing::info!(path = ?self.shared.storage.path(), "the store is open again");
                *self.shared.database.write() = Ok(opened.database);
                self.failed = None;
                self.next_sweep = Some(Instant::now());
            }
            Err(error) => {
                failed.next_try = Instant::now() + failed.pause;
                failed.pause = (failed.pause * 2).min(LAST_PAUSE);
                *self.shared.database.write() = Err(unavailable(error));
            }
        }
    }

    fn close(self) -> Result<(), StoreError> {
        let closed = Err(StoreError::Unavailable("it is closed".into()));
        let database = std::mem::replace(&mut *self.shared.database.write(), closed)?;
        match caught(|| database.close()) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(StoreError::Unavailable(error.to_string())),
            Err(panic) => Err(StoreError::Corrupt(panic)),
        }
    }
}

/// Whether the file may have no more bytes: the file system's, a quota's or a limit's.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn unavailable(error: OpenError) -> StoreError {
    match error {
        OpenError::Corrupt { .. } => StoreError::Corrupt(error.to_string()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

fn answer(
    operations: Vec<Taken<Operation>>,
    mut with: impl FnMut(&Operation) -> Result<(), StoreError>,
) {
    for Taken { item, .. } in operations {
        let result = with(&item);
        // Who gave up meanwhile does not hear of it.
        let _ = item.reply.send(result);
    }
}
