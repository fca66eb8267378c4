//! How much a core seals and opens: `cargo bench -p adit --bench record`.
#![expect(clippy::print_stdout, reason = "a benchmark's figures are its output")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use agent::transport::record::{HEADER, Limits, Received, Records, Secret, Side, Suite, TRAILER};

/// How long one figure is measured.
const MEASURED: Duration = Duration::from_millis(200);

fn ends(suite: Suite) -> (Records, Records) {
    let len = if suite == Suite::Aes256Gcm { 48 } else { 32 };
    let end = |side| {
        let secret = |byte| Secret::new(suite, &vec![byte; len]).expect("its length is right");
        Records::new(suite, side, secret(1), secret(2), Limits::default()).expect("keys can be made")
    };
    (end(Side::Client), end(Side::Server))
}

/// GB/s of content through `work`, which passes `batch` records of `len` bytes each time; the best of five.
fn rate(len: usize, batch: usize, mut work: impl FnMut()) -> f64 {
    let mut best: f64 = 0.0;
    for _ in 0..5 {
        let (start, mut records) = (Instant::now(), 0);
        while start.elapsed() < MEASURED / 5 {
            work();
            records += batch;
        }
        best = best.max((records * len) as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    best
}

/// Seals `batch` records at their places in `buffer`.
fn seal(records: &mut Records, buffer: &mut [u8], len: usize, control: &mut Vec<u8>) {
    for record in buffer.chunks_mut(HEADER + len + TRAILER) {
        if records.has_control() {
            records.poll_control(control).expect("it can be sealed");
        }
        records.seal(record, len).expect("it can be sealed");
    }
}

fn main() {
    println!("GB/s of content, one thread; seal, seal and open");
    for suite in Suite::ALL {
        for len in [64, 1400, 16_384] {
            // About what is sealed at a time for one socket.
            let batch = (128 * 1024 / len).clamp(4, 64);
            let mut buffer = vec![7; batch * (HEADER + len + TRAILER)];
            let mut control = Vec::new();
            let (mut client, _) = ends(suite);
            let sealed = rate(len, batch, || seal(&mut client, &mut buffer, len, &mut control));
            let (mut client, mut server) = ends(suite);
            let both = rate(len, batch, || {
                control.clear();
                seal(&mut client, &mut buffer, len, &mut control);
                assert!(control.is_empty(), "no key update is due within a measurement");
                for record in buffer.chunks_mut(HEADER + len + TRAILER) {
                    let got = server.open(record).expect("it was sealed");
                    assert!(matches!(black_box(got), Received::Data(_)));
                }
            });
            println!("{:<20} {len:>6} B   seal {sealed:>6.2}   seal + open {both:>6.2}", format!("{suite:?}"));
        }
    }
}
