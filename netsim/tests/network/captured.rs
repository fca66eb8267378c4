//! What captures and counters say of a network.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use netsim::{CaptureLimits, Cut, Nat, Router};

use super::*;

/// A packet of a capture: its interface, nanoseconds, bytes and comment.
#[derive(Debug, Clone, PartialEq)]
struct Packet {
    interface: u32,
    at: u64,
    bytes: Vec<u8>,
    comment: String,
}

impl Packet {
    /// The content of a UDP datagram over IPv4.
    fn datagram(&self) -> Option<&[u8]> {
        (self.bytes.get(12..14)? == [8, 0] && *self.bytes.get(23)? == 17).then(|| self.bytes.get(42..))?
    }

    fn number(&self) -> Option<u32> {
        self.datagram()?.try_into().ok().map(u32::from_be_bytes)
    }
}

/// Of each interface: how many packets came to it, and how many are missing.
type Statistics = Vec<(u64, u64)>;

/// A folder that is gone when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, backend: Backend) -> Result<Self, Failed> {
        let path = std::env::temp_dir().join(format!("netsim-{name}-{backend:?}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What is in a file.
fn read(path: &Path) -> Result<(Vec<Packet>, Statistics), Failed> {
    let file = std::fs::read(path)?;
    let (mut rest, mut packets, mut statistics) = (&*file, Vec::new(), Vec::new());
    while !rest.is_empty() {
        let word = |at: usize| -> Result<u32, Failed> {
            Ok(u32::from_ne_bytes(rest.get(at..at + 4).ok_or("a block is cut short")?.try_into()?))
        };
        let length = word(4)? as usize;
        let block = rest.get(..length).ok_or("a block is cut short")?;
        match word(0)? {
            6 => {
                let kept = word(20)? as usize;
                let options = 28 + kept.next_multiple_of(4);
                let comment = if options + 4 < length {
                    let size = usize::from(u16::from_ne_bytes(block[options + 2..options + 4].try_into()?));
                    String::from_utf8(block[options + 4..options + 4 + size].to_vec())?
                } else {
                    String::new()
                };
                let at = u64::from(word(12)?) << 32 | u64::from(word(16)?);
                packets.push(Packet { interface: word(8)?, at, bytes: block[28..28 + kept].to_vec(), comment });
            }
            5 => {
                let count =
                    |at: usize| -> Result<u64, Failed> { Ok(u64::from_ne_bytes(block[at..at + 8].try_into()?)) };
                statistics.push((count(24)?, count(36)?));
            }
            _ => {}
        }
        rest = &rest[length..];
    }
    Ok((packets, statistics))
}

/// Has two hosts find one another, so that no kernel keeps packets back until it has.
fn meet(pair: &Pair) -> Outcome {
    let (sender, receiver) = (udp(pair.left(), pair.left().ip(), 0)?, udp(pair.right(), pair.right().ip(), 3999)?);
    receiver.set_read_timeout(Some(ms(20)))?;
    let start = Instant::now();
    while receiver.recv(&mut [0; 64]).is_err() && start.elapsed() < PATIENCE {
        sender.send_to(b"hello", receiver.local_addr()?)?;
    }
    Ok(())
}

/// Sends numbers, a datagram for each, and gives those that arrive, once each.
fn send_numbers(pair: &Pair, count: u32, apart: Duration) -> Result<BTreeSet<u32>, Failed> {
    let receiver = udp(pair.right(), pair.right().ip(), 4000)?;
    let sender = udp(pair.left(), pair.left().ip(), 0)?;
    sender.connect(receiver.local_addr()?)?;
    receiver.set_read_timeout(Some(SILENCE))?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // At once, so that none finds the socket's queue full.
        let reader = scope.spawn(|| {
            let (mut got, mut room) = (BTreeSet::new(), [0; 64]);
            loop {
                let over = done.load(Ordering::Relaxed);
                match receiver.recv(&mut room) {
                    Ok(length) => got.extend(room[..length].try_into().map(u32::from_be_bytes)),
                    Err(_) if over => return got,
                    Err(_) => {}
                }
            }
        });
        let start = Instant::now();
        let sent = (0..count).try_for_each(|number| {
            while start.elapsed() < apart * number {
                std::hint::spin_loop();
            }
            sender.send(&number.to_be_bytes()).map(drop)
        });
        done.store(true, Ordering::Relaxed);
        let got = reader.join().map_err(|_| "the reader panicked")?;
        sent?;
        Ok(got)
    })
}

