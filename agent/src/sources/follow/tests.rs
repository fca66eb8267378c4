//! A source that is away for hours, by a clock that is wound on.

use std::cell::Cell;
use std::sync::Mutex;

use mesh_config::published::Heads;
use tokio::time::timeout;

use super::super::pause::{FIRST, LONGEST};
use super::*;
use crate::clock::Clock;
use crate::identity::published::tests::{Root, document, judged};
use crate::identity::tests::contexts;
use crate::snapshot::{Epochs, Settings, Snapshot};
use crate::transport::message::Incarnation;

const OUTAGE: Duration = Duration::from_secs(6 * 3_600);
/// How long a try may take that nobody answers.
const SILENT: Duration = Duration::from_secs(10);
/// What timers round up to.
const TICK: Duration = Duration::from_millis(2);

/// When tries that failed began and ended.
type Tries = Arc<Mutex<Vec<(Instant, Instant)>>>;

/// A source as that of etcd is: it tells of a document as soon as there is another one, and while it is away a try is refused at once or
/// meets with silence, by turns.
struct Scripted {
    /// What it has; nothing while it is away.
    has: watch::Receiver<Option<Arc<[u8]>>>,
    told: Option<Arc<[u8]>>,
    tries: Tries,
}

impl MeshSource for Scripted {
    type Document = Arc<[u8]>;

    fn kind(&self) -> SourceKind {
        SourceKind::Etcd
    }

    fn place(&self) -> String {
        "etcd of this test".to_owned()
    }

    async fn next(&mut self) -> Result<Heard<Arc<[u8]>>, SourceError> {
        loop {
            let has = self.has.borrow_and_update().clone();
            match has {
                Some(document) if self.told.as_ref() != Some(&document) => {
                    self.told = Some(document.clone());
                    return Ok(Heard::Document(document));
                }
                Some(_) => self.has.changed().await.unwrap(),
                None => {
                    let begun = Instant::now();
                    let is_silent = self.tries.lock().unwrap().len() % 2 == 1;
                    if is_silent {
                        sleep(SILENT).await;
                    }
                    self.tries.lock().unwrap().push((begun, Instant::now()));
                    let place = self.place();
                    return Err(match is_silent {
                        true => SourceError::Silent { place, seconds: SILENT.as_secs() },
                        false => SourceError::Unreachable { place, why: "connection refused".to_owned() },
                    });
                }
            }
        }
    }
}

fn host() -> Arc<Host> {
    let text = "[mesh]\nname = \"lab\"\nversion = 1\n[node.alpha]\n[node.beta]\n";
    let [tls, _] = contexts(["alpha", "beta"]);
    let snapshot = Snapshot {
        mesh: Arc::new(mesh_config::Mesh::check(text, "mesh.toml").unwrap().mesh),
        tls,
        epochs: Epochs::FIRST,
        settings: Settings::default(),
        removed: Arc::default(),
        ring: Arc::default(),
    };
    Host::new(snapshot, Clock::default(), Incarnation(1))
}

/// The tries that have failed since this was called last.
fn taken(tries: &Tries) -> Vec<(Instant, Instant)> {
    std::mem::take(&mut *tries.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_away_for_hours_is_tried_at_bounded_pauses_and_heard_soon_after_it_is_back() {
    let mut root = Root::of("lab");
    let anna = root.publisher();
    let mut heads = Heads::default();
    let first: Arc<[u8]> = document(&anna, &heads, 1).into();
    heads.insert(judged(first.to_vec(), &root).unwrap().header().clone());
    let second: Arc<[u8]> = document(&anna, &heads, 2).into();

    let offers = Cell::new(0);
    let (handle, judges) = Handle::judged_by(|bytes| {
        offers.set(offers.get() + 1);
        judged(bytes.to_vec(), &root).map(Arc::new).map_err(NotTaken::Refused)
    });
    let (has, tries) = (watch::Sender::new(Some(first.clone())), Tries::default());
    let source = Scripted { has: has.subscribe(), told: None, tries: tries.clone() };
    let (mut shown, follows) = start(source, host(), handle);

    let script = async {
        let in_touch = |version| move |shown: &Shown| shown.state == State::InTouch && shown.version == Some(version);
        timeout(LONGEST, shown.wait_for(in_touch(1))).await.expect("it is in touch").unwrap();
        has.send_replace(None);
        sleep(OUTAGE).await;

        // What it had is what counts, and nobody was asked to judge it again.
        let told = shown.borrow().clone();
        assert!(told.state == State::Failing && told.version == Some(1) && offers.get() == 1, "{told:?}");
        let away = taken(&tries);
        let pauses: Vec<_> = away.windows(2).map(|pair| pair[1].0 - pair[0].1).collect();
        assert!(pauses.iter().all(|pause| *pause >= FIRST / 2 && *pause <= LONGEST + TICK), "{pauses:?}");
        assert!(pauses[8..].iter().all(|pause| *pause >= LONGEST / 2), "{pauses:?}");
        let (least, most) = (OUTAGE.as_secs() / (LONGEST + SILENT).as_secs(), OUTAGE.as_secs() / 15);
        assert!((least..=most).contains(&(away.len() as u64)), "{} tries", away.len());
        assert_eq!(told.failures as usize, away.len());

        // It is back, with another document.
        has.send_replace(Some(second));
        timeout(LONGEST + SILENT + TICK, shown.wait_for(in_touch(2))).await.expect("it is heard again").unwrap();
        assert_eq!((offers.get(), shown.borrow().failures), (2, 0));
        assert!(taken(&tries).len() <= 1, "a try that was under way at most");

        // The next outage begins with short pauses again.
        has.send_replace(None);
        let since = Instant::now();
        timeout(LONGEST, shown.wait_for(|shown| shown.failures == 2)).await.expect("it is tried again").unwrap();
        assert!(since.elapsed() <= FIRST + SILENT + TICK, "{:?}", since.elapsed());
    };
    tokio::select! {
        () = follows => panic!("it is followed no more"),
        () = judges => panic!("nobody judges"),
        () = script => {}
    }
}
