//! Traffic from one place to another, and what comes of it.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netsim::{End, Host, Namespace, veth};

use super::{Outcome, PATIENCE};

/// Where traffic begins or ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    namespace: &'a Namespace,
    ip: IpAddr,
}

impl<'a> From<&'a Host> for Place<'a> {
    fn from(host: &'a Host) -> Self {
        Self { namespace: host.namespace(), ip: host.ip() }
    }
}

/// Two namespaces and a cable of the kernel's own between them: what there is without a wire.
pub(super) struct Bare([Namespace; 2]);

impl Bare {
    const IPS: [[u8; 4]; 2] = [[10, 2, 0, 1], [10, 2, 0, 2]];

    pub(super) fn new() -> Outcome<Self> {
        let pair = [Namespace::new()?, Namespace::new()?];
        let end = |number: usize, addresses| End { namespace: &pair[number], interface: "eth0", addresses };
        veth(end(0, &["10.2.0.1/24"]), end(1, &["10.2.0.2/24"]), 1500)?;
        for namespace in &pair {
            // As hosts have it, where the machine has it.
            let _ = namespace.sysctl("net/ipv4/tcp_congestion_control", "cubic");
        }
        Ok(Self(pair))
    }

    pub(super) fn places(&self) -> [Place<'_>; 2] {
        [0, 1].map(|number| Place { namespace: &self.0[number], ip: Self::IPS[number].into() })
    }

    pub(super) fn namespaces(&self) -> &[Namespace] {
        &self.0
    }
}

/// Gigabits a second of content that one TCP flow brings.
pub(super) fn flow(from: Place<'_>, to: Place<'_>, lasts: Duration) -> Outcome<f64> {
    let listener = to.namespace.run(|| TcpListener::bind((to.ip, 5001)))??;
    let address = listener.local_addr()?;
    let mut sender = from.namespace.run(|| TcpStream::connect_timeout(&address, PATIENCE))??;
    let (mut receiver, _) = listener.accept()?;
    receiver.set_read_timeout(Some(PATIENCE))?;
    let writer = std::thread::spawn(move || {
        let (start, block) = (Instant::now(), vec![7; 256 << 10]);
        while start.elapsed() < lasts && sender.write_all(&block).is_ok() {}
    });
    let (mut room, mut bytes, mut start) = (vec![0; 256 << 10], 0, None);
    loop {
        let length = receiver.read(&mut room)?;
        let start = *start.get_or_insert_with(Instant::now);
        if length == 0 {
            writer.join().map_err(|_| "the writer panicked")?;
            return Ok(f64::from(u32::try_from(bytes / 1024)?) * 8192.0 / start.elapsed().as_secs_f64() / 1e9);
        }
        bytes += length;
    }
}

/// Datagrams a second that are sent and that arrive, when one host sends as fast as it can.
pub(super) fn datagrams(from: Place<'_>, to: Place<'_>, lasts: Duration) -> Outcome<(f64, f64)> {
    let (sender, receiver) = sockets(from, to)?;
    receiver.set_read_timeout(Some(Duration::from_millis(300)))?;
    sender.send(b"neighbours find one another")?;
    receiver.recv(&mut [0; 64])?;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut room, mut got, start) = ([0; 64], 0_u32, Instant::now());
            let mut last = start;
            while receiver.recv(&mut room).is_ok() {
                got += 1;
                last = Instant::now();
            }
            f64::from(got) / last.duration_since(start).as_secs_f64().max(1e-9)
        });
        let (mut sent, start) = (0_u32, Instant::now());
        while start.elapsed() < lasts {
            // A full queue is an error to some senders.
            sent += u32::from(sender.send(&[0; 18]).is_ok());
        }
        let sent = f64::from(sent) / start.elapsed().as_secs_f64();
        Ok((sent, reader.join().map_err(|_| "the reader panicked")?))
    })
}

pub(super) fn sockets(from: Place<'_>, to: Place<'_>) -> Outcome<(UdpSocket, UdpSocket)> {
    let receiver = to.namespace.run(|| UdpSocket::bind((to.ip, 4000)))??;
    let sender = from.namespace.run(|| UdpSocket::bind((from.ip, 4001)))??;
    sender.connect(receiver.local_addr()?)?;
    receiver.set_read_timeout(Some(PATIENCE))?;
    sender.set_read_timeout(Some(PATIENCE))?;
    Ok((sender, receiver))
}

/// Round trips of a datagram in seconds, in rising order.
pub(super) fn round_trips(from: Place<'_>, to: Place<'_>, count: u32) -> Outcome<Vec<f64>> {
    let (asker, answerer) = sockets(from, to)?;
    answerer.set_read_timeout(Some(Duration::from_millis(100)))?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut room = [0; 64];
            while !done.load(Ordering::Relaxed) {
                if let Ok((length, from)) = answerer.recv_from(&mut room) {
                    let _ = answerer.send_to(&room[..length], from);
                }
            }
        });
        let trip = || -> Outcome<f64> {
            let start = Instant::now();
            asker.send(&[0; 32])?;
            asker.recv(&mut [0; 64])?;
            Ok(start.elapsed().as_secs_f64())
        };
        // The first ones find the neighbours and warm up.
        let all = (0..count + 5).map(|_| trip()).collect::<Outcome<Vec<_>>>();
        done.store(true, Ordering::Relaxed);
        let mut all = all?.split_off(5);
        all.sort_by(f64::total_cmp);
        Ok(all)
    })
}
