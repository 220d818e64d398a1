//! The file of a Unix-domain listener.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::ListenErrorKind;
use super::bind::{BACKLOG, Bound, Local};
use super::socket::SocketOptions;

/// Who may connect unless set: owner and group.
const MODE: u32 = 0o660;

/// The file of a socket that listens; removed when this is dropped, if it is still the same.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|is| is == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = ?self.path, %error, "the listener's file could not be removed");
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Binds to `path`. The file of a process that is gone is replaced.
pub(super) fn bind(path: &Path, options: &SocketOptions) -> Result<Bound, ListenErrorKind> {
    let directory = path.parent().ok_or(ListenErrorKind::RelativePath)?;
    // Of two gates that start at the same time, one must not remove the other's new file.
    let directory = File::open(directory)?;
    directory.lock()?;
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: identity(path)?,
    };
    // Nobody can connect before `listen`.
    let mode = options.unix_mode.unwrap_or(MODE);
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok(Bound {
        socket,
        local: Local::Unix(path.to_owned()),
        file: Some(file),
    })
}

/// Removes what a process that did not end in order has left.
fn remove_stale(path: &Path) -> Result<(), ListenErrorKind> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    if !found.file_type().is_socket() {
        return Err(ListenErrorKind::NotASocket);
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        // Nobody listens.
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(e.into()),
        // Connected, or its queue is full, or it speaks another kind of socket.
        Ok(()) | Err(_) => Err(ListenErrorKind::InUse),
    }
}
