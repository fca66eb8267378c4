//! The sources of signed mesh documents besides the peers, and the tasks that follow them.
//!
//! What etcd and web servers have is a signed document always: a source is a way for documents to come, never a reason to believe
//! them, so whoever owns a server can withhold documents and can forge none. Each is followed by a task of its own that outlives
//! every failure: what is in force stays, the pauses between tries are bounded and jittered, and `status`, log and metrics say how
//! it stands.

pub(crate) mod etcd;
mod follow;
mod http;
mod https;
mod pause;
mod tls;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use mesh_config::MeshName;
use tokio::sync::watch;

pub use follow::{Shown, State};

use crate::agent_file::Sources;
use crate::distribution::Handle;
use crate::host::Host;
use crate::source::SourceError;

/// A task that follows a source.
pub type Task = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Prepares to follow the sources that the agent file in `dir` names. `text` is that of the signed document in force, if there is
/// one: what of it is in etcd is not fetched again.
pub fn start(
    sources: &Sources,
    dir: &Path,
    mesh: &MeshName,
    text: Option<&str>,
    host: &Arc<Host>,
    documents: &Handle,
) -> (Vec<watch::Receiver<Shown>>, Vec<Task>) {
    let (mut shown, mut tasks): (Vec<_>, Vec<Task>) = (Vec::new(), Vec::new());
    if let Some(settings) = &sources.etcd {
        let source = etcd::Etcd::new(settings.clone(), dir, mesh, text, host.clock);
        let (state, task) = follow::start(source, host.clone(), documents.clone());
        shown.push(state);
        tasks.push(Box::pin(task));
    }
    if let Some(settings) = &sources.https {
        let source = https::Https::new(settings.clone(), dir, host.clock);
        let (state, task) = follow::start(source, host.clone(), documents.clone());
        shown.push(state);
        tasks.push(Box::pin(task));
    }
    (shown, tasks)
}

/// Reads the files that the sources need, as connecting would.
///
/// # Errors
/// What of them cannot be used, for each source one.
pub fn check(sources: &Sources, dir: &Path) -> Vec<SourceError> {
    let clock = crate::clock::Clock::default();
    let mut problems = Vec::new();
    if let Some(etcd) = &sources.etcd {
        let secure = etcd.endpoints.iter().any(|endpoint| endpoint.secure);
        problems.extend(secure.then(|| tls::config(&etcd.tls, dir, clock).err()).flatten());
        problems.extend(etcd.login.as_ref().and_then(|(_, file)| tls::secret(&dir.join(file)).err()));
    }
    problems.extend(sources.https.as_ref().and_then(|https| tls::config(&https.tls, dir, clock).err()));
    problems
}

/// Any number, for pauses that are to differ among hosts.
fn chance() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness all hosts pause alike, which is no more than a pity.
    aws_lc_rs::rand::fill(&mut bytes).ok();
    u64::from_ne_bytes(bytes)
}
