//! `adit sim from`: a mesh of the user's as a scenario. Its nodes are hosts on one network, each with an agent; behind its
//! services answer stand-ins; a certificate authority is made for it and thrown away.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

use mesh_config::{Mesh, NodeName, Protocol, Service, Transport};
use netsim::scenario::Scenario;

use super::play::{How, Job, perform};
use super::{around, note, shell_word};
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::init::{self, InitArgs, MESH_FILE, NODES};

/// Where agents dial one another.
const LINK_PORT: u16 = 7443;
/// The first port of the stand-ins, and the first of the listeners.
const TARGETS: usize = 20_000;
const LISTENERS: usize = 30_000;
/// Services that have ports of their own there.
const MOST_SERVICES: usize = 10_000;

/// Makes a scenario of a mesh file, breaks what is asked for, and says who is served meanwhile and afterwards.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  adit sim from mesh.toml                          is everybody served who should be?\n  \
                  adit sim from mesh.toml --cut alpha,beta         and while these two do not reach one another?\n  \
                  adit sim from mesh.toml --crash alpha --loss 5%\n\n\
                  From 10 s on everything given by --cut and --crash is broken, for 10 s. Checked are all pairs of a node and a\n\
                  TCP service that it may reach: before, 5 s after the break, and up to 20 s after it has healed. Addresses of\n\
                  the mesh file are replaced by simulated ones, and applications by stand-ins."
)]
pub struct FromArgs {
    /// The mesh file
    #[arg(value_name = "MESH.toml")]
    mesh: PathBuf,
    /// Two nodes that do not reach one another for a while
    #[arg(long, value_name = "A,B", value_parser = pair)]
    cut: Vec<(NodeName, NodeName)>,
    /// A node whose agent is killed, and started again later
    #[arg(long, value_name = "NODE")]
    crash: Vec<NodeName>,
    /// The share of packets that are lost all the time, such as 1%
    #[arg(long, value_name = "SHARE", value_parser = share)]
    loss: Option<String>,
    #[command(flatten)]
    how: How,
}

fn pair(text: &str) -> Result<(NodeName, NodeName), String> {
    let names = text.split_once(',').map(|(one, other)| (NodeName::new(one), NodeName::new(other)));
    match names {
        Some((Ok(one), Ok(other))) if one != other => Ok((one, other)),
        _ => Err("two different nodes with a comma between, such as alpha,beta".to_owned()),
    }
}

fn share(text: &str) -> Result<String, String> {
    let number =
        text.strip_suffix('%').map_or_else(|| text.parse::<f64>(), |part| part.parse::<f64>().map(|n| n / 100.0));
    let fits = number.is_ok_and(|share| (0.0..1.0).contains(&share)) && text.starts_with(|c: char| c.is_ascii_digit());
    if fits { Ok(text.to_owned()) } else { Err("a share such as 1% or 0.01".to_owned()) }
}

/// Runs the command.
pub(super) fn run(args: &FromArgs, ctx: &Context, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), CliError> {
    let mesh = mesh_config::load(&args.mesh)?.mesh;
    for node in args.cut.iter().flat_map(|(one, other)| [one, other]).chain(&args.crash) {
        if mesh.node(node.as_str()).is_none() {
            let known: Vec<&str> = mesh.nodes().keys().map(NodeName::as_str).collect();
            return Err(CliError::usage("node", format!("the mesh has no node {node}"))
                .hint(format!("it has {}", known.join(", "))));
        }
    }
    for service in mesh.services().values().filter(|service| service.protocol() != Protocol::Tcp) {
        note(ctx, err, &format!("note: {} is left out: it is not a TCP service", service.name()));
    }
    let folder = Folder::new()?;
    bundle(&mesh, &folder.0, ctx)?;
    let text = document(&mesh, args);
    let file = args.mesh.display().to_string();
    let scenario = Scenario::parse(&text, &format!("scenario of {file}"), &around(folder.0.clone()));
    let scenario = scenario.map_err(|problems| {
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        CliError::failed("simulator", format!("the mesh cannot be simulated: {}", told.join("\n")))
    })?;
    let mut command = format!("adit sim from {}", shell_word(&file));
    args.cut.iter().for_each(|(one, other)| command += &format!(" --cut {one},{other}"));
    args.crash.iter().for_each(|node| command += &format!(" --crash {node}"));
    args.loss.iter().for_each(|loss| command += &format!(" --loss {loss}"));
    let job = Job { file: args.mesh.clone(), command, scenario, schedule: None };
    perform(&[job], &args.how, 1, ctx, out, err)
}

