//! A thread that starts programs, and the process that takes all of them along when it ends.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use rustix::thread::UnshareFlags;

use crate::namespace::end_with_this_thread;
use crate::{Error, enter};

type Order = (Command, SyncSender<io::Result<Child>>);

/// A thread that starts programs. The kernel kills them when the thread that has started them ends, and this one lives as
/// long as there are hosts.
///
/// Its children are in a process namespace of their own, whose first process, the warden, does nothing. When that ends
/// the kernel kills all others, also what programs have started and no longer know of. And the warden ends with the
/// simulator, whatever that ends by.
#[derive(Debug, Clone)]
pub(crate) struct Starter {
    orders: SyncSender<Order>,
}

impl Starter {
    pub(crate) fn new() -> Result<Self, Error> {
        let (orders, receiver) = sync_channel::<Order>(16);
        let (tell, told) = sync_channel(1);
        let builder = thread::Builder::new().name("netsim-starter".to_owned());
        let wrong = || Error::kernel("start the thread that starts programs");
        let started = builder.spawn(move || {
            let mut warden = match enter::unshare(UnshareFlags::NEWPID).and_then(|()| warden()) {
                Ok(warden) => warden,
                Err(error) => return drop(tell.send(Err(error))),
            };
            // Whoever started it waits for it.
            let _ = tell.send(Ok(()));
            for (mut command, answer) in receiver {
                let _ = answer.send(command.spawn());
            }
            let _ = warden.kill();
            let _ = warden.wait();
        });
        started.map_err(wrong())?;
        told.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into())).map_err(wrong())?;
        Ok(Self { orders })
    }

    /// Starts a program.
    pub(crate) fn spawn(&self, command: Command) -> io::Result<Child> {
        let (sender, receiver) = sync_channel(1);
        let gone = || io::Error::other("the thread that starts programs has ended");
        self.orders.send((command, sender)).map_err(|_| gone())?;
        receiver.recv().map_err(|_| gone())?
    }
}

/// The first process of the process namespace: a copy of this one that never gets to run another program.
fn warden() -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    // The pipe ends with the simulator, should that end before it can be asked to tell.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    end_with_this_thread(&mut command);
    #[expect(unsafe_code, reason = "the warden is what runs between fork and exec")]
    // SAFETY: the closure makes system calls alone and neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(|| {
            // Orphans vanish by themselves when they end.
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            // A terminal's Ctrl-C is for the simulator, and so are the handlers that this copy has.
            libc::setsid();
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
            // Every descriptor of the simulator: devices end only with the last. Among them is the pipe by which its
            // start learns of an exec; that it is closed is a success.
            libc::syscall(libc::SYS_close_range, 1_u32, u32::MAX, 0_u32);
            let mut byte = 0_u8;
            while libc::read(0, (&raw mut byte).cast(), 1) > 0 {}
            libc::_exit(0)
        });
    }
    command.spawn()
}
