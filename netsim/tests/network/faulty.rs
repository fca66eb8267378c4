//! Faults, as sockets meet them.

use std::io::ErrorKind;
use std::time::Instant;

use netsim::{Cut, Tolerance, Verdict};

use super::*;

/// Hosts on a switch; each has a socket to hear the others.
struct Mesh {
    network: Network,
    hosts: Vec<HostId>,
    links: Vec<LinkId>,
    sockets: Vec<UdpSocket>,
}

impl Mesh {
    fn new(backend: Backend, count: usize) -> Result<Self, Failed> {
        let mut topology = Topology::new();
        let lan = topology.switch("lan");
        let hosts: Vec<HostId> = (0..count).map(|n| topology.host(format!("h{n}"))).collect();
        let plugs = hosts.iter().enumerate().map(|(n, host)| host.at(format!("10.1.0.{}/24", n + 1)));
        let links = plugs.collect::<Vec<_>>().into_iter().map(|plug| topology.link(plug, lan, clean())).collect();
        let network = Network::start(&topology, &Settings::default().backend(backend))?;
        let sockets = hosts.iter().map(|host| udp(network.host(*host), network.host(*host).ip(), 4000));
        let sockets = sockets.collect::<Result<_, _>>()?;
        Ok(Self { network, hosts, links, sockets })
    }

    /// Each sends to each, and only those are heard who should be: from, to.
    fn hears(&self, expected: &[(usize, usize)]) -> Outcome {
        for (from, socket) in self.sockets.iter().enumerate() {
            for (_, other) in self.sockets.iter().enumerate().filter(|(to, _)| *to != from) {
                socket.send_to(&[u8::try_from(from)?], other.local_addr()?)?;
            }
        }
        let mut heard = Vec::new();
        for (to, socket) in self.sockets.iter().enumerate() {
            let due = expected.iter().filter(|pair| pair.1 == to).count();
            let mut room = [0; 4];
            for number in 0.. {
                // For what must come as long as it takes, and a little for what must not.
                socket.set_read_timeout(Some(if number < due { PATIENCE } else { SILENCE / 4 }))?;
                match socket.recv_from(&mut room) {
                    Ok(_) => heard.push((usize::from(room[0]), to)),
                    Err(_) => break,
                }
            }
        }
        heard.sort_unstable();
        if heard == expected { Ok(()) } else { Err(format!("{expected:?} expected, {heard:?} heard").into()) }
    }

    fn all(&self) -> Vec<(usize, usize)> {
        let count = self.hosts.len();
        let all = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        all.filter(|(from, to)| from != to).collect()
    }

    fn all_but(&self, cut: &[(usize, usize)]) -> Vec<(usize, usize)> {
        self.all().into_iter().filter(|pair| !cut.contains(pair)).collect()
    }
}

pub(super) fn a_cut_lasts_as_long_as_its_value(backend: Backend) -> Outcome {
    let mesh = Mesh::new(backend, 4)?;
    let h = &mesh.hosts;
    mesh.hears(&mesh.all())?;
    {
        let _halves = mesh.network.cut(&Cut::groups(&[&h[..2], &h[2..]]))?;
        mesh.hears(&[(0, 1), (1, 0), (2, 3), (3, 2)])?;
        let one_way = mesh.network.cut(&Cut::one_way(h[0], h[1]))?;
        mesh.hears(&[(1, 0), (2, 3), (3, 2)])?;
        one_way.heal()?;
        // The other cut goes on.
        mesh.hears(&[(0, 1), (1, 0), (2, 3), (3, 2)])?;
    }
    let bridge = mesh.network.cut(&Cut::bridge(&h[..1], h[1], &h[2..]))?;
    mesh.hears(&mesh.all_but(&[(0, 2), (2, 0), (0, 3), (3, 0)]))?;
    drop(bridge);
    let alone = mesh.network.cut(&Cut::isolate(h[3], h))?;
    let without_last = mesh.all_but(&[(0, 3), (1, 3), (2, 3), (3, 0), (3, 1), (3, 2)]);
    mesh.hears(&without_last)?;
    drop(alone);
    mesh.hears(&mesh.all())
}

