//! Switches, routers, NAT and firewalls, as sockets meet them.

use std::io::ErrorKind;
use std::net::Ipv4Addr;

use netsim::{Answer, Firewall, Nat, Router, RouterId, Traffic};

use super::*;

pub(super) fn hosts_on_switches_reach_one_another(backend: Backend) -> Outcome {
    let mut topology = Topology::new();
    let switches = [topology.switch("near"), topology.switch("far")];
    topology.link(switches[0], switches[1], clean().delay(ms(1)));
    let hosts: Vec<HostId> = (0..4).map(|n| topology.host(format!("h{n}"))).collect();
    for (n, host) in hosts.iter().enumerate() {
        let plug = host.at(format!("10.1.0.{}/24", n + 1)).and(format!("fd00::{}/64", n + 1));
        topology.link(plug, switches[n % 2], clean());
    }
    let network = Network::start(&topology, &Settings::default().backend(backend))?;
    for from in &hosts {
        for to in &hosts {
            for ip in network.host(*to).addresses() {
                let listener = listen(network.host(*to), ip, 80)?;
                connect(network.host(*from), listener.local_addr()?, PATIENCE)??;
            }
        }
    }
    Ok(())
}

pub(super) fn packets_find_their_way_through_routers(backend: Backend) -> Outcome {
    let mut topology = Topology::new();
    let (left, right) = (topology.host("left"), topology.host("right"));
    let routers = ["a", "b", "c"].map(|name| topology.router(name, Router::new()));
    topology.link(left.at("10.1.0.2/24").and("fd01::2/64"), routers[0].at("10.1.0.1/24").and("fd01::1/64"), clean());
    for (n, pair) in routers.windows(2).enumerate() {
        let at = |end| [format!("10.9.{n}.{end}/30"), format!("fd09:{n}::{end}/64")];
        let ([a, b], [c, d]) = (at(1), at(2));
        // A narrow place in the middle: routers tell, and TCP sends shorter segments.
        topology.link(pair[0].at(a).and(b), pair[1].at(c).and(d), Cable::both(clean()).mtu([1400, 1300][n]));
    }
    topology.link(routers[2].at("10.3.0.1/24").and("fd03::1/64"), right.at("10.3.0.2/24").and("fd03::2/64"), clean());
    let network = Network::start(&topology, &Settings::default().backend(backend))?;
    let (left, right) = (network.host(left), network.host(right));
    transfer(left, right, 1 << 20)?;
    let listener = listen(right, "fd03::2".parse()?, 80)?;
    connect(left, listener.local_addr()?, PATIENCE)??;
    // Nobody is there: a router says so.
    is(connect(left, "10.77.0.1:9".parse()?, PATIENCE)?, ErrorKind::NetworkUnreachable)?;
    // Two hops lead to the third router, which is one too many.
    left.namespace().sysctl("net/ipv4/ip_default_ttl", "2")?;
    is(connect(left, (right.ip(), 9).into(), PATIENCE)?, ErrorKind::HostUnreachable)
}

pub(super) fn a_host_has_an_interface_in_each_of_its_networks(backend: Backend) -> Outcome {
    let mut topology = Topology::new();
    let (left, middle, right) = (topology.host("left"), topology.host("middle"), topology.host("right"));
    topology.link(left.at("10.1.0.1/24"), middle.at("10.1.0.2/24"), clean());
    topology.link(middle.at("10.2.0.2/24").named("lan"), right.at("10.2.0.1/24"), clean().delay(ms(1)));
    let network = Network::start(&topology, &Settings::default().backend(backend))?;
    for (from, ip) in [(left, "10.1.0.2"), (right, "10.2.0.2")] {
        let listener = listen(network.host(middle), ip.parse()?, 80)?;
        connect(network.host(from), listener.local_addr()?, PATIENCE)??;
    }
    let listener = listen(network.host(right), network.host(right).ip(), 80)?;
    is(connect(network.host(left), listener.local_addr()?, SILENCE)?, ErrorKind::NetworkUnreachable)
}

