//! `adit node` and `adit service`: the mesh file of the directory changed in the one place that is meant.

use std::fs;
use std::path::{Path, PathBuf};

use ca::atomic;
use clap::{Args, Subcommand};
use mesh_config::{Checked, Diff, Editor, Fault, Mesh, NewService, NodeName, Protocol, ServiceName, quote, read_text};
use serde_json::json;

use super::changes;
use super::error::{CliError, node_name};
use super::init::{MESH_FILE, parse_node};
use super::style::Paint;
use super::terminal::Terminal;

/// What to do with the nodes of the mesh file.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Add nodes to the mesh file
    #[command(after_help = "Examples:\n  adit node add gamma=10.0.0.3:7443\n  \
                            adit node add laptop                          it dials out, and is reached over what it dialled\n\n\
                            A new node also needs a certificate: `adit ca issue NAME` on the host with the CA key.")]
    Add {
        /// A node and where others dial it, several addresses with commas between
        #[arg(value_name = "NAME[=ADDR]", required = true)]
        nodes: Vec<String>,
    },
    /// Remove a node from the mesh file, also from the groups and services that name it
    #[command(after_help = "Examples:\n  adit node rm gamma\n\n\
                            Agents that have the new file no longer talk to it. Its certificate stays valid until it expires.")]
    Rm {
        /// The node
        name: String,
    },
}

/// What to do with the services of the mesh file.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Add a service to the mesh file
    #[command(
        after_help = "Examples:\n  adit service add web --on alpha --target 127.0.0.1:8080 --listen 127.0.0.1:18080 --allow beta"
    )]
    Add(NewServiceArgs),
    /// Remove a service from the mesh file
    #[command(after_help = "Examples:\n  adit service rm web")]
    Rm {
        /// The service
        name: String,
    },
    /// Let nodes or groups reach a service
    #[command(after_help = "Examples:\n  adit service allow web gamma\n  adit service allow web @clients")]
    Allow(Permits),
    /// Let nodes or groups no longer reach a service; connections that they have are cut
    #[command(after_help = "Examples:\n  adit service deny web gamma\n  adit service deny web @clients")]
    Deny(Permits),
}

/// A service that is to be added.
#[derive(Debug, Args)]
pub struct NewServiceArgs {
    /// The service
    name: String,
    /// A node that offers it; may be given several times
    #[arg(long, value_name = "NODE", required = true)]
    on: Vec<String>,
    /// What the agent there connects to
    #[arg(long, value_name = "HOST:PORT")]
    target: String,
    /// Where applications on the allowed nodes reach it
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// A node, or a group as @GROUP, that may reach it; may be given several times
    #[arg(long, value_name = "WHO")]
    allow: Vec<String>,
    /// What it carries
    #[arg(long, value_name = "tcp|udp", default_value = "tcp", value_parser = protocol)]
    protocol: Protocol,
}

/// A service and who may or may not reach it.
#[derive(Debug, Args)]
pub struct Permits {
    /// The service
    name: String,
    /// Nodes, and groups as @GROUP
    #[arg(required = true)]
    who: Vec<String>,
}

fn protocol(text: &str) -> Result<Protocol, String> {
    [Protocol::Tcp, Protocol::Udp].into_iter().find(|p| p.as_str() == text).ok_or_else(|| "tcp or udp".to_owned())
}

/// Runs `adit node …`.
///
/// # Errors
/// Exit status 2 if the mesh file does not check, before or after the change, 1 if there is nothing to change or the disk refuses.
pub fn node(command: &NodeCommand, color: bool, context: &mut Terminal<'_>) -> Result<(), CliError> {
    match command {
        NodeCommand::Add { nodes } => {
            let nodes = nodes.iter().map(|text| parse_node(text)).collect::<Result<Vec<_>, _>>()?;
            change(context, color, |editor, _| {
                nodes.iter().try_for_each(|(name, addresses)| editor.add_node(name, addresses))?;
                Ok(Vec::new())
            })
        }
        NodeCommand::Rm { name } => {
            let name = node_name(name)?;
            change(context, color, |editor, _| editor.remove_node(&name))
        }
    }
}

