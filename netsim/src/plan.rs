//! A topology, checked and worked out: which interface gets which name, Ethernet address and routes.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::Error;
use crate::link::{check_name, parse};
use crate::topology::{HostId, Kind, Plug, Topology};
use crate::wire::fabric::{Device, Fabric};
use crate::wire::packet::Mac;
use crate::wire::router::{Interface, Prefix, Route, Router};
use crate::wire::switch::Switch;

/// What is to be made.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) hosts: Vec<HostPlan>,
    pub(crate) fabric: Fabric,
    /// Of each device of the topology, its number in the fabric, or that of its first port.
    pub(crate) devices: Vec<Option<usize>>,
}

/// A host that is to be made.
#[derive(Debug)]
pub(crate) struct HostPlan {
    pub(crate) id: HostId,
    pub(crate) name: String,
    pub(crate) ports: Vec<PortPlan>,
    pub(crate) routes: Vec<(Prefix, IpAddr)>,
}

/// An interface of a host.
#[derive(Debug, Clone)]
pub(crate) struct PortPlan {
    /// Its number in the fabric.
    pub(crate) port: usize,
    pub(crate) interface: String,
    pub(crate) mac: Mac,
    pub(crate) mtu: u16,
    pub(crate) addresses: Vec<Prefix>,
}

/// One end of a link.
struct End {
    device: usize,
    /// The device's how-manieth interface it is.
    interface: usize,
    mac: Mac,
    addresses: Vec<Prefix>,
    mtu: u16,
    outside: bool,
    /// The number of the Ethernet segment: what frames reach without a router.
    segment: usize,
    name: String,
}

/// Checks a topology and works it out.
pub(crate) fn plan(topology: &Topology, seed: u64) -> Result<Plan, Error> {
    let ends = ends(topology)?;
    check(topology, &ends)?;
    let (mut fabric, mut hosts) = (Fabric::new(seed), Vec::new());
    let mut devices = vec![None; topology.devices.len()];
    // Of each interface of the topology, the device of the fabric: a host has one for each.
    let mut at = HashMap::new();
    let mut ports = 0;
    for (number, device) in topology.devices.iter().enumerate() {
        let own = || ends.iter().filter(move |end| end.device == number);
        match &device.kind {
            Kind::Host => {
                let host = u32::try_from(number).unwrap_or(u32::MAX);
                let mut all = Vec::new();
                for end in own() {
                    at.insert((number, end.interface), fabric.add(Device::Port { port: ports, host }));
                    all.push(PortPlan {
                        port: ports,
                        interface: end.name.clone(),
                        mac: end.mac,
                        mtu: end.mtu,
                        addresses: end.addresses.clone(),
                    });
                    ports += 1;
                }
                let routes = host_routes(topology, &ends, number)?;
                hosts.push(HostPlan { id: HostId(number), name: device.name.clone(), ports: all, routes });
            }
            Kind::Switch => {
                let added = fabric.add(Device::Switch(Switch::default()));
                devices[number] = Some(added);
                at.extend(own().map(|end| ((number, end.interface), added)));
            }
            Kind::Router(router) => {
                let interfaces = own().map(|end| Interface {
                    mac: end.mac,
                    addresses: end.addresses.clone(),
                    mtu: end.mtu,
                    outside: end.outside,
                });
                let routes = router_routes(topology, &ends, number);
                let mut made = Router::new(interfaces.collect(), routes, router.nat.clone(), router.firewall.clone());
                for end in own() {
                    let others = ends.iter().filter(|other| other.segment == end.segment && other.device != number);
                    for other in others {
                        other.addresses.iter().for_each(|prefix| made.meet(end.interface, prefix.ip, other.mac));
                    }
                }
                let added = fabric.add(Device::Router(Box::new(made)));
                devices[number] = Some(added);
                at.extend(own().map(|end| ((number, end.interface), added)));
            }
        }
    }
    for (pair, link) in ends.chunks_exact(2).zip(&topology.links) {
        let [left, right] = [0, 1].map(|side| at[&(pair[side].device, pair[side].interface)]);
        fabric.join(left, right, link.cable.ways.clone());
    }
    Ok(Plan { hosts, fabric, devices })
}

