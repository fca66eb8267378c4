//! What the wire costs and how exact it is: `cargo bench -p netsim`. Options: `--seconds N` for each flow (2),
//! `--backend tap` or `packet` for one of them alone, `--part flows`, `crowd`, `datagrams`, `trips`, `delays`, `loss`,
//! `rates`, `sizes` or `scenarios` for one part alone, and `--captured` to capture every link of two hosts meanwhile.

mod traffic;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use netsim::scenario::{Options, Scenario, Surroundings};
use netsim::{Backend, Conditions, Host, HostId, Namespace, Network, Settings, Tolerance, Topology};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use traffic::{Bare, datagrams, flow, round_trips, sockets};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Outcome {
    netsim::enter()?;
    // A host takes some descriptors, and there are hundreds.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|arg| arg == name).and_then(|at| arguments.get(at + 1));
    let seconds = option("--seconds").map_or(Ok(2.0), |text| text.parse())?;
    let only = option("--backend").map(String::as_str);
    let part = option("--part").map(String::as_str);
    let captured = arguments.iter().any(|argument| argument == "--captured");
    let wanted = Wanted { lasts: Duration::from_secs_f64(seconds), part, captured };
    for (name, backend) in [("tap", Backend::Tap), ("packet", Backend::Packet)] {
        if only.is_none_or(|only| only == name) {
            say(format_args!("{name}"));
            if let Err(error) = measure(backend, wanted) {
                say(format_args!("  does not work here: {error}"));
            }
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what a benchmark is for")]
fn say(line: std::fmt::Arguments<'_>) {
    println!("{line}");
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    lasts: Duration,
    part: Option<&'a str>,
    captured: bool,
}

impl Wanted<'_> {
    fn part(self, name: &str) -> bool {
        self.part.is_none_or(|part| part == name)
    }
}

/// Measures one thing over one backend.
type Part = fn(Backend, Wanted<'_>) -> Outcome;

fn measure(backend: Backend, wanted: Wanted<'_>) -> Outcome {
    let parts: [(&str, Part); 9] = [
        ("flows", flows),
        ("crowd", crowd),
        ("datagrams", small_datagrams),
        ("trips", trips),
        ("delays", delays),
        ("loss", losses),
        ("rates", rates),
        ("sizes", |backend, _| [5, 20, 100, 500].into_iter().try_for_each(|count| sizes(backend, count))),
        ("scenarios", scenarios),
    ];
    parts.into_iter().filter(|(name, _)| wanted.part(name)).try_for_each(|(_, part)| part(backend, wanted))
}

fn flows(backend: Backend, wanted: Wanted<'_>) -> Outcome {
    for delay in [0, 20] {
        let net = Pair::new(backend, Conditions::clean().delay(Duration::from_millis(delay)), wanted)?;
        net.network.hosts().into_iter().try_for_each(|host| widen(host.namespace()))?;
        let rate = flow(net.left().into(), net.right().into(), wanted.lasts)?;
        let report = net.network.report(Tolerance::default())?;
        let congestion = net.left().congestion_control()?;
        say(format_args!("  one TCP flow at {delay} ms ({congestion}): {rate:.2} Gbit/s, {:?}", report.verdict));
        net.finish()?;
    }
    let bare = Bare::new()?;
    bare.namespaces().iter().try_for_each(widen)?;
    let [left, right] = bare.places();
    let rate = flow(left, right, wanted.lasts)?;
    say(format_args!("  one TCP flow over a bare veth pair, without the wire: {rate:.2} Gbit/s"));
    Ok(())
}

/// Room for a window of 20 ms at 6 Gbit/s.
fn widen(namespace: &Namespace) -> Outcome {
    namespace.sysctl("net/ipv4/tcp_rmem", "4096 131072 67108864")?;
    Ok(namespace.sysctl("net/ipv4/tcp_wmem", "4096 65536 67108864")?)
}

/// Twenty hosts on a switch, every other one of which sends to its neighbour.
fn crowd(backend: Backend, wanted: Wanted<'_>) -> Outcome {
    let (topology, hosts) = star(20);
    let network = Network::start(&topology, &Settings::default().backend(backend))?;
    let rates = std::thread::scope(|scope| {
        let flows: Vec<_> = hosts
            .chunks_exact(2)
            .map(|pair| {
                let [from, to] = [0, 1].map(|end| network.host(pair[end]));
                scope.spawn(|| flow(from.into(), to.into(), wanted.lasts))
            })
            .collect();
        let rates = flows.into_iter().map(|flow| flow.join().map_err(|_| "a flow panicked")?);
        rates.collect::<Outcome<Vec<f64>>>()
    })?;
    let verdict = network.report(Tolerance::default())?.verdict;
    let sum: f64 = rates.iter().sum();
    say(format_args!("  20 hosts, {} TCP flows: {sum:.2} Gbit/s in all, {verdict:?}", rates.len()));
    Ok(())
}

fn small_datagrams(backend: Backend, wanted: Wanted<'_>) -> Outcome {
    let net = Pair::new(backend, Conditions::clean(), wanted)?;
    let (sent, got) = datagrams(net.left().into(), net.right().into(), wanted.lasts)?;
    say(format_args!("  small datagrams: {sent:.0}/s sent, {got:.0}/s arrived"));
    net.finish()
}

fn trips(backend: Backend, wanted: Wanted<'_>) -> Outcome {
    let net = Pair::new(backend, Conditions::clean(), wanted)?;
    let there = round_trips(net.left().into(), net.right().into(), 2000)?;
    let own = round_trips(net.left().into(), net.left().into(), 2000)?;
    say(format_args!(
        "  round trip: p50 {:.1} µs, p99 {:.1} µs; on one host p50 {:.1} µs",
        at(&there, 0.5) * 1e6,
        at(&there, 0.99) * 1e6,
        at(&own, 0.5) * 1e6
    ));
    net.finish()?;
    let bare = Bare::new()?;
    let [left, right] = bare.places();
    let without = round_trips(left, right, 2000)?;
    say(format_args!(
        "  round trip over a bare veth pair, without the wire: p50 {:.1} µs, p99 {:.1} µs",
        at(&without, 0.5) * 1e6,
        at(&without, 0.99) * 1e6
    ));
    say(format_args!("  the wire adds to that: p50 {:.1} µs", (at(&there, 0.5) - at(&without, 0.5)) * 1e6));
    Ok(())
}

fn delays(backend: Backend, wanted: Wanted<'_>) -> Outcome {
    for delay in [1, 20, 100] {
        let net = Pair::new(backend, Conditions::clean().delay(Duration::from_millis(delay)), wanted)?;
        let count = if delay > 50 { 20 } else { 100 };
        let got = round_trips(net.left().into(), net.right().into(), count)?;
        let report = net.network.report(Tolerance::default())?;
        say(format_args!(
            "  {delay} ms asked: p50 {:.3} ms, p99 {:.3} ms (half of a round trip); the wire late by p99 {:?} at most",
            at(&got, 0.5) * 500.0,
            at(&got, 0.99) * 500.0,
            report.late_p99
        ));
    }
    Ok(())
}

fn losses(backend: Backend, wanted: Wanted<'_>) -> Outcome {
    let net = Pair::new(backend, Conditions::clean().loss(0.01), wanted)?;
    let got = lost(&net, 20_000)?;
    say(format_args!("  loss of 1 % asked: {:.2} % got", got * 100.0));
    Ok(())
}

fn rates(backend: Backend, wanted: Wanted<'_>) -> Outcome {
    for megabits in [10, 100, 1000] {
        let net = Pair::new(backend, Conditions::clean().rate(megabits * 1_000_000, 256 << 10), wanted)?;
        let got = flow(net.left().into(), net.right().into(), wanted.lasts)?;
        say(format_args!("  {megabits} Mbit/s asked: {:.1} Mbit/s of content got", got * 1000.0));
    }
    Ok(())
}

/// Two hosts and a link.
struct Pair {
    network: Network,
    hosts: [HostId; 2],
    link: netsim::LinkId,
    capture: Option<(netsim::Capture, std::path::PathBuf)>,
}

impl Pair {
    fn new(backend: Backend, conditions: Conditions, wanted: Wanted<'_>) -> Outcome<Self> {
        let mut topology = Topology::new();
        let hosts = [topology.host("left"), topology.host("right")];
        let link = topology.link(hosts[0].at("10.1.0.1/24"), hosts[1].at("10.1.0.2/24"), conditions);
        let network = Network::start(&topology, &Settings::default().backend(backend))?;
        let capture = if wanted.captured {
            let path = std::env::temp_dir().join(format!("netsim-bench-{}.pcapng", std::process::id()));
            let limits = netsim::CaptureLimits { snap: 96, file: 1 << 30 };
            Some((network.capture([(link, &path)], limits, Instant::now())?, path))
        } else {
            None
        };
        Ok(Self { network, hosts, link, capture })
    }

    /// Says how much was captured, if anything was.
    fn finish(self) -> Outcome {
        if let Some((capture, path)) = self.capture {
            for link in capture.finish()? {
                say(format_args!("    captured {} packets, missed {}", link.written, link.missing));
            }
            std::fs::remove_file(path)?;
        }
        Ok(())
    }

    fn left(&self) -> &Host {
        self.network.host(self.hosts[0])
    }

    fn right(&self) -> &Host {
        self.network.host(self.hosts[1])
    }
}

/// What lies at `share` of a rising list.
fn at(all: &[f64], share: f64) -> f64 {
    let place = (0..all.len()).find(|place| (*place + 1) as f64 >= share * all.len() as f64);
    place.and_then(|place| all.get(place)).copied().unwrap_or_default()
}

/// The share of paced datagrams that the link loses.
fn lost(net: &Pair, count: u32) -> Outcome<f64> {
    let (sender, _receiver) = sockets(net.left().into(), net.right().into())?;
    let start = Instant::now();
    for number in 0..count {
        while start.elapsed() < Duration::from_micros(20) * number {
            std::hint::spin_loop();
        }
        sender.send(&number.to_be_bytes())?;
    }
    loop {
        let [there, _] = net.network.counters(net.link)?;
        if there.offered >= u64::from(count) || start.elapsed() > PATIENCE {
            return Ok(f64::from(u32::try_from(there.lost)?) / f64::from(u32::try_from(there.offered)?));
        }
    }
}

/// So many hosts around a switch.
fn star(count: usize) -> (Topology, Vec<HostId>) {
    let mut topology = Topology::new();
    let lan = topology.switch("lan");
    let hosts: Vec<HostId> = (0..count).map(|number| topology.host(format!("h{number}"))).collect();
    for (number, host) in hosts.iter().enumerate() {
        let (high, low) = (number / 250, number % 250 + 1);
        topology.link(host.at(format!("10.1.{high}.{low}/16")), lan, Conditions::clean());
    }
    (topology, hosts)
}

/// How long it takes to make and to end a network of so many hosts around a switch, and the memory that it takes.
fn sizes(backend: Backend, count: usize) -> Outcome {
    let (topology, _) = star(count);
    let before = available()?;
    let start = Instant::now();
    let network = Network::start(&topology, &Settings::default().backend(backend))?;
    let made = start.elapsed();
    let used = before.saturating_sub(available()?);
    let start = Instant::now();
    drop(network);
    let ended = start.elapsed();
    say(format_args!(
        "  {count} hosts: made in {:.0} ms, ended in {:.0} ms, {:.2} MB each",
        made.as_secs_f64() * 1e3,
        ended.as_secs_f64() * 1e3,
        f64::from(u32::try_from(used)?) / 1024.0 / f64::from(u32::try_from(count)?)
    ));
    Ok(())
}

/// Kilobytes of memory that the machine has left.
fn available() -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable")).ok_or("no MemAvailable")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

/// How many scenarios a minute has room for that wait for nothing but what they do: five hosts, a partition, and who
/// reaches whom meanwhile and afterwards.
fn scenarios(backend: Backend, wanted: Wanted<'_>) -> Outcome {
    let text = "hosts = ['a', 'b', 'c', 'd', 'e']\n[[fault]]\nat = '0s'\nfor = '100ms'\nkind = 'partition'\n\
                groups = [['a', 'b'], ['c', 'd', 'e']]\n[[check]]\nat = '50ms'\nkind = 'reachable'\nfrom = 'a'\n\
                to = 'b'\n[[check]]\nat = '100ms'\nwithin = '5s'\nkind = 'reachable'\n";
    let around = Surroundings { folder: PathBuf::from("/"), programs: std::collections::BTreeMap::new() };
    let scenario = Scenario::parse(text, "bench.toml", &around).map_err(|problems| format!("{problems:?}"))?;
    let stop = AtomicBool::new(false);
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < wanted.lasts * 2 {
        let (seed, backend) = (count.into(), Some(backend));
        let options = Options { seed, schedule: None, backend, repeat: String::new(), captures: None, stop: &stop };
        if !netsim::scenario::run(&scenario, &options, &mut |_| ())?.passed() {
            return Err("a scenario failed".into());
        }
        count += 1;
    }
    let each = start.elapsed() / count;
    say(format_args!(
        "  scenarios of 100 ms, one after the other: {:.0} a minute, {each:.0?} each",
        60.0 / each.as_secs_f64()
    ));
    Ok(())
}
