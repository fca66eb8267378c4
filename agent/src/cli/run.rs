//! `adit run`: the agent in the foreground.

use std::time::Duration;

use mesh_config::Problem;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Builder;

use super::ColorChoice;
use super::context::{Context, with_causes};
use super::error::CliError;
use crate::admin::view::ServiceState;
use crate::agent_file::LogFormat;
use crate::app::{self, StartError, View};
use crate::logging::{self, Format};
use crate::reconcile::PortError;
use crate::vocabulary::Role;

/// The agent, in the foreground, until SIGTERM or Ctrl-C
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  adit run --dir ./beta\n  ADIT_LOG=debug adit run\n\n\
                        Files of the directory that change are brought into force while it runs, at once by SIGHUP or `adit reload`.\n\
                        SIGTERM and Ctrl-C drain: nothing new is accepted, connections may finish within `drain` of\n\
                        agent.toml's [limits]; a second one ends them at once.")]
pub struct RunArgs {
    /// End when the process that started this one ends
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

/// How long what still blocks a thread at the end is waited for.
const LAST: Duration = Duration::from_secs(1);

/// Runs the agent until it is told to stop.
///
/// # Errors
/// Exit status 2 if a document does not check; 1 if it cannot start.
pub fn run(args: &RunArgs, ctx: &Context, color: ColorChoice) -> Result<(), CliError> {
    if args.exit_with_parent {
        // If it has gone already, nobody will ever tell.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM)).ok();
    }
    let plan = app::plan(&ctx.dir).map_err(|e| explain(e, ctx))?;
    let options = logging::Options {
        directives: logging::directives(
            std::env::var("ADIT_LOG").ok().as_deref(),
            ctx.quiet,
            ctx.verbose,
            Some(plan.file.log.level.as_str()),
        ),
        format: match plan.file.log.format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        },
        color: match color {
            ColorChoice::Auto => logging::stderr_color(),
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        },
        clock: plan.clock,
    };
    logging::init(options).map_err(|e| {
        CliError::usage("log", e.to_string())
            .hint("ADIT_LOG takes error, warn, info, debug, trace, or a filter of them")
    })?;
    raise_descriptor_limit();
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(plan.file.threads.unwrap_or_else(half_of_the_cores))
        .enable_all()
        .build()
        .map_err(|e| CliError::failed("runtime", format!("cannot start: {e}")))?;
    let outcome = runtime.block_on(app::run(&ctx.dir, plan, ready)).map_err(|e| explain(e, ctx));
    // A disk or a name server that does not answer keeps a thread, and must not keep the process.
    runtime.shutdown_timeout(LAST);
    outcome
}

/// The applications whose bytes are moved need the others. What affinity and control groups allow is what counts.
fn half_of_the_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

/// Two descriptors carry a connection: as many as the system allows.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    if let Err(error) = raised {
        tracing::warn!(%error, current = limit.current, "the limit on open files stays as it is");
    }
}

/// Every listener has been tried.
fn ready(view: &View) {
    sd_notify::notify(&[sd_notify::NotifyState::Ready]).ok();
    let services = view.services();
    for service in services.iter().filter(|s| s.state == ServiceState::Ready) {
        match (service.role, &service.listen, &service.target) {
            (Role::Reach, Some(listen), _) => tracing::info!("{} is reached at {listen}", service.name),
            (Role::Offer, _, Some(target)) => tracing::info!("{} is offered from {target}", service.name),
            _ => {}
        }
    }
    tracing::info!(event = "ready", services = services.len());
}

/// What a person or program is told about an agent that does not start.
fn explain(error: StartError, ctx: &Context) -> CliError {
    let message = error.to_string();
    let dir = ctx.dir.display();
    match error {
        StartError::Documents(problems) if ctx.json => {
            let error = CliError::from(problems);
            let hint = error
                .hint
                .clone()
                .unwrap_or_else(|| format!("correct it; `adit check --dir {dir}` says whether it holds"));
            error.hint(hint)
        }
        StartError::Documents(problems) => {
            let text: Vec<_> = problems.iter().map(|p: &Problem| p.render(ctx.color)).collect();
            CliError::usage("document", format!("the documents of {dir} do not check\n\n{}", text.join("\n\n")))
                .hint(format!("correct it; `adit check --dir {dir}` says whether it holds"))
        }
        StartError::NoDirectory(_) => CliError::failed("no_directory", message)
            .hint("make one with `adit init MESH --node NAME=ADDR`, or name it by --dir or ADIT_DIR"),
        StartError::Identity(cause) => CliError::failed("identity", with_causes(&cause)).hint(cause.hint()),
        StartError::NotAMember { node, .. } => CliError::usage("not_a_member", message)
            .hint(format!("add [node.{node}] to the mesh file, or correct `node` in agent.toml")),
        StartError::Port(PortError { source, address, .. }) | StartError::Bind { source, address, .. } => {
            let hint = match source.kind() {
                std::io::ErrorKind::AddrInUse => {
                    format!("another program listens on {address}: `ss -lptn` shows which")
                }
                std::io::ErrorKind::AddrNotAvailable => {
                    format!(
                        "this host has no address {}: correct `listen` in agent.toml or the mesh file",
                        address.ip()
                    )
                }
                std::io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one, or grant it".to_owned()
                }
                _ => "correct `listen` in agent.toml or this node's address in the mesh file".to_owned(),
            };
            CliError::failed("bind", message).hint(hint)
        }
        StartError::Admin(ref cause) => CliError::failed("admin_socket", with_causes(cause))
            .hint("give `admin_socket` in agent.toml another path, or stop what uses this one"),
        StartError::InUse { pid, .. } => CliError::failed("in_use", message).hint(match pid {
            Some(pid) => format!("stop it first: kill {pid}"),
            None => "stop it first".to_owned(),
        }),
        StartError::State { .. } => CliError::failed("state", message)
            .hint(format!("the agent's user must be able to write in {dir}/state; is the disk full?")),
        StartError::Signed(cause) => CliError::failed("signed_document", with_causes(&cause)).hint(cause.hint()),
        StartError::Kept(cause) => CliError::from(cause),
        StartError::Socket(_) => CliError::failed("socket", message),
        StartError::Signals(_) => CliError::failed("signals", message),
        StartError::Clock(_) => CliError::usage("clock", message),
    }
}