/// The ends of all links in order: two for each.
fn ends(topology: &Topology) -> Result<Vec<End>, Error> {
    let mut interfaces: HashMap<usize, usize> = HashMap::new();
    let segments = segments(topology)?;
    let mut ends = Vec::new();
    for (number, link) in topology.links.iter().enumerate() {
        for plug in &link.ends {
            let count = interfaces.entry(plug.device).or_default();
            let mtu = link.cable.mtu;
            ends.push(end(plug, *count, mtu, segments[number], ends.len())?);
            *count += 1;
        }
    }
    Ok(ends)
}

fn end(plug: &Plug, interface: usize, mtu: u16, segment: usize, number: usize) -> Result<End, Error> {
    let addresses = plug.addresses.iter().map(|text| {
        let (ip, bits) = parse(text).ok_or_else(|| Error::Address(text.clone()))?;
        Ok(Prefix { ip, bits })
    });
    let name = plug.interface.clone().unwrap_or_else(|| format!("eth{interface}"));
    check_name(&name)?;
    // A locally administered address (IEEE 802): the same in every run.
    let [.., a, b, c] = u64::try_from(number).unwrap_or_default().to_be_bytes();
    Ok(End {
        device: plug.device,
        interface,
        mac: [0x02, 0x51, 0x3d, a, b, c],
        addresses: addresses.collect::<Result<_, Error>>()?,
        mtu,
        outside: plug.outside,
        segment,
        name,
    })
}

/// Of each link, the number of its Ethernet segment. Switches join links; a ring of switches would carry frames round
/// for ever.
fn segments(topology: &Topology) -> Result<Vec<usize>, Error> {
    let mut segment: Vec<usize> = (0..topology.links.len()).collect();
    let is_switch = |device: usize| matches!(topology.devices[device].kind, Kind::Switch);
    let mut tree: Vec<usize> = (0..topology.devices.len()).collect();
    for link in &topology.links {
        let [left, right] = link.ends.each_ref().map(|end| end.device);
        if is_switch(left) && is_switch(right) {
            let (left, right) = (tree[left], tree[right]);
            if left == right {
                return Err(Error::Topology("switches are joined in a ring".to_owned()));
            }
            tree.iter_mut().filter(|root| **root == right).for_each(|root| *root = left);
        }
    }
    let mut of_switch = HashMap::new();
    for (number, link) in topology.links.iter().enumerate() {
        for device in link.ends.iter().map(|end| end.device).filter(|&device| is_switch(device)) {
            segment[number] = *of_switch.entry(tree[device]).or_insert(segment[number]);
        }
    }
    Ok(segment)
}

fn check(topology: &Topology, ends: &[End]) -> Result<(), Error> {
    let wrong = |what: String| Err(Error::Topology(what));
    let mut names = HashSet::new();
    for device in &topology.devices {
        let fits =
            !device.name.is_empty() && device.name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        if !fits {
            return wrong(format!("not a name of a device: {:?}", device.name));
        }
        if !names.insert(&device.name) {
            return wrong(format!("two devices are called {}", device.name));
        }
    }
    let (mut interfaces, mut addresses) = (HashSet::new(), HashSet::new());
    for end in ends {
        let device = &topology.devices[end.device];
        if !interfaces.insert((end.device, &end.name)) {
            return wrong(format!("{} has two interfaces {}", device.name, end.name));
        }
        if let Some(prefix) = end.addresses.iter().find(|prefix| !addresses.insert((end.segment, prefix.ip))) {
            return wrong(format!(
                "{} has an address that another one has on the same network: {}",
                device.name, prefix.ip
            ));
        }
        if end.outside && !matches!(device.kind, Kind::Router(_)) {
            return wrong(format!("only routers have an outside, and {} is none", device.name));
        }
    }
    match topology.links.iter().find(|link| link.ends[0].device == link.ends[1].device) {
        Some(link) => wrong(format!("{} is joined to itself", topology.devices[link.ends[0].device].name)),
        None => Ok(()),
    }
}

