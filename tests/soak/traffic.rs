//! Connections of every kind between applications, and the server that answers them. What comes is compared with what must.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use adit_tests::load::{Content, Ending, Server, abort, digest_of, ending, exchange, read_some};
use adit_tests::{Mesh, Place};
use anyhow::{Context as _, Result, ensure};

use crate::state::{DIED, State};

/// The longest pause of a connection that is well.
const BOUND: Duration = Duration::from_secs(30);
/// Bytes each way of a connection for bulk.
const BULK: u64 = 8 << 20;
/// Between two of a kind, so that the load leaves some of the processor to the others.
const PAUSE: Duration = Duration::from_millis(50);

/// What the first byte of a connection asks of the server.
const ECHO: u8 = b'E';
const AFTER_THE_END: u8 = b'H';
const RESET: u8 = b'R';

/// From where to what.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) entry: SocketAddr,
    /// Its own agent is killed now and then. The kernel then ends what the application has open, and in order.
    pub(crate) dies: bool,
}

impl Way {
    pub(crate) fn new(mesh: &Mesh, from: &str, service: &str) -> Self {
        Self {
            name: format!("{from} to {service}"),
            place: mesh.place(from),
            entry: mesh.listener(service, from),
            dies: false,
        }
    }

    /// What a wrong ending is called: whether a fault excuses it.
    fn wrong_ending(&self) -> &'static str {
        if self.dies { DIED } else { "WRONG" }
    }

    fn connect(&self, wish: u8) -> Result<TcpStream> {
        let mut stream = self.place.connect(self.entry, BOUND)?;
        stream.set_read_timeout(Some(BOUND))?;
        stream.set_write_timeout(Some(BOUND))?;
        stream.write_all(&[wish])?;
        Ok(stream)
    }
}

/// One kind of connection: its name, and how it goes. The number is another one each time.
pub(crate) type Kind = (&'static str, fn(&Way, u64) -> Result<()>);

/// Every kind but the idle ones, each from its start to its end.
pub(crate) const KINDS: [Kind; 5] = [
    ("short", short),
    ("bulk", bulk),
    ("half-close", half_close),
    ("reset by server", reset),
    ("reset by client", aborted),
];

/// Serves all kinds.
pub(crate) fn serve(mesh: &Mesh, service: &str, node: &str) -> Result<Server> {
    Server::start(&mesh.place(node), mesh.target(service, node), |stream| {
        // How it ends is the client's to judge.
        let _ = answer(stream);
    })
}

fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut wish = [0];
    stream.read_exact(&mut wish)?;
    let mut buffer = vec![0; 64 * 1024];
    match wish {
        [AFTER_THE_END] => {
            let mut all = Vec::new();
            stream.read_to_end(&mut all)?;
            stream.write_all(&all)?;
        }
        [RESET] => {
            stream.read_exact(&mut buffer[..8])?;
            stream.write_all(&buffer[..8])?;
            return abort(stream);
        }
        _ => loop {
            let read = stream.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            stream.write_all(&buffer[..read])?;
        },
    }
    Ok(stream.shutdown(Shutdown::Write)?)
}

/// A request and its answer, of 1 byte to 40 kB.
pub(crate) fn short(way: &Way, number: u64) -> Result<()> {
    let mut stream = way.connect(ECHO)?;
    let size = 1 + number.wrapping_mul(7919) % 40_000;
    let mut buffer = vec![0; usize::try_from(size)?.next_multiple_of(8)];
    let sent = Content::new(number, size).next(&mut buffer).to_vec();
    stream.write_all(&sent)?;
    stream.shutdown(Shutdown::Write)?;
    let back = read_some(&stream, sent.len(), BOUND)?;
    ensure!(back == sent, "WRONG: other bytes came back");
    let how = ending(&stream, BOUND)?;
    ensure!(how == Ending::EndOfFile(0), "{}: {how:?} instead of an end behind the answer", way.wrong_ending());
    Ok(())
}

fn bulk(way: &Way, number: u64) -> Result<()> {
    // Few seeds: their digests are remembered.
    let seed = number % 4;
    let stream = way.connect(ECHO)?;
    let received = exchange(&stream, Content::new(seed, BULK))?;
    ensure!(received.bytes >= BULK, "{}: {} bytes of bulk", way.wrong_ending(), received.bytes);
    ensure!(received.bytes == BULK && received.digest == digest_of(seed, BULK), "WRONG: other bulk came back");
    Ok(())
}

/// The client has said all before the server says anything.
fn half_close(way: &Way, number: u64) -> Result<()> {
    let mut stream = way.connect(AFTER_THE_END)?;
    let mut buffer = vec![0; 20_000];
    let sent = Content::new(number, 20_000).next(&mut buffer).to_vec();
    stream.write_all(&sent)?;
    stream.shutdown(Shutdown::Write)?;
    ensure!(read_some(&stream, sent.len(), BOUND)? == sent, "WRONG: other bytes came back");
    let how = ending(&stream, BOUND)?;
    ensure!(how == Ending::EndOfFile(0), "{}: {how:?} instead of an end behind the answer", way.wrong_ending());
    Ok(())
}

fn reset(way: &Way, number: u64) -> Result<()> {
    let mut stream = way.connect(RESET)?;
    stream.write_all(&number.to_be_bytes())?;
    let how = ending(&stream, BOUND)?;
    ensure!(matches!(how, Ending::Reset(_)), "{}: {how:?} instead of a reset", way.wrong_ending());
    Ok(())
}

/// A client that goes without a word, with bytes on their way.
fn aborted(way: &Way, number: u64) -> Result<()> {
    let mut stream = way.connect(ECHO)?;
    let mut buffer = vec![0; 32 * 1024];
    let piece = Content::new(number, 1 << 20).next(&mut buffer).to_vec();
    stream.write_all(&piece)?;
    read_some(&stream, 1, BOUND)?;
    abort(stream)
}

/// Does one kind over and over until the end.
pub(crate) fn keep_doing((name, act): Kind, way: &Way, state: &State) {
    let mut number = 0;
    while state.may_go_on() {
        number += 1;
        state.attempt(&format!("{name}, {}", way.name), || act(way, number));
        adit_tests::wait::pass(PAUSE);
    }
}

/// Holds connections on which next to nothing is said.
pub(crate) fn hold_idle(way: &Way, count: usize, state: &State) {
    const SAY: Duration = Duration::from_secs(10);
    let name = format!("idle, {}", way.name);
    let (mut open, mut said) = (Vec::new(), Instant::now());
    while state.runs() {
        if open.len() < count {
            let before = state.troubles();
            let opened = state.attempt(&name, || {
                let mut stream = way.connect(ECHO)?;
                say(&mut stream).map(|()| stream)
            });
            open.extend(opened.map(|stream| (stream, before)));
        } else if said.elapsed() > SAY {
            said = Instant::now();
            // One that broke under a fault is found broken now.
            open.retain_mut(|(stream, seen)| {
                let before = state.troubles();
                let well = state.attempt_since(*seen, &name, || say(stream)).is_some();
                *seen = before;
                well
            });
        }
        adit_tests::wait::pass(PAUSE);
    }
}

fn say(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"still here")?;
    let mut back = [0; 10];
    stream.read_exact(&mut back).context("an idle connection")?;
    ensure!(&back == b"still here", "WRONG: other bytes came back");
    Ok(())
}
