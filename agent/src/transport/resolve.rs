//! DNS names of a mesh file to socket addresses, by the host's own configuration.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use mesh_config::{Address, Host};

use super::failure::{Failure, Layer};

/// What the host's name resolution depends on.
const SOURCES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

type Stamps = [Option<SystemTime>; SOURCES.len()];

/// Resolves names with the system's servers and hosts file. Answers are kept for their TTL; a change of either file is
/// seen at the next look-up.
#[derive(Default)]
pub struct Names {
    current: Mutex<Option<(Stamps, Arc<TokioResolver>)>>,
}

impl Names {
    /// The socket addresses that `address` stands for, at least one.
    ///
    /// # Errors
    /// A [`Failure`] of the layer `resolve` if the name has no address or no server answered.
    pub async fn resolve(&self, address: &Address) -> Result<Vec<SocketAddr>, Failure> {
        let name = match &address.host {
            Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, address.port)]),
            Host::Dns(name) => name,
        };
        let fail = |why: String| Failure::new(Layer::Resolve, format!("the name {name} does not resolve: {why}"));
        let resolver = self.resolver().map_err(fail)?;
        // A name of the mesh file is absolute: no search domain may be appended to it unless it is a single label.
        let query = if name.contains('.') { format!("{name}.") } else { name.to_string() };
        let answer = resolver.lookup_ip(query).await.map_err(|e| fail(e.to_string()))?;
        let found: Vec<_> = answer.iter().map(|ip| SocketAddr::new(ip, address.port)).collect();
        if found.is_empty() { Err(fail("it has no address".to_owned())) } else { Ok(found) }
    }

    fn resolver(&self) -> Result<Arc<TokioResolver>, String> {
        let stamps = SOURCES.map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok());
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, resolver)) = &*current
            && *known == stamps
        {
            return Ok(Arc::clone(resolver));
        }
        // Without a resolv.conf there is still the hosts file.
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
            TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
        });
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = Duration::from_secs(2);
        options.attempts = 2;
        let resolver = Arc::new(builder.build().map_err(|e| e.to_string())?);
        *current = Some((stamps, Arc::clone(&resolver)));
        Ok(resolver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_itself_and_a_name_of_the_hosts_file_resolves() {
        let names = Names::default();
        let ip = Address { host: Host::Ip("192.0.2.1".parse().unwrap()), port: 7443 };
        assert_eq!(names.resolve(&ip).await.unwrap(), ["192.0.2.1:7443".parse().unwrap()]);
        let local = Address { host: Host::Dns("localhost".into()), port: 1 };
        assert!(names.resolve(&local).await.unwrap().iter().all(|a| a.ip().is_loopback()));
    }
}
