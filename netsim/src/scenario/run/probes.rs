//! Whether hosts reach one another, found out by sending: no program is needed for it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use super::stage::Stage;
use crate::Host;
use crate::scenario::checks::By;

/// Pairs that are tried at once.
const AT_ONCE: usize = 64;
/// How often a datagram is sent again that has not arrived.
const AGAIN: Duration = Duration::from_millis(50);
/// A web page is read up to here.
const MOST_PAGE: u64 = 1 << 20;

/// Two hosts, and the address of the second as the first knows it.
pub(super) struct Pair<'a> {
    from: &'a str,
    to: &'a str,
    near: &'a Host,
    far: &'a Host,
    ip: IpAddr,
    /// Whether the second should be reached.
    expected: bool,
}

/// What became of a pair: nothing, or why it was not reached.
type Reached = Result<(), String>;

/// Tries all pairs. What is not as it should be is told.
pub(super) fn reach(
    stage: &Stage<'_>,
    pairs: &[(String, String, bool)],
    by: By,
    port: Option<u16>,
    most: Duration,
) -> Result<String, String> {
    let pairs: Vec<Pair<'_>> = pairs
        .iter()
        .map(|(from, to, expected)| {
            let ip = stage.scenario.directory.address(from, to).ok_or_else(|| format!("{to} has no address"))?;
            Ok(Pair { from, to, near: stage.host(from)?, far: stage.host(to)?, ip, expected: *expected })
        })
        .collect::<Result<_, String>>()?;
    let outcomes = match (by, port) {
        (By::Udp, None) => datagrams(&pairs, most, &stage.over)?,
        (By::Tcp, None) => {
            let mut listeners: HashMap<&str, TcpListener> = HashMap::new();
            for pair in &pairs {
                if let Entry::Vacant(place) = listeners.entry(pair.to) {
                    place.insert(listener(pair.far, pair.ip, 0)?);
                }
            }
            let port = |pair: &Pair<'_>| listeners[pair.to].local_addr().map_or(0, |address| address.port());
            each(&pairs, |pair| connect(pair.near, (pair.ip, port(pair)).into(), most).map(drop))
        }
        (By::Tcp, Some(port)) => each(&pairs, |pair| connect(pair.near, (pair.ip, port).into(), most).map(drop)),
        (By::Udp, Some(port)) => each(&pairs, |pair| asked(pair, port, most)),
        (By::Ping, _) => each(&pairs, |pair| ping(pair, most)),
    };
    let wrong = pairs.iter().zip(&outcomes).filter_map(|(pair, outcome)| match (pair.expected, outcome) {
        (true, Err(why)) => Some(format!("{} -> {}: {why}", pair.from, pair.to)),
        (false, Ok(())) => Some(format!("{} -> {}: reached, and must not be", pair.from, pair.to)),
        _ => None,
    });
    let wrong: Vec<String> = wrong.collect();
    match wrong.len() {
        0 => Ok(String::new()),
        count if count > 6 => Err(format!("{}; and {} more", wrong[..5].join("; "), count - 5)),
        _ => Err(wrong.join("; ")),
    }
}

/// Does `work` for each pair, some at once.
fn each<'a>(pairs: &[Pair<'a>], work: impl Fn(&Pair<'a>) -> Reached + Sync) -> Vec<Reached> {
    let mut all = Vec::with_capacity(pairs.len());
    for some in pairs.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let threads: Vec<_> = some.iter().map(|pair| scope.spawn(|| work(pair))).collect();
            all.extend(
                threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("it panicked".to_owned()))),
            );
        });
    }
    all
}

fn any(ip: IpAddr) -> IpAddr {
    if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

pub(super) fn on<T: Send>(host: &Host, work: impl FnOnce() -> io::Result<T> + Send) -> Result<T, String> {
    host.run(work).map_err(|error| error.to_string())?.map_err(|error| why(&error))
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "no answer".to_owned(),
        ErrorKind::ConnectionRefused => "refused".to_owned(),
        _ => error.to_string(),
    }
}