/// Two hosts in a home, two on the internet.
struct Home {
    network: Network,
    router: RouterId,
    inside: [HostId; 2],
    outside: [HostId; 2],
}

const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

impl Home {
    fn new(backend: Backend, router: Router) -> Result<Self, Failed> {
        let mut topology = Topology::new();
        let router = topology.router("home", router);
        let (lan, internet) = (topology.switch("lan"), topology.switch("internet"));
        topology.link(router.at("192.168.1.1/24"), lan, clean());
        topology.link(router.at("203.0.113.7/24").outside(), internet, clean());
        let inside = [0, 1].map(|n| topology.host(format!("inside{n}")));
        let outside = [0, 1].map(|n| topology.host(format!("outside{n}")));
        for n in 0..2 {
            topology.link(inside[n].at(format!("192.168.1.{}/24", n + 2)), lan, clean());
            topology.link(outside[n].at(format!("203.0.113.{}/24", n + 20)), internet, clean());
        }
        let network = Network::start(&topology, &Settings::default().backend(backend))?;
        Ok(Self { network, router, inside, outside })
    }

    fn inside(&self, n: usize, port: u16) -> Result<UdpSocket, Failed> {
        let host = self.network.host(self.inside[n]);
        udp(host, host.ip(), port)
    }

    fn outside(&self, n: usize, port: u16) -> Result<UdpSocket, Failed> {
        let host = self.network.host(self.outside[n]);
        udp(host, host.ip(), port)
    }
}

/// Sends a datagram and gives the address that it comes from.
fn seen(from: &UdpSocket, at: &UdpSocket) -> Result<SocketAddr, Failed> {
    from.send_to(b"who am I", at.local_addr()?)?;
    Ok(at.recv_from(&mut [0; 16])?.1)
}