/// Runs `adit service …`.
///
/// # Errors
/// Likewise.
pub fn service(command: &ServiceCommand, color: bool, context: &mut Terminal<'_>) -> Result<(), CliError> {
    match command {
        ServiceCommand::Add(args) => {
            let new = NewService {
                name: service_name(&args.name)?,
                protocol: args.protocol,
                on: args.on.iter().map(|name| node_name(name)).collect::<Result<_, _>>()?,
                target: args.target.parse().map_err(bad_argument)?,
                listen: args.listen.as_deref().map(str::parse).transpose().map_err(bad_argument)?,
                allow: args.allow.clone(),
            };
            change(context, color, |editor, _| editor.add_service(&new).map(|()| Vec::new()))
        }
        ServiceCommand::Rm { name } => {
            let name = service_name(name)?;
            change(context, color, |editor, _| editor.remove_service(&name).map(|()| Vec::new()))
        }
        ServiceCommand::Allow(Permits { name, who }) => {
            let name = service_name(name)?;
            change(context, color, |editor, _| {
                who.iter().try_for_each(|who| editor.allow(&name, who).map(drop))?;
                Ok(Vec::new())
            })
        }
        ServiceCommand::Deny(Permits { name, who }) => {
            let name = service_name(name)?;
            change(context, color, |editor, mesh| {
                who.iter().try_for_each(|who| deny(editor, mesh, &name, who))?;
                Ok(Vec::new())
            })
        }
    }
}

/// Denies, and says so if a group still lets the node in.
fn deny(editor: &mut Editor, mesh: &Mesh, name: &ServiceName, who: &str) -> Result<(), Fault> {
    editor.deny(name, who)?;
    let (Some(service), Ok(node)) = (mesh.service(name.as_str()), NodeName::new(who)) else { return Ok(()) };
    let group = service.allow().iter().find(|rule| rule.admits(&node) && rule.to_string() != who);
    match group {
        None => Ok(()),
        Some(group) => {
            let fault = Fault::new(format!("`{node}` may reach `{name}` as a member of {group}"));
            Err(fault
                .hint(format!("take it out of that group in the file, or deny {group} and allow its other members")))
        }
    }
}

fn service_name(text: &str) -> Result<ServiceName, CliError> {
    ServiceName::new(text)
        .map_err(|error| CliError::usage("name", format!("{} is not a service name: {error}", quote(text))))
}

fn bad_argument(fault: Fault) -> CliError {
    CliError { hint: fault.hint, ..CliError::usage("argument", fault.message) }
}

/// Changes the mesh file of the directory, if what comes out checks, and says what that does. `edit` gives what else was touched.
fn change(
    context: &mut Terminal<'_>,
    color: bool,
    edit: impl FnOnce(&mut Editor, &Mesh) -> Result<Vec<String>, Fault>,
) -> Result<(), CliError> {
    let path = resolved(&context.dir.join(MESH_FILE));
    let file = path.display().to_string();
    let before = read_text(&path).map_err(|problem| vec![*problem])?;
    let old = Mesh::check(&before, &file)?.mesh;
    let refused =
        |fault: Fault| CliError { hint: fault.hint, ..CliError::failed("edit", format!("{file}: {}", fault.message)) };
    let mut editor = Editor::new(&before).map_err(refused)?;
    let also = edit(&mut editor, &old).map_err(refused)?;
    let Some(after) = editor.finish().map_err(refused)? else {
        let text = format!("{file} says so already: nothing was changed\n");
        let value = json!({ "file": path, "version": old.version(), "diff": Diff::between(&old, &old), "also": also });
        return Ok(context.answer(&value, &text)?);
    };
    let Checked { mesh, warnings, .. } = Mesh::check(&after, &file)?;
    let diff = Diff::between(&old, &mesh);
    for warning in warnings {
        context.note(
            "warning",
            format_args!("{}:{}:{}: {}", warning.file, warning.line, warning.column, warning.message),
        )?;
    }
    // Somebody else may have written it in the meantime.
    if read_text(&path).map_err(|problem| vec![*problem])? != before {
        return Err(
            CliError::failed("changed", format!("{file} was changed by somebody else meanwhile")).hint("try again")
        );
    }
    atomic::write(&path, after.as_bytes(), mode(&path))?;
    let mut text = Vec::new();
    changes::render(&diff, Paint::new(color), &mut text)?;
    let mut text = String::from_utf8_lossy(&text).into_owned();
    for place in &also {
        text += &format!("  also taken out of {place}\n");
    }
    text += &match mesh.signed() {
        true => format!("{file} is version {} now, and not in force: `adit publish {file}`\n", mesh.version()),
        false => format!("{file} is version {} now: give every node the same file\n", mesh.version()),
    };
    let value = json!({ "file": path, "version": mesh.version(), "diff": diff, "also": also });
    Ok(context.answer(&value, &text)?)
}

/// Where a symbolic link leads, so that what it points to is replaced and not the link.
fn resolved(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// The permission bits that a file keeps when it is replaced.
pub(super) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).map_or(atomic::PUBLIC, |metadata| metadata.permissions().mode() & 0o777)
}
