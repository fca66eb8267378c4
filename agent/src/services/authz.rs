//! Who may reach what: the offering agent's decision, from the mesh in force and the proven certificate alone.

use mesh_config::{AllowRule, Mesh, NodeName, Protocol, Service, ServiceName, Target};

use crate::identity::VerifiedPeer;

/// A proven peer may use a service that this node offers. Only [`permit`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    service: ServiceName,
    peer: NodeName,
    rule: AllowRule,
    target: Target,
}

impl Permit {
    /// The service.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// The node that may use it.
    pub fn peer(&self) -> &NodeName {
        &self.peer
    }

    /// The entry of `allow` that says so.
    pub fn rule(&self) -> &AllowRule {
        &self.rule
    }

    /// What to connect to.
    pub fn target(&self) -> &Target {
        &self.target
    }
}

/// Why there is no permit. The peer is told only that there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The mesh has no such service.
    #[error("the mesh has no service `{0}`")]
    Unknown(ServiceName),
    /// Other nodes offer it, this one does not.
    #[error("this node does not offer `{0}`")]
    NotOffered(ServiceName),
    /// No entry of `allow` names the peer.
    #[error("no `allow` of service `{service}` names node `{peer}`")]
    NotAllowed {
        /// The service.
        service: ServiceName,
        /// The peer.
        peer: NodeName,
    },
    /// It is no TCP service.
    #[error("service `{0}` carries datagrams, not connections")]
    NotTcp(ServiceName),
}

impl Denied {
    /// The service that was asked for, if the mesh has it.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Unknown(_) => None,
            Self::NotOffered(service) | Self::NotTcp(service) | Self::NotAllowed { service, .. } => Some(service),
        }
    }
}

/// Decides whether `peer` may use the service called `name` on `me`.
///
/// # Errors
/// Why not.
pub fn permit(mesh: &Mesh, me: &NodeName, peer: &VerifiedPeer, name: &ServiceName) -> Result<Permit, Denied> {
    decide(mesh, me, peer.node(), name).map(|(service, rule)| Permit {
        // The mesh's own, which all share.
        service: service.name().clone(),
        peer: peer.node().clone(),
        rule: rule.clone(),
        target: service.target_at(me).clone(),
    })
}

/// The rule behind [`permit`], for names instead of proven peers: what `explain` asks.
///
/// # Errors
/// Why not.
pub fn decide<'a>(
    mesh: &'a Mesh,
    me: &NodeName,
    peer: &NodeName,
    name: &ServiceName,
) -> Result<(&'a Service, &'a AllowRule), Denied> {
    let service = mesh.service(name.as_str()).ok_or_else(|| Denied::Unknown(name.clone()))?;
    if !service.offered_by(me) {
        return Err(Denied::NotOffered(name.clone()));
    }
    let rule = service.permits(peer).ok_or_else(|| Denied::NotAllowed { service: name.clone(), peer: peer.clone() })?;
    if service.protocol() != Protocol::Tcp {
        return Err(Denied::NotTcp(name.clone()));
    }
    Ok((service, rule))
}

/// Whether the mesh permits a connection from `from` to the service called `name`, on `to` if that node has been chosen: asked of
/// live connections, at either end, when the mesh has changed.
///
/// # Errors
/// Why not.
pub fn still(mesh: &Mesh, from: &NodeName, to: Option<&NodeName>, name: &ServiceName) -> Result<(), Denied> {
    match to {
        Some(to) => decide(mesh, to, from, name).map(drop),
        // Another node may be chosen.
        None => {
            let service = mesh.service(name.as_str()).ok_or_else(|| Denied::Unknown(name.clone()))?;
            let first = service.on().first().unwrap_or(from);
            decide(mesh, first, from, name).map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESH: &str = r#"
        [mesh]
        name = "lab"
        version = 1
        [node.a]
        address = "10.0.0.1:7443"
        [node.b]
        address = "10.0.0.2:7443"
        [node.c]
        [group]
        some = ["b"]
        [service.web]
        on = ["a"]
        target = "127.0.0.1:80"
        listen = "127.0.0.1:8080"
        allow = ["@some"]
        [service.shut]
        on = ["a"]
        target = "127.0.0.1:81"
        [service.dns]
        protocol = "udp"
        on = ["a"]
        target = "127.0.0.1:53"
        listen = "127.0.0.1:5353"
        allow = ["b"]
    "#;

    #[test]
    fn a_service_is_closed_unless_allow_opens_it() {
        let mesh = Mesh::check(MESH, "mesh.toml").unwrap().mesh;
        let ask = |me: &str, peer: &str, service: &str| {
            decide(&mesh, &me.parse().unwrap(), &peer.parse().unwrap(), &service.parse().unwrap())
                .map(|(_, rule)| rule.to_string())
        };
        let name = |s: &str| s.parse::<ServiceName>().unwrap();
        assert_eq!(ask("a", "b", "web"), Ok("@some".to_owned()));
        assert_eq!(ask("a", "c", "web"), Err(Denied::NotAllowed { service: name("web"), peer: "c".parse().unwrap() }));
        assert_eq!(ask("b", "b", "web"), Err(Denied::NotOffered(name("web"))));
        assert_eq!(
            ask("a", "b", "shut"),
            Err(Denied::NotAllowed { service: name("shut"), peer: "b".parse().unwrap() })
        );
        assert_eq!(ask("a", "b", "nope"), Err(Denied::Unknown(name("nope"))));
        assert_eq!(ask("a", "b", "dns"), Err(Denied::NotTcp(name("dns"))));
        assert_eq!(
            ask("a", "stranger", "web"),
            Err(Denied::NotAllowed { service: name("web"), peer: "stranger".parse().unwrap() })
        );
    }
}
