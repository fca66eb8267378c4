//! The agent's own ports, for peers: one number, TCP and UDP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mesh_config::{Address, Host as AddressHost, Transport};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::agent_file::Limits;
use crate::host::Host;
use crate::peers::accept::{self, Stop};
use crate::peers::back_off::BackOff;
use crate::peers::registry::Peers;
use crate::snapshot::Snapshot;
use crate::tcp::Listener;
use crate::transport::caps::{self, Caps};
use crate::transport::listen::listen;
use crate::transport::quic::endpoint;

/// The pause before a port that could not be opened is tried again: the first, doubled up to the second.
const RETRY: BackOff = BackOff::new(Duration::from_millis(250), Duration::from_secs(5));

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Want {
    /// An address of the agent file.
    Exactly(SocketAddr),
    /// An address of this node in the mesh file, where this host has it; else its port everywhere.
    Own(Address),
}

/// One that is open. What it accepts with ends when its sender is dropped.
struct Port {
    want: Want,
    address: SocketAddr,
    tcp: Option<oneshot::Sender<()>>,
    quic: Option<oneshot::Sender<()>>,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {what}: {source}")]
pub struct PortError {
    /// What for.
    pub what: &'static str,
    /// Where.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// All of them.
pub struct Ports {
    host: Arc<Host>,
    peers: Arc<Peers>,
    tcp_caps: Caps,
    quic_caps: Caps,
    open: Vec<Port>,
    /// Why not all that is asked for is open.
    failed: Option<(String, BackOff)>,
    tasks: JoinSet<()>,
}

impl Ports {
    /// Opens the ports of a fresh start.
    ///
    /// # Errors
    /// The first that cannot be opened.
    pub fn start(host: Arc<Host>, peers: Arc<Peers>, file: Option<&[SocketAddr]>) -> Result<Self, PortError> {
        let limits = limits_of(&host.limits());
        // Each for itself, so that a flood of the one leaves the other way open.
        let (tcp_caps, quic_caps) = (Caps::new(limits), Caps::new(limits));
        let mut this = Self { host, peers, tcp_caps, quic_caps, open: Vec::new(), failed: None, tasks: JoinSet::new() };
        this.apply(file)?;
        Ok(this)
    }

    /// From now on these are the bounds of handshakes.
    pub(super) fn limit(&self, limits: &Limits) {
        self.tcp_caps.limit(limits_of(limits));
        self.quic_caps.limit(limits_of(limits));
    }

    /// Opens what the snapshot in force and the agent file ask for, and closes what they no longer do: only after all that is
    /// new is open, so that peers have somewhere to go. What cannot be opened is told, and tried again.
    pub(super) fn reconcile(&mut self, file: Option<&[SocketAddr]>) {
        match self.apply(file) {
            Ok(()) => {
                if self.failed.take().is_some() {
                    tracing::info!("peers are listened for as the files say at last");
                }
            }
            Err(error) => {
                let text = error.to_string();
                let (told, retry) = self.failed.get_or_insert((String::new(), RETRY));
                retry.failed(Instant::now().into_std());
                if std::mem::replace(told, text.clone()) != text {
                    tracing::error!(
                        "{text}; the ports of before stay open, and it is tried again until it can be opened"
                    );
                }
            }
        }
    }

    /// Why not all that is asked for is open.
    pub(super) fn error(&self) -> Option<&str> {
        self.failed.as_ref().map(|(text, _)| text.as_str())
    }

    /// When to reconcile again because something could not be opened.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.failed.as_ref().and_then(|(_, retry)| retry.until()).map(Instant::from_std)
    }

    /// Forgets those that are closed, and what was accepted there has ended.
    pub(super) async fn ended(&mut self) {
        match self.tasks.join_next().await {
            Some(Err(error)) if error.is_panic() => tracing::error!(%error, "a port has failed"),
            Some(_) => {}
            None => std::future::pending().await,
        }
    }

