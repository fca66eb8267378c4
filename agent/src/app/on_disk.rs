//! What the mesh file on disk says now, for `status`. It is read and checked beside the runtime's threads, once at a time, so
//! that a slow disk delays whoever asks for it and no traffic.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_config::{Digest, Mesh, read_text};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::admin::view::ConfigError;
use crate::reconcile::documents::config_error;

/// How long an answer is waited for.
const BOUND: Duration = Duration::from_secs(2);
/// Those that wait for one reading.
const MOST: usize = 64;

/// The mesh file as it is on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OnDisk {
    /// The digest of its bytes, if they could be read as text.
    pub(super) digest: Option<String>,
    /// The first thing that is wrong with it.
    pub(super) error: Option<ConfigError>,
}

impl OnDisk {
    fn read(path: &Path) -> Self {
        let text = match read_text(path) {
            Ok(text) => text,
            Err(problem) => return Self { digest: None, error: Some(config_error(&problem)) },
        };
        let problems = Mesh::check(&text, &path.display().to_string()).err().unwrap_or_default();
        Self {
            digest: Some(Digest::of(text.as_bytes()).to_string()),
            error: problems.iter().find(|problem| problem.is_error()).map(config_error),
        }
    }
}

/// Asks for what is on disk.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    asks: mpsc::Sender<oneshot::Sender<OnDisk>>,
    bound: Duration,
}

impl Reader {
    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is on disk: a reading that began after this was called.
    pub(super) async fn ask(&self) -> OnDisk {
        let (answer, told) = oneshot::channel();
        let asked = async {
            self.asks.send(answer).await.ok()?;
            told.await.ok()
        };
        if let Ok(Some(found)) = timeout(self.bound, asked).await {
            return found;
        }
        let message = format!("it was not read within {} s: is the disk well?", self.bound.as_secs_f64());
        let error = ConfigError { file: self.path.display().to_string(), line: None, column: None, message };
        OnDisk { digest: None, error: Some(error) }
    }
}

/// A reader of the file at `path`, and the task that serves it until the reader is dropped.
pub(super) fn reader(path: PathBuf) -> (Reader, impl Future<Output = ()> + Send + 'static) {
    let (asks, asked) = mpsc::channel(MOST);
    let file = path.clone();
    (Reader { path, asks, bound: BOUND }, serve(asked, move || OnDisk::read(&file)))
}

/// Reads for everybody who has asked by then, and again for those who ask in the meantime.
async fn serve(mut asked: mpsc::Receiver<oneshot::Sender<OnDisk>>, read: impl Fn() -> OnDisk + Clone + Send + 'static) {
    let mut askers = Vec::new();
    while asked.recv_many(&mut askers, MOST).await > 0 {
        // A reading that panicked leaves its askers without an answer.
        let found = spawn_blocking(read.clone()).await.ok();
        for asker in askers.drain(..) {
            if let Some(found) = &found {
                // Whoever has given up needs none.
                asker.send(found.clone()).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::sync::{Arc, Mutex, mpsc as std_mpsc};

    use tokio::task::JoinSet;

    use super::*;
    use crate::admin::fixture::TempDir;

    /// A reader of a disk that answers only when the test lets it, with the number of the reading as the digest.
    fn slow_disk(bound: Duration, tasks: &mut JoinSet<()>) -> (Arc<Reader>, std_mpsc::SyncSender<()>, Arc<AtomicU32>) {
        let (asks, asked) = mpsc::channel(MOST);
        let (go, gate) = std_mpsc::sync_channel(MOST);
        let (gate, begun) = (Arc::new(Mutex::new(gate)), Arc::new(AtomicU32::new(0)));
        let readings = begun.clone();
        tasks.spawn(serve(asked, move || {
            let number = readings.fetch_add(1, Relaxed) + 1;
            gate.lock().unwrap().recv().ok();
            OnDisk { digest: Some(number.to_string()), error: None }
        }));
        (Arc::new(Reader { path: "mesh.toml".into(), asks, bound }), go, begun)
    }

    async fn until(what: impl Fn() -> bool) {
        let reached = async {
            while !what() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), reached).await.unwrap();
    }

    #[tokio::test]
    async fn those_who_ask_during_a_reading_share_the_next_one() {
        let mut tasks = JoinSet::new();
        let (reader, go, begun) = slow_disk(Duration::from_secs(10), &mut tasks);
        let ask = |answers: &mut JoinSet<OnDisk>| {
            let reader = reader.clone();
            answers.spawn(async move { reader.ask().await });
        };
        let (mut first, mut others) = (JoinSet::new(), JoinSet::new());
        ask(&mut first);
        until(|| begun.load(Relaxed) == 1).await;
        (0..5).for_each(|_| ask(&mut others));
        until(|| reader.asks.capacity() == MOST - 5).await;
        (0..2).for_each(|_| go.send(()).unwrap());
        assert_eq!(first.join_all().await[0].digest.as_deref(), Some("1"));
        assert!(others.join_all().await.iter().all(|found| found.digest.as_deref() == Some("2")));
        assert_eq!(begun.load(Relaxed), 2);
    }

    #[tokio::test]
    async fn a_disk_that_does_not_answer_is_told_and_holds_nobody_up() {
        let mut tasks = JoinSet::new();
        let (reader, go, begun) = slow_disk(Duration::from_millis(20), &mut tasks);
        for _ in 0..3 {
            let found = reader.ask().await;
            assert!(found.error.unwrap().message.contains("not read within 0.02 s"));
        }
        until(|| begun.load(Relaxed) == 1).await;
        drop(go);
    }

    #[tokio::test]
    async fn the_digest_and_the_first_error_are_told_with_its_place() {
        let dir = TempDir::new("on-disk");
        let path = dir.0.join("mesh.toml");
        let mut tasks = JoinSet::new();
        let (reader, task) = reader(path.clone());
        tasks.spawn(task);
        let missing = reader.ask().await;
        assert_eq!((missing.digest, missing.error.unwrap().line), (None, None));
        for (text, place) in
            [("[mesh]\nname = \"lab\"\nversion = 1\n", None), ("[mesh]\nname = 3\nversion = 1\n", Some((2, 8)))]
        {
            std::fs::write(&path, text).unwrap();
            let found = reader.ask().await;
            assert_eq!(found.digest, Some(Digest::of(text.as_bytes()).to_string()));
            assert_eq!(found.error.map(|e| (e.line.unwrap(), e.column.unwrap())), place);
        }
    }
}
