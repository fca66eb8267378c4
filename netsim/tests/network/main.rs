//! What programs and sockets meet in a simulated network, over both backends.

mod captured;
#[path = "../../examples/cut.rs"]
mod example;
mod faulty;
mod impaired;
mod programs;
mod routed;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use netsim::{Backend, Cable, Conditions, Host, HostId, LinkId, Network, Settings, Topology};

type Outcome = Result<(), Failed>;
/// A test that is not about one backend.
type Alone = fn() -> Outcome;
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
    if let Some(told) = programs::told_to_end() {
        return if programs::end(&told).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if std::env::var_os(programs::EXAMPLE).is_some() {
        return match example::main() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let diagnosis = netsim::doctor();
    let entered = &diagnosis.entered;
    let mut arguments = Arguments::from_args();
    // Most of them wait most of the time; but each has a thread that must run in time.
    arguments.test_threads.get_or_insert(2);
    if let Err(reason) = entered {
        eprintln!("SKIPPED: every test of simulated networks: {reason}");
    }
    let tap = std::fs::File::open("/dev/net/tun").is_ok();
    if entered.is_ok() && !tap {
        eprintln!("SKIPPED: every test over TAP devices: /dev/net/tun cannot be opened");
    }
    let tests: Vec<Test> = tests! {
        impaired:
            a_ping_takes_the_delay_there_and_back, tcp_brings_everything_through_delay_and_loss,
            tcp_survives_everything_that_a_link_can_do, super_packets_cross_links_that_do_not_judge_single_packets,
            a_rate_is_kept, what_is_too_long_for_a_black_hole_vanishes,
            blocked_traffic_is_dropped_or_refused_and_the_rest_passes;
        routed:
            hosts_on_switches_reach_one_another, packets_find_their_way_through_routers,
            a_host_has_an_interface_in_each_of_its_networks, each_kind_of_nat_behaves_as_it_should,
            hosts_behind_a_nat_meet_by_their_outside_addresses_if_it_hairpins,
            a_mapping_ends_after_its_time_and_by_rebinding, a_carrier_translates_behind_a_home_nat,
            long_datagrams_cross_narrow_links_and_a_nat_in_pieces,
            a_firewall_lets_out_and_keeps_out;
        faulty:
            a_cut_lasts_as_long_as_its_value, who_is_unplugged_has_no_carrier, a_rejecting_cut_is_told_at_once, a_flapping_link_comes_and_goes,
            a_host_gets_slow_and_then_dies, a_degraded_link_is_itself_again_afterwards,
            a_host_changes_its_address_and_gets_it_back, what_the_wire_cannot_carry_makes_a_run_overloaded;
        captured:
            a_capture_has_every_packet_in_time_with_the_reason_of_each_drop,
            what_is_cut_off_or_filtered_behind_a_link_is_told, counters_tell_what_a_link_carries_and_drops;
        programs:
            a_program_sees_its_own_names_resolvers_interfaces_environment_and_directory,
            a_program_can_be_paused_crashed_and_started_again, nothing_stays_behind_however_the_simulator_ends;
    }
    .to_vec();
    let mut trials = Vec::new();
    for (backend, name, works) in [(Backend::Tap, "tap", tap), (Backend::Packet, "packet", true)] {
        let all = tests.iter().map(|&(test, run)| {
            Trial::test(format!("{name}::{test}"), move || run(backend)).with_ignored_flag(entered.is_err() || !works)
        });
        trials.extend(all);
    }
    let tshark = captured::tshark().is_some();
    if !tshark {
        eprintln!("SKIPPED: captures as tshark reads them: there is no tshark (Debian: apt-get install tshark)");
    }
    let alone: [(&str, Alone, bool); 3] = [
        ("tshark_reads_what_a_capture_says", captured::tshark_reads_what_a_capture_says, tshark),
        (
            "the_same_seed_decides_the_same_over_both_backends",
            captured::the_same_seed_decides_the_same_over_both_backends,
            tap,
        ),
        (
            "an_ordinary_user_runs_the_example_without_path",
            programs::an_ordinary_user_runs_the_example_without_path,
            true,
        ),
    ];
    let alone = alone.map(|(name, run, works)| Trial::test(name, run).with_ignored_flag(entered.is_err() || !works));
    trials.extend(alone);
    let (told, ignored) = (diagnosis.to_string(), entered.is_err());
    let works = diagnosis.backend() == Some(if tap { Backend::Tap } else { Backend::Packet });
    let doctor = Trial::test("the_doctor_finds_what_works", move || if works { Ok(()) } else { Err(told.into()) });
    trials.push(doctor.with_ignored_flag(ignored));
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

fn is(result: std::io::Result<impl Sized>, kind: std::io::ErrorKind) -> Outcome {
    match result {
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => Err(format!("{kind} expected, got {error}").into()),
        Ok(_) => Err(format!("{kind} expected, but it worked").into()),
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

/// Asks again where the kernel has closed the socket and has no error to tell by the time that it is looked for.
fn connect(from: &Host, to: SocketAddr, most: Duration) -> Result<std::io::Result<TcpStream>, Failed> {
    for _ in 0..2 {
        match from.run(|| TcpStream::connect_timeout(&to, most))? {
            Err(error) if error.raw_os_error().is_none() && error.kind() != std::io::ErrorKind::TimedOut => {}
            outcome => return Ok(outcome),
        }
    }
    Ok(from.run(|| TcpStream::connect_timeout(&to, most))?)
}

/// Sends `length` bytes over TCP from one host to another, and checks that they arrive.
fn transfer(from: &Host, to: &Host, length: usize) -> Outcome {
    let listener = listen(to, to.ip(), 5001)?;
    let content: Vec<u8> = (0..=250).cycle().step_by(31).take(length).collect();
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
