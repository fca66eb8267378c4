//! A network that runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;

use crate::Error;
use crate::backend::carrier::Carrier;
use crate::backend::{Backend, Port};
use crate::host::{self, Host};
use crate::namespace::Namespace;
use crate::plan::{HostPlan, plan};
use crate::pump::Wire;
use crate::starter::Starter;
use crate::topology::{HostId, LinkId, RouterId, Topology};
use crate::wire::conditions::Conditions;
use crate::wire::direction::Counters;
use crate::wire::firewall::Firewall;
use crate::wire::lateness::{Report, Tolerance};
use crate::wire::nat::Nat;

/// Hosts that are made at once.
const MAKERS: usize = 8;

/// How a network is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What decides which packets are lost, delayed and so on: the same seed, the same decisions.
    pub seed: u64,
    /// How the wire meets the hosts' kernels.
    pub backend: Backend,
    /// The congestion control of every host's TCP. None: cubic, or reno where the machine has no cubic.
    pub congestion_control: Option<String>,
    /// The text of every host's `/etc/resolv.conf`.
    pub resolvers: String,
}

impl Default for Settings {
    /// Seed 1, TAP devices, no resolver.
    fn default() -> Self {
        Self { seed: 1, backend: Backend::Tap, congestion_control: None, resolvers: String::new() }
    }
}

impl Settings {
    /// The same with another seed.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The same with another backend.
    #[must_use]
    pub fn backend(self, backend: Backend) -> Self {
        Self { backend, ..self }
    }
}

/// A host with the wire's ends of its interfaces, by their numbers in the fabric.
type Made = (Host, Vec<(usize, Box<dyn Port>)>);

/// Hosts, switches, routers and links at work. Everything ends when it is dropped.
#[derive(Debug)]
pub struct Network {
    pub(crate) wire: Arc<Wire>,
    hosts: HashMap<HostId, Host>,
    topology: Topology,
    devices: Vec<Option<usize>>,
    /// Of each port of a host, by its number in the fabric.
    carriers: Vec<Carrier>,
    /// Where the far ends of cables are.
    _hub: Namespace,
}