/// The first router of each family that is beside an interface and does not have its outside there.
fn gateway(topology: &Topology, ends: &[End], near: &End, v4: bool) -> Option<IpAddr> {
    let own = near.addresses.iter().filter(|prefix| prefix.ip.is_ipv4() == v4);
    let routers = ends.iter().filter(|end| {
        end.segment == near.segment
            && end.device != near.device
            && !end.outside
            && matches!(topology.devices[end.device].kind, Kind::Router(_))
    });
    let mut found = routers.flat_map(|end| &end.addresses).filter(|prefix| prefix.ip.is_ipv4() == v4);
    let networks: Vec<&Prefix> = own.collect();
    found.find(|prefix| networks.iter().any(|own| own.contains(prefix.ip))).map(|prefix| prefix.ip)
}

fn everywhere(v4: bool) -> Prefix {
    let ip = if v4 { IpAddr::from([0; 4]) } else { IpAddr::from([0_u8; 16]) };
    Prefix { ip, bits: 0 }
}

fn host_routes(topology: &Topology, ends: &[End], host: usize) -> Result<Vec<(Prefix, IpAddr)>, Error> {
    let own = &topology.devices[host].routes;
    if !own.is_empty() {
        return own
            .iter()
            .map(|(network, gateway)| {
                let (ip, bits) = parse(network).ok_or_else(|| Error::Address(network.clone()))?;
                Ok((Prefix { ip, bits }, gateway.parse().map_err(|_| Error::Address(gateway.clone()))?))
            })
            .collect();
    }
    let families = [true, false].into_iter();
    Ok(families
        .filter_map(|v4| {
            let mut near = ends.iter().filter(|end| end.device == host);
            near.find_map(|near| gateway(topology, ends, near, v4)).map(|ip| (everywhere(v4), ip))
        })
        .collect())
}

/// The ways of a router to all networks, nearest first; what is behind the outside of a NAT is not seen from there.
fn router_routes(topology: &Topology, ends: &[End], router: usize) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    let mut seen = HashSet::new();
    // Segment, the own interface towards it, and the first routers on the way, one for each family.
    let mut queue: std::collections::VecDeque<(usize, usize, Vec<IpAddr>)> =
        ends.iter().filter(|end| end.device == router).map(|end| (end.segment, end.interface, Vec::new())).collect();
    while let Some((segment, interface, next)) = queue.pop_front() {
        if !seen.insert(segment) {
            continue;
        }
        let direct = next.is_empty();
        for prefix in ends.iter().filter(|end| end.segment == segment).flat_map(|end| &end.addresses) {
            let by = next.iter().copied().find(|ip| ip.is_ipv4() == prefix.ip.is_ipv4());
            let known = routes.iter().any(|route| route.to.bits == prefix.bits && route.to.contains(prefix.ip));
            if !known && (direct || by.is_some()) {
                routes.push(Route { to: *prefix, interface, next: by });
            }
        }
        let neighbours = ends.iter().filter(|end| end.segment == segment && end.device != router);
        for near in neighbours {
            let Kind::Router(other) = &topology.devices[near.device].kind else { continue };
            if near.outside && other.nat.is_some() {
                continue;
            }
            let by = if direct { near.addresses.iter().map(|prefix| prefix.ip).collect() } else { next.clone() };
            let beyond = ends.iter().filter(|end| end.device == near.device && end.segment != segment);
            queue.extend(beyond.map(|end| (end.segment, interface, by.clone())));
        }
    }
    for v4 in [true, false] {
        let mut outside = ends.iter().filter(|end| end.device == router && end.outside);
        let default = outside.find_map(|end| Some((end.interface, gateway(topology, ends, end, v4)?)));
        routes.extend(default.map(|(interface, ip)| Route { to: everywhere(v4), interface, next: Some(ip) }));
    }
    routes
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
