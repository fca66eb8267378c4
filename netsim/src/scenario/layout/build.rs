//! A layout that was read, with all addresses, as a topology.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::{Kind, Layout, RawCable, Reader};
use crate::scenario::addresses::{Networks, Pool, base};
use crate::scenario::document::Item;
use crate::scenario::names::{CableEntry, HostEntry, RouterEntry};
use crate::scenario::problem::{nearest, quote};
use crate::topology::{Cable, Plug, Router};
use crate::wire::router::Prefix;

impl Reader<'_> {
    pub(super) fn build(self) -> Option<Layout> {
        let mut layout = Layout { furnishings: self.furnishings.clone(), ..Layout::default() };
        let mut plugs: HashMap<&str, crate::topology::HostId> = HashMap::new();
        let (mut routers, mut switches) = (HashMap::new(), HashMap::new());
        for device in &self.devices {
            let name = device.name.value;
            match device.kind {
                Kind::Host => {
                    let id = layout.topology.host(name);
                    device.routes.iter().for_each(|(to, by)| layout.topology.route(id, to, by));
                    layout.directory.hosts.push(HostEntry { name: name.to_owned(), id, interfaces: Vec::new() });
                    plugs.insert(name, id);
                }
                Kind::Router => {
                    let id = layout.topology.router(name, device.router.clone());
                    let Router { nat, firewall } = device.router.clone();
                    layout.directory.routers.push(RouterEntry { name: name.to_owned(), id, nat, firewall });
                    routers.insert(name, id);
                }
                Kind::Network => {
                    switches.insert(name, layout.topology.switch(name));
                    layout.directory.networks.push(name.to_owned());
                }
            }
        }
        let known: Vec<&str> = self.devices.iter().map(|device| device.name.value).collect();
        let mut well = true;
        let mut names = HashSet::new();
        for cable in &self.cables {
            for end in &cable.ends {
                if self.kind(end.device.value).is_none() {
                    let message = format!("there is no host, router or network {}", quote(end.device.value));
                    self.problems.note(&end.device.span, message, nearest(end.device.value, known.iter().copied()));
                    well = false;
                }
            }
            if cable.ends[0].device.value == cable.ends[1].device.value {
                let message = format!("{} is joined to itself", quote(cable.ends[0].device.value));
                self.problems.note(&cable.ends[1].device.span, message, None);
                well = false;
            }
            if !names.insert(&cable.name) {
                self.problems.note(&cable.span, format!("{} is there twice", quote(&cable.name)), None);
                well = false;
            }
        }
        well &= self.outsides();
        let segments = self.segments();
        let addresses = self.addresses(&segments, well)?;
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for (number, cable) in self.cables.iter().enumerate() {
            let mut ends = Vec::new();
            for (side, end) in cable.ends.iter().enumerate() {
                let name = end.device.value;
                let count = counts.entry(name).or_default();
                let interface = end.interface.clone().unwrap_or_else(|| format!("eth{count}"));
                *count += 1;
                let own = &addresses[number][side];
                let texts: Vec<String> = own.iter().map(|prefix| format!("{}/{}", prefix.ip, prefix.bits)).collect();
                let outside = self.devices.iter().find(|device| device.name.value == name)?.outside.as_ref();
                let far = cable.ends[1 - side].device.value;
                let outside = outside.is_some_and(|outside| outside.value == far || outside.value == cable.name);
                let plug = match (plugs.get(name), routers.get(name), switches.get(name)) {
                    (Some(host), _, _) => {
                        let entry = layout.directory.hosts.iter_mut().find(|entry| entry.name == name)?;
                        let ips = own.iter().map(|prefix| prefix.ip).collect();
                        entry.interfaces.push((interface.clone(), segments[number], ips));
                        plug(host.at(texts.first()?), &texts).named(&interface)
                    }
                    (_, Some(router), _) => plug(router.at(texts.first()?), &texts),
                    (_, _, Some(switch)) => Plug::from(*switch),
                    _ => return None,
                };
                ends.push(if outside { plug.outside() } else { plug });
            }
            let [left, right] = <[Plug; 2]>::try_from(ends).ok()?;
            let [there, back] = cable.ways.clone();
            let link = layout.topology.link(left, right, Cable::ways(there, back).mtu(cable.mtu));
            let ends = cable.ends.each_ref().map(|end| end.device.value.to_owned());
            layout.directory.cables.push(CableEntry { name: cable.name.clone(), link, ends });
        }
        for host in &layout.directory.hosts {
            if host.interfaces.is_empty() {
                let span = self.devices.iter().find(|device| device.name.value == host.name).map(|one| &one.name.span);
                let hint = "name it in the `members` of a [network.NAME], or in the `ends` of a [link.NAME]".to_owned();
                self.problems.note(span?, format!("{} is on no network", quote(&host.name)), Some(hint));
            }
        }
        Some(layout)
    }

    /// Whether the outside of every router is one of its networks.
    fn outsides(&self) -> bool {
        let mut well = true;
        for device in &self.devices {
            let Some(outside) = &device.outside else { continue };
            let name = device.name.value;
            let own = self.cables.iter().filter(|cable| cable.ends.iter().any(|end| end.device.value == name));
            let known: Vec<&str> = own
                .flat_map(|cable| cable.ends.iter().map(|end| end.device.value).chain([&*cable.name]))
                .filter(|far| *far != name)
                .collect();
            if !known.contains(&outside.value) {
                let message = format!("{} is not on {}", quote(name), quote(outside.value));
                let hint = nearest(outside.value, known).unwrap_or_else(|| "name it in its `members`".to_owned());
                self.problems.note(&outside.span, message, Some(hint));
                well = false;
            }
        }
        well
    }

    /// Of each cable, the number of its Ethernet segment: that of its network, which those that are joined share.
    fn segments(&self) -> Vec<usize> {
        let networks: Vec<&str> = self.of_kind(Kind::Network).into_iter().map(|name| name.value).collect();
        let at = |name: &str| networks.iter().position(|network| *network == name);
        let mut root: Vec<usize> = (0..networks.len()).collect();
        for cable in &self.cables {
            let ends = cable.ends.each_ref().map(|end| at(end.device.value));
            if let [Some(one), Some(other)] = ends {
                let (one, other) = (root[one], root[other]);
                root.iter_mut().filter(|of| **of == other).for_each(|of| *of = one);
            }
        }
        let number = |(number, cable): (usize, &RawCable<'_>)| {
            let network = cable.ends.iter().find_map(|end| at(end.device.value));
            network.map_or(networks.len() + number, |network| root[network])
        };
        self.cables.iter().enumerate().map(number).collect()
    }

    /// Of each cable, the addresses of both ends.
    fn addresses(&self, segments: &[usize], well: bool) -> Option<Vec<[Vec<Prefix>; 2]>> {
        let mut explicit: HashMap<usize, Vec<Prefix>> = HashMap::new();
        for (cable, segment) in self.cables.iter().zip(segments) {
            let network = cable.ends.iter().filter_map(|end| self.subnets.get(end.device.value)).flatten();
            let all = explicit.entry(*segment).or_default();
            for subnet in network.chain(&cable.subnets).map(|item| item.value) {
                if !all.contains(&subnet) {
                    all.push(subnet);
                }
            }
        }
        // A whole address says which network it is on.
        for (cable, segment) in self.cables.iter().zip(segments) {
            let all = explicit.entry(*segment).or_default();
            if all.is_empty() {
                let whole = cable.ends.iter().flat_map(|end| &end.addresses);
                let whole = whole.filter_map(|text| crate::link::parse(text.value));
                all.extend(whole.map(|(ip, bits)| Prefix { ip: base(ip, bits), bits }).next());
            }
        }
        let used = explicit.values().flatten().copied().collect();
        let count = segments.iter().collect::<HashSet<_>>().len();
        let mut networks = Networks::new(used, count);
        let mut pools: HashMap<usize, Vec<Pool>> = HashMap::new();
        let mut taken: HashMap<usize, HashSet<IpAddr>> = HashMap::new();
        let mut own: Vec<[Vec<Prefix>; 2]> = Vec::new();
        for (cable, segment) in self.cables.iter().zip(segments) {
            let subnets = &explicit[segment];
            own.push(cable.ends.each_ref().map(|end| {
                let found = end.addresses.iter().filter_map(|text| self.address(text, subnets));
                let found: Vec<Prefix> = found.collect();
                taken.entry(*segment).or_default().extend(found.iter().map(|prefix| prefix.ip));
                found
            }));
        }
        for (number, (cable, segment)) in self.cables.iter().zip(segments).enumerate() {
            let room = segments.iter().filter(|other| *other == segment).count() + 1;
            if !pools.contains_key(segment) {
                let mut subnets = explicit[segment].clone();
                if subnets.is_empty() {
                    subnets.extend(networks.give(room));
                }
                let taken = taken.get(segment).cloned().unwrap_or_default();
                pools.insert(*segment, subnets.into_iter().map(|subnet| Pool::new(subnet, taken.clone())).collect());
            }
            for (side, end) in cable.ends.iter().enumerate() {
                let kind = self.kind(end.device.value);
                if !own[number][side].is_empty() || !matches!(kind, Some(Kind::Host | Kind::Router)) {
                    continue;
                }
                let pools = pools.get_mut(segment).map(Vec::as_mut_slice).unwrap_or_default();
                own[number][side] = pools.iter_mut().filter_map(|pool| pool.give(kind == Some(Kind::Router))).collect();
                if own[number][side].is_empty() && well {
                    let hint = "give the network a wider one: `subnet = \"10.1.0.0/16\"`".to_owned();
                    let message = format!("no address is left for {}", quote(end.device.value));
                    self.problems.note(&end.device.span, message, Some(hint));
                    return None;
                }
            }
        }
        well.then_some(own)
    }

    fn address(&self, text: &Item<&str>, subnets: &[Prefix]) -> Option<Prefix> {
        let whole = crate::link::parse(text.value).map(|(ip, bits)| Prefix { ip, bits });
        let ip = text.value.parse::<IpAddr>().ok();
        let within = ip.and_then(|ip| {
            let subnet = subnets.iter().find(|subnet| subnet.contains(ip))?;
            Some(Prefix { ip, bits: subnet.bits })
        });
        let found = whole.or(within);
        if found.is_none() {
            let (message, hint) = match ip {
                Some(ip) => {
                    (format!("{ip} is not on this network"), format!("write {ip}/24, or give the network its `subnet`"))
                }
                None => (format!("{} is not an address", quote(text.value)), "write \"10.1.0.5/24\"".to_owned()),
            };
            self.problems.note(&text.span, message, Some(hint));
        }
        found
    }
}

fn plug(first: Plug, addresses: &[String]) -> Plug {
    addresses.iter().skip(1).fold(first, |plug, address| plug.and(address))
}
