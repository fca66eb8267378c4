//! A mesh of a few nodes: their directories, their hosts, their addresses.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use netsim::{Answer, End, Namespace, Switch, Traffic, veth};

use crate::addresses::Block;
use crate::agent::Agent;
use crate::binary;
use crate::layer;
use crate::load::{Ending, ending};
use crate::pki::Authority;
use crate::place::Place;
use crate::scratch;
use crate::wait::accept;

/// The mesh's name.
pub const NAME: &str = "lab";
/// The port of every agent.
pub const LINK_PORT: u16 = 7443;
/// The first port of targets and of listeners: service *k* has the *k*-th from there.
const TARGET_PORT: u16 = 7000;
const LISTEN_PORT: u16 = 9000;
/// The MTU between simulated hosts, in bytes.
const MTU: u32 = 1500;
/// How long an application waits for what must come soon.
pub const SOON: Duration = Duration::from_secs(10);

/// A TCP service of a mesh under test. Its target and listeners get addresses by themselves.
#[derive(Debug, Clone)]
pub struct Service {
    name: String,
    on: Vec<String>,
    allow: Vec<String>,
}

impl Service {
    /// A service that the nodes `on` offer and the nodes `allow` may reach.
    pub fn new(name: &str, on: &[&str], allow: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        Self { name: name.to_owned(), on: owned(on), allow: owned(allow) }
    }
}

/// Where each node runs, its address, and what joins them.
type Hosts = (BTreeMap<String, Place>, BTreeMap<String, IpAddr>, Option<Switch>);

/// What a mesh will be.
#[derive(Debug)]
pub struct Builder {
    nodes: Vec<String>,
    unaddressed: Vec<String>,
    services: Vec<Service>,
    transport: String,
    namespaces: bool,
    trusted: Vec<String>,
    agent_lines: String,
}

impl Builder {
    /// `auto`, `tls`, `quic`, or who makes the records of lanes: [`OWN`](Mesh::OWN), [`REFERENCE`](Mesh::REFERENCE), or
    /// [`KERNEL`](Mesh::KERNEL).
    pub fn transport(mut self, transport: &str) -> Self {
        let by_whom = [Mesh::OWN, Mesh::REFERENCE, Mesh::KERNEL].contains(&transport);
        if by_whom {
            self.agent_lines.insert_str(0, &layer::line(transport));
        }
        let transport = if by_whom { "tls" } else { transport };
        transport.clone_into(&mut self.transport);
        self
    }

    /// Adds a service.
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// Gives each node a host of its own, all on one network, instead of an address on loopback.
    pub fn in_namespaces(mut self) -> Self {
        self.namespaces = true;
        self
    }

    /// Leaves a node's address out of the mesh file: it only dials.
    pub fn without_address(mut self, node: &str) -> Self {
        self.unaddressed.push(node.to_owned());
        self
    }

    /// Has every node trust another authority as well.
    pub fn trusting(mut self, authority: &Authority) -> Self {
        self.trusted.push(authority.root_pem());
        self
    }

    /// Adds lines to every agent file.
    pub fn agent_lines(mut self, lines: &str) -> Self {
        self.agent_lines.push_str(lines);
        self
    }

    /// Makes the hosts and writes the directories.
    pub fn build(mut self) -> Result<Mesh> {
        if let Some(layer) = layer::of_this_run()?.filter(|_| !layer::chooses(&self.agent_lines)) {
            self.agent_lines.insert_str(0, &layer::line(layer));
        }
        let root = scratch::directory()?;
        let (places, addresses, switch) = if self.namespaces { self.hosts()? } else { self.loopback() };
        let mut mesh = Mesh { root, nodes: self.nodes, services: self.services, places, addresses, _switch: switch };
        mesh.make_bundles()?;
        let document = mesh.document(1, &self.transport, &self.unaddressed);
        for node in &mesh.nodes {
            let directory = mesh.directory(node);
            fs::write(directory.join("mesh.toml"), &document)?;
            let mut agent_file = format!("node = \"{node}\"\n");
            if !self.unaddressed.contains(node) {
                writeln!(agent_file, "listen = \"{}\"", mesh.link_address(node))?;
            }
            agent_file.push_str(&self.agent_lines);
            fs::write(directory.join("agent.toml"), agent_file)?;
            let trust = directory.join("trust.pem");
            let mut roots = fs::read_to_string(&trust).with_context(|| format!("read {}", trust.display()))?;
            self.trusted.iter().for_each(|pem| roots.push_str(pem));
            fs::write(&trust, roots)?;
        }
        Ok(mesh)
    }

