//! `adit init`: a new mesh.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use ca::{Authority, Issued, NodeKey, Staging, atomic};
use mesh_config::{Address, Mesh, MeshName, NodeName, template};
use serde_json::{Value, json};

use super::ca::certificate_json;
use super::error::{CliError, mesh_name, node_name};
use super::terminal::Terminal;

/// The shared mesh file's name in a node's directory.
pub const MESH_FILE: &str = "mesh.toml";
/// The host's own file's name in a node's directory.
pub const AGENT_FILE: &str = "agent.toml";
/// Where security state is kept, in a node's directory.
pub const STATE: &str = "state";
/// Where a certificate authority is kept, in the directory of a node that has one.
pub const CA: &str = "ca";
/// Where directories for other nodes are prepared.
pub const NODES: &str = "nodes";

/// Make a new mesh: its mesh file, its certificate authority, and this host's certificate
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  adit init lab --node alpha=10.0.0.1:7443 --node beta=10.0.0.2:7443\n  \
                        adit init lab --node alpha=10.0.0.1:7443 --node beta --bundle --dir ./lab\n\n\
                        The first node is this host. A node without an address dials out, and is reached over what it\n\
                        dialled. The copies of mesh.toml under DIR/nodes are made now: after editing DIR/mesh.toml, copy\n\
                        it to every node.")]
pub struct InitArgs {
    /// The mesh's name
    #[arg(value_name = "MESH")]
    pub mesh: String,
    /// A node and where others dial it, several addresses with commas between; the first is this host
    #[arg(long = "node", value_name = "NAME[=ADDR]", required = true)]
    pub nodes: Vec<String>,
    /// Also write a ready directory for each node, keys included, under DIR/nodes
    #[arg(long)]
    pub bundle: bool,
}

/// Makes the mesh in the context's directory; everything appears together or not at all.
///
/// # Errors
/// Exit status 2 for bad names, addresses, and nodes named twice; 1 if a mesh is there already (nothing is overwritten)
/// or the disk refuses.
pub fn run(args: &InitArgs, context: &mut Terminal<'_>) -> Result<(), CliError> {
    let mesh = mesh_name(&args.mesh)?;
    let nodes = parse_nodes(&args.nodes)?;
    let document = template(&mesh, &nodes);
    Mesh::check(&document, MESH_FILE)?;

    let dir = context.dir.clone();
    if Staging::recover(&dir)? {
        context.note("note", format_args!("an interrupted `adit init` in {} has been completed", dir.display()))?;
    }
    refuse_existing(&dir, args.bundle)?;
    let staging = Staging::begin(&dir)?;
    let made = prepare(staging.path(), &dir, &mesh, &nodes, &document, args.bundle, context);
    let made = match made {
        Ok(made) => made,
        Err(error) => {
            staging.abandon()?;
            return Err(error);
        }
    };
    staging.commit(MESH_FILE)?;
    if args.bundle {
        context.note(
            "warning",
            format_args!(
                "the keys of all nodes were made on this host: carry each directory under {} to its host by a safe way, \
                 then delete it here",
                dir.join(NODES).display()
            ),
        )?;
    }
    let (value, text) = tell(&dir, &mesh, &nodes, args.bundle, &made);
    Ok(context.answer(&value, &text)?)
}

/// `NAME`, `NAME=ADDR` or `NAME=ADDR,ADDR`, each name once.
fn parse_nodes(arguments: &[String]) -> Result<Vec<(NodeName, Vec<Address>)>, CliError> {
    let mut seen = BTreeSet::new();
    let mut nodes = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let (name, addresses) = parse_node(argument)?;
        if !seen.insert(name.clone()) {
            let message = format!("node `{name}` is named twice");
            return Err(CliError::usage("duplicate-node", message)
                .hint(format!("give all its addresses at once: --node {name}=ADDR,ADDR")));
        }
        nodes.push((name, addresses));
    }
    Ok(nodes)
}

/// `NAME`, `NAME=ADDR` or `NAME=ADDR,ADDR`.
pub(super) fn parse_node(argument: &str) -> Result<(NodeName, Vec<Address>), CliError> {
    let (name, addresses) = argument.split_once('=').map_or((argument, None), |(n, a)| (n, Some(a)));
    let name = node_name(name)?;
    let addresses = addresses.map_or_else(|| Ok(Vec::new()), |list| list.split(',').map(address).collect())?;
    Ok((name, addresses))
}

fn address(text: &str) -> Result<Address, CliError> {
    text.parse().map_err(|fault: mesh_config::Fault| {
        let hint = fault.hint.unwrap_or_else(|| "write HOST:PORT, such as 10.0.0.1:7443".to_owned());
        CliError::usage("address", fault.message).hint(hint)
    })
}

