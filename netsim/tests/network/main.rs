//! What programs and sockets meet in a simulated network, over both backends.

mod impaired;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use netsim::{Backend, Cable, Conditions, Host, HostId, LinkId, Network, Settings, Topology};

type Outcome = Result<(), Failed>;
type Test = (&'static str, fn(Backend) -> Outcome);

/// Long enough for any answer on a machine under load.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for what would come on an idle machine, short enough to wait for what must not.
const SILENCE: Duration = Duration::from_millis(400);

/// Makes tests of functions: the function's name is the test's.
macro_rules! tests {
    ($($module:ident: $($name:ident),+;)+) => { [$($((stringify!($name), $module::$name as fn(Backend) -> Outcome)),+),+] };
}

#[expect(clippy::print_stderr, reason = "a test that cannot run here says so")]
fn main() -> ExitCode {
    let entered = netsim::enter();
    let mut arguments = Arguments::from_args();
    // Most of them wait most of the time; but each has a thread that must run in time.
    arguments.test_threads.get_or_insert(2);
    if let Err(reason) = &entered {
        eprintln!("SKIPPED: every test of simulated networks: {reason}");
    }
    let tap = std::fs::File::open("/dev/net/tun").is_ok();
    if entered.is_ok() && !tap {
        eprintln!("SKIPPED: every test over TAP devices: /dev/net/tun cannot be opened");
    }
    let tests: Vec<Test> = tests! {
        impaired: a_ping_takes_the_delay_there_and_back, tcp_brings_everything_through_delay_and_loss;
    }
    .to_vec();
    let mut trials = Vec::new();
    for (backend, name, works) in [(Backend::Tap, "tap", tap), (Backend::Packet, "packet", true)] {
        let all = tests.iter().map(|&(test, run)| {
            Trial::test(format!("{name}::{test}"), move || run(backend)).with_ignored_flag(entered.is_err() || !works)
        });
        trials.extend(all);
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Two hosts and a link between them.
struct Pair {
    network: Network,
    left: HostId,
    right: HostId,
    link: LinkId,
}

impl Pair {
    fn new(backend: Backend, cable: impl Into<Cable>) -> Result<Self, Failed> {
        Self::seeded(backend, cable, 1)
    }

    fn seeded(backend: Backend, cable: impl Into<Cable>, seed: u64) -> Result<Self, Failed> {
        let mut topology = Topology::new();
        let (left, right) = (topology.host("left"), topology.host("right"));
        let link =
            topology.link(left.at("10.1.0.1/24").and("fd00::1/64"), right.at("10.1.0.2/24").and("fd00::2/64"), cable);
        let network = Network::start(&topology, &Settings::default().backend(backend).seed(seed))?;
        Ok(Self { network, left, right, link })
    }

    fn left(&self) -> &Host {
        self.network.host(self.left)
    }

    fn right(&self) -> &Host {
        self.network.host(self.right)
    }
}

fn clean() -> Conditions {
    Conditions::clean()
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn udp(at: &Host, ip: IpAddr, port: u16) -> Result<UdpSocket, Failed> {
    let socket = at.run(|| UdpSocket::bind((ip, port)))??;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn listen(at: &Host, ip: IpAddr, port: u16) -> Result<TcpListener, Failed> {
    Ok(at.run(|| TcpListener::bind((ip, port)))??)
}

fn connect(from: &Host, to: SocketAddr, most: Duration) -> Result<std::io::Result<TcpStream>, Failed> {
    Ok(from.run(|| TcpStream::connect_timeout(&to, most))?)
}

/// Sends `length` bytes over TCP from one host to another, and checks that they arrive.
fn transfer(from: &Host, to: &Host, length: usize) -> Outcome {
    let listener = listen(to, to.ip(), 5001)?;
    let content: Vec<u8> = (0..length).map(|n| (n * 31 % 251) as u8).collect();
    let mut sender = connect(from, listener.local_addr()?, PATIENCE)??;
    let (mut receiver, _) = listener.accept()?;
    receiver.set_read_timeout(Some(PATIENCE))?;
    let sent = content.clone();
    let writer = std::thread::spawn(move || sender.write_all(&sent));
    let mut got = Vec::new();
    receiver.read_to_end(&mut got)?;
    writer.join().map_err(|_| "the writer panicked")??;
    if got == content { Ok(()) } else { Err(format!("{} of {length} bytes, or others", got.len()).into()) }
}
