//! Two listeners on one address of one node.
//!
//! The agent on a node listens for every service that the node may reach. Comparing every service with every other on
//! every node would be far too much, so only listeners that share a protocol and a port are compared.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::check::CheckedService;
use crate::document::{Item, Problems, Span};
use crate::groups::{Group, Names};
use crate::model::{Address, Host, Listen, Protocol};
use crate::raw::RawNode;

/// Steps that comparing listeners may take: well under a second. A mesh of 10,000 nodes and 2,000 services on one address
/// each takes a fifth of that.
const MAX_STEPS: usize = 100_000_000;

const ANY4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ANY6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// A service's listener, on one node or on all that may reach the service.
struct Claim<'s> {
    service: &'s CheckedService<'s>,
    address: SocketAddr,
    span: &'s Span,
    node: Option<u32>,
}

impl Claim<'_> {
    /// The nodes that listen; some may come twice.
    fn nodes<'a>(&'a self, groups: &'a [Group]) -> impl Iterator<Item = u32> + 'a {
        let all = self.node.is_none().then(|| self.service.reachers(groups));
        let ours = |node: &u32| !self.service.listens_elsewhere(*node);
        all.into_iter().flatten().filter(ours).chain(self.node)
    }

    fn has(&self, node: u32, groups: &[Group]) -> bool {
        match self.node {
            Some(only) => only == node,
            None => self.service.may_reach(node, groups) && !self.service.listens_elsewhere(node),
        }
    }
}

/// Which claim holds an address on each node. A round forgets all at once.
struct Owners {
    by_node: Vec<(u32, usize)>,
    round: u32,
}

impl Owners {
    fn claim(&mut self, node: u32, claim: usize) {
        if let Some(place) = usize::try_from(node).ok().and_then(|at| self.by_node.get_mut(at)) {
            *place = (self.round, claim);
        }
    }

    fn owner(&self, node: u32) -> Option<usize> {
        let (round, claim) = *self.by_node.get(usize::try_from(node).ok()?)?;
        (round == self.round).then_some(claim)
    }
}

/// Notes listeners that take each other's address, and those that take the mesh's own port.
pub(crate) fn check(
    services: &[CheckedService<'_>],
    nodes: &[RawNode],
    groups: &[Group],
    names: &Names<'_>,
    problems: &mut Problems<'_>,
) {
    let claims = claims(services, groups);
    let mut by_port: BTreeMap<(bool, u16), BTreeMap<IpAddr, Vec<usize>>> = BTreeMap::new();
    for (at, claim) in claims.iter().enumerate() {
        let udp = claim.service.protocol() == Protocol::Udp;
        by_port.entry((udp, claim.address.port())).or_default().entry(claim.address.ip()).or_default().push(at);
    }
    let mut search = Search {
        claims: &claims,
        groups,
        names,
        owners: Owners { by_node: vec![(0, 0); names.nodes.len()], round: 0 },
        steps: MAX_STEPS,
    };
    let done = by_port.values().all(|by_ip| search.port(by_ip, problems).is_some())
        && search.mesh_ports(nodes, problems).is_some();
    if !done {
        problems
            .error(&(0..0), "there are too many listeners to compare")
            .hint("services that listen on the same address are compared node by node: give them different ports");
    }
}

fn claims<'s>(services: &'s [CheckedService<'s>], groups: &[Group]) -> Vec<Claim<'s>> {
    let mut claims = Vec::new();
    for service in services {
        if let Some(Item { value: Listen::Socket(address), span }) = &service.raw.listen {
            claims.push(Claim { service, address: *address, span, node: None });
        }
        for (node, changed) in &service.at {
            if let Some(Item { value: Listen::Socket(address), span }) = &changed.listen
                && service.may_reach(*node, groups)
            {
                claims.push(Claim { service, address: *address, span, node: Some(*node) });
            }
        }
    }
    claims
}

struct Search<'s> {
    claims: &'s [Claim<'s>],
    groups: &'s [Group],
    names: &'s Names<'s>,
    owners: Owners,
    steps: usize,
}

