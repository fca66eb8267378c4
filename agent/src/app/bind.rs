//! What the agent listens on: its own ports for peers, and the listeners of the services that it reaches.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mesh_config::{Host as AddressHost, Listen, Protocol, ServiceName, Transport};
use quinn::Endpoint;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

use super::StartError;
use crate::admin::view::{Service as ServiceView, ServiceState};
use crate::host::Host;
use crate::refusals::{Layer, Refusal};
use crate::services::unsupported::Unsupported;
use crate::transport::quic::endpoint;
use crate::vocabulary::{Direction, Role};

/// Connections that wait for accept. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The agent's own ports.
pub(super) struct Ports {
    pub(super) tcp: Vec<TcpListener>,
    pub(super) quic: Vec<Endpoint>,
}

/// Listens for peers: where the agent file says, else on this node's addresses that this host has, else everywhere on
/// their ports. A node without an address only dials out.
pub(super) async fn own_ports(host: &Host, listen: Option<&[SocketAddr]>) -> Result<Ports, StartError> {
    let tcp = own_tcp(host, listen).await?;
    let transport = host.snapshot.load().mesh.transport();
    let mut ports = Ports { tcp: Vec::new(), quic: Vec::new() };
    for listener in tcp {
        let address = listener.local_addr().map_err(StartError::Socket)?;
        // A port that the mesh's transport does not use stays closed.
        if transport != Transport::Tls {
            let failed = |source| StartError::Bind { what: "peers over QUIC".to_owned(), address, source };
            ports.quic.push(endpoint::open(address, Some(&host.snapshot.load().tls)).map_err(failed)?);
        }
        if transport != Transport::Quic {
            ports.tcp.push(listener);
        }
    }
    Ok(ports)
}

async fn own_tcp(host: &Host, listen: Option<&[SocketAddr]>) -> Result<Vec<TcpListener>, StartError> {
    let failed = |address| move |source| StartError::Bind { what: "peers".to_owned(), address, source };
    let mut ports = Vec::new();
    if let Some(listen) = listen {
        for &address in listen {
            ports.push(tcp(address).await.map_err(failed(address))?);
        }
        return Ok(ports);
    }
    let snapshot = host.snapshot.load();
    for address in snapshot.own_node().map(|n| n.addresses()).unwrap_or_default() {
        let exact = match &address.host {
            AddressHost::Ip(ip) => Some(SocketAddr::new(*ip, address.port)),
            AddressHost::Dns(_) => None,
        };
        if let Some(exact) = exact {
            match tcp(exact).await {
                Ok(listener) => {
                    ports.push(listener);
                    continue;
                }
                // Behind address translation this host does not have the address that others dial.
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
                Err(error) => return Err(failed(exact)(error)),
            }
        }
        if ports
            .iter()
            .any(|l: &TcpListener| l.local_addr().is_ok_and(|a| a.ip().is_unspecified() && a.port() == address.port))
        {
            continue;
        }
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port);
        match tcp(any).await {
            Ok(listener) => ports.push(listener),
            // A host without IPv6.
            Err(error) if matches!(error.raw_os_error(), Some(EAFNOSUPPORT | EADDRNOTAVAIL)) => {
                let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port);
                ports.push(tcp(any).await.map_err(failed(any))?);
            }
            Err(error) => return Err(failed(any)(error)),
        }
    }
    Ok(ports)
}

const EAFNOSUPPORT: i32 = 97;
const EADDRNOTAVAIL: i32 = 99;

/// A TCP listener. The unspecified IPv6 address takes IPv4 as well.
pub(super) async fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for connections of the run before to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// How one service stands on this node.
pub struct Listener {
    /// What `status` shows.
    pub view: ServiceView,
    listener: Option<TcpListener>,
}

/// How every service stands that this node offers or reaches.
pub struct Bound(Vec<Listener>);

impl Bound {
    /// For `status`.
    pub fn describe(&self) -> Vec<ServiceView> {
        self.0.iter().map(|l| l.view.clone()).collect()
    }

    pub(super) fn into_listeners(self) -> impl Iterator<Item = (ServiceName, TcpListener)> {
        self.0.into_iter().filter_map(|l| Some((l.view.name.parse().ok()?, l.listener?)))
    }
}

/// Opens the listeners of all services that this node reaches. One that cannot be opened fails its service alone, loudly.
pub(super) async fn services(host: &Host) -> Bound {
    let snapshot = host.snapshot.load_full();
    let me = snapshot.me();
    let mut bound = Vec::new();
    for service in snapshot.mesh.services().values() {
        let offers = service.offered_by(me);
        if !offers && service.permits(me).is_none() {
            continue;
        }
        let listen = service.listen_at(me);
        let mut view = ServiceView {
            name: service.name().to_string(),
            role: if offers { Role::Offer } else { Role::Reach },
            protocol: match service.protocol() {
                Protocol::Tcp => "tcp".to_owned(),
                Protocol::Udp => "udp".to_owned(),
            },
            listen: listen.map(|l| l.to_string()),
            target: offers.then(|| service.target_at(me).to_string()),
            state: ServiceState::Ready,
            connections: 0,
            bytes_in: 0,
            bytes_out: 0,
            on: service.on().iter().map(ToString::to_string).collect(),
            error: None,
        };
        let mut listener = None;
        if let Some(what) = Unsupported::of(service, me) {
            let why = format!("{}: {}", what.text(), what.hint());
            (view.state, view.error) = (ServiceState::Unsupported, Some(why.clone()));
            tracing::error!(service = %service.name(), "service `{}`: {why}", service.name());
        } else if let Some(Listen::Socket(address)) = listen {
            match tcp(address).await {
                Ok(opened) => listener = Some(opened),
                Err(error) => {
                    let why = format!("cannot listen on {address}: {error}");
                    tracing::error!(service = %service.name(), "service `{}`: {why}", service.name());
                    host.refuse(Refusal {
                        direction: Direction::Out,
                        peer: None,
                        address: Some(address),
                        service: Some(service.name().clone()),
                        layer: Layer::Limit,
                        reason: "listener_failed",
                        detail: why.clone(),
                    });
                    (view.state, view.error) = (ServiceState::Failed, Some(why));
                }
            }
        }
        bound.push(Listener { view, listener });
    }
    Bound(bound)
}
