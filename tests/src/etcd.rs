//! A real etcd, from the package `etcd-server`: one member, or several, on loopback.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::addresses::Block;
use crate::binary;
use crate::pki::Authority;
use crate::scratch;
use crate::wait::eventually;

const CLIENTS: u16 = 2379;
const PEERS: u16 = 2380;
/// How long a member may take to answer.
const UP: Duration = Duration::from_secs(20);

/// Whether this machine has etcd; if not, says that `test` is skipped.
pub fn is_here(test: &str) -> bool {
    let here = Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !here {
        crate::suite::skipped(test, "there is no etcd: install `etcd-server`");
    }
    here
}

/// A cluster. Dropping it kills its members.
pub struct Cluster {
    root: PathBuf,
    secure: bool,
    members: Vec<Member>,
}

struct Member {
    address: Ipv4Addr,
    child: Option<Child>,
}

impl Cluster {
    /// Starts so many members and waits until they answer. A secure one speaks TLS alone, and wants certificates of clients.
    pub fn start(members: u8, secure: bool) -> Result<Self> {
        let root = scratch::directory()?;
        let block = Block::next();
        let members: Vec<_> = (1..=members).map(|host| Member { address: block.address(host), child: None }).collect();
        if secure {
            let authority = Authority::new()?;
            fs::write(root.join("ca.pem"), authority.root_pem())?;
            for member in &members {
                let identity = authority.issue_host(member.address.into())?;
                fs::write(root.join(format!("{}.pem", member.address)), identity.chain_pem())?;
                fs::write(root.join(format!("{}.key", member.address)), identity.key_pem())?;
            }
            let client = authority.issue_host(Ipv4Addr::LOCALHOST.into())?;
            fs::write(root.join("client.pem"), client.chain_pem())?;
            fs::write(root.join("client.key"), client.key_pem())?;
        }
        let mut this = Self { root, secure, members };
        (0..this.members.len()).try_for_each(|member| this.spawn(member))?;
        this.wait()?;
        Ok(this)
    }

    /// Starts a member that was killed, with what it had on its disk, and waits until it answers.
    pub fn restart(&mut self, member: usize) -> Result<()> {
        self.spawn(member)?;
        self.wait()
    }

    /// Starts all that were killed, and waits until they answer.
    pub fn restart_all(&mut self) -> Result<()> {
        let dead: Vec<_> = (0..self.members.len()).filter(|member| self.members[*member].child.is_none()).collect();
        dead.into_iter().try_for_each(|member| self.spawn(member))?;
        self.wait()
    }

    /// Ends a member as `kill -9` does.
    pub fn kill(&mut self, member: usize) -> Result<()> {
        let mut child = self.members[member].child.take().context("it does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    fn spawn(&mut self, member: usize) -> Result<()> {
        let peers: Vec<_> =
            self.members.iter().map(|m| format!("{}=http://{}:{PEERS}", m.address, m.address)).collect();
        let address = self.members[member].address;
        let (clients, peer) = (self.url(member), format!("http://{address}:{PEERS}"));
        let log = File::options().create(true).append(true).open(self.root.join(format!("{address}.log")))?;
        let mut command = Command::new("etcd");
        command.args(["--name", &address.to_string(), "--initial-cluster", &peers.join(",")]);
        command.arg("--data-dir").arg(self.root.join(format!("{address}.data")));
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--heartbeat-interval", "50", "--election-timeout", "500"]);
        if self.secure {
            let file = |end: &str| self.root.join(format!("{address}.{end}"));
            command.arg("--cert-file").arg(file("pem")).arg("--key-file").arg(file("key"));
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(self.root.join("ca.pem"));
        }
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        self.members[member].child = Some(child.context("start etcd")?);
        Ok(())
    }

    /// Waits until every member that runs answers, by the leader's word.
    fn wait(&self) -> Result<()> {
        for (member, _) in self.members.iter().enumerate().filter(|(_, m)| m.child.is_some()) {
            eventually("etcd answers", UP, || {
                self.call_member(member, "/v3/kv/range", &json!({"key": BASE64.encode("x")}), None)
            })?;
        }
        Ok(())
    }

    fn url(&self, member: usize) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", SocketAddr::from((self.members[member].address, CLIENTS)))
    }

    /// `[source.etcd]` for an agent file of the agent in `directory`, which gets the files that belong to it.
    pub fn source(&self, directory: &Path, lines: &str) -> Result<String> {
        let endpoints: Vec<_> = (0..self.members.len()).map(|member| self.url(member)).collect();
        let mut text = format!("[source.etcd]\nendpoints = {endpoints:?}\n{lines}");
        if self.secure {
            for (file, name) in [("ca.pem", "etcd-ca.pem"), ("client.pem", "etcd.pem"), ("client.key", "etcd.key")] {
                fs::copy(self.root.join(file), directory.join(name))?;
            }
            let key = directory.join("etcd.key");
            fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            text.push_str("ca = \"etcd-ca.pem\"\ncertificate = \"etcd.pem\"\nkey = \"etcd.key\"\n");
        }
        Ok(text)
    }

