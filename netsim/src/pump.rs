//! The one thread of the wire: it moves frames between the hosts' kernels and the [`Fabric`], which decides.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::{EventfdFlags, epoll, eventfd};

use crate::Error;
use crate::backend::{self, LARGEST, Port};
use crate::wire::fabric::Fabric;
use crate::wire::patience::Patience;
use crate::wire::{Nanos, nanos};

/// Frames that are taken from one host before the others and what is due get their turn.
const TURN: usize = 8;
/// What is asked of the wire and not yet done.
const COMMANDS: usize = 64;
/// Threads that close ports at the end: the kernel lets each wait some milliseconds for all processors.
const CLOSERS: usize = 16;

const WAKE: u64 = u64::MAX;

type Command = Box<dyn FnOnce(&mut Pump) + Send>;

/// A wire that runs.
#[derive(Debug)]
pub(crate) struct Wire {
    commands: SyncSender<Command>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    /// Its time counts from here.
    pub(crate) started: Instant,
}

/// What the thread works with.
pub(crate) struct Pump {
    pub(crate) fabric: Fabric,
    pub(crate) ports: Vec<Box<dyn Port>>,
    /// Whether each port takes super-packets now.
    taking: Vec<bool>,
    /// Frames that the kernel had no room for.
    refused: u64,
    patience: Patience,
    /// Where a frame is read to.
    room: Vec<u8>,
    started: Instant,
    stopped: bool,
}

impl Wire {
    pub(crate) fn start(fabric: Fabric, ports: Vec<Box<dyn Port>>) -> Result<Self, Error> {
        let wrong = |error: io::Error| Error::kernel("start the wire")(error);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| wrong(e.into()))?;
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| wrong(e.into()))?;
        let watch = |source: std::os::fd::BorrowedFd<'_>, token| {
            epoll::add(&poll, source, epoll::EventData::new_u64(token), epoll::EventFlags::IN)
        };
        watch(wake.as_fd(), WAKE).map_err(|e| wrong(e.into()))?;
        for (token, port) in (0..).zip(&ports) {
            watch(port.descriptor(), token).map_err(|e| wrong(e.into()))?;
        }
        // Older kernels do not know how to wait so exactly, and say so here.
        wait(&poll, &mut Vec::new(), Some(0)).map_err(wrong)?;
        let wake = Arc::new(wake);
        let (sender, receiver) = sync_channel(COMMANDS);
        let taking = vec![true; ports.len()];
        let (room, started) = (vec![0; LARGEST], Instant::now());
        let mut pump =
            Pump { fabric, ports, taking, refused: 0, patience: Patience::default(), room, started, stopped: false };
        let woken = wake.clone();
        let thread = std::thread::Builder::new().name("netsim-wire".to_owned()).spawn(move || {
            // The kernel may otherwise let timers wait for 50 µs; where it does not take the wish they are late.
            let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
            pump.match_offload();
            pump.run(&poll, &woken, &receiver);
            pump.close();
        });
        Ok(Self { commands: sender, wake, thread: Some(thread.map_err(wrong)?), started })
    }

    /// Has `work` done between two packets, and waits for it. What it changes holds for every later packet.
    pub(crate) fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Pump, Nanos) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = sync_channel(1);
        let command: Command = Box::new(move |pump| {
            let now = pump.now();
            // Whoever asked waits for it.
            let _ = sender.send(work(pump, now));
            pump.match_offload();
        });
        self.give(command)?;
        receiver.recv().map_err(|_| Error::Wire)
    }

    /// Has `work` done between two packets, without waiting for it.
    pub(crate) fn ask(&self, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        self.give(Box::new(move |_| work()))
    }

    fn give(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).map_err(|_| Error::Wire)?;
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        // A counter that is full wakes as well.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let stop: Command = Box::new(|pump| pump.stopped = true);
        if self.commands.send(stop).is_ok() {
            self.wake();
        }
        if let Some(thread) = self.thread.take() {
            // A wire that has panicked has told so.
            let _ = thread.join();
        }
    }
}

impl Pump {
    fn now(&self) -> Nanos {
        nanos(self.started.elapsed())
    }

    fn run(&mut self, poll: &OwnedFd, wake: &OwnedFd, commands: &Receiver<Command>) {
        let mut events = Vec::with_capacity(64);
        while !self.stopped {
            self.pass_due();
            events.clear();
            if self.wait(poll, &mut events).is_err() {
                return;
            }
            for token in events.drain(..) {
                if token == WAKE {
                    let _ = rustix::io::read(wake, &mut [0; 8]);
                    commands.try_iter().for_each(|command| command(self));
                } else {
                    self.take_turn(poll, usize::try_from(token).unwrap_or(usize::MAX));
                }
            }
        }
    }