/// What a host's programs read of its interface.
fn read(mesh: &Mesh, host: usize, what: &str) -> Result<u64, Failed> {
    let file = format!("/sys/class/net/eth0/{what}");
    let read = mesh.network.host(mesh.hosts[host]).command("/bin/cat").arg(file).output()?;
    let text = String::from_utf8_lossy(&read.stdout).into_owned();
    text.trim_end().parse().map_err(|_| format!("{text:?}, {}", String::from_utf8_lossy(&read.stderr)).into())
}

fn has_carrier(mesh: &Mesh, host: usize) -> Result<bool, Failed> {
    Ok(read(mesh, host, "carrier")? == 1)
}

fn drops(mesh: &Mesh, host: usize) -> Result<u64, Failed> {
    read(mesh, host, "statistics/tx_dropped")
}

pub(super) fn who_is_unplugged_has_no_carrier(backend: Backend) -> Outcome {
    let mesh = Mesh::new(backend, 3)?;
    until(&mesh, true)?;
    assert!(has_carrier(&mesh, 0)?, "it has one to begin with");
    let unplugged = mesh.network.unplug(mesh.links[0])?;
    assert!(!has_carrier(&mesh, 0)? && has_carrier(&mesh, 1)?, "the one that is unplugged alone has none");
    until(&mesh, false)?;
    // What the host itself could not send is no fault of the wire.
    let (before, start) = (drops(&mesh, 0)?, Instant::now());
    while drops(&mesh, 0)? <= before {
        mesh.sockets[0].send_to(b"x", mesh.sockets[1].local_addr()?)?;
        assert!(start.elapsed() < PATIENCE, "the kernel drops nothing");
    }
    let report = mesh.network.report(Tolerance::default())?;
    assert_eq!(report.drops, 0, "{report:?}");
    let twice = mesh.network.unplug(mesh.links[0])?;
    drop(unplugged);
    assert!(!has_carrier(&mesh, 0)?, "the other fault goes on");
    twice.heal()?;
    assert!(has_carrier(&mesh, 0)?, "it has one again");
    until(&mesh, true)?;
    let report = mesh.network.report(Tolerance::default())?;
    assert_eq!(report.drops, 0, "{report:?}");
    Ok(())
}

pub(super) fn a_rejecting_cut_is_told_at_once(backend: Backend) -> Outcome {
    let mesh = Mesh::new(backend, 2)?;
    let (near, far) = (mesh.network.host(mesh.hosts[0]), mesh.network.host(mesh.hosts[1]));
    let listener = listen(far, far.ip(), 80)?;
    let _cut = mesh.network.cut(&Cut::pair(mesh.hosts[0], mesh.hosts[1]).rejecting())?;
    is(connect(near, listener.local_addr()?, PATIENCE)?, ErrorKind::ConnectionRefused)
}

/// Sends until something arrives, or until nothing does for a while.
fn until(mesh: &Mesh, arrives: bool) -> Outcome {
    let start = Instant::now();
    // What has come before does not count.
    mesh.sockets[1].set_read_timeout(Some(ms(1)))?;
    while mesh.sockets[1].recv(&mut [0; 4]).is_ok() {}
    mesh.sockets[1].set_read_timeout(Some(ms(20)))?;
    let mut silent = 0;
    while start.elapsed() < PATIENCE {
        mesh.sockets[0].send_to(b"x", mesh.sockets[1].local_addr()?)?;
        match mesh.sockets[1].recv(&mut [0; 4]) {
            Ok(_) if arrives => return Ok(()),
            Ok(_) => silent = 0,
            Err(_) => silent += 1,
        }
        if !arrives && silent == 3 {
            return Ok(());
        }
    }
    Err("it never came to that".into())
}

pub(super) fn a_flapping_link_comes_and_goes(backend: Backend) -> Outcome {
    let mesh = Mesh::new(backend, 2)?;
    until(&mesh, true)?;
    // A kernel forgets its neighbours with the carrier, and asks for them again once a second.
    let flaps = mesh.network.flap(mesh.links[0], ms(400), ms(2000))?;
    for arrives in [false, true, false, true] {
        until(&mesh, arrives)?;
    }
    for there in [false, true, false] {
        let start = Instant::now();
        while has_carrier(&mesh, 0)? != there {
            assert!(start.elapsed() < PATIENCE, "the carrier does not come and go");
        }
        assert!(has_carrier(&mesh, 1)?, "the others keep theirs");
    }
    drop(flaps);
    assert!(has_carrier(&mesh, 0)?, "it stays when the fault is over");
    let _flaps = mesh.network.cut(&Cut::pair(mesh.hosts[0], mesh.hosts[1]).flapping(ms(400), ms(400)))?;
    for arrives in [false, true, false] {
        until(&mesh, arrives)?;
    }
    Ok(())
}

