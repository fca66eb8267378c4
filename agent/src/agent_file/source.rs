//! `[source]`: from where, besides its peers, this host gets signed mesh documents.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use mesh_config::document::{Problems, Table};
use mesh_config::{Fault, quote};

/// How often a source is asked although it has said nothing: the default, and the range.
const POLL: Duration = Duration::from_secs(60);
const POLL_LEAST: Duration = Duration::from_secs(1);
const POLL_MOST: Duration = Duration::from_secs(86_400);
/// A cluster has 3, 5 or 7 members.
const MOST_ENDPOINTS: usize = 16;
/// The longest prefix of keys, in bytes.
const LONGEST_PREFIX: usize = 256;
/// The longest path and query of a URL, in bytes.
const LONGEST_PATH: usize = 2_048;
/// The port of etcd's clients.
const ETCD_PORT: u16 = 2_379;

/// `[source]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources {
    /// `[source.etcd]`.
    pub etcd: Option<EtcdSource>,
    /// `[source.https]`.
    pub https: Option<HttpsSource>,
}

/// `[source.etcd]`: an etcd cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdSource {
    /// Its members, one at least.
    pub endpoints: Vec<Endpoint>,
    /// What the keys begin with; it ends with a slash. `None`: `/adit/MESH/`.
    pub prefix: Option<String>,
    /// How its members are judged, and how this host proves itself.
    pub tls: TlsFiles,
    /// The user, and the file with its password.
    pub login: Option<(String, PathBuf)>,
    /// How often it is asked although its watch says nothing.
    pub poll: Duration,
}

/// `[source.https]`: a document on a web server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsSource {
    /// The server.
    pub endpoint: Endpoint,
    /// The document there: path and query.
    pub path: String,
    /// How it is judged, and how this host proves itself.
    pub tls: TlsFiles,
    /// How often it is asked.
    pub poll: Duration,
}

/// Files for TLS; relative paths are below the agent's directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// The accepted roots, in PEM. `None`: the system's.
    pub ca: Option<PathBuf>,
    /// This host's certificate chain and its key, in PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether TLS is spoken.
    pub secure: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// `HOST:PORT`, with brackets where they belong.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    fn is_loopback(&self) -> bool {
        self.host.parse::<IpAddr>().map_or(self.host == "localhost", |ip| ip.is_loopback())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.secure { "https" } else { "http" }, self.authority())
    }
}

/// Reads `[source]`.
pub(super) fn read(mut table: Table<'_>, problems: &mut Problems<'_>) -> Sources {
    let etcd = table.table("etcd", problems).and_then(|table| read_etcd(table, problems));
    let https = table.table("https", problems).and_then(|table| read_https(table, problems));
    table.finish(problems);
    Sources { etcd, https }
}

fn read_etcd(mut table: Table<'_>, problems: &mut Problems<'_>) -> Option<EtcdSource> {
    table.require("endpoints", "endpoints = [\"https://etcd-1.example.net:2379\"]", problems);
    let plaintext = table.boolean("plaintext", problems).is_some_and(|found| found.value);
    let list = table.string_or_strings("endpoints", problems);
    let mut endpoints: Vec<Endpoint> = Vec::new();
    if let Some(list) = &list {
        for text in list.value.iter().take(MOST_ENDPOINTS) {
            match endpoint(text.value, plaintext) {
                Ok(endpoint) if endpoints.contains(&endpoint) => {
                    problems
                        .warning(&text.span, format!("{endpoint} stands in this list twice"))
                        .hint("keep one of the two");
                }
                Ok(endpoint) => endpoints.push(endpoint),
                Err(fault) => problems.fault(&text.span, &fault),
            }
        }
        if list.value.is_empty() {
            problems.error(&list.span, "`endpoints` names no server").hint("name the members of the cluster");
        }
        if list.value.len() > MOST_ENDPOINTS {
            problems
                .error(&list.span, format!("`endpoints` has more than {MOST_ENDPOINTS} servers"))
                .hint("some members are enough: the others take over when one is away");
        }
    }
    let prefix = table.parsed("prefix", problems, prefix).map(|found| found.value);
    let tls = read_tls(&mut table, problems);
    let user = table.parsed("user", problems, |text| {
        match text.is_empty() || text.len() > LONGEST_PREFIX || text.chars().any(char::is_control) {
            true => Err(Fault::new(format!("{} is not a user's name", quote(text)))),
            false => Ok(text.to_owned()),
        }
    });
    let password = table.parsed("password_file", problems, file);
    let login = match (user, password) {
        (Some(user), Some(file)) => Some((user.value, file.value)),
        (Some(user), None) => {
            if !table.has("password_file") {
                problems.error(&user.span, "a user needs a password").hint("add `password_file = \"etcd.password\"`");
            }
            None
        }
        (None, Some(file)) => {
            if !table.has("user") {
                problems.error(&file.span, "a password needs a user").hint("add `user = \"NAME\"`");
            }
            None
        }
        (None, None) => None,
    };
    let poll = read_poll(&mut table, problems);
    table.finish(problems);
    (!endpoints.is_empty()).then_some(EtcdSource { endpoints, prefix, tls, login, poll })
}

