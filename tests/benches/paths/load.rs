//! The load: a server that does what a connection's first byte asks for, and the clients that measure.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use adit_tests::Place;
use adit_tests::load::Server;
use adit_tests::load::process::say;
use adit_tests::wait::pass;
use anyhow::{Context as _, Result, bail};

/// First byte: send as fast as you can.
const SOURCE: u8 = b'S';
/// First byte: send back what comes, this byte included.
pub(crate) const ECHO: u8 = b'E';
const WARM_UP: Duration = Duration::from_millis(700);
const PIECE: usize = 256 * 1024;

/// Runs one kind of load: `serve ADDRESS`, `relay FROM TO`, or `KIND ADDRESS NUMBER SECONDS`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["serve", address] = words[..] {
        let _server = Server::start(&Place::Here, address.parse()?, serve)?;
        say("listening");
        loop {
            thread::park();
        }
    }
    if let ["relay", from, to] = words[..] {
        let to = to.parse()?;
        let _server = Server::start(&Place::Here, from.parse()?, move |stream| relay(&stream, to))?;
        say("listening");
        loop {
            thread::park();
        }
    }
    let [kind, address, number, seconds] = words[..] else { bail!("a strange load: {words:?}") };
    let (address, number, seconds) = (address.parse()?, number.parse()?, Duration::from_secs(seconds.parse()?));
    match kind {
        "bulk" => bulk(address, number, seconds),
        "connections" => connections(address, number, seconds),
        "latency" => latency(address, seconds),
        "idle" => idle(address, number),
        _ => bail!("a strange load: {kind}"),
    }
}

/// Passes on what comes, each way in a thread.
fn relay(stream: &TcpStream, to: SocketAddr) {
    let _ = stream.set_nodelay(true);
    let Ok(far) = TcpStream::connect(to) else { return };
    let _ = far.set_nodelay(true);
    thread::scope(|scope| {
        scope.spawn(|| pass_on(stream, &far));
        pass_on(&far, stream);
    });
}

/// Ends with whichever of the two ends, and ends the other.
fn pass_on(mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

fn serve(mut stream: TcpStream) {
    let mut wish = [0];
    let _ = stream.set_nodelay(true);
    if stream.read_exact(&mut wish).is_err() {
        return;
    }
    if wish == [SOURCE] {
        let piece = vec![0x5a; PIECE];
        while stream.write_all(&piece).is_ok() {}
        return;
    }
    let mut buffer = [0; 4096];
    let mut length = 1;
    buffer[0] = wish[0];
    // Ends when the client has gone, in whichever way.
    while stream.write_all(&buffer[..length]).is_ok() {
        match stream.read(&mut buffer) {
            Ok(n @ 1..) => length = n,
            _ => return,
        }
    }
}

fn connect(address: SocketAddr, wish: u8) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.write_all(&[wish])?;
    Ok(stream)
}

/// Receives on `number` connections; says the bytes and the seconds.
fn bulk(address: SocketAddr, number: u32, time: Duration) -> Result<()> {
    let received = &AtomicU64::new(0);
    let streams = (0..number).map(|_| connect(address, SOURCE)).collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        for mut stream in &streams {
            scope.spawn(move || {
                let mut buffer = vec![0; PIECE];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    received.fetch_add(n as u64, Ordering::Relaxed);
                }
            });
        }
        pass(WARM_UP);
        let (start, before) = (Instant::now(), received.load(Ordering::Relaxed));
        say("start");
        pass(time);
        let (bytes, seconds) = (received.load(Ordering::Relaxed) - before, start.elapsed().as_secs_f64());
        say(&format!("{bytes} {seconds}"));
        for stream in &streams {
            stream.shutdown(std::net::Shutdown::Both)?;
        }
        Ok(())
    })
}

/// Connects, gets one byte back and closes, in `number` closed loops; says how many and the seconds.
fn connections(address: SocketAddr, number: u32, time: Duration) -> Result<()> {
    let (done, stop) = (&AtomicU64::new(0), &AtomicBool::new(false));
    thread::scope(|scope| {
        let loops: Vec<_> = (0..number)
            .map(|_| {
                scope.spawn(move || -> Result<()> {
                    while !stop.load(Ordering::Relaxed) {
                        connect(address, ECHO)?.read_exact(&mut [0])?;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        pass(WARM_UP);
        let (start, before) = (Instant::now(), done.load(Ordering::Relaxed));
        say("start");
        pass(time);
        let (count, seconds) = (done.load(Ordering::Relaxed) - before, start.elapsed().as_secs_f64());
        stop.store(true, Ordering::Relaxed);
        for each in loops {
            // A loop that broke off would make the figure wrong.
            each.join().unwrap_or_else(|_| bail!("a loop panicked"))?;
        }
        say(&format!("{count} {seconds}"));
        Ok(())
    })
}

/// 64 bytes there and back; says the median and the 99th percentile in microseconds.
fn latency(address: SocketAddr, time: Duration) -> Result<()> {
    let mut stream = connect(address, ECHO)?;
    stream.read_exact(&mut [0])?;
    let (mut buffer, mut times, start) = ([7; 64], Vec::new(), Instant::now());
    while start.elapsed() < time {
        let sent = Instant::now();
        stream.write_all(&buffer)?;
        stream.read_exact(&mut buffer)?;
        times.push(sent.elapsed());
    }
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).map_or(f64::NAN, |t| t.as_secs_f64() * 1e6);
    say(&format!("{} {}", at(50), at(99)));
    Ok(())
}

/// Holds `number` connections, each proven to be open by a byte that came back, until it is killed.
fn idle(address: SocketAddr, number: u32) -> Result<()> {
    adit_tests::suite::raise_descriptors();
    let one = |_| {
        let mut stream = connect(address, ECHO)?;
        stream.read_exact(&mut [0])?;
        Ok(stream)
    };
    let _open = (0..number).map(one).collect::<Result<Vec<_>>>()?;
    // What setting them up took is given back within a moment or not at all.
    pass(Duration::from_secs(1));
    say("open");
    loop {
        thread::park();
    }
}