/// Makes an authority and a directory for each node.
fn bundle(mesh: &Mesh, folder: &Path, ctx: &Context) -> Result<(), CliError> {
    let nodes = mesh.nodes().keys().map(NodeName::to_string).collect();
    let args = InitArgs { mesh: mesh.name().to_string(), nodes, bundle: true };
    let quiet = Context { dir: folder.to_owned(), json: false, quiet: true, ..ctx.clone() };
    init::run(&args, &mut quiet.terminal(&mut std::io::sink(), &mut std::io::sink()))
}

/// A TCP service with its place among all of them.
fn services(mesh: &Mesh) -> impl Iterator<Item = (usize, &Service)> {
    mesh.services().values().filter(|service| service.protocol() == Protocol::Tcp).enumerate().take(MOST_SERVICES)
}

/// Nodes that may reach a service and do not offer it.
fn reachers<'m>(mesh: &'m Mesh, service: &'m Service) -> impl Iterator<Item = &'m NodeName> {
    mesh.nodes().keys().filter(|node| service.permits(node).is_some() && !service.offered_by(node))
}

/// The mesh file of the simulated nodes. Names are such that they need no quotes.
fn mesh_file(mesh: &Mesh) -> String {
    let transport = match mesh.transport() {
        Transport::Auto => "auto",
        Transport::Tls => "tls",
        Transport::Quic => "quic",
    };
    let mut text = format!("[mesh]\nname = \"{}\"\nversion = 1\ntransport = \"{transport}\"\n", mesh.name());
    for (name, node) in mesh.nodes() {
        let _infallible = write!(text, "\n[node.{name}]\n");
        // Who has no address dials out, there as here.
        if !node.addresses().is_empty() {
            let _infallible = writeln!(text, "address = \"{{ip.{name}}}:{LINK_PORT}\"");
        }
    }
    for (number, service) in services(mesh) {
        let list = |names: Vec<&str>| names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let on = list(service.on().iter().map(NodeName::as_str).collect());
        let allow = list(reachers(mesh, service).map(NodeName::as_str).collect());
        let (target, listen) = (TARGETS + number, LISTENERS + number);
        let _infallible = write!(
            text,
            "\n[service.{}]\non = [{on}]\nallow = [{allow}]\ntarget = \"127.0.0.1:{target}\"\nlisten = \"127.0.0.1:{listen}\"\n",
            service.name()
        );
    }
    text
}