pub(super) fn listener(host: &Host, ip: IpAddr, port: u16) -> Result<TcpListener, String> {
    on(host, || TcpListener::bind((any(ip), port)))
}

pub(super) fn connect(host: &Host, to: SocketAddr, most: Duration) -> Result<TcpStream, String> {
    on(host, || TcpStream::connect_timeout(&to, most))
}

fn remaining(start: Instant, most: Duration) -> Duration {
    most.saturating_sub(start.elapsed())
}

/// Sends datagrams for all pairs and looks which arrive: the way back is not needed.
fn datagrams(pairs: &[Pair<'_>], most: Duration, over: &AtomicBool) -> Result<Vec<Reached>, String> {
    let (mut senders, mut receivers) = (HashMap::new(), HashMap::new());
    let open = |host: &Host, ip| {
        on(host, || {
            let socket = UdpSocket::bind((any(ip), 0))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
    };
    for pair in pairs {
        let v4 = pair.ip.is_ipv4();
        if let Entry::Vacant(place) = senders.entry((pair.from, v4)) {
            place.insert(open(pair.near, pair.ip)?);
        }
        if let Entry::Vacant(place) = receivers.entry((pair.to, v4)) {
            let socket = open(pair.far, pair.ip)?;
            let port = socket.local_addr().map_err(|error| why(&error))?.port();
            place.insert((socket, port));
        }
    }
    let start = Instant::now();
    let mut next = Duration::ZERO;
    let mut arrived = vec![false; pairs.len()];
    let mut refused: Vec<Option<String>> = vec![None; pairs.len()];
    while start.elapsed() < most && !over.load(Ordering::Relaxed) {
        if start.elapsed() >= next {
            for (number, pair) in pairs.iter().enumerate().filter(|(number, _)| !arrived[*number]) {
                let v4 = pair.ip.is_ipv4();
                let (sender, port) = (&senders[&(pair.from, v4)], receivers[&(pair.to, v4)].1);
                // An error may be that of a datagram sent before, which was rejected.
                let sent = sender.send_to(&(number as u64).to_be_bytes(), (pair.ip, port));
                refused[number] =
                    sent.err().filter(|error| error.kind() != ErrorKind::WouldBlock).map(|error| why(&error));
            }
            next = start.elapsed() + AGAIN;
        }
        for (socket, _) in receivers.values() {
            let mut room = [0; 8];
            while let Ok((8, _)) = socket.recv_from(&mut room) {
                let number = usize::try_from(u64::from_be_bytes(room)).unwrap_or(usize::MAX);
                if let Some(seen) = arrived.get_mut(number) {
                    *seen = true;
                }
            }
        }
        // Those that must not arrive are waited for to the end.
        let waited = pairs.iter().zip(&arrived).any(|(pair, arrived)| !arrived || !pair.expected);
        if !waited {
            break;
        }
        let mut ready: Vec<PollFd<'_>> =
            receivers.values().map(|(socket, _)| PollFd::new(socket, PollFlags::IN)).collect();
        let most = next.saturating_sub(start.elapsed()).min(remaining(start, most));
        if let Ok(most) = Timespec::try_from(most) {
            // An interrupted wait is a short one.
            let _ = poll(&mut ready, Some(&most));
        }
    }
    let told = arrived.into_iter().zip(refused).map(|(arrived, refused)| match arrived {
        true => Ok(()),
        false => Err(refused.unwrap_or_else(|| "nothing arrives".to_owned())),
    });
    Ok(told.collect())
}

/// Sends a datagram to a service, and waits for what it answers.
fn asked(pair: &Pair<'_>, port: u16, most: Duration) -> Reached {
    let socket = on(pair.near, || {
        let socket = UdpSocket::bind((any(pair.ip), 0))?;
        socket.connect((pair.ip, port))?;
        socket.set_read_timeout(Some(AGAIN))?;
        Ok(socket)
    })?;
    again(most, || {
        socket.send(b"netsim")?;
        socket.recv(&mut [0; 64]).map(drop)
    })
}

/// Tries again and again while nothing comes.
fn again(most: Duration, mut attempt: impl FnMut() -> io::Result<()>) -> Reached {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(error) if remaining(start, most).is_zero() => return Err(why(&error)),
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {}
            // It may be refused for a while.
            Err(_) => thread::sleep(remaining(start, most).min(AGAIN)),
        }
    }
}

/// An echo request by a socket that needs no privilege (`ping_group_range` of icmp(7)).
fn ping(pair: &Pair<'_>, most: Duration) -> Reached {
    let (family, protocol, request, reply) = match pair.ip {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
    };
    let socket = on(pair.near, || {
        let socket: OwnedFd = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(protocol))?;
        let socket = UdpSocket::from(socket);
        socket.set_read_timeout(Some(AGAIN))?;
        Ok(socket)
    })?;
    again(most, || {
        // The kernel fills in checksum and identifier.
        socket.send_to(&[request, 0, 0, 0, 0, 0, 0, 1], (pair.ip, 0))?;
        let mut room = [0; 64];
        let length = socket.recv(&mut room)?;
        if length > 0 && room[0] == reply { Ok(()) } else { Err(ErrorKind::ConnectionRefused.into()) }
    })
}