    /// Waits until something has come or is due.
    fn wait(&mut self, poll: &OwnedFd, events: &mut Vec<u64>) -> io::Result<()> {
        let began = self.now();
        let due = self.fabric.next_timeout();
        let until = due.unwrap_or(Nanos::MAX).min(began + self.patience.looks(began));
        let mut now = began;
        while now < until {
            wait(poll, events, Some(0))?;
            let before = std::mem::replace(&mut now, self.now());
            self.patience.looked(now - before, now);
            if !events.is_empty() {
                break;
            }
            std::hint::spin_loop();
        }
        if events.is_empty() {
            wait(poll, events, due.map(|due| due.saturating_sub(now)))?;
        }
        self.patience.waited(self.now() - began);
        Ok(())
    }

    fn take_turn(&mut self, poll: &OwnedFd, number: usize) {
        for _ in 0..TURN {
            let Some(port) = self.ports.get(number) else { return };
            match backend::receive(port.descriptor(), &mut self.room) {
                Ok(Some(frame)) => {
                    let now = self.now();
                    if self.fabric.next_timeout().is_some_and(|due| due <= now) {
                        self.fabric.handle_timeout(now);
                    }
                    self.fabric.handle(number, frame, now);
                    self.flush();
                }
                Ok(None) => return,
                Err(_) => {
                    // The host has removed the interface.
                    let _ = epoll::delete(poll, port.descriptor());
                    return;
                }
            }
        }
    }

    fn pass_due(&mut self) {
        self.fabric.handle_timeout(self.now());
        self.flush();
    }

    fn flush(&mut self) {
        while let Some((port, frame)) = self.fabric.poll() {
            if !backend::send(self.ports[port].descriptor(), &frame) {
                self.refused += 1;
            }
        }
    }

    /// Switches offload where the conditions have changed.
    fn match_offload(&mut self) {
        for (number, port) in self.ports.iter_mut().enumerate() {
            let take = self.fabric.takes_super_packets(number);
            // Super-packets that come nevertheless are cut up by the wire.
            if take != self.taking[number] && port.take_super_packets(take).is_ok() {
                self.taking[number] = take;
            }
        }
    }

    /// What was lost between hosts and wire: at each port, and of what the kernel had no room for.
    pub(crate) fn drops(&mut self) -> Result<(Vec<u64>, u64), Error> {
        let ports: Result<_, Error> = self.ports.iter_mut().map(|port| port.drops()).collect();
        Ok((ports?, self.refused))
    }

    fn close(&mut self) {
        let mut ports = std::mem::take(&mut self.ports);
        let share = ports.len().div_ceil(CLOSERS).max(1);
        std::thread::scope(|scope| {
            while !ports.is_empty() {
                let some: Vec<_> = ports.drain(..share.min(ports.len())).collect();
                scope.spawn(move || drop(some));
            }
        });
    }
}

/// Waits for `poll`, or until `timeout` nanoseconds have gone by, and gives the tokens of what is readable.
fn wait(poll: &OwnedFd, tokens: &mut Vec<u64>, timeout: Option<Nanos>) -> io::Result<()> {
    // Milliseconds are too coarse for a link's delay, so it has to be the newer call (Linux 5.11), for which rustix
    // would give up older kernels in the whole program.
    let timeout = timeout.map(|nanoseconds| {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        time.tv_sec = (nanoseconds / 1_000_000_000).try_into().unwrap_or(libc::time_t::MAX);
        time.tv_nsec = (nanoseconds % 1_000_000_000).try_into().unwrap_or_default();
        time
    });
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
    let pointer = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    #[expect(unsafe_code, reason = "epoll_pwait2 has no wrapper that leaves older kernels alone")]
    // SAFETY: the events and the time live during the call, the length is that of the events, and there is no mask.
    let count = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            poll.as_raw_fd(),
            events.as_mut_ptr(),
            events.len(),
            pointer,
            std::ptr::null::<libc::sigset_t>(),
            8_usize,
        )
    };
    match usize::try_from(count) {
        Ok(count) => tokens.extend(events.iter().take(count).map(|event| event.u64)),
        Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
        Err(_) => return Err(io::Error::last_os_error()),
    }
    Ok(())
}
