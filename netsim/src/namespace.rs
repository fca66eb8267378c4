//! One host of the simulated network.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::filter::{self, Block};
use crate::link::{add_route, parse, set_interface_up};
use crate::{Error, enter};

/// A network namespace: a host with its own interfaces, addresses, routes, ports and firewall. Clones are the same host.
#[derive(Debug, Clone)]
pub struct Namespace {
    descriptor: Arc<OwnedFd>,
}

impl Namespace {
    /// A host without links, its loopback up.
    ///
    /// # Errors
    /// When the kernel gives no namespace, as it does to a process that [`enter()`](crate::enter()) was refused to.
    pub fn new() -> Result<Self, Error> {
        let made = thread::scope(|scope| {
            let maker = scope.spawn(|| {
                enter::unshare(UnshareFlags::NEWNET).map_err(Error::kernel("make a network namespace"))?;
                let opened = fs::File::open("/proc/thread-self/ns/net");
                let descriptor = opened.map_err(Error::kernel("open the network namespace"))?;
                set_interface_up("lo", true)?;
                Ok(Self { descriptor: Arc::new(descriptor.into()) })
            });
            maker.join()
        });
        made.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A command that will run `program` on this host. It is killed when the thread that spawns it ends, so spawn from a
    /// thread that lives as long as the program should (not from inside [`run`](Self::run)).
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let descriptor = self.descriptor.clone();
        end_with_this_thread(&mut command);
        #[expect(unsafe_code, reason = "setns has to be called in the child, between fork and exec")]
        // SAFETY: the closure makes one system call and neither allocates nor takes a lock.
        unsafe {
            command.pre_exec(move || enter_network(descriptor.as_fd()));
        }
        command
    }

    /// Runs `work` on this host, in a thread of its own, and waits for it. Sockets that it opens and threads that it
    /// starts belong to this host for good.
    ///
    /// # Errors
    /// When the namespace cannot be entered; `work` has not run then.
    ///
    /// # Panics
    /// With the panic of `work`.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let descriptor = self.descriptor.as_fd();
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                enter_network(descriptor).map_err(Error::kernel("enter a network namespace"))?;
                Ok(work())
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Takes an interface up or down. A veth whose far end is down has no carrier: what is sent vanishes without an
    /// error.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn set_up(&self, interface: &str, up: bool) -> Result<(), Error> {
        self.run(|| set_interface_up(interface, up))?
    }

    /// Sets a network setting of this host, by its path under `/proc/sys`: `net/ipv4/tcp_congestion_control`.
    ///
    /// # Errors
    /// When the setting does not exist, is not one of a namespace, or does not take the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), Error> {
        self.run(|| fs::write(format!("/proc/sys/{key}"), value))?
            .map_err(Error::kernel(format!("set {key} to {value}")))
    }

    /// Reads a network setting of this host, without the trailing line end.
    ///
    /// # Errors
    /// When the setting does not exist.
    pub fn read_sysctl(&self, key: &str) -> Result<String, Error> {
        let text = self.run(|| fs::read_to_string(format!("/proc/sys/{key}")))?;
        Ok(text.map_err(Error::kernel(format!("read {key}")))?.trim_end().to_owned())
    }

    /// Adds a route of this host, or replaces one to the same network: `10.0.0.0/8`, by way of a neighbour.
    ///
    /// # Errors
    /// When one of the addresses does not parse, or the neighbour is not on a network of this host.
    pub fn add_route(&self, network: &str, gateway: &str) -> Result<(), Error> {
        let (to, bits) = parse(network).ok_or_else(|| Error::Address(network.to_owned()))?;
        let gateway = gateway.parse().map_err(|_| Error::Address(gateway.to_owned()))?;
        self.run(|| add_route(to, bits, gateway))?
    }

    /// Replaces what this host's firewall keeps out, in one step. Only packets that *arrive* at this host through the
    /// named interfaces are judged; what the host sends, and its loopback, are free. An empty list opens everything.
    ///
    /// # Errors
    /// When the kernel has no nf_tables, or an interface's name is too long.
    pub fn block(&self, blocks: &[Block]) -> Result<(), Error> {
        self.run(|| filter::replace(blocks))?
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Has the kernel kill what `command` starts when the thread that starts it ends, so that nothing outlives a killed test.
pub fn end_with_this_thread(command: &mut Command) -> &mut Command {
    #[expect(unsafe_code, reason = "prctl has to be called in the child, between fork and exec")]
    // SAFETY: the closure makes one system call and neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?))
    }
}

/// Moves the calling thread.
pub(crate) fn enter_network(descriptor: BorrowedFd<'_>) -> std::io::Result<()> {
    move_into_link_name_space(descriptor, Some(LinkNameSpaceType::Network)).map_err(Into::into)
}
