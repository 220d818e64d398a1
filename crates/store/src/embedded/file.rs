//! Making and opening the store's file.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use rustix::fs::{Advice, CWD, RenameFlags, fadvise, renameat_with, statvfs};
use rustix::io::Errno;

use super::database;
use super::error::OpenError;

/// Where the database's bytes are.
pub(crate) trait Storage: Send + Sync + 'static {
    /// For messages.
    fn path(&self) -> &Path;

    /// Opens what is there, as the disk has it and not as a cache remembers it, and
    /// makes nothing.
    fn open(&self) -> Result<Box<dyn StorageBackend>, OpenError>;

    /// Bytes that the file system has left.
    fn free(&self) -> io::Result<u64>;

    /// The error of an operating system that refused.
    fn failed(&self, source: io::Error) -> OpenError {
        let path = self.path().to_owned();
        OpenError::Io { path, source }
    }
}

/// A file.
pub(crate) struct FileStorage {
    path: PathBuf,
}

impl FileStorage {
    pub(crate) fn new(path: &Path) -> Self {
        let path = path.to_owned();
        Self { path }
    }

    /// Makes an empty store where no file is. The file gets its name when it is
    /// complete: one that has the name but is not a store was not begun here.
    pub(crate) fn create_if_missing(&self) -> Result<(), OpenError> {
        match self.path.symlink_metadata() {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(self.failed(error)),
        }
        let directory = self.directory();
        if !directory.is_dir() {
            let path = self.path.clone();
            return Err(OpenError::NoDirectory { path });
        }
        let unfinished = self.unfinished();
        let made = self.create(&unfinished, directory);
        if made.is_err() && !matches!(made, Err(OpenError::Locked { .. })) {
            // Unless it has its name already.
            let _ = std::fs::remove_file(&unfinished);
        }
        made
    }

    fn create(&self, unfinished: &Path, directory: &Path) -> Result<(), OpenError> {
        let failed = |error| self.failed(error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(unfinished)
            .map_err(failed)?;
        // Whoever else is making it has it locked; what is left of a dead one is not.
        file.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => self.locked(),
            std::fs::TryLockError::Error(error) => self.failed(error),
        })?;
        file.set_len(0).map_err(failed)?;
        let kept = file.try_clone().map_err(failed)?;
        database::initialise(self, backend(file, self)?)?;
        kept.sync_all().map_err(failed)?;
        let named = match renameat_with(CWD, unfinished, CWD, &self.path, RenameFlags::NOREPLACE) {
            // Not every file system can refuse to replace.
            Err(Errno::INVAL | Errno::NOSYS) if !self.path.exists() => {
                std::fs::rename(unfinished, &self.path)
            }
            // Another made it meanwhile.
            Err(Errno::EXIST) => std::fs::remove_file(unfinished),
            other => other.map_err(io::Error::from),
        };
        named.map_err(failed)?;
        let directory = File::open(directory).map_err(failed)?;
        directory.sync_all().map_err(failed)
    }

    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(directory) if directory != Path::new("") => directory,
            _ => Path::new("."),
        }
    }

    fn unfinished(&self) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(".new");
        name.into()
    }

    fn locked(&self) -> OpenError {
        let path = self.path.clone();
        OpenError::Locked { path }
    }
}

impl Storage for FileStorage {
    fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self) -> Result<Box<dyn StorageBackend>, OpenError> {
        let failed = |error| self.failed(error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.path)
            .map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let not_a_store = |detail: &str| OpenError::NotAStore {
            path: self.path.clone(),
            detail: detail.to_owned(),
        };
        if !metadata.is_file() {
            return Err(not_a_store("it is not a file"));
        }
        if metadata.len() == 0 {
            return Err(not_a_store("it is empty"));
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            tracing::warn!(path = ?self.path, "the store can be read by other users of this machine");
        }
        // After a write that failed the kernel may remember what the disk does not have.
        file.sync_all().map_err(failed)?;
        fadvise(&file, 0, None, Advice::DontNeed).map_err(|e| self.failed(e.into()))?;
        backend(file, self)
    }

    fn free(&self) -> io::Result<u64> {
        let system = statvfs(self.directory())?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
    }
}

fn backend(file: File, storage: &impl Storage) -> Result<Box<dyn StorageBackend>, OpenError> {
    match FileBackend::new(file) {
        Ok(backend) => Ok(Box::new(backend)),
        Err(error) => Err(database::open_error(storage, error)),
    }
}

/// Any backend as one type, locks included.
#[derive(Debug)]
pub(crate) struct AnyBackend(pub(crate) Box<dyn StorageBackend>);

type Locked = Result<bool, BackendError>;

impl StorageBackend for AnyBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked {
        self.0.query_lock_range(start, end)
    }
}
