//! The two processes of a crowd.

use std::io::{BufRead as _, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::PollFlags;

use crate::load::content::Content;
use crate::load::process::say;
use crate::wait::{accept, any_ready};

/// Connections that are on their way at once.
const AT_ONCE: usize = 64;
/// The longest pause of one among thousands.
const PAUSE: Duration = Duration::from_secs(60);
/// Nothing taken for so long: every buffer is full.
const FULL: Duration = Duration::from_secs(2);
/// The longest that a sender backs off (RFC 6298 §2.4 allows 60 s at least; Linux takes 120 s), and some.
const BACK_OFF: Duration = Duration::from_secs(130);
/// How much is offered to a connection at once, in bytes.
const PIECE: usize = 16 * 1024;
/// More than any connection takes.
const ENDLESS: u64 = 1 << 40;

/// Does the part that the arguments name, until standard input ends.
pub fn run(arguments: &[String]) -> Result<()> {
    crate::suite::raise_descriptors();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["reach", address] => obey(&mut Reach { address: address.parse()?, open: Vec::new() }),
        ["offer", address] => {
            let listener = TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
            rustix::net::listen(&listener, 4096)?;
            obey(&mut Offer { listener, open: Vec::new() })
        }
        _ => bail!("a strange load: {words:?}"),
    }
}

/// One part: does what a line says, and gives a number.
trait Part {
    fn act(&mut self, words: &[&str]) -> Result<u64>;
}

fn obey(part: &mut impl Part) -> Result<()> {
    say("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match part.act(&line.split(' ').collect::<Vec<_>>()) {
            Ok(number) => say(&format!("ok {number}")),
            Err(error) => say(&format!("{line}: {error:#}").replace('\n', " ")),
        }
    }
    Ok(())
}

fn bounded(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PAUSE))?;
    Ok(stream.set_write_timeout(Some(PAUSE))?)
}

/// The clients, and how much each has sent.
struct Reach {
    address: SocketAddr,
    open: Vec<(TcpStream, u64)>,
}

impl Part for Reach {
    fn act(&mut self, words: &[&str]) -> Result<u64> {
        match words {
            ["open", count] => self.open(count.parse()?),
            ["fill"] => self.fill(),
            ["finish"] => {
                for (stream, _) in &self.open {
                    stream.set_nonblocking(false)?;
                    stream.shutdown(Shutdown::Write)?;
                }
                Ok(0)
            }
            ["close"] => {
                self.open.clear();
                Ok(0)
            }
            _ => bail!("a strange wish"),
        }
    }
}

impl Reach {
    /// What a connection sends first, and gets back, is its number.
    fn open(&mut self, count: usize) -> Result<u64> {
        let until = self.open.len() + count;
        while self.open.len() < until {
            let first = self.open.len();
            for number in first..until.min(first + AT_ONCE) {
                let connected = TcpStream::connect(self.address);
                let mut stream = connected.with_context(|| format!("connection {number}"))?;
                bounded(&stream)?;
                stream.write_all(&(number as u64).to_be_bytes())?;
                self.open.push((stream, 0));
            }
            for (number, (stream, _)) in self.open.iter_mut().enumerate().skip(first) {
                let mut back = [0; 8];
                stream.read_exact(&mut back).with_context(|| format!("the echo of connection {number}"))?;
                ensure!(u64::from_be_bytes(back) == number as u64, "connection {number}: another's echo");
            }
        }
        Ok(until as u64)
    }

    fn fill(&mut self) -> Result<u64> {
        self.open.iter().try_for_each(|(stream, _)| stream.set_nonblocking(true))?;
        let (mut buffer, mut moved) = (vec![0; PIECE], Instant::now());
        while moved.elapsed() < FULL {
            let mut taken = 0;
            for (number, (stream, sent)) in self.open.iter_mut().enumerate() {
                let within = usize::try_from(*sent % 8)?;
                let mut content = Content::new(number as u64, ENDLESS).skip(*sent - within as u64);
                match stream.write(&content.next(&mut buffer)[within..]) {
                    Ok(some) => {
                        *sent += some as u64;
                        taken += some;
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    Err(e) => return Err(e).with_context(|| format!("connection {number} after {sent} bytes")),
                }
            }
            if taken > 0 {
                moved = Instant::now();
            } else {
                any_ready(self.open.iter().map(|(stream, _)| stream), PollFlags::OUT, FULL)?;
            }
        }
        Ok(self.open.iter().map(|(_, sent)| sent).sum())
    }
}

/// The servers.
struct Offer {
    listener: TcpListener,
    open: Vec<Served>,
}

/// A connection with the number that its client has told, and how much has come.
struct Served {
    stream: TcpStream,
    number: u64,
    received: u64,
}

impl Part for Offer {
    fn act(&mut self, words: &[&str]) -> Result<u64> {
        match words {
            ["open", count] => {
                for _ in 0..count.parse::<usize>()? {
                    let mut stream = accept(&self.listener, PAUSE)?;
                    bounded(&stream)?;
                    let mut number = [0; 8];
                    stream.read_exact(&mut number).context("a number")?;
                    stream.write_all(&number)?;
                    self.open.push(Served { stream, number: u64::from_be_bytes(number), received: 0 });
                }
                Ok(self.open.len() as u64)
            }
            ["drain"] => self.drain(),
            ["close"] => {
                self.open.clear();
                Ok(0)
            }
            _ => bail!("a strange wish"),
        }
    }
}

impl Offer {
    /// All in turn, never waiting for one of them: where the kernel has dropped segments for want of room, their senders back
    /// off, each for about as long as it was stalled.
    fn drain(&mut self) -> Result<u64> {
        let (mut got, mut expected) = (vec![0; PIECE], vec![0; PIECE + 8]);
        let mut left: Vec<&mut Served> = self.open.iter_mut().collect();
        left.iter().try_for_each(|served| served.stream.set_nonblocking(true))?;
        while !left.is_empty() {
            let (mut failed, mut any) = (None, false);
            left.retain_mut(|served| match served.read(&mut got, &mut expected) {
                Ok(Some(0)) => {
                    any = true;
                    false
                }
                Ok(read) => {
                    any |= read.is_some();
                    true
                }
                Err(error) => {
                    failed.get_or_insert(error);
                    false
                }
            });
            if let Some(error) = failed {
                return Err(error);
            }
            if !any && !left.is_empty() {
                let streams = left.iter().map(|served| &served.stream);
                ensure!(any_ready(streams, PollFlags::IN, BACK_OFF)?, "nothing comes on {} connections", left.len());
            }
        }
        Ok(self.open.iter().map(|served| served.received).sum())
    }
}

impl Served {
    /// Reads and checks what is there: how much, 0 at the end, `None` if nothing is.
    fn read(&mut self, got: &mut [u8], expected: &mut [u8]) -> Result<Option<usize>> {
        let Self { stream, number, received } = self;
        let read = match stream.read(got) {
            Ok(read) => read,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("connection {number} after {received} bytes")),
        };
        let within = usize::try_from(*received % 8)?;
        let mut content = Content::new(*number, ENDLESS).skip(*received - within as u64);
        ensure!(
            got[..read] == content.next(expected)[within..][..read],
            "connection {number}: wrong bytes after {received}"
        );
        *received += read as u64;
        Ok(Some(read))
    }
}
