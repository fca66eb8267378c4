//! What those who are connected see of a change.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use adit_tests::changes::all_have;
use adit_tests::load::Server;
use adit_tests::load::process::say;
use adit_tests::mesh::SOON;
use adit_tests::wait::pass;
use adit_tests::{Agent, Mesh, Service};
use anyhow::{Context as _, Result, anyhow};

use crate::share;

const EVERY: Duration = Duration::from_millis(250);
const BEAT: Duration = Duration::from_millis(1);
/// Measurements of each, by turns, so that what else happens on the machine hits both alike.
const ROUNDS: usize = 3;

fn app() -> Service {
    Service::new("app", &["alpha"], &["beta"])
}

fn extra(name: &str) -> Service {
    Service::new(name, &["alpha"], &["beta"])
}

pub(crate) fn gaps(time: Duration) -> Result<()> {
    ["tls", "quic"].into_iter().try_for_each(|transport| gaps_over(transport, time))
}

fn gaps_over(transport: &'static str, time: Duration) -> Result<()> {
    let mesh = Mesh::builder(&["alpha", "beta"]).transport(transport);
    let mesh = mesh.service(app()).service(extra("one")).service(extra("two")).build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let agents = [alpha, beta];
    let mut version = 1;
    for what in ["ping-pong", "bulk"] {
        for round in 1..=ROUNDS {
            for changing in [false, true] {
                let changes = changing.then_some(Changes { version: &mut version, transport });
                let mut seen = during(&mesh, &agents, what, time, changes)?;
                seen.sort_by(f64::total_cmp);
                let [median, late, most] = [share(&seen, 0.5), share(&seen, 0.999), share(&seen, 1.0)];
                let how = if changing { "four changes a second" } else { "no change" };
                let figures = format!("p50 {median:.3} ms, p99.9 {late:.2} ms, longest {most:.2} ms");
                say(&format!("gaps: {what} over {transport}, {how}, round {round}: {figures} ({} seen)", seen.len()));
            }
        }
    }
    Ok(())
}

/// Changes of the mesh file, from the version in force on.
struct Changes<'a> {
    version: &'a mut u64,
    transport: &'static str,
}

/// The pauses, in milliseconds.
fn during(
    mesh: &Mesh,
    agents: &[Agent],
    what: &str,
    time: Duration,
    mut changes: Option<Changes<'_>>,
) -> Result<Vec<f64>> {
    let over = AtomicBool::new(false);
    let target = mesh.target("app", "alpha");
    let _server = match what {
        "bulk" => Server::start(&mesh.place("alpha"), target, flood)?,
        _ => Server::echo(&mesh.place("alpha"), target)?,
    };
    let stream = mesh.reach("app", "beta")?;
    stream.set_read_timeout(Some(SOON))?;
    thread::scope(|scope| {
        let load = scope.spawn(|| if what == "bulk" { bulk(&stream, &over) } else { ping_pong(&stream, &over) });
        let start = Instant::now();
        let mut change = || -> Result<()> {
            while start.elapsed() < time {
                if let Some(Changes { version, transport }) = &mut changes {
                    **version += 1;
                    let some = [extra("one"), extra("two")].into_iter().zip(0..);
                    let some = some.filter(|(_, bit)| **version >> bit & 1 == 1).map(|(service, _)| service);
                    let services: Vec<_> = [app()].into_iter().chain(some).collect();
                    mesh.replace_documents(&mesh.document_of(**version, transport, &[], &services))?;
                    all_have(agents, **version, SOON)?;
                }
                pass(EVERY);
            }
            Ok(())
        };
        let changed = change();
        over.store(true, Relaxed);
        let seen = load.join().map_err(|_| anyhow!("the load panicked"))?;
        changed?;
        seen
    })
}

fn flood(mut stream: TcpStream) {
    let piece = vec![0x5a; 64 << 10];
    // Its reader ends it.
    while stream.write_all(&piece).is_ok() {}
}

/// The time between two reads that bring something.
fn bulk(mut stream: &TcpStream, over: &AtomicBool) -> Result<Vec<f64>> {
    let (mut buffer, mut seen, mut last) = (vec![0; 256 << 10], Vec::new(), Instant::now());
    while !over.load(Relaxed) {
        let read = stream.read(&mut buffer).context("bulk")?;
        anyhow::ensure!(read > 0, "it ends");
        seen.push(last.elapsed().as_secs_f64() * 1e3);
        last = Instant::now();
    }
    Ok(seen)
}

/// Round trips, one each millisecond.
fn ping_pong(mut stream: &TcpStream, over: &AtomicBool) -> Result<Vec<f64>> {
    let (said, mut heard, mut seen) = ([7; 64], [0; 64], Vec::new());
    while !over.load(Relaxed) {
        let start = Instant::now();
        stream.write_all(&said)?;
        stream.read_exact(&mut heard).context("ping-pong")?;
        seen.push(start.elapsed().as_secs_f64() * 1e3);
        pass(BEAT.saturating_sub(start.elapsed()));
    }
    Ok(seen)
}
