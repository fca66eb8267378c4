//! Other programs, where the machine has them: mutual TLS 1.3 with AES-128-GCM where they can, with certificates made here.

mod envoy;
mod overlay;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use adit_tests::pki::{Authority, Leaf};
use adit_tests::{Mesh, eventually};
use anyhow::{Context as _, Result, ensure};

/// A program and how a pair of it is set up.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) name: &'static str,
    programs: &'static [&'static str],
    /// Starts both ends: the server's, then the client's.
    pub(crate) start: Start,
    /// The server's address within it, if it is a network of its own.
    pub(crate) overlay: Option<Ipv4Addr>,
}

/// All that can be set up.
pub(crate) static ALL: [Outside; 10] = [
    proxy("HAProxy, no encryption", &["haproxy"], haproxy),
    proxy("HAProxy, mutual TLS", &["haproxy"], haproxy_tls),
    proxy("Envoy, mutual TLS", &["envoy"], envoy::tcp),
    proxy("Envoy, HTTP/2 CONNECT over mutual TLS", &["envoy"], envoy::connect),
    proxy("stunnel", &["stunnel"], stunnel),
    proxy("nginx stream, mutual TLS", &["nginx"], nginx),
    proxy("socat, no encryption", &["socat"], socat),
    proxy("ssh -L", &["ssh", "sshd", "ssh-keygen"], ssh),
    network("nebula", &["nebula", "nebula-cert"], overlay::nebula),
    network("wireguard-go", &["wireguard-go", "wg", "ip"], overlay::wireguard),
];

type Start = fn(&Mesh) -> Result<Vec<Child>>;