pub(super) fn a_capture_has_every_packet_in_time_with_the_reason_of_each_drop(backend: Backend) -> Outcome {
    let folder = Folder::new("drops", backend)?;
    let pair = Pair::new(backend, clean().delay(ms(2)).loss(0.2).duplicate(0.1))?;
    let path = folder.at("left-right.pcapng");
    meet(&pair)?;
    let since = Instant::now();
    let capture = pair.network.capture([(pair.link, &path)], CaptureLimits::default(), since)?;
    let again = pair.network.capture([(pair.link, folder.at("again.pcapng"))], CaptureLimits::default(), since);
    assert!(again.is_err_and(|error| error.to_string() == "the link from left to right is captured already"));
    let got = send_numbers(&pair, 500, Duration::from_micros(200))?;
    let took = since.elapsed();
    let captured = capture.finish()?;
    let (packets, statistics) = read(&path)?;
    assert_eq!((captured[0].written, captured[0].missing), (packets.len() as u64, 0));
    assert_eq!(statistics.iter().map(|(seen, _)| seen).sum::<u64>(), packets.len() as u64);
    let sent = |comment: &str| -> Vec<&Packet> {
        packets.iter().filter(|p| p.interface == 0 && p.number().is_some() && p.comment == comment).collect()
    };
    let (lost, passed, twice) = (sent("dropped: lost by chance"), sent(""), sent("sent a second time by the link"));
    let numbers = |packets: &[&Packet]| packets.iter().filter_map(|packet| packet.number()).collect::<BTreeSet<_>>();
    assert_eq!(numbers(&passed), got);
    assert_eq!(numbers(&lost), (0..500).filter(|number| !got.contains(number)).collect());
    assert!(lost.len() > 50 && twice.len() > 20, "{} lost, {} sent twice", lost.len(), twice.len());
    assert!(numbers(&twice).is_subset(&got));
    let times: Vec<u64> = packets.iter().filter(|packet| packet.number().is_some()).map(|packet| packet.at).collect();
    assert!(times.is_sorted(), "packets are in another order than their times");
    // Number n was not sent before n pauses were over, however busy the machine is.
    let last = Duration::from_nanos(times[times.len() - 1]);
    assert!(last >= Duration::from_micros(200 * 499) && last < took, "{last:?} of {took:?}");
    // Nothing holds the link any more.
    drop(pair.network.capture([(pair.link, &path)], CaptureLimits::default(), since)?);
    Ok(())
}

/// What a link has decided about datagrams, number by number in the words of a capture; and which arrived.
type Decisions = (Vec<(u32, String)>, BTreeSet<u32>);

/// Of 500 datagrams, one each 200 µs.
fn decisions(backend: Backend, seed: u64) -> Result<Decisions, Failed> {
    let folder = Folder::new(&format!("decisions-{seed}"), backend)?;
    let all = clean().delay(ms(3)).loss(0.1).duplicate(0.05).corrupt(0.02).reorder(0.05, ms(2));
    let pair = Pair::seeded(backend, all, seed)?;
    // From a port of the kernel's choice, which differs between runs, to another port than what follows.
    meet(&pair)?;
    let path = folder.at("left-right.pcapng");
    let capture = pair.network.capture([(pair.link, &path)], CaptureLimits::default(), Instant::now())?;
    let got = send_numbers(&pair, 500, Duration::from_micros(200))?;
    capture.finish()?;
    let (packets, _) = read(&path)?;
    // A bit that was turned over may be anywhere, but the length stays.
    let ours = packets.into_iter().filter(|packet| packet.interface == 0 && packet.bytes.len() == 46);
    let decided = ours.map(|packet| {
        let number = packet.bytes.last_chunk().map_or(u32::MAX, |bytes| u32::from_be_bytes(*bytes));
        (number, packet.comment)
    });
    Ok((decided.collect(), got))
}

