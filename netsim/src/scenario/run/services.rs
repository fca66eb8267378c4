//! Services that the simulator plays itself: stand-ins for programs that answer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Scope;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::exchange::{self, Journal};
use super::probes::on;
use crate::Host;
use crate::scenario::programs::{ServiceKind, ServiceSpec};

/// Connections of one service at once; more wait.
const MOST_CONNECTIONS: usize = 256;
/// The longest request that is read, in bytes.
const MOST_REQUEST: usize = 16 << 10;
/// How often it is looked whether all is over.
const LOOK: Duration = Duration::from_millis(100);

/// Plays a service until `over`.
pub(super) fn play<'scope>(
    scope: &'scope Scope<'scope, '_>,
    service: &'scope ServiceSpec,
    host: &Host,
    journal: &'scope Journal,
    over: &'scope AtomicBool,
) -> Result<(), String> {
    let at = (service.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), service.port);
    let told = |error| format!("{} cannot listen on {}: {error}", service.name, service.on);
    match service.kind {
        ServiceKind::UdpEcho => {
            let socket = on(host, || UdpSocket::bind(at)).map_err(told)?;
            scope.spawn(move || echo_datagrams(&socket, over));
        }
        ServiceKind::TcpEcho | ServiceKind::Http | ServiceKind::Receiver => {
            let listener = on(host, || TcpListener::bind(at)).map_err(told)?;
            scope.spawn(move || accept(scope, service, &listener, journal, over));
        }
    }
    Ok(())
}

/// Waits for something to read. False when all is over.
fn readable(socket: &impl AsFd, over: &AtomicBool) -> bool {
    let Ok(most) = Timespec::try_from(LOOK) else { return false };
    while !over.load(Ordering::Relaxed) {
        if let Ok(1..) = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&most)) {
            return true;
        }
    }
    false
}

fn echo_datagrams(socket: &UdpSocket, over: &AtomicBool) {
    let mut room = vec![0; 65_536];
    while readable(socket, over) {
        if let Ok((length, from)) = socket.recv_from(&mut room) {
            // Whoever asked asks again.
            let _ = socket.send_to(&room[..length], from);
        }
    }
}

fn accept<'scope>(
    scope: &'scope Scope<'scope, '_>,
    service: &'scope ServiceSpec,
    listener: &TcpListener,
    journal: &'scope Journal,
    over: &'scope AtomicBool,
) {
    let open = std::sync::Arc::new(AtomicUsize::new(0));
    while readable(listener, over) {
        if open.load(Ordering::Relaxed) >= MOST_CONNECTIONS {
            std::thread::sleep(LOOK);
            continue;
        }
        let Ok((stream, _)) = listener.accept() else { continue };
        open.fetch_add(1, Ordering::Relaxed);
        let open = open.clone();
        scope.spawn(move || {
            // What fails is the client's to notice.
            match service.kind {
                ServiceKind::Receiver => exchange::receive(stream, &service.name, journal, over),
                ServiceKind::Http => drop(answer(stream, &service.text, over)),
                ServiceKind::TcpEcho | ServiceKind::UdpEcho => drop(echo(stream, over)),
            }
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn echo(mut stream: TcpStream, over: &AtomicBool) -> io::Result<()> {
    stream.set_write_timeout(Some(LOOK * 20))?;
    let mut room = vec![0; 65_536];
    while readable(&stream, over) {
        match stream.read(&mut room)? {
            0 => break,
            length => stream.write_all(&room[..length])?,
        }
    }
    Ok(())
}

fn answer(mut stream: TcpStream, text: &str, over: &AtomicBool) -> io::Result<()> {
    stream.set_write_timeout(Some(LOOK * 20))?;
    let mut request: Vec<u8> = Vec::new();
    let mut room = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > MOST_REQUEST || !readable(&stream, over) {
            return Err(ErrorKind::InvalidData.into());
        }
        match stream.read(&mut room)? {
            0 => return Ok(()),
            length => request.extend(&room[..length]),
        }
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: ";
    stream.write_all(format!("{head}{}\r\n\r\n{text}", text.len()).as_bytes())
}
