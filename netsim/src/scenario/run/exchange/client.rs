//! The side of an exchange that asks.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::message::{ANSWER, Arriving, Content, Head, answer_to, number};
use super::{Journal, LOOK, Line, Taken};
use crate::history::{Attempt, Outcome, Receipt, Stub};
use crate::scenario::clients::ClientSpec;

/// One of a client's workers: an exchange after the other until its time is over. The calling thread is on its host.
pub(in crate::scenario::run) fn work(
    spec: &ClientSpec,
    [client, worker]: [usize; 2],
    to: SocketAddr,
    journal: &Journal,
    over: &AtomicBool,
) {
    let worker = u32::try_from(worker).unwrap_or(u32::MAX);
    let (start, mut count) = (Instant::now(), 0);
    // Workers of a client do not go in step.
    let mut next = start + spec.every * worker / spec.at_once.max(1);
    while start.elapsed() < spec.lasts && !over.load(Ordering::Relaxed) {
        let wait = next.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            thread::sleep(wait.min(LOOK));
            continue;
        }
        next = Instant::now() + spec.every;
        let id = number(client, worker, count);
        count += 1;
        let (begin, until) = (journal.now(), Instant::now() + spec.timeout);
        let outcome = exchange(spec, id, to, until, journal, over);
        let digest = Content::new(id, spec.size).digest();
        let (from, to, end) = (spec.name.clone(), spec.service.clone(), journal.now());
        journal.history().attempt(Attempt { id, from, to, digest, begin, end, outcome });
    }
}

fn exchange(
    spec: &ClientSpec,
    id: u64,
    to: SocketAddr,
    until: Instant,
    journal: &Journal,
    over: &AtomicBool,
) -> Outcome {
    let stream = match connect(to, until, over) {
        Ok(stream) => stream,
        // The far side, or a router before it, has said that there is nobody; nothing has been sent.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Outcome::Refused,
        Err(_) => return Outcome::Reset,
    };
    let Ok(mut line) = Line::new(stream, Some(until), over) else { return Outcome::Reset };
    let mut content = Content::new(id, spec.size);
    let sent = line
        .write(&Head { id, length: spec.size, answer: spec.answer }.bytes())
        .and_then(|()| line.send(&mut content, spec.size, spec.spread))
        .and_then(|()| line.stream.shutdown(Shutdown::Write));
    if sent.is_err() {
        return Outcome::Reset;
    }
    let mut head = [0; ANSWER];
    let back = answer_to(id);
    let node = || spec.name.clone();
    let stub = |journal: &Journal| journal.history().stub(Stub { id: back, node: node(), at: journal.now() });
    match line.head(&mut head) {
        Ok(ANSWER) => {}
        // Nobody who got it whole ends without an answer. At a door that is shut, somebody else may say what it likes.
        Ok(_) if !spec.forbidden => {
            stub(journal);
            return Outcome::Reset;
        }
        Ok(_) | Err(_) => return Outcome::Reset,
    }
    let got = head.first_chunk().map_or(0, |id| u64::from_be_bytes(*id));
    if spec.forbidden && got != back {
        return Outcome::Reset;
    }
    let mut arriving = Arriving::new(back, spec.answer);
    let taken = line.take(&mut arriving);
    // What comes after the end is too much.
    let after = match taken {
        Taken::Whole => line.read(&mut [0; 1]),
        _ => Ok(0),
    };
    let digest = match after {
        Ok(0) | Err(_) => arriving.digest(),
        Ok(_) => !arriving.digest(),
    };
    if got != back || taken == Taken::Whole || !arriving.is_right() {
        journal.history().receipt(Receipt { id: got, node: node(), digest, at: journal.now() });
    } else if taken == Taken::Short {
        stub(journal);
    }
    if after.is_ok() {
        line.close();
    }
    if taken == Taken::Whole && got == back { Outcome::Delivered } else { Outcome::Reset }
}

/// Connects. The standard library's way cannot be given up when all is over.
fn connect(to: SocketAddr, until: Instant, over: &AtomicBool) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(socket);
    let look = Timespec::try_from(LOOK).map_err(|_| ErrorKind::InvalidInput)?;
    while let Ok(0) | Err(_) = poll(&mut [PollFd::new(&stream, PollFlags::OUT)], Some(&look)) {
        if Instant::now() >= until || over.load(Ordering::Relaxed) {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    stream.set_nonblocking(false)?;
    Ok(stream)
}
