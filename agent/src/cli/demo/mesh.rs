//! The demo's mesh: its directories and its agents.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::super::context::Context;
use super::super::error::CliError;
use super::super::init::{self, InitArgs, MESH_FILE, NODES};
use crate::admin::client::Client;
use crate::admin::socket::SOCKET_FILE;
use crate::admin::view::{AgentState, Status};
use crate::vocabulary::{Path as LinkPath, PeerState};

const NAMES: [&str; 20] = [
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "omicron", "pi", "rho", "sigma", "tau", "upsilon",
];
/// A member that no `allow` names.
pub(super) const OUTSIDER: &str = "outsider";
/// How long the agents may take to come up.
const READY: Duration = Duration::from_secs(20);
/// How long they may take to stop.
const STOP: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// A node of the demo.
pub(super) struct Node {
    pub(super) name: String,
    /// The agent's own address.
    pub(super) address: SocketAddr,
    /// Where applications on it reach the service.
    pub(super) listen: SocketAddr,
}

/// Names and ports.
pub(super) struct Layout {
    pub(super) nodes: Vec<Node>,
    pub(super) outsider: Node,
    /// The web server.
    pub(super) target: SocketAddr,
}

impl Layout {
    /// Chooses ports of loopback that are free now.
    pub(super) fn choose(nodes: u8) -> Result<Self, CliError> {
        Self::free(nodes).map_err(|e| CliError::failed("ports", format!("no free ports on loopback: {e}")))
    }

    fn free(nodes: u8) -> std::io::Result<Self> {
        // Held until all are chosen, so that none is chosen twice.
        let mut held = Vec::new();
        let mut free = || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let address = listener.local_addr()?;
            held.push(listener);
            Ok::<_, std::io::Error>(address)
        };
        let target = free()?;
        let mut node = |name: &str| Ok(Node { name: name.to_owned(), address: free()?, listen: free()? });
        let outsider = node(OUTSIDER)?;
        let nodes = NAMES.iter().take(nodes.into()).map(|n| node(n)).collect::<std::io::Result<_>>()?;
        Ok(Self { nodes, outsider, target })
    }

    /// The node beside the web server.
    pub(super) fn offerer(&self) -> &str {
        &self.nodes[0].name
    }

    /// All others.
    pub(super) fn reachers(&self) -> &[Node] {
        &self.nodes[1..]
    }

    /// The mesh file as `node` has it; only the outsider's is another.
    fn mesh_file(&self, with_outsider: bool, lie: bool) -> String {
        let mut text = String::from(
            "# The demo's mesh. Every node has the same file.\n\n[mesh]\nname = \"demo\"\nversion = 1\n\n",
        );
        let members = self.nodes.iter().chain(with_outsider.then_some(&self.outsider));
        for node in members {
            text += &format!("[node.{}]\naddress = \"{}\"\n\n", node.name, node.address);
        }
        let quoted =
            |names: &mut dyn Iterator<Item = &str>| names.map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", ");
        let mut reachers = self.reachers().iter().map(|n| n.name.as_str()).chain(lie.then_some(OUTSIDER));
        text += &format!(
            "[service.web]\non = [{:?}]\ntarget = \"{}\"\nallow = [{}]\n",
            self.offerer(),
            self.target,
            quoted(&mut reachers)
        );
        for node in self.reachers().iter().chain(lie.then_some(&self.outsider)) {
            text += &format!("\n[service.web.at.{}]\nlisten = \"{}\"\n", node.name, node.listen);
        }
        text
    }
}

struct Running {
    name: String,
    child: Child,
    dir: PathBuf,
}

/// The mesh while it runs.
pub(super) struct Demo {
    root: PathBuf,
    kept: bool,
    layout: Layout,
    with_outsider: bool,
    agents: Vec<Running>,
}

