//! A QUIC client by hand (RFC 9000, RFC 9001), for what no careful client sends: transport parameters, frames and datagrams
//! of any kind. It repeats nothing, so it is for loopback, where next to nothing is lost, and acknowledges only when told to.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustls::Side;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::{ClientConnection, KeyChange, Keys, Secrets, Version};
use rustls_pki_types::ServerName;

use crate::hostile::client_config;
use crate::member::hello;
use crate::pki::Identity;

/// The ALPN of connections that carry application streams.
pub const DATA: &[u8] = b"adit/1";
/// The least that a client pads its first datagrams to (RFC 9000 §14.1).
const PADDED: usize = 1200;
/// Bytes of the connection IDs that this client chooses.
const ID: usize = 8;
/// Bytes of the authentication tag of every packet (RFC 9001 §5.3).
const TAG: usize = 16;

/// Which keys a packet is protected with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Those that everybody can derive.
    Initial,
    /// Those of the handshake.
    Handshake,
    /// Those of application data.
    OneRtt,
}

#[derive(Default)]
struct Space {
    keys: Option<Keys>,
    next: u64,
    largest: u64,
    /// The numbers of the packets that came: first and last of each run, in order.
    came: Vec<(u64, u64)>,
    sent: u64,
    /// CRYPTO that came, by its offset, and how much of it was read.
    pieces: BTreeMap<u64, Vec<u8>>,
    read: u64,
}

/// What the agent has said so far.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Heard {
    /// It asked for another Initial with a token (Retry).
    pub retry: bool,
    /// It has confirmed the handshake: it takes the client for a member.
    pub confirmed: bool,
    /// Something came on a stream.
    pub stream: bool,
    /// How many streams it has let the client open so far, since the handshake.
    pub streams: u64,
    /// It closed the connection with this error code.
    pub closed: Option<u64>,
}

/// A connection.
pub struct Client {
    socket: UdpSocket,
    tls: ClientConnection,
    source: [u8; ID],
    destination: Vec<u8>,
    token: Vec<u8>,
    spaces: [Space; 3],
    /// Where the next keys of application data come from, and whether the ones in use are every second ones (RFC 9001 §6).
    secrets: Option<Secrets>,
    odd: bool,
    level: Level,
    hello: Vec<u8>,
    /// What the agent has said.
    pub heard: Heard,
}

/// The OPEN of a stream over QUIC, for a service.
pub fn open(service: &str) -> Result<Vec<u8>> {
    let mut payload = vec![0, 0, 0, 1, 0x12, u8::try_from(service.len())?];
    payload.extend(service.as_bytes());
    payload.extend([0x32, 16]);
    payload.extend([7; 16]);
    Ok([&[2, 0, 0, u8::try_from(payload.len())?], &payload[..]].concat())
}

