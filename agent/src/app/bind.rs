//! The agent's own ports, for peers.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mesh_config::{Host as AddressHost, Transport};
use quinn::Endpoint;
use tokio::net::TcpListener;

use super::StartError;
use crate::host::Host;
use crate::transport::listen::listen as tcp;
use crate::transport::quic::endpoint;

/// The agent's own ports.
pub(super) struct Ports {
    pub(super) tcp: Vec<TcpListener>,
    pub(super) quic: Vec<Endpoint>,
}

/// Listens for peers: where the agent file says, else on this node's addresses that this host has, else everywhere on
/// their ports. A node without an address only dials out.
pub(super) fn own_ports(host: &Host, listen: Option<&[SocketAddr]>) -> Result<Ports, StartError> {
    let tcp = own_tcp(host, listen)?;
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

fn own_tcp(host: &Host, listen: Option<&[SocketAddr]>) -> Result<Vec<TcpListener>, StartError> {
    let failed = |address| move |source| StartError::Bind { what: "peers".to_owned(), address, source };
    let mut ports = Vec::new();
    if let Some(listen) = listen {
        for &address in listen {
            ports.push(tcp(address).map_err(failed(address))?);
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
            match tcp(exact) {
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
        match tcp(any) {
            Ok(listener) => ports.push(listener),
            // A host without IPv6.
            Err(error) if matches!(error.raw_os_error(), Some(EAFNOSUPPORT | EADDRNOTAVAIL)) => {
                let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port);
                ports.push(tcp(any).map_err(failed(any))?);
            }
            Err(error) => return Err(failed(any)(error)),
        }
    }
    Ok(ports)
}

const EAFNOSUPPORT: i32 = 97;
const EADDRNOTAVAIL: i32 = 99;
