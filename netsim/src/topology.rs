//! What a network consists of, before it is made.

use crate::wire::conditions::Conditions;
use crate::wire::firewall::Firewall;
use crate::wire::nat::Nat;

/// A network on paper: hosts, switches, routers, and the links between them. [`Network::start`](crate::Network::start)
/// makes it.
///
/// ```
/// # use std::time::Duration;
/// # use netsim::{Conditions, Nat, Router, Topology};
/// let mut topology = Topology::new();
/// let alpha = topology.host("alpha");
/// let beta = topology.host("beta");
/// let home = topology.router("home", Router::new().nat(Nat::port_restricted()));
/// let internet = topology.switch("internet");
/// topology.link(alpha.at("192.168.1.2/24"), home.at("192.168.1.1/24"), Conditions::clean());
/// let far = Conditions::clean().delay(Duration::from_millis(10));
/// topology.link(home.at("203.0.113.7/24").outside(), internet, far);
/// topology.link(beta.at("203.0.113.9/24"), internet, Conditions::clean());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Topology {
    pub(crate) devices: Vec<Device>,
    pub(crate) links: Vec<Link>,
}

#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Routes beside those that follow from the links: network and gateway.
    pub(crate) routes: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Host,
    Switch,
    Router(Router),
}

#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) ends: [Plug; 2],
    pub(crate) cable: Cable,
}

/// A host of a [`Topology`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostId(pub(crate) usize);

/// A switch of a [`Topology`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SwitchId(pub(crate) usize);

/// A router of a [`Topology`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouterId(pub(crate) usize);

/// A link of a [`Topology`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkId(pub(crate) usize);

/// What a router does beside routing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Router {
    pub(crate) nat: Option<Nat>,
    pub(crate) firewall: Firewall,
}

impl Router {
    /// A router that lets everything pass as it is.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// It translates between its inside and its [outside](Plug::outside).
    #[must_use]
    pub fn nat(self, nat: Nat) -> Self {
        Self { nat: Some(nat), ..self }
    }

    /// It does not let everything pass between its inside and its [outside](Plug::outside).
    #[must_use]
    pub fn firewall(self, firewall: Firewall) -> Self {
        Self { firewall, ..self }
    }
}

/// One end of a link: the device with the interface that it has there.
#[derive(Debug, Clone)]
pub struct Plug {
    pub(crate) device: usize,
    pub(crate) addresses: Vec<String>,
    pub(crate) interface: Option<String>,
    pub(crate) outside: bool,
}

impl Plug {
    fn new(device: usize, addresses: Vec<String>) -> Self {
        Self { device, addresses, interface: None, outside: false }
    }

    /// Another address of the same interface.
    #[must_use]
    pub fn and(mut self, address: impl Into<String>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// The interface's name on its host, instead of `eth0`, `eth1`, … in the order of the links.
    #[must_use]
    pub fn named(self, interface: impl Into<String>) -> Self {
        Self { interface: Some(interface.into()), ..self }
    }

    /// For NAT and firewall of a router, this interface leads outside.
    #[must_use]
    pub fn outside(self) -> Self {
        Self { outside: true, ..self }
    }
}

impl HostId {
    /// An interface of the host with an address and its prefix length, IPv4 or IPv6: `10.1.0.1/24`.
    #[must_use]
    pub fn at(self, address: impl Into<String>) -> Plug {
        Plug::new(self.0, vec![address.into()])
    }
}

impl RouterId {
    /// An interface of the router with an address and its prefix length, IPv4 or IPv6: `10.1.0.1/24`.
    #[must_use]
    pub fn at(self, address: impl Into<String>) -> Plug {
        Plug::new(self.0, vec![address.into()])
    }
}

impl From<SwitchId> for Plug {
    fn from(switch: SwitchId) -> Self {
        Self::new(switch.0, Vec::new())
    }
}

/// What a link is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Cable {
    pub(crate) mtu: u16,
    pub(crate) ways: [Conditions; 2],
}

impl Cable {
    /// The same conditions both ways, and an MTU of 1500 bytes.
    #[must_use]
    pub fn both(conditions: Conditions) -> Self {
        Self { mtu: 1500, ways: [conditions.clone(), conditions] }
    }

    /// Conditions from the first end to the second, and back.
    #[must_use]
    pub fn ways(there: Conditions, back: Conditions) -> Self {
        Self { mtu: 1500, ways: [there, back] }
    }

    /// Another MTU of the interfaces at both ends, in bytes.
    #[must_use]
    pub fn mtu(self, mtu: u16) -> Self {
        Self { mtu, ..self }
    }
}

impl From<Conditions> for Cable {
    fn from(conditions: Conditions) -> Self {
        Self::both(conditions)
    }
}

impl Topology {
    /// An empty network.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a host: programs run there.
    pub fn host(&mut self, name: impl Into<String>) -> HostId {
        HostId(self.device(name.into(), Kind::Host))
    }

    /// Adds an Ethernet switch.
    pub fn switch(&mut self, name: impl Into<String>) -> SwitchId {
        SwitchId(self.device(name.into(), Kind::Switch))
    }

    /// Adds a router. It finds the ways to all networks by itself, and hosts beside it use it for what they do not
    /// reach directly.
    pub fn router(&mut self, name: impl Into<String>, router: Router) -> RouterId {
        RouterId(self.device(name.into(), Kind::Router(router)))
    }

    fn device(&mut self, name: String, kind: Kind) -> usize {
        self.devices.push(Device { name, kind, routes: Vec::new() });
        self.devices.len() - 1
    }

    /// Joins two devices.
    pub fn link(&mut self, left: impl Into<Plug>, right: impl Into<Plug>, cable: impl Into<Cable>) -> LinkId {
        self.links.push(Link { ends: [left.into(), right.into()], cable: cable.into() });
        LinkId(self.links.len() - 1)
    }

    /// Gives a host a route of its own: `network` as `10.0.0.0/8`, by way of a neighbour. A host with any such route
    /// gets no default route by itself.
    pub fn route(&mut self, host: HostId, network: impl Into<String>, gateway: impl Into<String>) {
        self.devices[host.0].routes.push((network.into(), gateway.into()));
    }
}