impl Demo {
    /// Writes all directories.
    pub(super) fn prepare(
        keep: Option<&Path>,
        layout: Layout,
        ctx: &Context,
        with_outsider: bool,
    ) -> Result<Self, CliError> {
        let root = match keep {
            Some(path) => path.to_owned(),
            None => temporary()?,
        };
        DirBuilder::new()
            .mode(0o700)
            .recursive(keep.is_some())
            .create(&root)
            .map_err(|e| CliError::failed("directory", format!("cannot make {}: {e}", root.display())))?;
        let demo = Self { root, kept: keep.is_some(), layout, with_outsider, agents: Vec::new() };
        demo.make_mesh(&demo.root, ctx)?;
        let text = demo.layout.mesh_file(with_outsider, false);
        for dir in std::iter::once(demo.root.clone()).chain(demo.members().map(|n| demo.directory_of(&n.name))) {
            write(&dir.join(MESH_FILE), &text)?;
        }
        if with_outsider {
            // Who lies in its own copy gains nothing.
            let dir = demo.directory_of(OUTSIDER);
            write(&dir.join(MESH_FILE), &demo.layout.mesh_file(true, true))?;
        }
        Ok(demo)
    }

    /// A mesh called `demo` with all nodes, in `dir`.
    pub(super) fn make_mesh(&self, dir: &Path, ctx: &Context) -> Result<(), CliError> {
        let nodes = self.members().map(|n| format!("{}={}", n.name, n.address)).collect();
        let args = InitArgs { mesh: "demo".to_owned(), nodes, bundle: true };
        let quiet = Context { dir: dir.to_owned(), json: false, quiet: true, ..ctx.clone() };
        init::run(&args, &mut quiet.terminal(&mut std::io::sink(), &mut std::io::sink()))
    }