impl Client {
    /// A client of the agent that `socket` is connected to. `change` has the transport parameters that a careful client would
    /// send and gives those that are sent.
    pub fn new(
        socket: UdpSocket,
        host: &str,
        alpn: &[u8],
        identity: Option<&Identity>,
        change: impl FnOnce(Vec<u8>) -> Vec<u8>,
    ) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (source, destination) = (number.to_be_bytes(), (!number).to_be_bytes().to_vec());
        let config = Arc::new(client_config(alpn, identity)?);
        let name = ServerName::try_from(host.to_owned())?;
        let tls = ClientConnection::new(config, Version::V1, name, change(parameters(&source)))?;
        let spaces =
            [Space { keys: Some(initial_keys(&destination)?), ..Space::default() }, Space::default(), Space::default()];
        let (token, hello) = (Vec::new(), Vec::new());
        let heard = Heard::default();
        let (secrets, odd, level) = (None, false, Level::Initial);
        Ok(Self { socket, tls, source, destination, token, spaces, secrets, odd, level, hello, heard })
    }

    /// The datagrams that TLS wants to have sent now: at first, the ClientHello.
    pub fn flight(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut datagrams = Vec::new();
        loop {
            let mut bytes = Vec::new();
            let change = self.tls.write_hs(&mut bytes);
            if self.level == Level::Initial {
                self.hello.extend(&bytes);
            }
            datagrams.extend(self.crypto(self.level, &bytes)?);
            match change {
                Some(KeyChange::Handshake { keys }) => self.next_level(Level::Handshake, keys),
                Some(KeyChange::OneRtt { keys, next }) => {
                    self.next_level(Level::OneRtt, keys);
                    self.secrets = Some(next);
                }
                None if bytes.is_empty() => return Ok(datagrams),
                None => {}
            }
        }
    }

    fn next_level(&mut self, level: Level, keys: Keys) {
        self.level = level;
        self.spaces[level as usize].keys = Some(keys);
    }

    fn crypto(&mut self, level: Level, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut datagrams = Vec::new();
        for piece in bytes.chunks(1000) {
            let offset = self.spaces[level as usize].sent;
            self.spaces[level as usize].sent += piece.len() as u64;
            datagrams.push(self.packet(level, &crypto_frame(offset, piece))?);
        }
        Ok(datagrams)
    }

    /// A datagram of one packet with these frames.
    pub fn packet(&mut self, level: Level, frames: &[u8]) -> Result<Vec<u8>> {
        let space = &mut self.spaces[level as usize];
        let keys = space.keys.as_ref().with_context(|| format!("no keys for {level:?}"))?;
        let number = space.next;
        space.next += 1;
        let mut payload = frames.to_vec();
        payload.resize(payload.len().max(if level == Level::Initial { PADDED } else { 4 }), 0);
        let mut packet = match level {
            Level::OneRtt => [&[if self.odd { 0x47 } else { 0x43 }], &self.destination[..]].concat(),
            Level::Initial | Level::Handshake => {
                let kind = if level == Level::Initial { 0xc3 } else { 0xe3 };
                let mut head = vec![kind, 0, 0, 0, 1, u8::try_from(self.destination.len())?];
                head.extend(&self.destination);
                head.push(u8::try_from(ID)?);
                head.extend(self.source);
                if level == Level::Initial {
                    put_varint(&mut head, self.token.len() as u64);
                    head.extend(&self.token);
                }
                put_varint(&mut head, (4 + payload.len() + TAG) as u64);
                head
            }
        };
        let at = packet.len();
        packet.extend(u32::try_from(number)?.to_be_bytes());
        let tag = keys.local.packet.encrypt_in_place(number, &packet, &mut payload)?;
        packet.extend(payload);
        packet.extend(tag.as_ref());
        let (head, rest) = packet.split_at_mut(at);
        let (number, rest) = rest.split_at_mut(4);
        keys.local.header.encrypt_in_place(&rest[..TAG], &mut head[0], number)?;
        Ok(packet)
    }

    /// Sends a datagram. What the kernel will not take is lost, as on any network.
    pub fn send(&self, datagram: &[u8]) {
        let _lost = self.socket.send(datagram);
    }

    /// Does the handshake until the agent has confirmed it or closed, `bound` at most. `send` sends each datagram, or not.
    pub fn handshake(&mut self, bound: Duration, mut send: impl FnMut(&Self, Vec<u8>)) -> Result<&Heard> {
        let until = Instant::now() + bound;
        let mut flight = self.flight()?;
        loop {
            flight.into_iter().for_each(|datagram| send(self, datagram));
            let left = until.saturating_duration_since(Instant::now());
            if self.heard.confirmed || self.heard.closed.is_some() || left.is_zero() {
                return Ok(&self.heard);
            }
            flight = self.receive(left)?.1;
        }
    }

    /// Says HELLO on the first stream and waits for the answer: the agent has a link then.
    pub fn greet(&mut self, bound: Duration) -> Result<()> {
        let datagram = self.packet(Level::OneRtt, &stream_frame(0, 0, &hello(self.source)))?;
        self.send(&datagram);
        let until = Instant::now() + bound;
        while !self.heard.stream {
            let left = until.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero() && self.heard.closed.is_none(), "no HELLO came: {:?}", self.heard);
            self.receive(left)?;
        }
        Ok(())
    }

    /// Waits until the agent lets the client open `streams` streams, and acknowledges what comes, so that it can say so.
    pub fn wait_for_streams(&mut self, streams: u64, bound: Duration) -> Result<()> {
        let until = Instant::now() + bound;
        while self.heard.streams < streams {
            let left = until.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero() && self.heard.closed.is_none(), "no {streams} streams: {:?}", self.heard);
            self.acknowledge()?;
            self.receive(left.min(Duration::from_millis(20)))?;
        }
        Ok(())
    }

    /// Takes and acknowledges all that has come: new keys among it, without which the agent soon takes nothing more.
    pub fn catch_up(&mut self) -> Result<()> {
        while self.receive(Duration::from_millis(1))?.0 > 0 {}
        self.acknowledge()
    }

    /// Acknowledges the packets of application data that came, the last of them at least.
    pub fn acknowledge(&mut self) -> Result<()> {
        let runs: Vec<_> = self.spaces[Level::OneRtt as usize].came.iter().rev().take(32).copied().collect();
        let Some(&(first, last)) = runs.first() else { return Ok(()) };
        let mut frame = vec![2];
        for number in [last, 0, runs.len() as u64 - 1, last - first] {
            put_varint(&mut frame, number);
        }
        for pair in runs.windows(2) {
            let (first, last) = pair[1];
            put_varint(&mut frame, pair[0].0 - last - 2);
            put_varint(&mut frame, last - first);
        }
        let datagram = self.packet(Level::OneRtt, &frame)?;
        self.send(&datagram);
        Ok(())
    }

    /// Waits for one datagram: how long it is, and what is to be sent for it. 0 if none comes.
    pub fn receive(&mut self, bound: Duration) -> Result<(usize, Vec<Vec<u8>>)> {
        let mut buffer = [0; 2048];
        self.socket.set_read_timeout(Some(bound.max(Duration::from_millis(1))))?;
        match self.socket.recv(&mut buffer) {
            // Damage beyond understanding is as good as lost.
            Ok(length) => Ok((length, self.datagram(&mut buffer[..length])?.unwrap_or_default())),
            Err(_) => Ok((0, Vec::new())),
        }
    }

    /// Waits until the agent closes the connection, and gives the error code.
    pub fn closed(&mut self, bound: Duration) -> Result<Option<u64>> {
        let until = Instant::now() + bound;
        while self.heard.closed.is_none() && Instant::now() < until {
            self.receive(until.saturating_duration_since(Instant::now()))?;
        }
        Ok(self.heard.closed)
    }

    /// Closes the connection, with every key it has.
    pub fn close(&mut self) -> Result<()> {
        for level in [Level::Initial, Level::Handshake, Level::OneRtt] {
            if self.spaces[level as usize].keys.is_some() {
                let datagram = self.packet(level, &[0x1c, 0, 0, 0])?;
                self.send(&datagram);
            }
        }
        Ok(())
    }

    fn datagram(&mut self, mut rest: &mut [u8]) -> Result<Option<Vec<Vec<u8>>>> {
        let mut flight = Vec::new();
        while let Some(&first) = rest.first() {
            let (level, number, end) = if first & 0x80 == 0 {
                (Level::OneRtt, 1 + ID, rest.len())
            } else {
                let mut left = rest.get(5..).unwrap_or_default();
                let (Some(_), Some(theirs)) = (id(&mut left), id(&mut left).map(<[u8]>::to_vec)) else {
                    return Ok(None);
                };
                let level = match first >> 4 & 3 {
                    0 => Level::Initial,
                    2 => Level::Handshake,
                    3 => return self.retry(theirs, left).map(Some),
                    _ => return Ok(None),
                };
                if level == Level::Initial {
                    self.destination = theirs;
                    let Some(token) = varint(&mut left) else { return Ok(None) };
                    left = left.get(usize::try_from(token)?..).unwrap_or_default();
                }
                let Some(length) = varint(&mut left) else { return Ok(None) };
                let number = rest.len() - left.len();
                (level, number, number.saturating_add(usize::try_from(length)?))
            };
            if end > rest.len() {
                return Ok(None);
            }
            let (packet, more) = rest.split_at_mut(end);
            if let Some(frames) = self.open(level, packet, number) {
                self.frames(level, &frames);
                flight.extend(self.flight()?);
            }
            rest = more;
        }
        Ok(Some(flight))
    }

    fn retry(&mut self, theirs: Vec<u8>, rest: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.heard.retry = true;
        self.token = rest[..rest.len().saturating_sub(TAG)].to_vec();
        self.destination = theirs;
        self.spaces[0].keys = Some(initial_keys(&self.destination)?);
        self.spaces[0].sent = 0;
        let hello = self.hello.clone();
        self.crypto(Level::Initial, &hello)
    }

    fn open(&mut self, level: Level, packet: &mut [u8], at: usize) -> Option<Vec<u8>> {
        let space = &mut self.spaces[level as usize];
        let keys = space.keys.as_mut()?;
        let (head, rest) = packet.split_at_mut_checked(at)?;
        let (number, rest) = rest.split_at_mut_checked(4)?;
        keys.remote.header.decrypt_in_place(rest.get(..TAG)?, &mut head[0], number).ok()?;
        if level == Level::OneRtt && (head[0] & 4 != 0) != self.odd {
            let next = self.secrets.as_mut()?.next_packet_keys();
            (keys.local.packet, keys.remote.packet, self.odd) = (next.local, next.remote, !self.odd);
        }
        let length = usize::from(head[0] & 3) + 1;
        let cut = number[..length].iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        // The number nearest to the next one (RFC 9000 §A.3).
        let window = 1 << (8 * length);
        let near = (space.largest + 1) & !(window - 1) | cut;
        let number = if near + window / 2 <= space.largest + 1 { near + window } else { near };
        let (head, payload) = packet.split_at_mut(at + length);
        let plain = keys.remote.packet.decrypt_in_place(number, head, payload).ok()?.to_vec();
        space.largest = space.largest.max(number);
        match space.came.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            Some((_, last)) if *last >= number => {}
            _ => space.came.push((number, number)),
        }
        Some(plain)
    }

    /// Notes what matters. What follows a frame that does not is not looked at.
    fn frames(&mut self, level: Level, mut rest: &[u8]) -> Option<()> {
        while let Some((&kind, after)) = rest.split_first() {
            rest = after;
            match kind {
                0 | 1 => {}
                2 | 3 => {
                    let (_largest, _delay, ranges) = (varint(&mut rest)?, varint(&mut rest)?, varint(&mut rest)?);
                    let ecn = if kind == 3 { 3 } else { 0 };
                    (0..=2 * ranges + ecn).try_for_each(|_| varint(&mut rest).map(|_| ()))?;
                }
                6 => {
                    let (offset, length) = (varint(&mut rest)?, usize::try_from(varint(&mut rest)?).ok()?);
                    let (piece, more) = rest.split_at_checked(length)?;
                    rest = more;
                    let space = &mut self.spaces[level as usize];
                    space.pieces.insert(offset, piece.to_vec());
                    while let Some(piece) = space.pieces.remove(&space.read) {
                        space.read += piece.len() as u64;
                        // What TLS does not like, it says in its next flight or not at all.
                        let _disliked = self.tls.read_hs(&piece);
                    }
                }
                0x08..=0x0f => {
                    self.heard.stream = true;
                    return None;
                }
                0x1c | 0x1d => self.heard.closed = Some(varint(&mut rest)?),
                0x1e => self.heard.confirmed = true,
                0x18 => {
                    let (_sequence, _retire, _id) = (varint(&mut rest)?, varint(&mut rest)?, id(&mut rest)?);
                    rest = rest.get(16..)?;
                }
                0x12 => self.heard.streams = self.heard.streams.max(varint(&mut rest)?),
                // Windows and numbers of streams, and who waits for them.
                0x04 | 0x05 | 0x10..=0x17 => {
                    let numbers = match kind {
                        0x04 => 3,
                        0x05 | 0x11 | 0x15 => 2,
                        _ => 1,
                    };
                    (0..numbers).try_for_each(|_| varint(&mut rest).map(|_| ()))?;
                }
                0x07 => rest = rest.get(usize::try_from(varint(&mut rest)?).ok()?..)?,
                _ => return None,
            }
            if self.heard.closed.is_some() {
                return None;
            }
        }
        Some(())
    }
}