    fn hosts(&self) -> Result<Hosts> {
        let (mut places, mut addresses, mut namespaces) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (node, host) in self.nodes.iter().zip(1..) {
            let namespace = Namespace::new()?;
            places.insert(node.clone(), Place::There(namespace.clone()));
            addresses.insert(node.clone(), IpAddr::V4(Ipv4Addr::new(10, 1, 0, host)));
            namespaces.push((namespace, format!("10.1.0.{host}/24")));
        }
        if let [(left, at_left), (right, at_right)] = &namespaces[..] {
            veth(
                End { namespace: left, interface: "eth0", addresses: &[at_left] },
                End { namespace: right, interface: "eth0", addresses: &[at_right] },
                MTU,
            )?;
            return Ok((places, addresses, None));
        }
        let mut switch = Switch::new(MTU)?;
        for (namespace, address) in &namespaces {
            switch.plug(End { namespace, interface: "eth0", addresses: &[address] })?;
        }
        Ok((places, addresses, Some(switch)))
    }

    fn loopback(&self) -> Hosts {
        let block = Block::next();
        let places = self.nodes.iter().map(|n| (n.clone(), Place::Here)).collect();
        let addresses = self.nodes.iter().zip(1..).map(|(n, host)| (n.clone(), IpAddr::V4(block.address(host))));
        (places, addresses.collect(), None)
    }
}

/// A mesh under test. Its agents are started by [`start`](Self::start).
#[derive(Debug)]
pub struct Mesh {
    root: PathBuf,
    nodes: Vec<String>,
    services: Vec<Service>,
    places: BTreeMap<String, Place>,
    addresses: BTreeMap<String, IpAddr>,
    _switch: Option<Switch>,
}

impl Mesh {
    /// Lanes whose records the agent makes, whatever the run of tests is about: for what is said of those alone.
    pub const OWN: &str = "adit";
    /// Lanes whose records rustls makes.
    pub const REFERENCE: &str = "rustls";
    /// Lanes whose records the kernel makes, if it can.
    pub const KERNEL: &str = "ktls";
    /// Every way that bytes can go: over lanes, over QUIC, and over lanes as the reference makes them.
    pub const WAYS: [&str; 3] = ["tls", "quic", Self::REFERENCE];

    /// A mesh of these nodes, on loopback, with `transport = "auto"`, until told otherwise.
    pub fn builder(nodes: &[&str]) -> Builder {
        Builder {
            nodes: nodes.iter().map(|&n| n.to_owned()).collect(),
            unaddressed: Vec::new(),
            services: Vec::new(),
            transport: "auto".to_owned(),
            namespaces: false,
            trusted: Vec::new(),
            agent_lines: String::new(),
        }
    }

    /// The commonest mesh: `alpha` offers `app`, and `beta` reaches it.
    pub fn pair(transport: &str) -> Builder {
        Self::builder(&["alpha", "beta"]).transport(transport).service(Service::new("app", &["alpha"], &["beta"]))
    }

    /// A mesh file with the given version and transport.
    pub fn document(&self, version: u64, transport: &str, unaddressed: &[String]) -> String {
        self.document_of(version, transport, unaddressed, &self.services)
    }

    /// A mesh file that has these services alone. Their names must be those that the mesh was built with, and decide where they
    /// are listened for and offered.
    pub fn document_of(&self, version: u64, transport: &str, unaddressed: &[String], services: &[Service]) -> String {
        let mut text = format!("[mesh]\nname = \"{NAME}\"\nversion = {version}\ntransport = \"{transport}\"\n");
        let mut line = |l: String| {
            text.push_str(&l);
            text.push('\n');
        };
        for node in &self.nodes {
            line(format!("\n[node.{node}]"));
            if !unaddressed.contains(node) {
                line(format!("address = \"{}\"", self.link_address(node)));
            }
        }
        for service in services {
            let Service { name, on, allow } = service;
            let reach: Vec<_> = allow.iter().filter(|n| !on.contains(n)).collect();
            line(format!("\n[service.{name}]\non = {on:?}\nallow = {allow:?}"));
            let first = |nodes: &mut dyn Iterator<Item = &String>| nodes.next().cloned().unwrap_or_default();
            line(format!("target = \"{}\"", self.target(name, &first(&mut on.iter()))));
            line(format!("listen = \"{}\"", self.listener(name, &first(&mut reach.iter().copied()))));
            for node in on.iter().skip(1) {
                line(format!("[service.{name}.at.{node}]\ntarget = \"{}\"", self.target(name, node)));
            }
            for node in reach.iter().skip(1) {
                line(format!("[service.{name}.at.{node}]\nlisten = \"{}\"", self.listener(name, node)));
            }
        }
        text
    }

    /// Puts a mesh file in place of a node's, whole, as configuration management does.
    pub fn replace_document(&self, node: &str, document: &str) -> Result<()> {
        let directory = self.directory(node);
        let new = directory.join("mesh.toml.new");
        fs::write(&new, document)?;
        Ok(fs::rename(new, directory.join("mesh.toml"))?)
    }

    /// The same at every node.
    pub fn replace_documents(&self, document: &str) -> Result<()> {
        self.nodes.iter().try_for_each(|node| self.replace_document(node, document))
    }

