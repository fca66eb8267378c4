//! A process that removes a directory as soon as the simulator has ended, whatever it ended by.
//!
//! The simulator cleans up after itself; but nobody who is killed by SIGKILL does. Mounting the directory where only the
//! simulator sees it would do, too, but then nothing could be looked at from outside, and it would not lie on a disk.

use std::ffi::{CStr, CString};
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, openat, unlinkat};
use rustix::io::Errno;

/// What is nested deeper stays. Each level takes some 2 KiB of the stack.
const DEEPEST: usize = 200;
/// How often it is tried, with a pause in between: programs of the simulator that are just ending may still write.
const TRIES: usize = 250;
static PAUSE: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// A directory that somebody takes care of. It is gone when this has been dropped, or when this process has ended.
#[derive(Debug)]
pub(crate) struct Caretaker {
    process: Child,
}

impl Caretaker {
    /// Makes the directory, for this user alone. The caretaker makes it, so that there is no moment in which it is there
    /// and nobody knows of it.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let place = CString::new(path.as_os_str().as_bytes())?;
        let mut command = Command::new("/proc/self/exe");
        // The first pipe ends with the simulator; on the second the caretaker tells whether the directory is made.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        #[expect(unsafe_code, reason = "the caretaker is what runs between fork and exec")]
        // SAFETY: the closure makes system calls alone and neither allocates nor takes a lock.
        unsafe {
            command.pre_exec(move || take_care(&place));
        }
        let mut process = command.spawn()?;
        let mut answer = [0; 4];
        let told = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe.into());
        let outcome = told.and_then(|mut pipe| pipe.read_exact(&mut answer)).map(|()| i32::from_ne_bytes(answer));
        // Without a directory it ends by itself when this is dropped.
        let caretaker = Self { process };
        match outcome? {
            0 => Ok(caretaker),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

impl Drop for Caretaker {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// What the process does: it never gets to run another program.
fn take_care(place: &CStr) -> io::Result<()> {
    #[expect(unsafe_code, reason = "between fork and exec there is nothing but system calls")]
    // SAFETY: system calls with pointers to what lives during them.
    unsafe {
        // A terminal's Ctrl-C, or a signal to the whole group, is for the simulator.
        libc::setsid();
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
        // Every descriptor of the simulator: devices end only with the last. Among them is the pipe by which its start
        // learns of an exec; that it is closed is a success.
        libc::syscall(libc::SYS_close_range, 2_u32, u32::MAX, 0_u32);
        libc::chdir(c"/".as_ptr());
        let made = libc::mkdir(place.as_ptr(), 0o700);
        let error = if made == 0 { 0 } else { io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) };
        libc::write(1, (&raw const error).cast(), size_of_val(&error));
        libc::close(1);
        let mut byte = 0_u8;
        while libc::read(0, (&raw mut byte).cast(), 1) > 0 {}
        for _ in 0..TRIES {
            if error != 0 || matches!(remove(place), Ok(()) | Err(Errno::NOENT)) {
                break;
            }
            libc::nanosleep(&raw const PAUSE, std::ptr::null_mut());
        }
        libc::_exit(0)
    }
}

fn remove(place: &CStr) -> rustix::io::Result<()> {
    clear(CWD, place, DEEPEST)?;
    unlinkat(CWD, place, AtFlags::REMOVEDIR)
}

/// Empties a directory, without following what leads out of it.
fn clear(parent: impl AsFd, name: &CStr, deepest: usize) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let own = openat(parent, name, flags, Mode::empty())?;
    let mut room = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(&own, &mut room);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." || unlinkat(&own, name, AtFlags::empty()).is_ok() {
            continue;
        }
        if deepest > 0 {
            // What cannot be removed shows when the directory is to go.
            let _ = clear(&own, name, deepest - 1);
            let _ = unlinkat(&own, name, AtFlags::REMOVEDIR);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_taken_care_of_goes_with_its_caretaker_and_what_it_points_to_stays() {
        let own = std::env::temp_dir().join(format!("netsim-caretaker-{}", std::process::id()));
        let place = own.join("taken-care-of");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("elsewhere"), "stays").unwrap();
        let caretaker = Caretaker::new(&place).unwrap();
        let again = Caretaker::new(&place).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert!(place.is_dir(), "another one's failure removes nothing");
        let deep = (0..20).fold(place.clone(), |path, n| path.join(n.to_string()));
        fs::create_dir_all(&deep).unwrap();
        for number in 0..200 {
            fs::write(deep.join(format!("a-file-with-a-longer-name-{number}")), "x").unwrap();
        }
        std::os::unix::fs::symlink(&own, deep.join("link")).unwrap();
        drop(caretaker);
        assert!(!place.exists());
        assert_eq!(fs::read_to_string(own.join("elsewhere")).unwrap(), "stays");
        fs::remove_dir_all(&own).unwrap();
    }
}
