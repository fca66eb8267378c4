//! A client behind a home router asks a server beyond a slow link, and once more while the two are cut apart.
//!
//! `cargo run --release -p netsim --example cut`, as any user. The programs on the hosts are this program itself.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use netsim::{Conditions, Cut, Launch, Nat, Network, Router, Settings, Tolerance, Topology};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("serve"), _) => serve(),
        (Some("ask"), Some(whom)) => ask(&whom),
        _ => simulate(),
    }
}

fn simulate() -> Outcome {
    let diagnosis = netsim::doctor(); // enters a network of its own, first, while there is one thread
    let backend = diagnosis.backend().ok_or_else(|| diagnosis.to_string())?;
    let mut topology = Topology::new();
    let (client, server) = (topology.host("client"), topology.host("server"));
    let home = topology.router("home", Router::new().nat(Nat::port_restricted()));
    topology.link(client.at("192.168.1.2/24"), home.at("192.168.1.1/24"), Conditions::clean());
    let far = Conditions::clean().delay(Duration::from_millis(25));
    topology.link(home.at("203.0.113.7/24").outside(), server.at("203.0.113.9/24"), far);
    let network = Network::start(&topology, &Settings::default().backend(backend))?;

    let this = std::env::current_exe()?;
    let serving = network.host(server).start(Launch::new(&this).arg("serve"))?;
    if !serving.wait_for("ready", PATIENCE) {
        return Err("the server does not get ready".into());
    }
    let ask = || network.host(client).start(Launch::new(&this).args(["ask", "203.0.113.9:80"]))?.wait(PATIENCE);
    let first = ask()?;
    say("at first", &first);
    let cut = network.cut(&Cut::pair(client, server))?;
    let second = ask()?;
    say("cut apart", &second);
    drop(cut);
    let third = ask()?;
    say("healed", &third);
    say_verdict(&network)?;
    let as_it_should = first.status.success() && !second.status.success() && third.status.success();
    if as_it_should { Ok(()) } else { Err("not as it should be".into()) }
}

#[expect(clippy::print_stdout, reason = "what the example is for")]
fn say(when: &str, ended: &netsim::Ended) {
    println!("{when}: {}", String::from_utf8_lossy(&ended.stdout).trim());
}

#[expect(clippy::print_stdout, reason = "what the example is for")]
fn say_verdict(network: &Network) -> Outcome {
    println!("the run was {:?}", network.report(Tolerance::default())?.verdict);
    Ok(())
}

/// The program on the server.
#[expect(clippy::print_stdout, reason = "the simulator waits for it")]
fn serve() -> Outcome {
    let listener = TcpListener::bind("0.0.0.0:80")?;
    println!("ready");
    for stream in listener.incoming() {
        let mut stream = stream?;
        let peer = stream.peer_addr()?;
        write!(stream, "hello, {peer}")?;
    }
    Ok(())
}

/// The program on the client.
#[expect(clippy::print_stdout, reason = "the simulator reads it")]
fn ask(whom: &str) -> Outcome {
    let start = Instant::now();
    let stream = TcpStream::connect_timeout(&whom.parse()?, Duration::from_millis(500));
    let Ok(mut stream) = stream else {
        println!("no answer for half a second");
        return Err("no answer".into());
    };
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    println!("{text:?} after {:.0?}", start.elapsed());
    Ok(())
}