fn initial_keys(destination: &[u8]) -> Result<Keys> {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().and_then(|suite| suite.quic_suite()).context("no suite for QUIC")?;
    Ok(suite.keys(destination, Side::Client, Version::V1))
}

/// The transport parameters of a careful client (RFC 9000 §18.2).
fn parameters(source: &[u8]) -> Vec<u8> {
    let mut parameters = Vec::new();
    // Idle time in ms, windows of the connection and of streams, streams, IDs that are kept.
    for (id, value) in [(1, 10_000), (4, 1 << 20), (5, 1 << 16), (6, 1 << 16), (7, 1 << 16), (8, 16), (9, 0), (0x0e, 2)]
    {
        let mut encoded = Vec::new();
        put_varint(&mut encoded, value);
        put_parameter(&mut parameters, id, &encoded);
    }
    put_parameter(&mut parameters, 0x0f, source);
    parameters
}

/// Appends a transport parameter.
pub fn put_parameter(parameters: &mut Vec<u8>, id: u64, value: &[u8]) {
    put_varint(parameters, id);
    put_varint(parameters, value.len() as u64);
    parameters.extend(value);
}

/// Appends a number as RFC 9000 §16 has it. Numbers of more than 62 bits lose the rest.
pub fn put_varint(out: &mut Vec<u8>, value: u64) {
    match value.to_be_bytes() {
        [0, 0, 0, 0, 0, 0, 0, a] if a < 64 => out.push(a),
        [0, 0, 0, 0, 0, 0, a, b] if a < 64 => out.extend([a | 0x40, b]),
        [0, 0, 0, 0, a, b, c, d] if a < 64 => out.extend([a | 0x80, b, c, d]),
        [a, rest @ ..] => {
            out.push(a | 0xc0);
            out.extend(rest);
        }
    }
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let length = 1 << (rest.first()? >> 6);
    let (bytes, more) = rest.split_at_checked(length)?;
    *rest = more;
    Some(bytes[1..].iter().fold(u64::from(bytes[0] & 0x3f), |n, byte| n << 8 | u64::from(*byte)))
}

fn id<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (&length, after) = rest.split_first()?;
    let (id, more) = after.split_at_checked(length.into())?;
    *rest = more;
    Some(id)
}

/// A CRYPTO frame (RFC 9000 §19.6).
pub fn crypto_frame(offset: u64, bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![6];
    put_varint(&mut frame, offset);
    put_varint(&mut frame, bytes.len() as u64);
    frame.extend(bytes);
    frame
}

/// A RESET_STREAM frame (RFC 9000 §19.4).
pub fn reset_frame(stream: u64, length: u64) -> Vec<u8> {
    let mut frame = vec![4];
    for number in [stream, 0, length] {
        put_varint(&mut frame, number);
    }
    frame
}

/// A STREAM frame with its offset and length (RFC 9000 §19.8).
pub fn stream_frame(stream: u64, offset: u64, bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x0e];
    put_varint(&mut frame, stream);
    put_varint(&mut frame, offset);
    put_varint(&mut frame, bytes.len() as u64);
    frame.extend(bytes);
    frame
}