/// Sends a datagram to `to`, which arrives at `at` or not as it should.
fn arrives(from: &UdpSocket, to: SocketAddr, at: &UdpSocket, should: bool) -> Outcome {
    from.send_to(b"hello", to)?;
    at.set_read_timeout(Some(if should { PATIENCE } else { SILENCE }))?;
    let got = at.recv_from(&mut [0; 16]);
    at.set_read_timeout(Some(PATIENCE))?;
    match got {
        Ok(_) if should => Ok(()),
        Err(error) if !should && matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
        Ok((_, from)) => Err(format!("a datagram from {from} that should not arrive").into()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn each_kind_of_nat_behaves_as_it_should(backend: Backend) -> Outcome {
    for (nat, one_port_for_all, open_to_other_ports, open_to_others) in [
        (Nat::endpoint_independent(), true, true, true),
        (Nat::address_restricted(), true, true, false),
        (Nat::port_restricted(), true, false, false),
        (Nat::symmetric(), false, false, false),
    ] {
        let told = format!("{nat:?}");
        let home = Home::new(backend, Router::new().nat(nat))?;
        let inside = home.inside(0, 5000)?;
        let (first, other_port, other) = (home.outside(0, 80)?, home.outside(0, 81)?, home.outside(1, 80)?);
        let mapped = seen(&inside, &first)?;
        assert_eq!(mapped.ip(), IpAddr::V4(PUBLIC), "{told}");
        arrives(&first, mapped, &inside, true)?;
        arrives(&other_port, mapped, &inside, open_to_other_ports)?;
        arrives(&other, mapped, &inside, open_to_others)?;
        assert_eq!(seen(&inside, &other)? == mapped, one_port_for_all, "{told}");
        assert_ne!(seen(&home.inside(1, 5000)?, &first)?, mapped, "{told}");
        // TCP and ICMP errors go through it as well.
        let (near, far) = (home.network.host(home.inside[1]), home.network.host(home.outside[1]));
        transfer(near, far, 1 << 18)?;
        let closed = home.inside(1, 0)?;
        closed.connect((far.ip(), 9))?;
        closed.send(b"x")?;
        is(closed.recv(&mut [0; 4]), ErrorKind::ConnectionRefused)?;
    }
    Ok(())
}

pub(super) fn hosts_behind_a_nat_meet_by_their_outside_addresses_if_it_hairpins(backend: Backend) -> Outcome {
    for hairpin in [true, false] {
        let home = Home::new(backend, Router::new().nat(Nat::endpoint_independent().hairpin(hairpin)))?;
        let (first, second, outside) = (home.inside(0, 5000)?, home.inside(1, 5000)?, home.outside(0, 80)?);
        let mapped = seen(&second, &outside)?;
        arrives(&first, mapped, &second, hairpin)?;
    }
    Ok(())
}

pub(super) fn a_mapping_ends_after_its_time_and_by_rebinding(backend: Backend) -> Outcome {
    let home = Home::new(backend, Router::new().nat(Nat::port_restricted().udp_timeout(ms(300))))?;
    let (inside, outside) = (home.inside(0, 5000)?, home.outside(0, 80)?);
    let mapped = seen(&inside, &outside)?;
    // What comes in does not keep it alive, and silence is longer than it lasts.
    outside.send_to(b"hello", mapped)?;
    inside.set_read_timeout(Some(SILENCE))?;
    while inside.recv(&mut [0; 16]).is_ok() {}
    arrives(&outside, mapped, &inside, false)?;
    assert_ne!(seen(&inside, &outside)?, mapped);
    home.network.set_nat(home.router, Nat::port_restricted())?;
    let mapped = seen(&inside, &outside)?;
    assert_eq!(seen(&inside, &outside)?, mapped);
    home.network.rebind(home.router)?;
    arrives(&outside, mapped, &inside, false)?;
    assert_ne!(seen(&inside, &outside)?, mapped);
    Ok(())
}

pub(super) fn a_carrier_translates_behind_a_home_nat(backend: Backend) -> Outcome {
    let mut topology = Topology::new();
    let (inside, outside) = (topology.host("inside"), topology.host("outside"));
    let home = topology.router("home", Router::new().nat(Nat::port_restricted()));
    let carrier = topology.router("carrier", Router::new().nat(Nat::carrier_grade()));
    topology.link(inside.at("192.168.1.2/24"), home.at("192.168.1.1/24"), clean());
    topology.link(home.at("100.64.0.2/24").outside(), carrier.at("100.64.0.1/24"), clean());
    topology.link(carrier.at("203.0.113.7/24").outside(), outside.at("203.0.113.20/24"), clean());
    let network = Network::start(&topology, &Settings::default().backend(backend))?;
    let (inside, outside) = (network.host(inside), network.host(outside));
    let (near, far) = (udp(inside, inside.ip(), 5000)?, udp(outside, outside.ip(), 80)?);
    let mapped = seen(&near, &far)?;
    assert_eq!(mapped.ip(), IpAddr::V4(PUBLIC));
    arrives(&far, mapped, &near, true)?;
    transfer(inside, outside, 1 << 18)
}

pub(super) fn long_datagrams_cross_narrow_links_and_a_nat_in_pieces(backend: Backend) -> Outcome {
    let mut topology = Topology::new();
    let (inside, outside) = (topology.host("inside"), topology.host("outside"));
    let home = topology.router("home", Router::new().nat(Nat::port_restricted().ipv6()));
    let far = topology.router("far", Router::new());
    topology.link(inside.at("192.168.1.2/24").and("fd01::2/64"), home.at("192.168.1.1/24").and("fd01::1/64"), clean());
    let narrow = |mtu| Cable::both(clean()).mtu(mtu);
    let plug = home.at("198.51.100.7/24").and("fd02::7/64").outside();
    topology.link(plug, far.at("198.51.100.1/24").and("fd02::1/64"), narrow(1400));
    let plug = outside.at("203.0.113.20/24").and("fd03::20/64");
    topology.link(far.at("203.0.113.1/24").and("fd03::1/64"), plug, narrow(1300));
    let network = Network::start(&topology, &Settings::default().backend(backend))?;
    let (inside, outside) = (network.host(inside), network.host(outside));
    let content: Vec<u8> = (0..=250).cycle().take(5000).collect();
    for (near, external, there) in [("192.168.1.2", "198.51.100.7", "203.0.113.20"), ("fd01::2", "fd02::7", "fd03::20")]
    {
        let (asker, answerer) = (udp(inside, near.parse()?, 5000)?, udp(outside, there.parse()?, 80)?);
        answerer.set_read_timeout(Some(ms(100)))?;
        // The longer one is sent in pieces at once. The shorter one must not be cut until a router has told its sender
        // how long a packet may be; and so it is with both over IPv6.
        for length in [5000, 1450] {
            let (start, mut room) = (std::time::Instant::now(), [0; 6000]);
            let from = loop {
                assert!(start.elapsed() < PATIENCE, "{length} bytes to {there} do not arrive");
                asker.send_to(&content[..length], answerer.local_addr()?)?;
                match answerer.recv_from(&mut room) {
                    Ok((got, from)) if got == length => break from,
                    _ => {}
                }
            };
            assert_eq!((from.ip(), &room[..length]), (external.parse()?, &content[..length]));
            answerer.send_to(&room[..length], from)?;
            let (got, from) = asker.recv_from(&mut room)?;
            assert_eq!((from, &room[..got]), (answerer.local_addr()?, &content[..length]));
        }
        let listener = listen(outside, there.parse()?, 443)?;
        connect(inside, listener.local_addr()?, PATIENCE)??;
        assert_eq!(listener.accept()?.1.ip(), external.parse::<IpAddr>()?);
    }
    // Who tells that no hop is left is beyond the NAT.
    inside.namespace().sysctl("net/ipv4/ip_default_ttl", "2")?;
    is(connect(inside, (outside.ip(), 9).into(), PATIENCE)?, ErrorKind::HostUnreachable)
}

pub(super) fn a_firewall_lets_out_and_keeps_out(backend: Backend) -> Outcome {
    let home = Home::new(backend, Router::new().firewall(Firewall::open().outbound_only(Answer::Silence)))?;
    let set = |firewall| home.network.set_firewall(home.router, firewall);
    let (inside, outside) = (home.network.host(home.inside[0]), home.network.host(home.outside[0]));
    // The outside knows the way in, but may not use it.
    outside.namespace().add_route("192.168.1.0/24", "203.0.113.7")?;
    let within = listen(inside, inside.ip(), 80)?.local_addr()?;
    let beyond = listen(outside, outside.ip(), 80)?;
    let _listening = listen(inside, inside.ip(), 81)?;
    is(connect(outside, (inside.ip(), 81).into(), SILENCE)?, ErrorKind::TimedOut)?;
    connect(inside, beyond.local_addr()?, PATIENCE)??;
    let (near, far) = (home.inside(0, 5000)?, home.outside(0, 5000)?);
    arrives(&far, near.local_addr()?, &near, false)?;
    arrives(&near, far.local_addr()?, &far, true)?;
    arrives(&far, near.local_addr()?, &near, true)?;
    set(Firewall::open().outbound_only(Answer::Rejection))?;
    is(connect(outside, within, PATIENCE)?, ErrorKind::ConnectionRefused)?;
    set(Firewall::open().block(Traffic::Udp, Answer::Silence))?;
    arrives(&near, far.local_addr()?, &far, false)?;
    connect(outside, (inside.ip(), 81).into(), PATIENCE)??;
    set(Firewall::open().block(Traffic::Tcp, Answer::Rejection))?;
    arrives(&near, far.local_addr()?, &far, true)?;
    is(connect(inside, beyond.local_addr()?, PATIENCE)?, ErrorKind::ConnectionRefused)?;
    set(Firewall::open().black_hole(1280))?;
    near.send_to(&[0; 1400], far.local_addr()?)?;
    near.send_to(&[0; 1200], far.local_addr()?)?;
    assert_eq!(far.recv(&mut [0; 2000])?, 1200);
    Ok(())
}
