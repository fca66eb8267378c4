//! How long headers of frames take to write and to read: `cargo bench -p adit --bench frames`.
#![expect(clippy::print_stdout, reason = "a benchmark's figures are its output")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use agent::transport::frame::{Kind, MAX_DATA, Parser, header};

/// How long one figure is measured, five times.
const MEASURED: Duration = Duration::from_millis(40);

/// Nanoseconds of one round of `work`, which handles so many frames; the best of five.
fn nanos(frames: usize, mut work: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let (start, mut done) = (Instant::now(), 0);
        while start.elapsed() < MEASURED {
            for _ in 0..64 {
                work();
            }
            done += 64 * frames;
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / done as f64);
    }
    best
}

/// What a connection of a few bytes has on its lane, as the acceptor reads it, and what bulk has.
fn streams() -> [(&'static str, Vec<(Kind, usize)>); 3] {
    let short = vec![(Kind::Open, 60), (Kind::Data, 64), (Kind::Fin, 4), (Kind::Done, 4)];
    [
        ("a short connection", short),
        ("bulk, DATA of 16 KiB", vec![(Kind::Data, MAX_DATA); 8]),
        ("PING", vec![(Kind::Ping, 8); 8]),
    ]
}

fn main() {
    println!("ns for each frame: its header written, and the frame read");
    for (name, frames) in streams() {
        let written = nanos(frames.len(), || {
            for (kind, length) in &frames {
                black_box(header(black_box(*kind), black_box(*length)));
            }
        });
        let mut bytes = Vec::new();
        for (kind, length) in &frames {
            bytes.extend(header(*kind, *length));
            bytes.resize(bytes.len() + length, 7);
        }
        let mut parser = Parser::new();
        let read = nanos(frames.len(), || {
            let mut input = black_box(&bytes[..]);
            let mut items = 0;
            while let Some(item) = parser.next(&mut input).expect("they are well formed") {
                black_box(item);
                items += 1;
            }
            assert!(items == frames.len() && parser.at_border(), "{items} of {name}");
        });
        println!("{name:<22} header {written:>6.2}   read {read:>7.2}");
    }
}