    /// Asks the first member that runs, with another program than the one under test.
    pub fn call(&self, path: &str, request: &Value) -> Result<Value> {
        self.call_as(path, request, None)
    }

    /// The same as whoever has this token.
    pub fn call_as(&self, path: &str, request: &Value, token: Option<&str>) -> Result<Value> {
        let member = self.members.iter().position(|member| member.child.is_some()).context("no member runs")?;
        self.call_member(member, path, request, token)
    }

    fn call_member(&self, member: usize, path: &str, request: &Value, token: Option<&str>) -> Result<Value> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "10"]);
        if self.secure {
            command.arg("--cacert").arg(self.root.join("ca.pem")).arg("--cert").arg(self.root.join("client.pem"));
            command.arg("--key").arg(self.root.join("client.key"));
        }
        if let Some(token) = token {
            command.arg("--header").arg(format!("Authorization: {token}"));
        }
        let body = self.root.join("request.json");
        fs::write(&body, request.to_string())?;
        command.arg("--data-binary").arg(format!("@{}", body.display())).arg(format!("{}{path}", self.url(member)));
        let answer = binary::run(&mut command, binary::BOUND)?.success()?.json()?;
        ensure!(answer["error"].is_null(), "{path}: {answer}");
        Ok(answer)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Result<Vec<u8>> {
        let answer = self.call("/v3/kv/range", &json!({"key": BASE64.encode(key)}))?;
        let value = answer["kvs"][0]["value"].as_str().with_context(|| format!("there is no {key}"))?;
        Ok(BASE64.decode(value)?)
    }

    /// Sets a key.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        self.call("/v3/kv/put", &json!({"key": BASE64.encode(key), "value": BASE64.encode(value)}))?;
        Ok(())
    }

    /// Removes a key.
    pub fn remove(&self, key: &str) -> Result<()> {
        let answer = self.call("/v3/kv/deleterange", &json!({"key": BASE64.encode(key)}))?;
        ensure!(answer["deleted"] == "1", "{key}: {answer}");
        Ok(())
    }

    /// All keys that begin with `prefix`, which ends with a slash.
    pub fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let request = json!({"key": BASE64.encode(prefix), "range_end": BASE64.encode(end), "keys_only": true});
        let answer = self.call("/v3/kv/range", &request)?;
        let keys = answer["kvs"].as_array().cloned().unwrap_or_default();
        let key = |kv: &Value| Ok(String::from_utf8(BASE64.decode(kv["key"].as_str().unwrap_or_default())?)?);
        keys.iter().map(key).collect()
    }

    /// Forgets everything that was before now.
    pub fn compact(&self) -> Result<()> {
        let answer = self.call("/v3/kv/range", &json!({"key": BASE64.encode("x")}))?;
        let revision = answer["header"]["revision"].as_str().context("no revision")?;
        self.call("/v3/kv/compaction", &json!({"revision": revision, "physical": true}))?;
        Ok(())
    }

    /// Has the cluster ask for a user and a password: the root's is `root`, and `user` may read what begins with `prefix`.
    pub fn ask_who(&self, user: &str, password: &str, prefix: &str) -> Result<()> {
        let end = format!("{}0", prefix.trim_end_matches('/'));
        for (path, request) in [
            ("user/add", json!({"name": "root", "password": "root"})),
            ("role/add", json!({"name": "root"})),
            ("user/grant", json!({"user": "root", "role": "root"})),
            ("user/add", json!({"name": user, "password": password})),
            ("role/add", json!({"name": "reader"})),
            (
                "role/grant",
                json!({"name": "reader", "perm": {
                    "permType": "READ", "key": BASE64.encode(prefix), "range_end": BASE64.encode(end),
                }}),
            ),
            ("user/grant", json!({"user": user, "role": "reader"})),
            ("enable", json!({})),
        ] {
            self.call(&format!("/v3/auth/{path}"), &request).with_context(|| path.to_owned())?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in 0..self.members.len() {
            // One that has ended by itself is no news: the test has noticed or does not care.
            let _ = self.kill(member);
        }
    }
}

/// A password file.
pub fn password(directory: &Path, text: &str) -> Result<()> {
    let path = directory.join("etcd.password");
    fs::write(&path, format!("{text}\n"))?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    match path.is_file() {
        true => Ok(()),
        false => bail!("{} is no file", path.display()),
    }
}