    fn members(&self) -> impl Iterator<Item = &Node> {
        self.layout.nodes.iter().chain(self.with_outsider.then_some(&self.layout.outsider))
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of the `index`th node.
    pub(super) fn directory(&self, index: usize) -> PathBuf {
        self.directory_of(&self.layout.nodes[index].name)
    }

    pub(super) fn directory_of(&self, node: &str) -> PathBuf {
        self.root.join(NODES).join(node)
    }

    /// Starts every agent.
    pub(super) fn start(&mut self, ctx: &Context) -> Result<(), CliError> {
        let members: Vec<_> = self.members().map(|n| (n.name.clone(), self.directory_of(&n.name))).collect();
        for (name, dir) in members {
            self.spawn(&name, dir, ctx)?;
        }
        Ok(())
    }

    /// Starts the agent of one directory. Its log goes to `agent.log` there.
    pub(super) fn spawn(&mut self, name: &str, dir: PathBuf, ctx: &Context) -> Result<(), CliError> {
        let failed = |e: std::io::Error| CliError::failed("spawn", format!("cannot start the agent of {name}: {e}"));
        let log = File::create(dir.join("agent.log")).map_err(failed)?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg("run").arg("--exit-with-parent").arg("--dir").arg(&dir).arg("--color").arg("never");
        if ctx.verbose > 0 {
            command.arg("-v");
        }
        let child = command
            .env_remove("ADIT_DIR")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        self.agents.push(Running { name: name.to_owned(), child, dir });
        Ok(())
    }

    /// Waits until every agent is ready and every node reaches the offering one.
    pub(super) async fn wait_ready(&mut self) -> Result<(), CliError> {
        let deadline = Instant::now() + READY;
        for index in 0..self.agents.len() {
            loop {
                self.all_alive()?;
                let agent = &self.agents[index];
                let status = status(&agent.dir).await;
                if let Some(status) = &status
                    && status.state == AgentState::Ready
                    && self.is_linked(status)
                {
                    break;
                }
                if Instant::now() > deadline {
                    let why = status
                        .and_then(|s| s.peers.into_iter().find_map(|p| p.error))
                        .unwrap_or_else(|| "it does not answer".to_owned());
                    let message =
                        format!("the agent of {} did not come up within {} s: {why}", agent.name, READY.as_secs());
                    return Err(CliError::failed("not_ready", message));
                }
                sleep(POLL).await;
            }
        }
        Ok(())
    }

    fn is_linked(&self, status: &Status) -> bool {
        let offerer = self.layout.offerer();
        status.node == offerer
            || status.node == OUTSIDER
            || status.peers.iter().any(|p| p.node == offerer && p.state == PeerState::Up)
    }

    /// Fails if an agent has ended by itself, with what it said.
    pub(super) fn all_alive(&mut self) -> Result<(), CliError> {
        for agent in &mut self.agents {
            if let Ok(Some(status)) = agent.child.try_wait() {
                let log = std::fs::read_to_string(agent.dir.join("agent.log")).unwrap_or_default();
                let message = format!("the agent of {} has ended ({status}):\n{log}", agent.name);
                return Err(CliError::failed("agent_ended", message));
            }
        }
        Ok(())
    }

    /// For `--json`.
    pub(super) fn describe(&self) -> serde_json::Value {
        let nodes: Vec<_> = self
            .layout
            .nodes
            .iter()
            .enumerate()
            .map(|(i, n)| {
                let url = (i > 0).then(|| format!("http://{}/", n.listen));
                json!({"node": n.name, "dir": self.directory(i), "address": n.address, "url": url})
            })
            .collect();
        json!({"mesh": "demo", "offerer": self.layout.offerer(), "nodes": nodes})
    }

    /// Links and bytes, a line a node.
    pub(super) async fn view(&self) -> String {
        let mut text = String::from("node        link                 round trip   open   received       sent\n");
        for agent in &self.agents {
            let Some(status) = status(&agent.dir).await else {
                text += &format!("{:<11} no answer\n", agent.name);
                continue;
            };
            let service = status.services.iter().find(|s| s.name == "web");
            let (link, rtt) = if agent.name == self.layout.offerer() {
                let up = status.peers.iter().filter(|p| p.state == PeerState::Up).count();
                (format!("{up} peers"), None)
            } else {
                let peer = status.peers.iter().find(|p| p.node == self.layout.offerer());
                let path = peer.and_then(|p| p.path).map_or("-", LinkPath::name);
                (format!("{} by {path}", self.layout.offerer()), peer.and_then(|p| p.rtt))
            };
            text += &format!(
                "{:<11} {:<20} {:>10}   {:>4} {:>10} {:>10}\n",
                agent.name,
                link,
                rtt.map(|s| format!("{:.0} µs", s * 1e6)).unwrap_or_default(),
                status.connections,
                size(service.map_or(0, |s| s.bytes_in)),
                size(service.map_or(0, |s| s.bytes_out)),
            );
        }
        text
    }

    /// Ends every agent, and removes the directories unless they are to be kept. With `tell` what the agents said is
    /// shown first.
    pub(super) async fn stop(&mut self, tell: bool, err: &mut dyn Write) {
        for agent in &self.agents {
            if let Some(pid) = i32::try_from(agent.child.id()).ok().and_then(Pid::from_raw) {
                // It may have ended by itself.
                kill_process(pid, Signal::TERM).ok();
            }
        }
        let ended = async {
            for agent in &mut self.agents {
                while matches!(agent.child.try_wait(), Ok(None)) {
                    sleep(POLL).await;
                }
            }
        };
        timeout(STOP, ended).await.ok();
        for agent in &mut self.agents {
            // Those that did not end in time; for the others this does nothing.
            agent.child.kill().ok();
            agent.child.wait().ok();
            if tell {
                let log = std::fs::read_to_string(agent.dir.join("agent.log")).unwrap_or_default();
                writeln!(err, "--- log of {}\n{log}", agent.name).ok();
            }
        }
        self.remove();
    }

    fn remove(&self) {
        if !self.kept
            && let Err(error) = std::fs::remove_dir_all(&self.root)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, dir = %self.root.display(), "the demo's directory could not be removed");
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        for agent in &mut self.agents {
            agent.child.kill().ok();
            agent.child.wait().ok();
        }
        self.remove();
    }
}

/// What the agent of a directory says of itself.
pub(super) async fn status(dir: &Path) -> Option<Status> {
    Client::new(dir.join(SOCKET_FILE)).status().await.ok()
}

fn temporary() -> Result<PathBuf, CliError> {
    let mut name = [0; 6];
    aws_lc_rs::rand::fill(&mut name).map_err(|_| CliError::failed("random", "the system gives no random numbers"))?;
    let name: String = name.iter().map(|b| format!("{b:02x}")).collect();
    Ok(std::env::temp_dir().join(format!("adit-demo-{name}")))
}

fn write(path: &Path, text: &str) -> Result<(), CliError> {
    std::fs::write(path, text).map_err(|e| CliError::failed("io", format!("cannot write {}: {e}", path.display())))
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}
