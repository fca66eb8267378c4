//! A host of a running network.

use std::ffi::OsStr;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Error;
use crate::link::{add_address, add_route, set_neighbour_discovery, wait_until_heard, wait_until_running};
use crate::mounts::Mounts;
use crate::names::Names;
use crate::namespace::Namespace;
use crate::plan::{HostPlan, PortPlan};
use crate::program::{Launch, Program};
use crate::starter::Starter;
use crate::topology::HostId;
use crate::wire::class::FIRST_EPHEMERAL;
use crate::wire::router::Prefix;

/// A host: a machine with interfaces, addresses, routes and files of its own, on which programs run. Clones are the same
/// host.
#[derive(Debug, Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: HostId,
    name: String,
    namespace: Namespace,
    mounts: Mounts,
    names: Mutex<Names>,
    ports: Vec<PortPlan>,
    routes: Vec<(Prefix, IpAddr)>,
    starter: Starter,
}

impl Host {
    pub(crate) fn new(
        plan: HostPlan,
        namespace: Namespace,
        hosts: &str,
        resolvers: &str,
        starter: Starter,
    ) -> Result<Self, Error> {
        let HostPlan { id, name, ports, routes } = plan;
        let names = Names::new(own_names(&name, &ports, hosts));
        let mounts = Mounts::new(&namespace, &names.text(), resolvers)?;
        let names = Mutex::new(names);
        let host = Self { inner: Arc::new(Inner { id, name, namespace, mounts, names, ports, routes, starter }) };
        host.address()?;
        Ok(host)
    }

    /// Which host of the topology it is.
    #[must_use]
    pub fn id(&self) -> HostId {
        self.inner.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its network, to look into it and to change it.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.inner.namespace
    }

    /// The addresses that it was given, interface by interface.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.inner.ports.iter().flat_map(|port| &port.addresses).map(|prefix| prefix.ip).collect()
    }

    /// Its first address.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        match self.addresses().first() {
            Some(ip) => *ip,
            None => panic!("{} has no address", self.name()),
        }
    }

    /// The congestion control of its TCP, which decides much about how TCP fares on a link that loses packets.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn congestion_control(&self) -> Result<String, Error> {
        self.namespace().read_sysctl("net/ipv4/tcp_congestion_control")
    }

    /// A command that will run `program` on this host, with its network and files. It is killed when the thread that
    /// spawns it ends; [`Host::start`] has no such bound.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.inner.namespace.command(program);
        self.inner.mounts.apply(&mut command);
        command
    }

    /// Starts a program and captures its output.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, launch: Launch) -> Result<Program, Error> {
        Program::start(self, launch)
    }

    /// Runs `work` in the network of this host, as [`Namespace::run`] does.
    ///
    /// # Errors
    /// When the network cannot be entered; `work` has not run then.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        self.inner.namespace.run(work)
    }

    pub(crate) fn spawn(&self, command: Command) -> io::Result<Child> {
        self.inner.starter.spawn(command)
    }

    /// Has a name stand for other addresses. The number takes it back.
    pub(crate) fn rename(&self, name: &str, addresses: &[IpAddr]) -> io::Result<u64> {
        let mut names = self.inner.names.lock().unwrap_or_else(PoisonError::into_inner);
        let number = names.change(name, addresses);
        self.inner.mounts.set_hosts(&names.text()).map(|()| number)
    }

    /// Takes a change of a name back.
    pub(crate) fn rename_back(&self, number: u64) -> io::Result<()> {
        let mut names = self.inner.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.take_back(number);
        self.inner.mounts.set_hosts(&names.text())
    }

    /// The numbers of the descriptors of its network and mount namespaces.
    pub(crate) fn descriptors(&self) -> [RawFd; 2] {
        [self.inner.namespace.descriptor().as_raw_fd(), self.inner.mounts.descriptor().as_raw_fd()]
    }

    pub(crate) fn ports(&self) -> &[PortPlan] {
        &self.inner.ports
    }

    pub(crate) fn routes(&self) -> &[(Prefix, IpAddr)] {
        &self.inner.routes
    }

    /// Gives the interfaces their addresses, and sets the routes.
    fn address(&self) -> Result<(), Error> {
        let Inner { namespace, ports, routes, .. } = &*self.inner;
        namespace.run(|| {
            for port in ports {
                let mut all = port.addresses.iter();
                all.try_for_each(|prefix| add_address(&port.interface, prefix.ip, prefix.bits))?;
            }
            routes.iter().try_for_each(|&(to, gateway)| add_route(to.ip, to.bits, gateway))
        })?
    }

    /// Waits until packets pass, which workers of the kernel have a say in.
    pub(crate) fn wait_until_ready(&self, hub: Option<&Namespace>) -> Result<(), Error> {
        for port in &self.inner.ports {
            if let Some(hub) = hub {
                hub.run(|| wait_until_running(&format!("p{}", port.port)))??;
            }
        }
        self.inner.namespace.run(|| {
            for port in &self.inner.ports {
                if hub.is_some() {
                    wait_until_running(&port.interface)?;
                }
                port.addresses.iter().try_for_each(|prefix| wait_until_heard(&port.interface, prefix.ip))?;
            }
            Ok(())
        })?
    }
}

/// Settings of a new host's network, before its interfaces are made: the same everywhere, whatever the machine has.
pub(crate) fn pin(namespace: &Namespace, congestion_control: Option<&str>) -> Result<(), Error> {
    namespace.run(set_neighbour_discovery)??;
    namespace.sysctl("net/ipv4/ip_local_port_range", &format!("{FIRST_EPHEMERAL} 65535"))?;
    // Whoever is root of the host may ping without more.
    namespace.sysctl("net/ipv4/ping_group_range", "0 0")?;
    let key = "net/ipv4/tcp_congestion_control";
    match congestion_control {
        Some(name) => namespace.sysctl(key, name),
        // Every kernel has reno, and nearly all have cubic.
        None => namespace.sysctl(key, "cubic").or_else(|_| namespace.sysctl(key, "reno")),
    }
}

/// `/etc/hosts`: this host, then all.
fn own_names(name: &str, ports: &[PortPlan], hosts: &str) -> String {
    let own = ports.iter().flat_map(|port| &port.addresses).next();
    let own = own.map(|prefix| format!("{} {name}\n", prefix.ip)).unwrap_or_default();
    format!("127.0.0.1 localhost\n::1 localhost\n{own}{hosts}")
}