/// Bits a second that TCP carries from one host to another.
pub(super) fn throughput(stage: &Stage<'_>, from: &str, to: &str, lasts: Duration) -> Result<u64, String> {
    let ip = stage.scenario.directory.address(from, to).ok_or_else(|| format!("{to} has no address"))?;
    let listener = listener(stage.host(to)?, ip, 0)?;
    let port = listener.local_addr().map_err(|error| why(&error))?.port();
    let mut sender = connect(stage.host(from)?, (ip, port).into(), lasts)?;
    let (mut receiver, _) = listener.accept().map_err(|error| why(&error))?;
    let short = Some(Duration::from_millis(100));
    sender.set_write_timeout(short).and_then(|()| receiver.set_read_timeout(short)).map_err(|error| why(&error))?;
    let start = Instant::now();
    let goes_on = || start.elapsed() < lasts && !stage.over.load(Ordering::Relaxed);
    thread::scope(|scope| {
        scope.spawn(|| {
            let content = [0; 65_536];
            while goes_on() {
                match sender.write(&content) {
                    Ok(_) => {}
                    Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {}
                    Err(_) => break,
                }
            }
        });
        let (mut room, mut bytes) = (vec![0; 65_536], 0_u64);
        while goes_on() {
            match receiver.read(&mut room) {
                Ok(0) => break,
                Ok(length) => bytes += length as u64,
                Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {}
                Err(error) => return Err(why(&error)),
            }
        }
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        Ok(u64::try_from(u128::from(bytes) * 8_000_000 / u128::from(micros)).unwrap_or(u64::MAX))
    })
}

/// Asks a web server: the status, and what came with it.
pub(super) fn http(stage: &Stage<'_>, from: &str, url: &str, most: Duration) -> Result<(u16, String), String> {
    let rest = url.strip_prefix("http://").ok_or("not an http address")?;
    let (place, path) = rest.split_once('/').map_or((rest, ""), |(place, path)| (place, path));
    let start = Instant::now();
    let to = stage.socket_address(from, place)?;
    let mut stream = connect(stage.host(from)?, to, most)?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let mut converse = || {
        let left = || remaining(start, most).max(Duration::from_millis(1));
        stream.set_write_timeout(Some(left()))?;
        stream.write_all(request.as_bytes())?;
        let mut room = [0; 8192];
        while (answer.len() as u64) < MOST_PAGE {
            if remaining(start, most).is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(left()))?;
            match stream.read(&mut room)? {
                0 => break,
                length => answer.extend(&room[..length]),
            }
        }
        Ok(())
    };
    converse().map_err(|error: io::Error| why(&error))?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    Ok((status.ok_or("the answer is not HTTP")?, answer))
}