impl Search<'_> {
    /// Compares the listeners of one protocol and port. Nothing if the steps are used up.
    fn port(&mut self, by_ip: &BTreeMap<IpAddr, Vec<usize>>, problems: &mut Problems<'_>) -> Option<()> {
        for same in by_ip.values().filter(|same| same.len() > 1) {
            self.owners.round += 1;
            same.iter().try_for_each(|claim| self.compare(*claim, true, problems))?;
        }
        // A wildcard takes every address of its family; Linux lets [::] take IPv4 as well (ipv6(7), IPV6_V6ONLY).
        for wildcard in [ANY4, ANY6] {
            let Some(wide) = by_ip.get(&wildcard).filter(|_| by_ip.len() > 1) else { continue };
            self.owners.round += 1;
            wide.iter().try_for_each(|claim| self.mark(*claim))?;
            for (ip, narrow) in by_ip {
                if *ip != wildcard && (wildcard == ANY6 || ip.is_ipv4()) {
                    narrow.iter().try_for_each(|claim| self.compare(*claim, false, problems))?;
                }
            }
        }
        Some(())
    }

    fn step(&mut self) -> Option<()> {
        self.steps = self.steps.checked_sub(1)?;
        Some(())
    }

    fn mark(&mut self, at: usize) -> Option<()> {
        let (claims, groups) = (self.claims, self.groups);
        for node in claims.get(at)?.nodes(groups) {
            self.step()?;
            self.owners.claim(node, at);
        }
        Some(())
    }

    /// Notes the first node on which another claim holds the address of this one, and takes its nodes if asked to.
    fn compare(&mut self, at: usize, take: bool, problems: &mut Problems<'_>) -> Option<()> {
        let (claims, groups) = (self.claims, self.groups);
        for node in claims.get(at)?.nodes(groups) {
            self.step()?;
            match self.owners.owner(node) {
                Some(other) if other != at => {
                    self.note(other.min(at), other.max(at), node, problems);
                    return Some(());
                }
                _ if take => self.owners.claim(node, at),
                _ => {}
            }
        }
        Some(())
    }

    fn note(&self, first: usize, second: usize, node: u32, problems: &mut Problems<'_>) {
        let (Some(a), Some(b), Some(node)) =
            (self.claims.get(first), self.claims.get(second), self.names.node_name(node))
        else {
            return;
        };
        // The one further down is told to go elsewhere.
        let (a, b) = if a.span.start <= b.span.start { (a, b) } else { (b, a) };
        let (held, wanted) = (a.service.name(), b.service.name());
        let message = if a.address == b.address {
            format!("`{held}` and `{wanted}` both listen on {} at node `{node}`", a.address)
        } else {
            format!("`{wanted}` cannot listen on {} at node `{node}`: `{held}` listens on {}", b.address, a.address)
        };
        problems
            .error(b.span, message)
            .hint(format!("give one of them another port, or another `listen` under [service.{wanted}.at.{node}]"));
    }

    /// Notes listeners on the port that a node's agent itself listens on, for TCP and UDP.
    fn mesh_ports(&mut self, nodes: &[RawNode], problems: &mut Problems<'_>) -> Option<()> {
        let mut by_port: HashMap<u16, Vec<(u32, &Address)>> = HashMap::new();
        for node in nodes {
            let Some(number) = self.names.node(node.name.value.as_str()) else { continue };
            for address in &node.addresses {
                by_port.entry(address.value.port).or_default().push((number, &address.value));
            }
        }
        for claim in self.claims {
            let ip = claim.address.ip();
            let mut perhaps = None;
            let mut surely = None;
            for (node, address) in by_port.get(&claim.address.port()).into_iter().flatten() {
                self.step()?;
                if !claim.has(*node, self.groups) {
                    continue;
                }
                let wild = ip == ANY6 || ip == ANY4;
                if matches!(address.host, Host::Ip(own) if own == ip || wild) {
                    surely = Some((*node, *address));
                    break;
                }
                perhaps = perhaps.or(Some((*node, *address)));
            }
            let Some((node, address)) = surely.or(perhaps) else { continue };
            let node = self.names.node_name(node)?;
            let message = format!(
                "`{}` listens on {} at node `{node}`, where the mesh itself is at {address}",
                claim.service.name(),
                claim.address
            );
            let noted = if surely.is_some() {
                problems.error(claim.span, message)
            } else {
                problems.warning(claim.span, message)
            };
            noted
                .hint("the agent takes that port for TCP and UDP, on all addresses unless told otherwise: use another");
        }
        Some(())
    }
}