    /// Has one node's records made by another than those of the rest. Before it is started.
    pub fn record_layer(&self, node: &str, layer: &str) -> Result<()> {
        let file = self.directory(node).join("agent.toml");
        let text = fs::read_to_string(&file)?;
        Ok(fs::write(file, layer::replaced(&text, layer))?)
    }

    /// The directory of a node.
    pub fn directory(&self, node: &str) -> PathBuf {
        self.root.join("nodes").join(node)
    }

    /// The directory that `adit init` wrote: it holds the authority.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The host of a node.
    pub fn place(&self, node: &str) -> Place {
        self.places.get(node).cloned().unwrap_or(Place::Here)
    }

    /// Where a node's agent is dialled.
    pub fn link_address(&self, node: &str) -> SocketAddr {
        SocketAddr::new(self.address(node), LINK_PORT)
    }

    /// Where an offering node's agent connects to.
    pub fn target(&self, service: &str, node: &str) -> SocketAddr {
        SocketAddr::new(self.local(node), TARGET_PORT + self.number(service))
    }

    /// Where applications on a reaching node connect to.
    pub fn listener(&self, service: &str, node: &str) -> SocketAddr {
        SocketAddr::new(self.local(node), LISTEN_PORT + self.number(service))
    }

    /// Starts a node's agent and waits until it is ready.
    pub fn start(&self, node: &str) -> Result<Agent> {
        self.start_with(node, &[])
    }

    /// The same, with more environment variables.
    pub fn start_with(&self, node: &str, environment: &[(String, String)]) -> Result<Agent> {
        Agent::start(node, &self.place(node), &self.directory(node), environment)
    }

    /// Starts `alpha` and `beta` and waits until they are linked. Also says by which path: `lane` or `quic`.
    pub fn start_pair(&self) -> Result<(Agent, Agent, String)> {
        let alpha = self.start("alpha")?;
        let beta = self.start("beta")?;
        let path = beta.wait_for_link("alpha")?;
        Ok((alpha, beta, path))
    }

    /// Listens as the application behind a service.
    pub fn serve(&self, service: &str, node: &str) -> Result<TcpListener> {
        self.place(node).listen(self.target(service, node))
    }

    /// Connects as an application that wants a service.
    pub fn reach(&self, service: &str, node: &str) -> Result<TcpStream> {
        self.place(node).connect(self.listener(service, node), SOON)
    }

    /// How a connection to a service ends for an application on `node` that sends nothing. One that is reset at once may be so
    /// before its `connect` has returned.
    pub fn end_of(&self, service: &str, node: &str, bound: Duration) -> Result<Ending> {
        match self.reach(service, node) {
            Ok(client) => ending(&client, bound),
            Err(e) if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::ConnectionReset) => {
                Ok(Ending::Reset(0))
            }
            Err(e) => Err(e),
        }
    }

    /// A connection through the mesh from `beta` to the service `app` of `alpha`: both its ends, client first.
    /// `server` is what [`serve`](Self::serve) gave.
    pub fn joined(&self, server: &TcpListener) -> Result<(TcpStream, TcpStream)> {
        let client = self.reach("app", "beta")?;
        let served = accept(server, SOON).context("the connection does not arrive at the target")?;
        served.set_nodelay(true)?;
        Ok((client, served))
    }

    /// Has the firewall of a node's host keep out traffic from other hosts, in place of what it kept out before.
    pub fn block(&self, node: &str, traffic: &[Traffic], answer: Answer) -> Result<()> {
        let Place::There(namespace) = self.place(node) else { anyhow::bail!("{node} has no host of its own") };
        let block = |&traffic| netsim::Block { interface: "eth0", traffic, from: None, answer };
        Ok(namespace.block(&traffic.iter().map(block).collect::<Vec<_>>())?)
    }

    /// The same on every host.
    pub fn block_everywhere(&self, traffic: &[Traffic], answer: Answer) -> Result<()> {
        self.nodes.iter().try_for_each(|node| self.block(node, traffic, answer))
    }

    fn make_bundles(&mut self) -> Result<()> {
        let mut command = Place::Here.command(binary::path()?);
        command.arg("--dir").arg(&self.root).args(["init", NAME, "--bundle"]);
        for node in &self.nodes {
            command.arg("--node").arg(format!("{node}={}", self.link_address(node)));
        }
        let output = binary::run(&mut command, binary::BOUND)?;
        ensure!(output.code == Some(0), "adit init: {output:?}");
        Ok(())
    }

    fn address(&self, node: &str) -> IpAddr {
        self.addresses.get(node).copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// The address of applications on a node's host: loopback of its own, or the node's on the common loopback.
    fn local(&self, node: &str) -> IpAddr {
        match self.place(node) {
            Place::Here => self.address(node),
            Place::There(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    fn number(&self, service: &str) -> u16 {
        let at = self.services.iter().position(|s| s.name == service).unwrap_or(self.services.len());
        u16::try_from(at).unwrap_or(u16::MAX)
    }
}