pub(super) fn the_same_seed_decides_the_same_over_both_backends() -> Outcome {
    let (first, _) = decisions(Backend::Tap, 7)?;
    let how_many = |part: &str| first.iter().filter(|(_, comment)| comment.contains(part)).count();
    for (part, least, most) in
        [("lost by chance", 25, 90), ("sent a second time", 8, 50), ("held back", 8, 50), ("turned over", 2, 30)]
    {
        let count = how_many(part);
        assert!((least..=most).contains(&count), "{count} {part}: {first:?}");
    }
    assert_eq!(first.len(), 500 + how_many("sent a second time"));
    for (backend, told) in [(Backend::Packet, "packet"), (Backend::Tap, "tap"), (Backend::Packet, "packet")] {
        let (again, got) = decisions(backend, 7)?;
        for (number, (one, other)) in first.iter().zip(&again).enumerate() {
            assert_eq!(one, other, "packet {number} over {told}");
        }
        assert_eq!(again.len(), first.len(), "over {told}");
        // What was lost on the link does not arrive; a busy machine may lose more behind it, in a socket's queue.
        let lost = first.iter().filter(|(_, comment)| comment.contains("lost by chance")).map(|(number, _)| number);
        assert!(got.len() > 100 && lost.into_iter().all(|number| !got.contains(number)), "over {told}: {got:?}");
    }
    assert_ne!(decisions(Backend::Tap, 8)?.0, first);
    Ok(())
}

pub(super) fn what_is_cut_off_or_filtered_behind_a_link_is_told(backend: Backend) -> Outcome {
    let folder = Folder::new("behind", backend)?;
    let mut topology = Topology::new();
    let (inside, outside) = (topology.host("inside"), topology.host("outside"));
    let home = topology.router("home", Router::new().nat(Nat::port_restricted()));
    let first = topology.link(inside.at("192.168.1.2/24"), home.at("192.168.1.1/24"), clean());
    let second = topology.link(home.at("203.0.113.7/24").outside(), outside.at("203.0.113.9/24"), clean());
    let network = Network::start(&topology, &Settings::default().backend(backend))?;
    let paths = [folder.at("first.pcapng"), folder.at("second.pcapng")];
    let links = [(first, &paths[0]), (second, &paths[1])];
    let capture = network.capture(links, CaptureLimits::default(), Instant::now())?;
    let sender = udp(network.host(inside), "192.168.1.2".parse()?, 1000)?;
    let stranger = udp(network.host(outside), "203.0.113.9".parse()?, 2000)?;
    stranger.send_to(b"from outside", "203.0.113.7:1000")?;
    stranger.set_read_timeout(Some(SILENCE))?;
    let cut = network.cut(&Cut::pair(inside, outside))?;
    sender.send_to(b"into the cut", "203.0.113.9:2000")?;
    assert!(stranger.recv_from(&mut [0; 64]).is_err());
    drop(cut);
    sender.send_to(b"after it", "203.0.113.9:2000")?;
    stranger.set_read_timeout(Some(PATIENCE))?;
    stranger.recv_from(&mut [0; 64])?;
    capture.finish()?;
    let told = |path: &Path| -> Result<Vec<(u32, String, String)>, Failed> {
        let (packets, _) = read(path)?;
        let all = packets.iter().filter_map(|packet| {
            let text = String::from_utf8_lossy(packet.datagram()?).into_owned();
            Some((packet.interface, text, packet.comment.clone()))
        });
        Ok(all.collect())
    };
    let entry = |interface: u32, text: &str, comment: &str| (interface, text.to_owned(), comment.to_owned());
    assert_eq!(told(&paths[0])?, [entry(0, "into the cut", ""), entry(0, "after it", "")]);
    let filtered = "dropped behind the link: NAT or firewall of the router let it not pass";
    let cut = "dropped behind the link: its sender is cut off from this host";
    let expected = [
        entry(1, "from outside", ""),
        entry(3, "from outside", filtered),
        entry(0, "into the cut", ""),
        entry(2, "into the cut", cut),
        entry(0, "after it", ""),
    ];
    assert_eq!(told(&paths[1])?, expected);
    Ok(())
}

