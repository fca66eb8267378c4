//! DNS names of a mesh file to socket addresses, by the host's own configuration.
//!
//! IPv4 and IPv6 are asked for apart, so that a server which does not answer one of them holds up the other for a moment only.
//! What each answered last is kept while there is no answer: a name server that is away, or has lost a name, takes no peer away.

mod answers;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use mesh_config::{Address, Host};
use tokio::time::{Instant, timeout};

use self::answers::{Answers, Heard};
use super::failure::{Failure, Layer};

/// What the host's name resolution depends on.
const SOURCES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// How long the addresses of one family are waited for when those of the other are there (RFC 8305 §3, "Resolution Delay").
const OTHER_FAMILY: Duration = Duration::from_millis(50);
/// Names of which the last answer is kept. Those of a mesh file are fewer; names that are no longer in one make room.
const MOST_NAMES: usize = 4096;
/// When a name is asked for again of which there is no new answer.
const RETRY: Duration = Duration::from_secs(5);

type Stamps = [Option<SystemTime>; SOURCES.len()];

/// One resolver for each family.
struct Resolvers([TokioResolver; 2]);

/// What is known of a name.
struct Known {
    answers: Answers,
    /// When it was asked for last.
    used: Instant,
    /// Its last answer is used in place of one that did not come.
    kept: bool,
}

/// Where an address leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The socket addresses, at least one: the families by turns.
    pub addresses: Vec<SocketAddr>,
    /// Until when that holds; nothing if for ever.
    pub until: Option<Instant>,
}

/// Resolves names with the system's servers and hosts file. Answers are kept for their TTL; a change of either file is
/// seen at the next look-up.
#[derive(Default)]
pub struct Names {
    current: Mutex<Option<(Stamps, Arc<Resolvers>)>>,
    known: Mutex<BTreeMap<Box<str>, Known>>,
    /// In place of the system's.
    #[cfg(test)]
    servers: Option<ResolverConfig>,
}

impl Names {
    /// The socket addresses that `address` stands for, at least one, and for how long. Within a moment after one family has answered, or
    /// when both have.
    ///
    /// # Errors
    /// A [`Failure`] of the layer `resolve` if the name has no address, or no server answered, and none is known of before.
    pub async fn resolve(&self, address: &Address) -> Result<Resolved, Failure> {
        self.look_up(address, OTHER_FAMILY).await
    }

