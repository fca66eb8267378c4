//! What a host sees of the file system that is its own: `/etc/hosts`, `/etc/resolv.conf`, and a `/sys` with its
//! interfaces. Nothing of it lies on a disk.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use rustix::fs::{CWD, readlinkat_raw};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use rustix::process::chdir;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::namespace::{Namespace, enter_network};
use crate::{Error, enter};

/// A mount namespace.
#[derive(Debug, Clone)]
pub(crate) struct Mounts {
    descriptor: Arc<OwnedFd>,
    /// `/etc/hosts`.
    hosts: Option<Arc<File>>,
}

/// A file that every program of the host sees, and that can be changed while they run.
const OWN: [(&str, &str); 2] = [("hosts", "/etc/hosts"), ("resolv.conf", "/etc/resolv.conf")];

impl Mounts {
    /// A view for `host`: the names in `hosts`, and the resolvers in `resolvers`. A file that does not exist outside is
    /// not there inside either: there is no place to mount it.
    pub(crate) fn new(host: &Namespace, hosts: &str, resolvers: &str) -> Result<Self, Error> {
        thread::scope(|scope| {
            let maker = scope.spawn(|| {
                let wrong = |step: &str| Error::kernel(format!("give a host its own files: {step}"));
                enter::unshare(UnshareFlags::NEWNS).map_err(wrong("unshare"))?;
                enter_network(host.descriptor()).map_err(wrong("enter its network"))?;
                // The place is covered again below; only what has been mounted from there stays.
                let mut own = None;
                match mount(c"tmpfs", c"/sys", c"tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=755") {
                    Ok(()) => own = Some(Arc::new(cover(&[hosts, resolvers]).map_err(wrong("mount"))?)),
                    // There is no /sys at all.
                    Err(rustix::io::Errno::NOENT) => {}
                    Err(error) => return Err(wrong("mount a tmpfs")(error.into())),
                }
                let opened = File::open("/proc/thread-self/ns/mnt").map_err(wrong("open its namespace"))?;
                Ok(Self { descriptor: Arc::new(opened.into()), hosts: own })
            });
            maker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Changes `/etc/hosts` for all programs of the host.
    pub(crate) fn set_hosts(&self, text: &str) -> io::Result<()> {
        let Some(file) = &self.hosts else { return Err(io::ErrorKind::NotFound.into()) };
        // It is the same file to whoever has it mounted, so it cannot be replaced; at no time is it empty.
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(text.len() as u64)
    }

    /// Has `command` see these files.
    pub(crate) fn apply(&self, command: &mut Command) {
        let descriptor = self.descriptor.clone();
        let mut directory = [0; 4097];
        #[expect(unsafe_code, reason = "setns has to be called in the child, between fork and exec")]
        // SAFETY: the closure makes system calls alone and neither allocates nor takes a lock.
        unsafe {
            command.pre_exec(move || enter_mounts(descriptor.as_fd(), &mut directory));
        }
    }
}

/// Gives the file that is `/etc/hosts` then.
fn cover(texts: &[&str; 2]) -> io::Result<File> {
    let mut files = Vec::new();
    for ((name, place), text) in OWN.iter().zip(texts) {
        let path = format!("/sys/{name}");
        let mut file = File::create(&path)?;
        file.write_all(text.as_bytes())?;
        files.push(file);
        if fs::exists(place)? {
            mount_bind(&*path, *place)?;
        }
    }
    if mount(c"sysfs", c"/sys", c"sysfs", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None).is_err() {
        // A container may hide parts of /sys and then gives no new one: the old one is better than none.
        unmount(c"/sys", UnmountFlags::DETACH)?;
    }
    files.into_iter().next().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Moves the calling process, which goes on in the directory of the same name.
fn enter_mounts(descriptor: BorrowedFd<'_>, directory: &mut [u8; 4097]) -> io::Result<()> {
    // The kernel puts whoever enters into the root directory.
    let length = readlinkat_raw(CWD, c"/proc/self/cwd", &mut directory[..4096])?;
    directory[length] = 0;
    move_into_link_name_space(descriptor, Some(LinkNameSpaceType::Mount))?;
    let path = CStr::from_bytes_until_nul(directory).map_err(|_| io::ErrorKind::InvalidFilename)?;
    Ok(chdir(path)?)
}
