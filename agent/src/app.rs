//! The agent as a whole: wires the rooms, starts, drains, stops.

mod backend;
mod drain;
mod explain;
mod lock;
mod measure;
mod on_disk;
mod sources;
mod start;

use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::admin::scrape::serve_metrics;
use crate::admin::server::{self, Limits as AdminLimits};
use crate::admin::socket::{self, AdminSocket};
use crate::distribution::Distribution;
use crate::host::{Host, Phase};
use crate::peers::registry::Peers;
use crate::reconcile::documents::MESH_FILE;
use crate::reconcile::{Ports, Reloader, Start};
use crate::services::egress::Egress;
use crate::transport::listen::bind;

use drain::Drain;

pub use backend::View;
pub use lock::{Lock, take as lock};
pub use start::{Plan, StartError, plan};

/// Runs the agent of the directory that `plan` was read from until it is told to stop; `ready` is called once every
/// listener has been tried.
///
/// # Errors
/// What keeps it from starting.
pub async fn run(dir: &Path, plan: Plan, ready: impl FnOnce(&View)) -> Result<(), StartError> {
    let Plan { file, snapshot, clock, warnings, seen, read_at, had } = plan;
    let _lock = lock::take(dir)?;
    // Before anything listens: a signal from here on drains instead of killing.
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    let hangup = signal(SignalKind::hangup()).map_err(StartError::Signals)?;

    let host = Host::new(snapshot, clock, start::incarnation());
    let admin = AdminSocket::bind(&socket::place(dir, file.admin_socket.as_deref()))?;
    let metrics = match file.metrics {
        Some(address) => {
            let bound = bind(address).and_then(TcpListener::from_std);
            Some(bound.map_err(|source| StartError::Bind { what: "metrics".to_owned(), address, source })?)
        }
        None => None,
    };

    let peers = Peers::start(host.clone(), Arc::new(Egress(host.clone())));
    let ports = Ports::start(host.clone(), peers.clone(), file.listen.as_deref())?;
    let mut tasks = JoinSet::new();
    let (on_disk, reading) = on_disk::reader(dir.join(MESH_FILE));
    tasks.spawn(reading);
    let (distribution, documents, signed) = Distribution::start(dir, host.clone(), had).map_err(StartError::Kept)?;
    tasks.spawn(distribution.run());
    let (sources, following) = {
        let running = host.snapshot.load_full();
        let text = signed.borrow().as_ref().map(|in_force| in_force.document.clone());
        let text = text.as_ref().map(|document| document.text());
        crate::sources::start(&file.sources, dir, running.mesh.name(), text, &host, &documents)
    };
    following.into_iter().for_each(|task| drop(tasks.spawn(task)));
    let start = Start { dir: dir.to_owned(), file, seen, applied_at: read_at, warnings, ports, signed };
    let (reloader, reload) = Reloader::start(start, host.clone(), peers.clone()).await;
    let drain = Arc::new(Drain::default());
    let view = Arc::new(View::new(host.clone(), peers.clone(), reload, (on_disk, documents, sources), drain.clone()));
    let mut reloading = JoinSet::new();
    reloading.spawn(reloader.run(hangup));
    let stopped = {
        let host = host.clone();
        move || {
            let host = host.clone();
            async move { host.reached(Phase::Over).await }
        }
    };
    tasks.spawn(crate::memory::give_back(host.clone()));
    tasks.spawn(crate::logging::tell_left_out());
    tasks.spawn(server::serve(admin, view.clone(), AdminLimits::default(), stopped()));
    if let Some(listener) = metrics {
        tasks.spawn(serve_metrics(listener, host.metrics.clone(), host.phase.subscribe(), Vec::new(), stopped()));
    }

    host.enter(Phase::Ready);
    ready(&view);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = drain.asked() => break,
            Some(done) = tasks.join_next() => {
                if let Err(error) = done
                    && error.is_panic()
                {
                    tracing::error!(%error, "a part of the agent has failed; the agent stops so that it can be restarted");
                    break;
                }
            }
            Some(Err(error)) = reloading.join_next() => {
                tracing::error!(%error, "a part of the agent has failed; the agent stops so that it can be restarted");
                break;
            }
        }
    }
    drain.run(&host, &peers, reloading, &mut terminate, &mut interrupt).await;
    Ok(())
}