    /// The same, and both families are waited for.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub async fn resolve_all(&self, address: &Address) -> Result<Resolved, Failure> {
        // The resolvers have bounds of their own.
        self.look_up(address, Duration::from_secs(60)).await
    }

    async fn look_up(&self, address: &Address, other: Duration) -> Result<Resolved, Failure> {
        let name = match &address.host {
            Host::Ip(ip) => return Ok(Resolved { addresses: vec![SocketAddr::new(*ip, address.port)], until: None }),
            Host::Dns(name) => name,
        };
        // An address takes no memory for what a name does.
        Box::pin(self.ask(name, address.port, other)).await
    }

    async fn ask(&self, name: &str, port: u16, other: Duration) -> Result<Resolved, Failure> {
        let fail = |why: String| Failure::new(Layer::Resolve, format!("the name {name} does not resolve: {why}"));
        let resolvers = self.resolvers().map_err(fail)?;
        // A name of the mesh file is absolute: no search domain may be appended to it unless it is a single label.
        let query = if name.contains('.') { format!("{name}.") } else { name.to_string() };
        let [v4, v6] = resolvers.0.each_ref().map(|resolver| async {
            heard(resolver.lookup_ip(query.as_str()).await.map(|found| (found.iter().collect(), found.valid_until())))
        });
        let (v4, v6) = both(v4, v6, other).await;
        let (ips, until) = self.take_in(name, [v4, v6]).map_err(fail)?;
        let addresses = ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        Ok(Resolved { addresses, until: Some(until) })
    }

    /// Notes what both families came to. The addresses that are to be used, until when, or why there is none.
    fn take_in(&self, name: &str, heard: [Heard; 2]) -> Result<(Vec<IpAddr>, Instant), String> {
        let now = Instant::now();
        let mut known = self.known();
        if known.len() >= MOST_NAMES
            && !known.contains_key(name)
            && let Some(oldest) = known.iter().min_by_key(|(_, known)| known.used).map(|(name, _)| name.clone())
        {
            known.remove(&oldest);
        }
        let entry =
            known.entry(name.into()).or_insert_with(|| Known { answers: Answers::default(), used: now, kept: false });
        entry.used = now;
        let why = entry.answers.hear(heard);
        let ips = entry.answers.addresses();
        if ips.is_empty() {
            known.remove(name);
            return Err(why.unwrap_or_else(|| "it has no address".to_owned()));
        }
        let kept = entry.answers.is_kept();
        if let Some(why) = why.filter(|_| kept && !entry.kept) {
            tracing::warn!(
                "the name {name} does not resolve: {why}: its last addresses are used until there are others"
            );
        }
        entry.kept = kept;
        Ok((ips, entry.answers.until(now + RETRY)))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resolvers(&self) -> Result<Arc<Resolvers>, String> {
        let stamps = SOURCES.map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok());
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, resolvers)) = &*current
            && *known == stamps
        {
            return Ok(Arc::clone(resolvers));
        }
        let resolvers = Arc::new(Resolvers([
            self.resolver(LookupIpStrategy::Ipv4Only)?,
            self.resolver(LookupIpStrategy::Ipv6Only)?,
        ]));
        *current = Some((stamps, Arc::clone(&resolvers)));
        Ok(resolvers)
    }

    fn resolver(&self, family: LookupIpStrategy) -> Result<TokioResolver, String> {
        let with = |config| TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        // Without a resolv.conf there is still the hosts file.
        let system = || TokioResolver::builder_tokio().unwrap_or_else(|_| with(ResolverConfig::default()));
        #[cfg(test)]
        let mut builder = self.servers.clone().map_or_else(system, with);
        #[cfg(not(test))]
        let mut builder = system();
        let options = builder.options_mut();
        options.ip_strategy = family;
        options.timeout = Duration::from_secs(2);
        options.attempts = 2;
        builder.build().map_err(|e| e.to_string())
    }
}

/// What a look-up came to.
fn heard(result: Result<(Vec<IpAddr>, std::time::Instant), NetError>) -> Heard {
    match result {
        Ok((found, _)) if found.is_empty() => Heard::Nothing("it has no address".to_owned()),
        Ok((found, until)) => Heard::Addresses(found, Instant::from_std(until)),
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain) =>
        {
            Heard::Nothing("it has no address".to_owned())
        }
        Err(error) => Heard::Failed(error.to_string()),
    }
}

/// What both come to. When one has addresses the other is waited for `other` at most.
async fn both(v4: impl Future<Output = Heard>, v6: impl Future<Output = Heard>, other: Duration) -> (Heard, Heard) {
    let (mut v4, mut v6) = (std::pin::pin!(v4), std::pin::pin!(v6));
    tokio::select! {
        first = v4.as_mut() => match first {
            Heard::Addresses(..) => (first, timeout(other, v6).await.unwrap_or(Heard::Late)),
            _ => (first, v6.await),
        },
        first = v6.as_mut() => match first {
            Heard::Addresses(..) => (timeout(other, v4).await.unwrap_or(Heard::Late), first),
            _ => (v4.await, first),
        },
    }
}

#[cfg(test)]
impl Names {
    /// Asks this server for everything.
    pub(crate) fn of(server: SocketAddr) -> Self {
        use hickory_resolver::config::{ConnectionConfig, NameServerConfig};
        let mut connection = ConnectionConfig::udp();
        connection.port = server.port();
        let server = NameServerConfig::new(server.ip(), true, vec![connection]);
        Self { servers: Some(ResolverConfig::from_name_servers(vec![server])), ..Self::default() }
    }
}

#[cfg(test)]
pub(crate) mod tests;
