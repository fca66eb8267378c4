//! The admin socket: private from its first moment, and never taken from an agent that still answers.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;

/// The longest path that fits into a socket address (`sun_path`, less its NUL).
const MAX_SOCKET_PATH: usize = 107;

/// The admin socket's name in the agent's directory.
pub const SOCKET_FILE: &str = "adit.sock";

/// Where a unit of the system's keeps the socket of `/etc/adit`.
const SYSTEM_SOCKET: &str = "/run/adit/adit.sock";

/// The admin socket of the agent in `dir`: what its agent file says, else `DIR/adit.sock`, else for `/etc/adit` the
/// system's if that is where a socket is.
pub fn place(dir: &Path, configured: Option<&Path>) -> PathBuf {
    if let Some(configured) = configured {
        return dir.join(configured);
    }
    let own = dir.join(SOCKET_FILE);
    let system = Path::new(SYSTEM_SOCKET);
    if dir == Path::new("/etc/adit") && !own.exists() && system.exists() { system.into() } else { own }
}

/// Why the admin socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another agent answers on it.
    #[error("another agent{} runs with this directory: it answers on {}", pid_text(*.pid), .path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
        /// The other agent's process, if the kernel tells.
        pid: Option<i32>,
    },
    /// Something that is no socket is in its place.
    #[error("{} is in the way of the admin socket and is no socket", .0.display())]
    Occupied(PathBuf),
    /// The directory or the socket cannot be made.
    #[error("cannot open the admin socket {}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

fn pid_text(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// A bound admin socket. Dropping it removes the file, if it is still this one.
#[derive(Debug)]
pub struct AdminSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    inode: (u64, u64),
}

impl AdminSocket {
    /// Opens the socket at `path`, with mode 0600. A socket that nobody answers on is replaced.
    ///
    /// It is bound in a directory that only this user can enter and moved to its place when its mode is set, so there is
    /// no moment at which others could connect. Two agents that start at the same moment are kept apart by the lock on
    /// their directory, which the caller holds.
    ///
    /// # Errors
    /// Another agent answers on it, something else is in its place, or the system refuses.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let failed = |source: io::Error| BindError::Io { path: path.into(), source };
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(BindError::Occupied(path.into())),
            Ok(_) => match connect_nonblocking(path) {
                Ok(answering) => {
                    let pid = rustix::net::sockopt::socket_peercred(&answering).ok();
                    return Err(BindError::InUse { path: path.into(), pid: pid.map(|c| c.pid.as_raw_nonzero().get()) });
                }
                // Somebody listens whose queue is full.
                Err(Errno::AGAIN) => return Err(BindError::InUse { path: path.into(), pid: None }),
                Err(Errno::CONNREFUSED | Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno.into())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let nursery = Nursery::make(path).map_err(failed)?;
        let bound = nursery.bind(path).map_err(failed)?;
        bound.set_nonblocking(true).map_err(failed)?;
        let listener = UnixListener::from_std(bound).map_err(failed)?;
        let placed = std::fs::symlink_metadata(path).map_err(failed)?;
        Ok(Self { listener, path: path.into(), inode: (placed.dev(), placed.ino()) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let still_ours =
            std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.inode);
        if still_ours {
            // A socket that stays behind is replaced at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A directory of this user's alone, beside the socket's place.
struct Nursery(PathBuf);

impl Nursery {
    fn make(path: &Path) -> io::Result<Self> {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let pid = std::process::id();
        for attempt in 0..100u32 {
            let dir = parent.join(format!(".adit-sock-{pid}-{attempt}"));
            match rustix::fs::mkdir(&dir, Mode::RWXU) {
                Ok(()) => return Ok(Self(dir)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many left-over .adit-sock directories beside it"))
    }

    fn bind(&self, path: &Path) -> io::Result<StdListener> {
        let born = self.0.join("s");
        let short = ShortPath::of(&born)?;
        let listener = StdListener::bind(short.path())?;
        std::fs::set_permissions(&born, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&born, path)?;
        Ok(listener)
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0.join("s"));
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// A name for a socket that fits into a socket address: the path itself, or one through the descriptor of its directory.
pub(super) struct ShortPath {
    path: PathBuf,
    _dir: Option<OwnedFd>,
}

impl ShortPath {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(Self { path: path.into(), _dir: None });
        };
        if path.as_os_str().len() <= MAX_SOCKET_PATH {
            return Ok(Self { path: path.into(), _dir: None });
        }
        let dir = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&dir.as_fd());
        Ok(Self { path: Path::new(&format!("/proc/self/fd/{number}")).join(name), _dir: Some(dir) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn connect_nonblocking(path: &Path) -> Result<OwnedFd, Errno> {
    let short = ShortPath::of(path).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    let address = SocketAddrUnix::new(short.path())?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// Whether a client with this user id may speak to an agent that runs as `own`: the same user, or root.
pub(super) fn admits(client: u32, own: u32) -> bool {
    client == own || client == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_in_the_directory_unless_the_agent_file_says_otherwise() {
        let dir = Path::new("/srv/adit");
        assert_eq!(place(dir, None), Path::new("/srv/adit/adit.sock"));
        assert_eq!(place(dir, Some(Path::new("/run/x.sock"))), Path::new("/run/x.sock"));
        assert_eq!(place(dir, Some(Path::new("x.sock"))), Path::new("/srv/adit/x.sock"));
    }
}
