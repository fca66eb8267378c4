//! Gives the process a network of its own.

use std::io;

use rustix::mount::MountPropagationFlags;
use rustix::process::{getegid, geteuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// How the process came to its own network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// It may administer networks already (root).
    Privileged,
    /// It became root of a user namespace of its own; outside of that it is the user that it was.
    UserNamespace,
}

/// Why this machine gives the process no network of its own.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// User namespaces are forbidden here, or the process has several threads already.
    #[error(
        "allowed to make neither a network namespace nor a user namespace (see user.max_user_namespaces and the policies of your distribution)"
    )]
    UserNamespace(#[source] io::Error),
    /// The user namespace was made, but its user table cannot be filled.
    #[error("the user table of the new namespace cannot be written")]
    UserTable(#[source] io::Error),
    /// The kernel has no network namespaces, or loopback cannot be brought up in one.
    #[error("no network namespace of one's own")]
    Network(#[source] crate::Error),
    /// The new mount table cannot be cut off from the outside.
    #[error("the mount table cannot be made private")]
    Mounts(#[source] io::Error),
}

/// Moves the process into a network and mount namespace of its own, and into a user namespace if it is not root. Its
/// loopback is up; nothing else of the outside network is seen any more.
///
/// Call it first in `main`, while there is one thread: the kernel moves no other threads, and refuses a new user
/// namespace to a process that has any.
///
/// # Errors
/// [`Unavailable`] says why the machine does not allow it. The process is then unchanged, except after
/// [`Unavailable::UserTable`], [`Unavailable::Network`] and [`Unavailable::Mounts`], when it may be in some of the new
/// namespaces.
pub fn enter() -> Result<Entered, Unavailable> {
    let own = UnshareFlags::NEWNET | UnshareFlags::NEWNS;
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let entered = if uid == 0 && unshare(own).is_ok() {
        Entered::Privileged
    } else {
        unshare(own | UnshareFlags::NEWUSER).map_err(Unavailable::UserNamespace)?;
        // A group table may be written without privilege only after setgroups is given up (user_namespaces(7)).
        std::fs::write("/proc/self/setgroups", "deny").map_err(Unavailable::UserTable)?;
        std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).map_err(Unavailable::UserTable)?;
        std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")).map_err(Unavailable::UserTable)?;
        Entered::UserNamespace
    };
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|e| Unavailable::Mounts(e.into()))?;
    crate::link::set_interface_up("lo", true).map_err(Unavailable::Network)?;
    Ok(entered)
}

/// Detaches the calling thread from namespaces.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    #[expect(unsafe_code, reason = "unsafe only with FILES, which no caller passes: descriptors stay shared")]
    // SAFETY: the flags name namespaces alone, never the table of descriptors.
    unsafe { unshare_unsafe(flags) }.map_err(Into::into)
}