const fn proxy(name: &'static str, programs: &'static [&'static str], start: Start) -> Outside {
    Outside { name, programs, start, overlay: None }
}

const fn network(name: &'static str, programs: &'static [&'static str], start: Start) -> Outside {
    Outside { name, programs, start, overlay: Some(overlay::SERVER) }
}

const SUITE: &str = "TLS_AES_128_GCM_SHA256";

impl Outside {
    /// The first of its programs that is not here.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        self.programs.iter().copied().find(|program| find(program).is_none())
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers are not in every user's path.
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    places.map(|place| place.join(program)).find(|file| file.is_file())
}

fn known(program: &str) -> Result<PathBuf> {
    find(program).with_context(|| format!("there is no {program}"))
}

/// The files and addresses of a pair.
struct Pair<'a> {
    mesh: &'a Mesh,
    /// Where the two ends meet, what the server's end dials, and where the client's listens.
    wire: String,
    target: String,
    entry: String,
}

impl<'a> Pair<'a> {
    fn new(mesh: &'a Mesh) -> Self {
        let (wire, target) = (mesh.link_address("alpha").to_string(), mesh.target("app", "alpha").to_string());
        Self { mesh, wire, target, entry: mesh.listener("app", "beta").to_string() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mesh.root().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.path(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path.display().to_string())
    }

    fn spawn(&self, node: &str, program: &str, arguments: &[&str]) -> Result<Child> {
        let path = known(program)?;
        let log = fs::File::create(self.path(&format!("{program}-{node}.out")))?;
        let mut command = self.mesh.place(node).command(path);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| format!("start {program}"))
    }

    /// An authority and a certificate for each end: `ca.pem`, and for each `.pem`, `.key` and both in `.both.pem`. Where they are.
    fn certificates(&self) -> Result<String> {
        let authority = Authority::new()?;
        self.write("ca.pem", &authority.root_pem())?;
        for node in ["alpha", "beta"] {
            let identity = authority.issue(&Leaf::of(node))?;
            let (chain, key) = (identity.chain_pem(), identity.key_pem());
            self.write(&format!("{node}.pem"), chain)?;
            self.write(&format!("{node}.key"), &key)?;
            self.write(&format!("{node}.both.pem"), &format!("{chain}{key}"))?;
        }
        Ok(self.mesh.root().display().to_string())
    }
}

fn haproxy(mesh: &Mesh) -> Result<Vec<Child>> {
    haproxy_pair(&Pair::new(mesh), "", "")
}

fn haproxy_tls(mesh: &Mesh) -> Result<Vec<Child>> {
    let pair = Pair::new(mesh);
    let at = pair.certificates()?;
    let both = |node: &str| {
        format!(
            "ssl crt {at}/{node}.both.pem ca-file {at}/ca.pem verify required ssl-min-ver TLSv1.3 ciphersuites {SUITE}"
        )
    };
    haproxy_pair(&pair, &both("alpha"), &format!("{} verifyhost alpha.lab", both("beta")))
}

fn haproxy_pair(pair: &Pair<'_>, bind: &str, server: &str) -> Result<Vec<Child>> {
    let configuration = |name: &str, listen: &str, bind: &str, target: &str, server: &str| {
        let text = format!(
            "global\n  maxconn 8000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
             listen t\n  bind {listen} {bind}\n  server s {target} {server}\n"
        );
        pair.write(name, &text)
    };
    let alpha = configuration("alpha.cfg", &pair.wire, bind, &pair.target, "")?;
    let beta = configuration("beta.cfg", &pair.entry, "", &pair.wire, server)?;
    let start = |node, file: &str| pair.spawn(node, "haproxy", &["-db", "-f", file]);
    Ok(vec![start("alpha", &alpha)?, start("beta", &beta)?])
}

fn stunnel(mesh: &Mesh) -> Result<Vec<Child>> {
    let pair = Pair::new(mesh);
    let at = pair.certificates()?;
    let start = |node: &str, client: &str, accept: &str, connect: &str, check: &str| {
        let text = format!(
            "foreground = yes\npid =\ndebug = 3\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n[t]\nclient = {client}\n\
             accept = {accept}\nconnect = {connect}\ncert = {at}/{node}.pem\nkey = {at}/{node}.key\nCAfile = {at}/ca.pem\n\
             verifyChain = yes\n{check}\nsslVersionMin = TLSv1.3\nciphersuites = {SUITE}\nTIMEOUTclose = 0\n"
        );
        pair.spawn(node, "stunnel", &[&pair.write(&format!("{node}.conf"), &text)?])
    };
    Ok(vec![
        start("alpha", "no", &pair.wire, &pair.target, "requireCert = yes")?,
        start("beta", "yes", &pair.entry, &pair.wire, "checkHost = alpha.lab")?,
    ])
}

fn nginx(mesh: &Mesh) -> Result<Vec<Child>> {
    let pair = Pair::new(mesh);
    let at = pair.certificates()?;
    let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
    // Built in where it is no file.
    let load = if module.is_file() { format!("load_module {};", module.display()) } else { String::new() };
    let start = |node: &str, body: &str| {
        let text = format!(
            "daemon off; worker_processes auto; pid {at}/{node}.pid; error_log stderr error; {load}\n\
             events {{ worker_connections 16000; }}\nstream {{ server {{ {body} }} }}\n"
        );
        pair.spawn(node, "nginx", &["-e", "stderr", "-c", &pair.write(&format!("{node}.conf"), &text)?])
    };
    let Pair { wire, target, entry, .. } = &pair;
    let alpha = format!(
        "listen {wire} ssl backlog=4096; proxy_pass {target}; ssl_certificate {at}/alpha.pem; \
         ssl_certificate_key {at}/alpha.key; ssl_client_certificate {at}/ca.pem; ssl_verify_client on; \
         ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites {SUITE};"
    );
    let beta = format!(
        "listen {entry} backlog=4096; proxy_pass {wire}; proxy_ssl on; proxy_ssl_certificate {at}/beta.pem; \
         proxy_ssl_certificate_key {at}/beta.key; proxy_ssl_verify on; proxy_ssl_trusted_certificate {at}/ca.pem; \
         proxy_ssl_name alpha.lab; proxy_ssl_protocols TLSv1.3; proxy_ssl_conf_command Ciphersuites {SUITE};"
    );
    Ok(vec![start("alpha", &alpha)?, start("beta", &beta)?])
}

fn socat(mesh: &Mesh) -> Result<Vec<Child>> {
    let pair = Pair::new(mesh);
    let start = |node: &str, from: &str, to: &str| {
        let (address, port) = from.rsplit_once(':').context("an address without a port")?;
        let listen = format!("TCP-LISTEN:{port},bind={address},fork,reuseaddr,backlog=4096,nodelay");
        pair.spawn(node, "socat", &[&listen, &format!("TCP:{to},nodelay")])
    };
    Ok(vec![start("alpha", &pair.wire, &pair.target)?, start("beta", &pair.entry, &pair.wire)?])
}

/// Keys both ways, no passwords, as whoever runs this.
fn ssh(mesh: &Mesh) -> Result<Vec<Child>> {
    let pair = Pair::new(mesh);
    for name in ["host", "user"] {
        let mut command = Command::new(known("ssh-keygen")?);
        command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(pair.path(name));
        ensure!(command.status()?.success(), "ssh-keygen failed");
    }
    let (address, port) = pair.wire.rsplit_once(':').context("an address without a port")?;
    let host = fs::read_to_string(pair.path("host.pub"))?;
    let known = pair.write("known", &format!("[{address}]:{port} {host}"))?;
    let (at, wire) = (pair.mesh.root().display().to_string(), &pair.wire);
    let text = format!(
        "ListenAddress {wire}\nHostKey {at}/host\nAuthorizedKeysFile {at}/user.pub\nStrictModes no\nPermitRootLogin yes\n\
         UsePAM no\nPasswordAuthentication no\nPidFile none\nAllowTcpForwarding yes\nMaxSessions 10000\n"
    );
    // Where sshd, as root, gives up its rights.
    let _ = fs::create_dir_all("/run/sshd");
    let server = pair.spawn("alpha", "sshd", &["-D", "-e", "-f", &pair.write("sshd.conf", &text)?])?;
    // ssh tries once.
    eventually("sshd listens", adit_tests::mesh::SOON, || {
        pair.mesh.place("beta").connect(pair.mesh.link_address("alpha"), adit_tests::mesh::SOON)
    })?;
    let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
    let forward = format!("{}:{}", pair.entry, pair.target);
    let client = pair.spawn(
        "beta",
        "ssh",
        &[
            "-F",
            "none",
            "-N",
            "-L",
            &forward,
            "-p",
            port,
            "-i",
            &format!("{at}/user"),
            "-o",
            &format!("UserKnownHostsFile={known}"),
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            &format!("{user}@{address}"),
        ],
    )?;
    Ok(vec![server, client])
}