/// Refuses if any file that would be written is there already.
fn refuse_existing(dir: &Path, bundle: bool) -> Result<(), CliError> {
    let mesh_file = dir.join(MESH_FILE);
    if mesh_file.symlink_metadata().is_ok() {
        let name = mesh_config::load(&mesh_file).map(|c| format!(" `{}`", c.mesh.name())).unwrap_or_default();
        let message = format!("{} already holds the mesh{name}; nothing was changed", dir.display());
        return Err(CliError::failed("exists", message).hint(format!(
            "to add a node, add it to {} and run `adit ca issue NAME`; to make another mesh, choose another \
             directory with --dir",
            mesh_file.display()
        )));
    }
    let ours = [AGENT_FILE, ca::TRUST, ca::NODE_CHAIN, ca::NODE_KEY, STATE];
    for name in ours.iter().chain(bundle.then_some(&NODES)) {
        let path = dir.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(ca::Error::Exists(path).into());
        }
    }
    Ok(())
}

/// Writes everything into `staging`, as it shall stand in `dir`. A CA that is in `dir` already is used.
fn prepare(
    staging: &Path,
    dir: &Path,
    mesh: &MeshName,
    nodes: &[(NodeName, Vec<Address>)],
    document: &str,
    bundle: bool,
    context: &mut Terminal<'_>,
) -> Result<Vec<(NodeName, Issued)>, CliError> {
    let now = context.clock.now();
    let mut authority = match Authority::open(&dir.join(CA)) {
        Ok(authority) if authority.mesh() == mesh => authority,
        Ok(authority) => {
            let message =
                format!("{} certifies for the mesh `{}`, not `{mesh}`", dir.join(CA).display(), authority.mesh());
            return Err(CliError::failed("other-mesh", message).hint("choose another directory with --dir"));
        }
        Err(ca::Error::Absent(_)) => Authority::create(&staging.join(CA), mesh, now)?,
        Err(error) => return Err(error.into()),
    };
    let warnings: Vec<String> = authority.warnings().iter().map(ToString::to_string).collect();
    for warning in warnings {
        context.note("warning", warning)?;
    }
    let mut made = Vec::new();
    for (at, (node, _)) in nodes.iter().enumerate().filter(|(at, _)| bundle || *at == 0) {
        let key = NodeKey::generate()?;
        let issued = authority.issue(node, &key.public_key(), None, now)?;
        let node_dir = staging.join(NODES).join(node.as_str());
        for place in [(at == 0).then_some(staging), bundle.then_some(node_dir.as_path())].into_iter().flatten() {
            ca::write_node_directory(place, &key, &issued.chain_pem, authority.trust_pem())?;
            write_configuration(place, node, document)?;
        }
        made.push((node.clone(), issued));
    }
    Ok(made)
}

/// Writes what a node's directory holds beside its identity: mesh file, agent file, an empty `state`. What is there
/// stays as it is.
pub(super) fn write_configuration(dir: &Path, node: &NodeName, document: &str) -> Result<(), CliError> {
    for (name, text) in [(AGENT_FILE, agent_file(node)), (MESH_FILE, document.to_owned())] {
        let path = dir.join(name);
        if path.symlink_metadata().is_err() {
            atomic::write(&path, text.as_bytes(), atomic::PUBLIC)?;
        }
    }
    Ok(atomic::make_directory(&dir.join(STATE))?)
}

/// The agent file that a new host starts from.
fn agent_file(node: &NodeName) -> String {
    format!("# This host alone. All else has a default.\nnode = \"{node}\"\n")
}

fn tell(
    dir: &Path,
    mesh: &MeshName,
    nodes: &[(NodeName, Vec<Address>)],
    bundle: bool,
    made: &[(NodeName, Issued)],
) -> (Value, String) {
    let place = |node: &NodeName| -> Option<PathBuf> { bundle.then(|| dir.join(NODES).join(node.as_str())) };
    let first = nodes.first().map(|(node, _)| node);
    let value = json!({
        "mesh": mesh,
        "node": first,
        "directory": dir,
        "nodes": nodes.iter().map(|(node, addresses)| json!({
            "node": node,
            "addresses": addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "directory": place(node),
            "certificate": made.iter().find(|(n, _)| n == node).map(|(n, i)| certificate_json(n, i)),
        })).collect::<Vec<_>>(),
    });
    let mut text = format!("mesh `{mesh}` is made in {}\n", dir.display());
    // Writing to a String does not fail.
    let _ = writeln!(text, "  {MESH_FILE:<14} nodes and services: edit it, then give every node the same one");
    let _ = writeln!(
        text,
        "  {:<14} the certificate authority; move {CA}/root.key to a safe place, off this host",
        format!("{CA}/")
    );
    let others = nodes.iter().skip(1).map(|(node, _)| node);
    if bundle {
        for (node, _) in nodes {
            let _ =
                writeln!(text, "  {:<14} all that {node} needs, with a copy of {MESH_FILE}", format!("{NODES}/{node}"));
        }
    } else {
        for node in others {
            let _ = writeln!(text, "next: `adit ca issue {node} --dir {}` makes a directory for {node}", dir.display());
        }
    }
    if let Some(first) = first {
        let _ = writeln!(text, "start {first}, this host: adit run --dir {}", dir.display());
    }
    (value, text)
}

#[cfg(test)]
#[path = "init_tests.rs"]
mod tests;