pub(super) fn counters_tell_what_a_link_carries_and_drops(backend: Backend) -> Outcome {
    // Clean, so that super-packets cross it: they count as the packets that they stand for.
    let pair = Pair::new(backend, clean())?;
    transfer(pair.left(), pair.right(), 4 << 20)?;
    let [there, back] = pair.network.counters(pair.link)?;
    let packets = (4 << 20) / 1448;
    assert!(there.offered >= packets && there.offered < packets * 3 / 2, "{there:?}");
    assert!(there.bytes >= (4 << 20) + packets * 66 && there.bytes < (4 << 20) * 5 / 4, "{there:?}");
    assert!(back.bytes < there.bytes / 10, "{back:?}");
    assert_eq!(there.dropped(), 0);
    // Not unplugged: who has no carrier sends nothing.
    let dead = pair.network.slow_then_dead(pair.right, clean(), Duration::ZERO)?;
    udp(pair.left(), pair.left().ip(), 0)?.send_to(b"into nothing", (pair.right().ip(), 9))?;
    let start = Instant::now();
    while pair.network.counters(pair.link)?[0].down == 0 {
        assert!(start.elapsed() < PATIENCE, "nothing was counted");
        std::thread::yield_now();
    }
    drop(dead);
    assert_eq!(pair.network.all_counters()?, [pair.network.counters(pair.link)?]);
    let cut = pair.network.cut(&Cut::pair(pair.left, pair.right))?;
    udp(pair.left(), pair.left().ip(), 0)?.send_to(b"into a cut", (pair.right().ip(), 9))?;
    while pair.network.counters(pair.link)?[0].cut == 0 {
        assert!(start.elapsed() < PATIENCE, "nothing was counted");
        std::thread::yield_now();
    }
    drop(cut);
    Ok(())
}

/// Where tshark is.
pub(super) fn tshark() -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join("tshark")).find(|path| path.is_file())
}

pub(super) fn tshark_reads_what_a_capture_says() -> Outcome {
    let folder = Folder::new("tshark", Backend::Packet)?;
    let pair = Pair::new(Backend::Packet, clean().loss(0.2).rate(100_000_000, 1 << 20))?;
    let path = folder.at("left-right.pcapng");
    meet(&pair)?;
    let capture = pair.network.capture([(pair.link, &path)], CaptureLimits::default(), Instant::now())?;
    send_numbers(&pair, 100, Duration::from_micros(200))?;
    // Super-packets, too: the way is clean now.
    pair.network.set_conditions(pair.link, clean())?;
    transfer(pair.left(), pair.right(), 1 << 20)?;
    capture.finish()?;
    let (packets, _) = read(&path)?;
    let mut command = Command::new(tshark().ok_or("no tshark")?);
    command.env("HOME", &folder.0).arg("-n").arg("-r").arg(&path).args(["-T", "fields", "-E", "separator=|"]);
    // An error quotes a datagram: late ones of the first meeting find no socket any more.
    command.args(["-Y", "!icmp"]);
    for field in ["frame.interface_name", "frame.time_epoch", "frame.cap_len", "frame.comment", "udp.payload"] {
        command.args(["-e", field]);
    }
    let output = command.output()?;
    let told = String::from_utf8(output.stdout)?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || said.contains("cut short") || said.contains("damaged") {
        return Err(format!("tshark: {}: {said}", output.status).into());
    }
    let names = ["left > right", "right > left", "at right", "at left"];
    let expected: Vec<String> = packets
        .iter()
        .filter(|packet| packet.bytes.get(12..14) != Some(&[8, 0]) || packet.bytes.get(23) != Some(&1))
        .map(|packet| {
            let (seconds, nanoseconds) = (packet.at / 1_000_000_000, packet.at % 1_000_000_000);
            let payload = packet.datagram().unwrap_or_default().iter().map(|byte| format!("{byte:02x}"));
            let name = names[packet.interface as usize];
            let (length, comment) = (packet.bytes.len(), &packet.comment);
            format!("{name}|{seconds}.{nanoseconds:09}|{length}|{comment}|{}", payload.collect::<String>())
        })
        .collect();
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(told.len(), expected.len());
    for (told, expected) in told.iter().zip(&expected) {
        assert_eq!(told, expected);
    }
    assert!(told.iter().filter(|line| line.contains("lost by chance")).count() > 5);
    assert!(packets.iter().any(|packet| packet.bytes.len() > 2000), "no super-packet was captured");
    Ok(())
}