fn read_https(mut table: Table<'_>, problems: &mut Problems<'_>) -> Option<HttpsSource> {
    table.require("url", "url = \"https://config.example.net/lab/mesh.signed\"", problems);
    let found = table.parsed("url", problems, url);
    let tls = read_tls(&mut table, problems);
    let poll = read_poll(&mut table, problems);
    table.finish(problems);
    let (endpoint, path) = found?.value;
    Some(HttpsSource { endpoint, path, tls, poll })
}

fn read_tls(table: &mut Table<'_>, problems: &mut Problems<'_>) -> TlsFiles {
    let ca = table.parsed("ca", problems, file).map(|found| found.value);
    let certificate = table.parsed("certificate", problems, file);
    let key = table.parsed("key", problems, file);
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate.value, key.value)),
        (Some(certificate), None) => {
            if !table.has("key") {
                problems.error(&certificate.span, "a certificate needs its key").hint("add `key = \"FILE\"`");
            }
            None
        }
        (None, Some(key)) => {
            if !table.has("certificate") {
                problems.error(&key.span, "a key needs its certificate").hint("add `certificate = \"FILE\"`");
            }
            None
        }
        (None, None) => None,
    };
    TlsFiles { ca, client }
}

fn read_poll(table: &mut Table<'_>, problems: &mut Problems<'_>) -> Duration {
    table.duration("poll", POLL_LEAST..=POLL_MOST, problems).map_or(POLL, |found| found.value)
}

/// A file's path.
fn file(text: &str) -> Result<PathBuf, Fault> {
    match text.is_empty() || text.ends_with('/') || text.chars().any(char::is_control) {
        true => Err(Fault::new(format!("{} is not a file's path", quote(text)))),
        false => Ok(PathBuf::from(text)),
    }
}

fn prefix(text: &str) -> Result<String, Fault> {
    let fault = |why: &str| Fault::new(format!("{} cannot be the beginning of keys: {why}", quote(text)));
    let slash = if text.ends_with('/') { "" } else { "/" };
    if text.trim_matches('/').is_empty() {
        return Err(fault("other keys may begin with it as well").hint("write one such as \"/adit/lab/\""));
    }
    if text.len() >= LONGEST_PREFIX {
        return Err(fault("it is too long"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(fault("it is of visible ASCII characters alone"));
    }
    Ok(format!("{text}{slash}"))
}

/// Scheme, host and port of a URL, and what follows them.
fn parts(text: &str, port: u16) -> Result<(Endpoint, String), Fault> {
    let fault = |why: &str| Fault::new(format!("{} is not a URL that can be used: {why}", quote(text)));
    if text.contains('@') {
        return Err(fault("it has a user or a password in it, which would show in logs"));
    }
    let uri: Uri = text.parse().map_err(|_| fault("it is none").hint("write one such as \"https://host:2379\""))?;
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(fault("it begins with neither https:// nor http://").hint(format!("write \"https://{text}\""))),
    };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    if rustls::pki_types::ServerName::try_from(host.clone()).is_err() {
        return Err(fault("it names no host"));
    }
    let path = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    Ok((Endpoint { secure, host, port: uri.port_u16().unwrap_or(port) }, path))
}

fn endpoint(text: &str, plaintext: bool) -> Result<Endpoint, Fault> {
    let (endpoint, path) = parts(text, ETCD_PORT)?;
    if !matches!(&*path, "" | "/") {
        return Err(Fault::new(format!("{} has a path, and etcd's API has none", quote(text)))
            .hint(format!("write \"{endpoint}\"; where the keys are is `prefix`")));
    }
    if !endpoint.secure && !plaintext && !endpoint.is_loopback() {
        let message =
            format!("{endpoint} is another host without TLS: whoever is on the way sees and stops what passes");
        return Err(Fault::new(message).hint("write https://, or add `plaintext = true` if that is meant"));
    }
    Ok(endpoint)
}

fn url(text: &str) -> Result<(Endpoint, String), Fault> {
    let (endpoint, path) = parts(text, 443)?;
    if !endpoint.secure {
        return Err(Fault::new(format!("{} is without TLS", quote(text))).hint("write https://"));
    }
    if path.len() > LONGEST_PATH {
        return Err(Fault::new("the URL is too long"));
    }
    Ok((endpoint, if path.is_empty() { "/".to_owned() } else { path }))
}
