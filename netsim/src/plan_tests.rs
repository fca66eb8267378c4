use super::*;
use crate::{Conditions, HostId, Nat, Router as Kindof};

fn clean() -> Conditions {
    Conditions::clean()
}

/// The routes of a host: network by way of.
fn routes(topology: &Topology, host: HostId) -> Vec<String> {
    let plan = plan(topology, 1).unwrap();
    let host = plan.hosts.iter().find(|plan| plan.id == host).unwrap();
    host.routes.iter().map(|(to, by)| format!("{}/{} by {by}", to.ip, to.bits)).collect()
}

#[test]
fn a_host_uses_the_router_beside_it_but_not_a_strangers_nat() {
    let mut topology = Topology::new();
    let (inside, outside, own) = (topology.host("inside"), topology.host("outside"), topology.host("own"));
    let home = topology.router("home", Kindof::new().nat(Nat::symmetric()));
    topology.link(inside.at("192.168.1.2/24").and("fd01::2/64"), home.at("192.168.1.1/24").and("fd01::1/64"), clean());
    let internet = topology.switch("internet");
    topology.link(home.at("203.0.113.7/24").outside(), internet, clean());
    topology.link(outside.at("203.0.113.9/24"), internet, clean());
    topology.link(own.at("203.0.113.10/24"), internet, clean());
    topology.route(own, "192.168.0.0/16", "203.0.113.7");
    assert_eq!(routes(&topology, inside), ["0.0.0.0/0 by 192.168.1.1", "::/0 by fd01::1"]);
    assert_eq!(routes(&topology, outside), [""; 0]);
    assert_eq!(routes(&topology, own), ["192.168.0.0/16 by 203.0.113.7"]);
}

#[test]
fn interfaces_are_named_in_the_order_of_the_links() {
    let mut topology = Topology::new();
    let (left, right) = (topology.host("left"), topology.host("right"));
    topology.link(left.at("10.1.0.1/24"), right.at("10.1.0.2/24"), clean());
    topology.link(left.at("10.2.0.1/24").named("wan"), right.at("10.2.0.2/24"), clean());
    let plan = plan(&topology, 1).unwrap();
    let names: Vec<Vec<&str>> =
        plan.hosts.iter().map(|host| host.ports.iter().map(|port| &*port.interface).collect()).collect();
    assert_eq!(names, [["eth0", "wan"], ["eth0", "eth1"]]);
    let macs: HashSet<Mac> = plan.hosts.iter().flat_map(|host| host.ports.iter().map(|port| port.mac)).collect();
    assert_eq!(macs.len(), 4);
}

#[test]
fn what_cannot_be_made_is_told() {
    type Make = fn(&mut Topology);
    let table: [(&str, Make); 8] = [
        ("switches are joined in a ring", |t| {
            let all = ["a", "b", "c"].map(|name| t.switch(name));
            for n in 0..3 {
                t.link(all[n], all[(n + 1) % 3], clean());
            }
        }),
        ("two devices are called a", |t| {
            t.host("a");
            t.host("a");
        }),
        ("not a name of a device: \"a b\"", |t| {
            t.host("a b");
        }),
        ("a has two interfaces eth1", |t| {
            let (a, b) = (t.host("a"), t.switch("b"));
            t.link(a.at("10.1.0.1/24").named("eth1"), b, clean());
            t.link(a.at("10.1.0.2/24"), b, clean());
        }),
        ("b has an address that another one has on the same network: 10.1.0.1", |t| {
            let (a, b) = (t.host("a"), t.host("b"));
            t.link(a.at("10.1.0.1/24"), b.at("10.1.0.1/24"), clean());
        }),
        ("only routers have an outside, and a is none", |t| {
            let (a, b) = (t.host("a"), t.host("b"));
            t.link(a.at("10.1.0.1/24").outside(), b.at("10.1.0.2/24"), clean());
        }),
        ("a is joined to itself", |t| {
            let a = t.host("a");
            t.link(a.at("10.1.0.1/24"), a.at("10.1.0.2/24"), clean());
        }),
        ("not an address with a prefix length: 10.1.0.1", |t| {
            let (a, b) = (t.host("a"), t.host("b"));
            t.link(a.at("10.1.0.1"), b.at("10.1.0.2/24"), clean());
        }),
    ];
    for (told, make) in table {
        let mut topology = Topology::new();
        make(&mut topology);
        assert_eq!(plan(&topology, 1).map(drop).map_err(|error| error.to_string()), Err(told.to_owned()));
    }
}