/// The scenario.
fn document(mesh: &Mesh, args: &FromArgs) -> String {
    let nodes: Vec<String> = mesh.nodes().keys().map(|name| format!("\"{name}\"")).collect();
    let mut text = format!(
        "name = \"{}\"\nhosts = [{}]\n\n[network.\"the.net\"]\ndelay = \"5ms\"\n",
        mesh.name(),
        nodes.join(", ")
    );
    if let Some(loss) = &args.loss {
        let loss = if loss.ends_with('%') { format!("\"{loss}\"") } else { loss.clone() };
        let _infallible = writeln!(text, "loss = {loss}");
    }
    let file = mesh_file(mesh);
    for name in mesh.nodes().keys() {
        let _infallible = write!(
            text,
            "\n[host.{name}]\ncopy = \"{NODES}/{name}\"\n[host.{name}.files]\n\"{MESH_FILE}\" = '''\n{file}'''\n\
             \n[program.{name}]\non = \"{name}\"\nprogram = \"adit\"\nargs = [\"--dir\", \".\", \"run\", \"--color\", \"never\"]\n\
             ready = \"ready services=\"\n"
        );
    }
    for (number, service) in services(mesh) {
        for (other, node) in service.on().iter().enumerate() {
            let _infallible = write!(
                text,
                "\n[service.s{number}-{other}]\non = \"{node}\"\nkind = \"http\"\naddress = \"127.0.0.1\"\nport = {}\n\
                 text = \"{} of {node}\"\n",
                TARGETS + number,
                service.name()
            );
        }
    }
    for (one, other) in &args.cut {
        let _infallible =
            write!(text, "\n[[fault]]\nat = \"10s\"\nfor = \"10s\"\nkind = \"pair\"\non = [\"{one}\", \"{other}\"]\n");
    }
    for node in &args.crash {
        let _infallible = write!(text, "\n[[fault]]\nat = \"10s\"\nfor = \"10s\"\nkind = \"crash\"\non = \"{node}\"\n");
    }
    let broken = !args.cut.is_empty() || !args.crash.is_empty();
    let times = [
        ("0s", "within = \"10s\"", "", true),
        ("15s", "", " meanwhile", broken),
        ("20s", "within = \"20s\"", " again", broken),
    ];
    for (at, when, word, wanted) in times {
        for (number, service) in services(mesh).filter(|_| wanted) {
            for node in reachers(mesh, service) {
                let _infallible = write!(
                    text,
                    "\n[[check]]\nname = \"{node} is served {}{word}\"\nat = \"{at}\"\n{when}\nkind = \"http\"\nfrom = \"{node}\"\n\
                     url = \"http://127.0.0.1:{}/\"\ncontains = \"{} of \"\ntimeout = \"3s\"\n",
                    service.name(),
                    LISTENERS + number,
                    service.name()
                );
            }
        }
    }
    text
}

/// A folder that goes when this does.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, CliError> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("adit-sim-{}", std::process::id()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| CliError::failed("directory", format!("cannot make {}: {e}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed stays in the place for what is temporary.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_becomes_a_scenario_that_checks_and_a_mesh_file_that_checks() {
        let text = "[mesh]\nname = \"lab\"\nversion = 3\ntransport = \"quic\"\n[node.alpha]\naddress = \"192.0.2.1:7443\"\n[node.beta]\n\
                    [node.gamma]\naddress = \"192.0.2.3:7443\"\n[group]\nall = [\"beta\", \"gamma\"]\n\
                    [service.web]\non = [\"alpha\", \"gamma\"]\ntarget = \"10.9.9.9:80\"\nlisten = \"127.0.0.1:80\"\nallow = [\"@all\"]\n";
        let mesh = Mesh::check(text, "mesh.toml").unwrap().mesh;
        let simulated = mesh_file(&mesh).replace("{ip.alpha}", "10.1.0.1").replace("{ip.gamma}", "10.1.0.3");
        let simulated = Mesh::check(&simulated, "simulated").unwrap().mesh;
        assert_eq!(simulated.transport(), Transport::Quic);
        assert!(simulated.node("beta").unwrap().addresses().is_empty());
        let node = |name: &str| NodeName::new(name).unwrap();
        let web = simulated.service("web").unwrap();
        assert!(web.permits(&node("beta")).is_some() && web.offered_by(&node("gamma")));

        let folder = Folder::new().unwrap();
        for name in ["alpha", "beta", "gamma"] {
            std::fs::create_dir_all(folder.0.join(NODES).join(name)).unwrap();
        }
        let args = FromArgs {
            mesh: PathBuf::new(),
            cut: vec![(node("alpha"), node("beta"))],
            crash: vec![node("gamma")],
            loss: Some("5%".to_owned()),
            how: How::default(),
        };
        let scenario = Scenario::parse(&document(&mesh, &args), "s", &around(folder.0.clone())).unwrap();
        assert_eq!((scenario.name(), scenario.counts()), ("lab", (2, 3)));
    }

    #[test]
    fn what_is_no_share_and_no_pair_is_refused() {
        assert!(["1%", "0.5", "0", "99.9%"].iter().all(|text| share(text).is_ok()));
        assert!(["", "%", "1", "-1%", "200%", "nan", "1%;"].iter().all(|text| share(text).is_err()));
        assert!(pair("alpha,beta").is_ok());
        assert!(["", "alpha", "alpha,alpha", "alpha,", "a,b,c", "A,b"].iter().all(|text| pair(text).is_err()));
    }
}