pub(super) fn a_host_gets_slow_and_then_dies(backend: Backend) -> Outcome {
    let mesh = Mesh::new(backend, 2)?;
    until(&mesh, true)?;
    let begun = Instant::now();
    let fault = mesh.network.slow_then_dead(mesh.hosts[1], clean().delay(ms(100)), ms(2500))?;
    mesh.sockets[0].send_to(b"x", mesh.sockets[1].local_addr()?)?;
    mesh.sockets[1].set_read_timeout(Some(PATIENCE))?;
    mesh.sockets[1].recv(&mut [0; 4])?;
    assert!(begun.elapsed() >= ms(100), "{:?}", begun.elapsed());
    // The way to the host is that from the switch, which is the second end.
    while mesh.network.counters(mesh.links[1])?[1].down == 0 {
        assert!(begun.elapsed() < PATIENCE);
        mesh.sockets[0].send_to(b"x", mesh.sockets[1].local_addr()?)?;
        std::thread::park_timeout(ms(1));
    }
    assert!(begun.elapsed() >= ms(2500), "{:?}", begun.elapsed());
    until(&mesh, false)?;
    drop(fault);
    until(&mesh, true)?;
    Ok(())
}

pub(super) fn a_degraded_link_is_itself_again_afterwards(backend: Backend) -> Outcome {
    let mesh = Mesh::new(backend, 2)?;
    // Neighbours know one another from here on: only a way, and not the way back, is needed.
    until(&mesh, true)?;
    let before = mesh.network.counters(mesh.links[0])?;
    let lossy = mesh.network.degrade(mesh.links[0], clean().loss(1.0))?;
    mesh.hears(&[])?;
    drop(lossy);
    let one_way = mesh.network.degrade_way(mesh.links[0], true, clean().loss(1.0))?;
    until(&mesh, true)?;
    drop(one_way);
    mesh.hears(&mesh.all())?;
    assert!(mesh.network.counters(mesh.links[0])?[0].lost > before[0].lost);
    Ok(())
}

pub(super) fn a_host_changes_its_address_and_gets_it_back(backend: Backend) -> Outcome {
    let mesh = Mesh::new(backend, 2)?;
    let (near, far) = (mesh.network.host(mesh.hosts[0]), mesh.network.host(mesh.hosts[1]));
    let listener = listen(far, "0.0.0.0".parse()?, 80)?;
    let port = listener.local_addr()?.port();
    connect(near, (far.ip(), port).into(), PATIENCE)??;
    let changed = mesh.network.readdress(mesh.hosts[1], "eth0", &["10.1.0.77/24"])?;
    connect(near, "10.1.0.77:80".parse()?, PATIENCE)??;
    assert!(connect(near, (far.ip(), port).into(), SILENCE)?.is_err());
    drop(changed);
    let start = Instant::now();
    // The neighbour may still be held for missing.
    while connect(near, (far.ip(), port).into(), SILENCE)?.is_err() {
        assert!(start.elapsed() < PATIENCE);
    }
    Ok(())
}

pub(super) fn what_the_wire_cannot_carry_makes_a_run_overloaded(backend: Backend) -> Outcome {
    let mesh = Mesh::new(backend, 2)?;
    until(&mesh, true)?;
    let strict = Tolerance::default();
    let lenient = Tolerance { lateness: PATIENCE, drops: 0 };
    assert_eq!(mesh.network.report(lenient)?.verdict, Verdict::Faithful);
    // Far more than the queue between a host and the wire holds, sent while the wire is kept from reading it.
    let flood = udp(mesh.network.host(mesh.hosts[0]), mesh.network.host(mesh.hosts[0]).ip(), 0)?;
    flood.connect(mesh.sockets[1].local_addr()?)?;
    let held = mesh.network.hold()?;
    for _ in 0..150_000 {
        // A full queue is an error to some senders.
        let _ = flood.send(b"x");
    }
    drop(held);
    let report = mesh.network.report(strict)?;
    assert!(report.verdict == Verdict::Overloaded && report.drops > 0, "{report:?}");
    Ok(())
}