impl Network {
    /// Makes the network of a topology, in which packets pass when this returns. Call [`enter()`](crate::enter()) before.
    ///
    /// # Errors
    /// When the topology is not one, or the machine gives no namespaces or devices.
    pub fn start(topology: &Topology, settings: &Settings) -> Result<Self, Error> {
        let plan = plan(topology, settings.seed)?;
        let hub = Namespace::new()?;
        hub.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        let names = names(&plan.hosts);
        let starter = Starter::new()?;
        let mut makers: Vec<Vec<HostPlan>> = (0..MAKERS).map(|_| Vec::new()).collect();
        for (number, host) in plan.hosts.into_iter().enumerate() {
            makers[number % MAKERS].push(host);
        }
        let make = |plan: HostPlan| -> Result<Made, Error> {
            let namespace = Namespace::new()?;
            host::pin(&namespace, settings.congestion_control.as_deref())?;
            let opened = plan.ports.iter().map(|port| Ok((port.port, settings.backend.open(&namespace, &hub, port)?)));
            let ports = opened.collect::<Result<Vec<_>, Error>>()?;
            Ok((Host::new(plan, namespace, &names, &settings.resolvers, starter.clone())?, ports))
        };
        let (mut hosts, mut ports) = (HashMap::new(), Vec::new());
        thread::scope(|scope| {
            let makers = makers.into_iter().filter(|share| !share.is_empty());
            let makers: Vec<_> = makers
                .map(|share| scope.spawn(|| share.into_iter().map(make).collect::<Result<Vec<_>, Error>>()))
                .collect();
            for maker in makers {
                for (host, opened) in maker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))? {
                    hosts.insert(host.id(), host);
                    ports.extend(opened);
                }
            }
            Ok::<(), Error>(())
        })?;
        ports.sort_by_key(|(number, _)| *number);
        let carriers = ports.iter().map(|(_, port)| port.carrier()).collect();
        let wire = Wire::start(plan.fabric, ports.into_iter().map(|(_, port)| port).collect())?;
        let far_ends = (settings.backend == Backend::Packet).then_some(&hub);
        hosts.values().try_for_each(|host| host.wait_until_ready(far_ends))?;
        let (wire, topology) = (Arc::new(wire), topology.clone());
        Ok(Self { wire, hosts, topology, devices: plan.devices, carriers, _hub: hub })
    }

    /// A host.
    ///
    /// # Panics
    /// When the number is that of another topology.
    #[must_use]
    pub fn host(&self, id: HostId) -> &Host {
        &self.hosts[&id]
    }

    /// A host by its name.
    #[must_use]
    pub fn host_named(&self, name: &str) -> Option<&Host> {
        self.hosts.values().find(|host| host.name() == name)
    }

    /// All hosts, in the order of the topology.
    #[must_use]
    pub fn hosts(&self) -> Vec<&Host> {
        let mut all: Vec<&Host> = self.hosts.values().collect();
        all.sort_by_key(|host| host.id().0);
        all
    }

    /// Changes the conditions of a link for good, both ways. A fault that changes them goes before.
    ///
    /// # Errors
    /// When the wire has ended.
    pub fn set_conditions(&self, link: LinkId, conditions: Conditions) -> Result<(), Error> {
        self.set_ways(link, conditions.clone(), conditions)
    }

    /// Changes the conditions of a link for good: from its first end to its second, and back.
    ///
    /// # Errors
    /// When the wire has ended.
    pub fn set_ways(&self, link: LinkId, there: Conditions, back: Conditions) -> Result<(), Error> {
        self.wire.with(move |pump, _| {
            pump.fabric.set_conditions(link.0, 0, there);
            pump.fabric.set_conditions(link.0, 1, back);
        })
    }

    /// What a link has done so far: from its first end to its second, and back.
    ///
    /// # Errors
    /// When the wire has ended.
    pub fn counters(&self, link: LinkId) -> Result<[Counters; 2], Error> {
        self.wire.with(move |pump, _| pump.fabric.counters(link.0))
    }

    /// What every link has done so far, in the order of the topology. It takes the wire some microseconds.
    ///
    /// # Errors
    /// When the wire has ended.
    pub fn all_counters(&self) -> Result<Vec<[Counters; 2]>, Error> {
        self.wire.with(move |pump, _| pump.fabric.all_counters())
    }

    /// Replaces the NAT of a router that has one. All its mappings are gone.
    ///
    /// # Errors
    /// When the router has none, or the wire has ended.
    pub fn set_nat(&self, router: RouterId, nat: Nat) -> Result<(), Error> {
        self.at_router(router, |router| router.set_nat(nat)).and_then(|done| self.has_nat(router, done))
    }

    /// Has a NAT forget its mappings, as after a restart: flows that go on get other ports outside.
    ///
    /// # Errors
    /// When the router has none, or the wire has ended.
    pub fn rebind(&self, router: RouterId) -> Result<(), Error> {
        self.at_router(router, crate::wire::router::Router::rebind).and_then(|done| self.has_nat(router, done))
    }

    /// Replaces the firewall of a router, which forgets the flows that it knows.
    ///
    /// # Errors
    /// When the wire has ended.
    pub fn set_firewall(&self, router: RouterId, firewall: Firewall) -> Result<(), Error> {
        self.at_router(router, |router| router.set_firewall(firewall))
    }

    /// How well the wire has kept up so far, and whether the run can be believed.
    ///
    /// # Errors
    /// When the kernel's counters cannot be read, or the wire has ended.
    pub fn report(&self, tolerance: Tolerance) -> Result<Report, Error> {
        let (ports, refused) = self.wire.with(|pump, _| pump.drops())??;
        // After that, so that no host has dropped more than it is excused for.
        let mut drops = refused;
        for (dropped, carrier) in ports.into_iter().zip(&self.carriers) {
            drops += dropped.saturating_sub(carrier.excused()?);
        }
        self.wire.with(move |pump, _| pump.fabric.lateness.report(drops, tolerance))
    }

    /// The names of what a link joins, its first end before its second. None: it is one of another topology.
    #[must_use]
    pub fn ends(&self, link: LinkId) -> Option<[&str; 2]> {
        let link = self.topology.links.get(link.0)?;
        let name = |end: usize| self.topology.devices.get(link.ends[end].device).map(|device| &*device.name);
        Some([name(0)?, name(1)?])
    }

    /// The carriers of the hosts at the ends of a link. Switches and routers have none.
    pub(crate) fn carriers(&self, link: LinkId) -> Vec<Carrier> {
        let links = &self.topology.links;
        let Some(own) = links.get(link.0) else { return Vec::new() };
        let carrier = |device: usize| {
            // A host's interfaces are in the order of its links.
            let before = links[..link.0].iter().flat_map(|link| &link.ends);
            let interface = before.filter(|end| end.device == device).count();
            let port = self.hosts.get(&HostId(device))?.ports().get(interface)?.port;
            self.carriers.get(port).cloned()
        };
        own.ends.iter().filter_map(|end| carrier(end.device)).collect()
    }

    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    fn at_router<T: Send + 'static>(
        &self,
        id: RouterId,
        work: impl FnOnce(&mut crate::wire::router::Router) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let device = self.devices.get(id.0).copied().flatten();
        let made = self.wire.with(move |pump, _| pump.fabric.router(device?).map(work))?;
        made.ok_or_else(|| Error::Topology("no such router".to_owned()))
    }

    fn has_nat(&self, id: RouterId, done: bool) -> Result<(), Error> {
        let name = self.topology.devices.get(id.0).map(|device| &*device.name).unwrap_or_default();
        if done { Ok(()) } else { Err(Error::Topology(format!("{name} has no NAT"))) }
    }
}

/// The lines of `/etc/hosts` for all hosts.
fn names(hosts: &[HostPlan]) -> String {
    let all = hosts.iter().flat_map(|host| host.ports.iter().map(move |port| (host, port)));
    all.flat_map(|(host, port)| port.addresses.iter().map(|prefix| format!("{} {}\n", prefix.ip, host.name))).collect()
}
