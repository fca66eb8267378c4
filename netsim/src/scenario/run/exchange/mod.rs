//! Exchanges between clients and receivers of a scenario, and what becomes of them.

mod client;
mod message;
mod receiver;

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use crate::history::{self, History};
use message::{Arriving, Content};

pub(super) use client::work;
pub(super) use receiver::receive;

/// How often whoever waits for bytes looks at the clock.
const LOOK: Duration = Duration::from_millis(50);

/// What clients and receivers have written down, by one clock.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// What clients are called, in order.
    clients: Vec<String>,
    history: Mutex<History>,
    /// Requests that have been answered.
    answered: Mutex<HashSet<u64>>,
    begun: OnceLock<Instant>,
}

impl Journal {
    pub(super) fn new(clients: impl IntoIterator<Item = String>) -> Self {
        Self { clients: clients.into_iter().collect(), ..Self::default() }
    }

    /// Which client has sent something of this number, or is sent the answer of this number.
    pub(super) fn client(&self, id: u64) -> Option<&str> {
        message::client_of(id).and_then(|at| self.clients.get(at)).map(String::as_str)
    }

    /// Time begins.
    pub(super) fn begin(&self, at: Instant) {
        // Nobody begins twice.
        let _ = self.begun.set(at);
    }

    /// Whether this is the first answer to a request. Of more than a history holds it is not known.
    fn is_first(&self, id: u64) -> bool {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.len() >= history::MOST || answered.insert(id)
    }

    fn now(&self) -> Duration {
        self.begun.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is given up in time, and broken off unless it has been closed in order.
struct Line<'a> {
    stream: TcpStream,
    until: Option<Instant>,
    over: &'a AtomicBool,
}

impl<'a> Line<'a> {
    fn new(stream: TcpStream, until: Option<Instant>, over: &'a AtomicBool) -> io::Result<Self> {
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(LOOK))?;
        stream.set_nodelay(true)?;
        // What is dropped half done is reset: the far side must not take it for the end.
        set_socket_linger(&stream, Some(Duration::ZERO))?;
        Ok(Self { stream, until, over })
    }

    fn look(&self) -> io::Result<()> {
        let late = self.until.is_some_and(|until| Instant::now() >= until);
        if late || self.over.load(Ordering::Relaxed) { Err(ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// Ends it in order. What has been sent still arrives.
    fn close(self) {
        // Else it is reset, and the far side sees that nobody heard its end.
        let _ = set_socket_linger(&self.stream, None);
    }

    /// Reads something; 0 at the end.
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            self.look()?;
            match self.stream.read(room) {
                Err(error) if is_pause(&error) => {}
                other => return other,
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.look()?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => bytes = &bytes[length..],
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends content, evenly over a time.
    fn send(&mut self, content: &mut Content, length: u64, spread: Duration) -> io::Result<()> {
        let (start, mut room, mut sent) = (Instant::now(), [0; 16 << 10], 0_u64);
        while sent < length {
            let room = match spread.is_zero() {
                true => &mut room[..],
                // As much as is due by the next look.
                false => {
                    let due = share(start.elapsed() + LOOK, spread, length).saturating_sub(sent);
                    let due = usize::try_from(due).unwrap_or(usize::MAX).min(room.len());
                    if due == 0 {
                        self.look()?;
                        std::thread::sleep(LOOK / 2);
                        continue;
                    }
                    &mut room[..due]
                }
            };
            let count = content.fill(room);
            self.write(&room[..count])?;
            sent += count as u64;
        }
        Ok(())
    }

    /// Reads the first bytes. Fewer than there is room for: it ended in order before.
    fn head(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let mut got = 0;
        while got < room.len() {
            match self.read(&mut room[got..])? {
                0 => break,
                length => got += length,
            }
        }
        Ok(got)
    }

    /// Reads content until all has come, and how that ended.
    fn take(&mut self, arriving: &mut Arriving) -> Taken {
        let mut room = [0; 16 << 10];
        while !arriving.is_whole() {
            match self.read(&mut room) {
                Ok(0) => return Taken::Short,
                Ok(length) => arriving.take(&room[..length]),
                Err(_) => return Taken::Broken,
            }
        }
        Taken::Whole
    }
}

/// How content came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Whole,
    /// There was an orderly end before all of it.
    Short,
    /// It was broken off, or did not come in time.
    Broken,
}

/// What of `length` is due at a time of `all`.
fn share(time: Duration, all: Duration, length: u64) -> u64 {
    let part = u128::from(length) * time.as_micros() / all.as_micros().max(1);
    u64::try_from(part).unwrap_or(u64::MAX).min(length)
}

/// The number of a client's exchange, and that of its answer.
#[cfg(test)]
pub(super) fn numbers(client: usize, count: u64) -> [u64; 2] {
    let id = message::number(client, 0, count);
    [id, message::answer_to(id)]
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