    fn apply(&mut self, file: Option<&[SocketAddr]>) -> Result<(), PortError> {
        let snapshot = self.host.snapshot.load_full();
        let wanted = wanted(&snapshot, file);
        for want in &wanted {
            if !self.open.iter().any(|port| port.want == *want) {
                self.bind(want, &snapshot)?;
            }
        }
        self.open.retain(|port| wanted.contains(&port.want));
        let transport = snapshot.mesh.transport();
        for at in 0..self.open.len() {
            let (address, has_tcp, has_quic) = {
                let port = &self.open[at];
                (port.address, port.tcp.is_some(), port.quic.is_some())
            };
            if !has_tcp && transport != Transport::Quic {
                let failed = |source| PortError { what: "peers", address, source };
                let listener = listen(address).map_err(failed)?;
                self.open[at].tcp = Some(self.accept_tcp(listener));
            }
            if !has_quic && transport != Transport::Tls {
                self.open[at].quic = Some(self.accept_quic(address, &snapshot)?);
            }
            // A port that the mesh's transport does not use is closed.
            if transport == Transport::Quic {
                self.open[at].tcp = None;
            }
            if transport == Transport::Tls {
                self.open[at].quic = None;
            }
        }
        Ok(())
    }

    fn bind(&mut self, want: &Want, snapshot: &Snapshot) -> Result<(), PortError> {
        let Some(listener) = self.listener(want)? else { return Ok(()) };
        let failed = |address| move |source| PortError { what: "peers", address, source };
        let none = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let address = listener.local_addr().map_err(failed(none))?;
        let transport = snapshot.mesh.transport();
        let quic = if transport == Transport::Tls { None } else { Some(self.accept_quic(address, snapshot)?) };
        let tcp = (transport != Transport::Quic).then(|| self.accept_tcp(listener));
        self.open.push(Port { want: want.clone(), address, tcp, quic });
        Ok(())
    }

    /// A listener for what is asked for; nothing if one that is open serves it as well.
    fn listener(&self, want: &Want) -> Result<Option<Listener>, PortError> {
        let failed = |address| move |source| PortError { what: "peers", address, source };
        let own = match want {
            Want::Exactly(address) => return listen(*address).map(Some).map_err(failed(*address)),
            Want::Own(own) => own,
        };
        if let AddressHost::Ip(ip) = &own.host {
            let exact = SocketAddr::new(*ip, own.port);
            match listen(exact) {
                Ok(listener) => return Ok(Some(listener)),
                // Behind address translation this host does not have the address that others dial.
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
                Err(error) => return Err(failed(exact)(error)),
            }
        }
        if self.open.iter().any(|port| port.address.ip().is_unspecified() && port.address.port() == own.port) {
            return Ok(None);
        }
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), own.port);
        match listen(any) {
            Ok(listener) => Ok(Some(listener)),
            // A host without IPv6.
            Err(error) if matches!(error.raw_os_error(), Some(EAFNOSUPPORT | EADDRNOTAVAIL)) => {
                let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), own.port);
                listen(any).map(Some).map_err(failed(any))
            }
            Err(error) => Err(failed(any)(error)),
        }
    }

    fn accept_tcp(&mut self, listener: Listener) -> oneshot::Sender<()> {
        let (stop, stopped): (_, Stop) = oneshot::channel();
        self.tasks.spawn(accept::tcp(self.host.clone(), self.peers.clone(), listener, self.tcp_caps.clone(), stopped));
        stop
    }

    fn accept_quic(&mut self, address: SocketAddr, snapshot: &Snapshot) -> Result<oneshot::Sender<()>, PortError> {
        let failed = |source| PortError { what: "peers over QUIC", address, source };
        let endpoint = endpoint::open(address, Some(&snapshot.tls)).map_err(failed)?;
        let (stop, stopped): (_, Stop) = oneshot::channel();
        self.tasks.spawn(accept::quic(
            self.host.clone(),
            self.peers.clone(),
            endpoint,
            self.quic_caps.clone(),
            stopped,
        ));
        Ok(stop)
    }
}

const EAFNOSUPPORT: i32 = 97;
const EADDRNOTAVAIL: i32 = 99;

/// Where the agent file says, else this node's addresses. A node without an address only dials out.
fn wanted(snapshot: &Snapshot, file: Option<&[SocketAddr]>) -> Vec<Want> {
    match file {
        Some(file) => file.iter().copied().map(Want::Exactly).collect(),
        None => {
            let own = snapshot.own_node().map(|node| node.addresses()).unwrap_or_default();
            own.iter().cloned().map(Want::Own).collect()
        }
    }
}

/// The bounds of handshakes in an agent file.
fn limits_of(limits: &Limits) -> caps::Limits {
    caps::Limits { total: limits.handshakes_in_flight, per_source: limits.handshakes_in_flight_per_source }
}
