//! What the simulated network does, seen by ordinary sockets in it.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use netsim::{Answer, Block, End, Error, Namespace, Switch, Traffic, veth};

type Outcome = Result<(), Failed>;
type Test = (&'static str, fn() -> Outcome);

const LEFT: &str = "10.1.0.1";
const RIGHT: &str = "10.1.0.2";
/// Long enough for any answer on a machine under load, short enough to wait for when none must come.
const SILENCE: Duration = Duration::from_millis(400);

#[expect(clippy::print_stderr, reason = "a test that cannot run here says so")]
fn main() -> ExitCode {
    let entered = netsim::enter();
    let arguments = Arguments::from_args();
    if let Err(reason) = &entered {
        eprintln!("SKIPPED: every test of netsim: {reason}");
    }
    let tests: [Test; 12] = [
        ("a_byte_crosses_a_cable_over_ipv4_and_ipv6", a_byte_crosses_a_cable_over_ipv4_and_ipv6),
        ("a_command_runs_on_its_host", a_command_runs_on_its_host),
        ("a_command_dies_with_the_thread_that_started_it", a_command_dies_with_the_thread_that_started_it),
        ("blocked_tcp_vanishes_and_udp_passes", blocked_tcp_vanishes_and_udp_passes),
        ("rejected_tcp_is_refused_at_once", rejected_tcp_is_refused_at_once),
        ("blocked_udp_vanishes_and_tcp_passes", blocked_udp_vanishes_and_tcp_passes),
        ("rejected_udp_is_answered_by_icmp", rejected_udp_is_answered_by_icmp),
        ("a_one_way_cut_lets_the_other_way_pass", a_one_way_cut_lets_the_other_way_pass),
        ("a_pulled_plug_is_silent_and_heals", a_pulled_plug_is_silent_and_heals),
        ("two_of_three_hosts_on_a_switch_can_be_cut_apart", two_of_three_hosts_on_a_switch_can_be_cut_apart),
        ("settings_belong_to_one_host", settings_belong_to_one_host),
        ("bad_names_and_addresses_are_told", bad_names_and_addresses_are_told),
    ];
    let ignored = entered.is_err();
    let trials = tests.into_iter().map(|(name, test)| Trial::test(name, test).with_ignored_flag(ignored));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn pair() -> Result<(Namespace, Namespace), Error> {
    let (left, right) = (Namespace::new()?, Namespace::new()?);
    veth(
        End { namespace: &left, interface: "eth0", addresses: &["10.1.0.1/24", "fd00::1/64"] },
        End { namespace: &right, interface: "eth0", addresses: &["10.1.0.2/24", "fd00::2/64"] },
        1500,
    )?;
    Ok((left, right))
}

fn block(traffic: Traffic, answer: Answer) -> Block<'static> {
    Block { interface: "eth0", traffic, from: None, answer }
}

fn listener(at: &Namespace, ip: &str) -> Result<(TcpListener, SocketAddr), Failed> {
    let listener = at.run(|| TcpListener::bind((ip, 0)))??;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn connect(from: &Namespace, to: SocketAddr) -> Result<std::io::Result<TcpStream>, Failed> {
    Ok(from.run(|| TcpStream::connect_timeout(&to, SILENCE))?)
}

fn is(result: std::io::Result<impl Sized>, kind: ErrorKind) -> Outcome {
    match result {
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => Err(format!("{kind} expected, got {error}").into()),
        Ok(_) => Err(format!("{kind} expected, but it worked").into()),
    }
}

/// Sends a datagram and waits for it, or for the sender's error.
fn datagram(from: &Namespace, to: &Namespace, ip: &str) -> Result<std::io::Result<()>, Failed> {
    let receiver = to.run(|| UdpSocket::bind((ip, 0)))??;
    receiver.set_nonblocking(true)?;
    let address = receiver.local_addr()?;
    let sender = from.run(|| UdpSocket::bind((if address.is_ipv4() { "0.0.0.0" } else { "::" }, 0)))??;
    sender.connect(address)?;
    sender.set_read_timeout(Some(Duration::from_millis(5)))?;
    sender.send(b"x")?;
    let mut buffer = [0; 8];
    let start = Instant::now();
    while start.elapsed() < SILENCE {
        if receiver.recv(&mut buffer).is_ok() {
            return Ok(Ok(()));
        }
        // An ICMP answer shows as an error of the sender's socket.
        match sender.recv(&mut buffer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Ok(Err(error)),
            Ok(_) => return Err("nobody answers here".into()),
        }
    }
    Ok(Err(ErrorKind::TimedOut.into()))
}

fn a_byte_crosses_a_cable_over_ipv4_and_ipv6() -> Outcome {
    let (left, right) = pair()?;
    for ip in [RIGHT, "fd00::2"] {
        let (listener, address) = listener(&right, ip)?;
        let mut client = connect(&left, address)??;
        client.write_all(b"x")?;
        let mut byte = [0];
        listener.accept()?.0.read_exact(&mut byte)?;
        assert_eq!(&byte, b"x");
    }
    Ok(())
}

fn a_command_runs_on_its_host() -> Outcome {
    let (left, right) = pair()?;
    let (_, there) = (right, left.command("cat").arg("/proc/net/fib_trie").output()?);
    let table = String::from_utf8_lossy(&there.stdout).into_owned();
    assert!(there.status.success() && table.contains(LEFT), "{table}");
    let outside = std::fs::read_to_string("/proc/net/fib_trie")?;
    assert!(!outside.contains(LEFT), "{outside}");
    Ok(())
}

fn a_command_dies_with_the_thread_that_started_it() -> Outcome {
    let host = Namespace::new()?;
    let child = std::thread::scope(|s| s.spawn(|| host.command("sleep").arg("60").spawn()).join());
    let mut child = child.map_err(|_| "the thread panicked")??;
    let start = Instant::now();
    // A signal ended it: there is no exit code. Should it live on, this waits for its 60 s and fails.
    assert_eq!(child.wait()?.code(), None);
    assert!(start.elapsed() < Duration::from_secs(30));
    Ok(())
}

fn blocked_tcp_vanishes_and_udp_passes() -> Outcome {
    let (left, right) = pair()?;
    let (_listener, address) = listener(&right, RIGHT)?;
    right.block(&[block(Traffic::Tcp, Answer::Silence)])?;
    is(connect(&left, address)?, ErrorKind::TimedOut)?;
    datagram(&left, &right, RIGHT)??;
    datagram(&left, &right, "fd00::2")??;
    let (_own, loopback) = listener_on_loopback(&right)?;
    connect(&right, loopback)??;
    right.block(&[])?;
    connect(&left, address)??;
    Ok(())
}

fn listener_on_loopback(at: &Namespace) -> Result<(TcpListener, SocketAddr), Failed> {
    listener(at, "127.0.0.1")
}

fn rejected_tcp_is_refused_at_once() -> Outcome {
    let (left, right) = pair()?;
    right.block(&[block(Traffic::Tcp, Answer::Rejection)])?;
    for ip in [RIGHT, "fd00::2"] {
        let (_listener, address) = listener(&right, ip)?;
        is(connect(&left, address)?, ErrorKind::ConnectionRefused)?;
    }
    datagram(&left, &right, RIGHT)??;
    Ok(())
}

fn blocked_udp_vanishes_and_tcp_passes() -> Outcome {
    let (left, right) = pair()?;
    let (_listener, address) = listener(&right, RIGHT)?;
    right.block(&[block(Traffic::Udp, Answer::Silence)])?;
    is(datagram(&left, &right, RIGHT)?, ErrorKind::TimedOut)?;
    connect(&left, address)??;
    Ok(())
}

fn rejected_udp_is_answered_by_icmp() -> Outcome {
    let (left, right) = pair()?;
    right.block(&[block(Traffic::Udp, Answer::Rejection)])?;
    is(datagram(&left, &right, RIGHT)?, ErrorKind::ConnectionRefused)?;
    is(datagram(&left, &right, "fd00::2")?, ErrorKind::ConnectionRefused)
}

fn a_one_way_cut_lets_the_other_way_pass() -> Outcome {
    let (left, right) = pair()?;
    right.block(&[block(Traffic::All, Answer::Silence)])?;
    is(datagram(&left, &right, RIGHT)?, ErrorKind::TimedOut)?;
    datagram(&right, &left, LEFT)??;
    Ok(())
}

fn a_pulled_plug_is_silent_and_heals() -> Outcome {
    let (left, right) = (Namespace::new()?, Namespace::new()?);
    let mut switch = Switch::new(1500)?;
    switch.plug(End { namespace: &left, interface: "eth0", addresses: &["10.1.0.1/24"] })?;
    let plug = switch.plug(End { namespace: &right, interface: "eth0", addresses: &["10.1.0.2/24"] })?;
    datagram(&left, &right, RIGHT)??;
    plug.set_up(false)?;
    is(datagram(&left, &right, RIGHT)?, ErrorKind::TimedOut)?;
    is(datagram(&right, &left, LEFT)?, ErrorKind::TimedOut)?;
    plug.set_up(true)?;
    datagram(&left, &right, RIGHT)??;
    Ok(())
}

fn two_of_three_hosts_on_a_switch_can_be_cut_apart() -> Outcome {
    let hosts = [Namespace::new()?, Namespace::new()?, Namespace::new()?];
    let mut switch = Switch::new(1500)?;
    for (host, address) in hosts.iter().zip(["10.1.0.1/24", "10.1.0.2/24", "10.1.0.3/24"]) {
        switch.plug(End { namespace: host, interface: "eth0", addresses: &[address] })?;
    }
    let [first, second, third] = &hosts;
    let from_first = Some(IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1)));
    second.block(&[Block { from: from_first, ..block(Traffic::All, Answer::Silence) }])?;
    is(datagram(first, second, RIGHT)?, ErrorKind::TimedOut)?;
    datagram(third, second, RIGHT)??;
    datagram(first, third, "10.1.0.3")??;
    Ok(())
}

fn settings_belong_to_one_host() -> Outcome {
    let (left, right) = pair()?;
    let key = "net/ipv4/ip_default_ttl";
    left.sysctl(key, "7")?;
    assert_eq!(left.read_sysctl(key)?, "7");
    assert_ne!(right.read_sysctl(key)?, "7");
    assert!(left.sysctl("net/ipv4/no_such_setting", "1").is_err());
    Ok(())
}

fn bad_names_and_addresses_are_told() -> Outcome {
    let (left, right) = (Namespace::new()?, Namespace::new()?);
    let far = End { namespace: &right, interface: "eth0", addresses: &[] };
    for address in ["10.1.0.1", "10.1.0.1/33", "10.1.0/24", ""] {
        let end = End { namespace: &left, interface: "eth0", addresses: &[address] };
        assert!(matches!(veth(end, far, 1500), Err(Error::Address(_))), "{address}");
    }
    for interface in ["", "sixteen-bytes-xx", "a/b"] {
        let end = End { namespace: &left, interface, addresses: &[] };
        assert!(matches!(veth(end, far, 1500), Err(Error::Interface(_))), "{interface}");
    }
    assert!(matches!(left.set_up("none", true), Err(Error::Kernel { .. })));
    Ok(())
}
