use proptest::prelude::*;

use super::*;

const KEY: &str = "/adit/lab/head";

#[test]
fn every_line_of_a_watch_says_one_thing() {
    let key = BASE64.encode(KEY);
    let set = |more: &str| format!("{{\"result\":{{\"header\":{{\"revision\":\"9\"}},\"events\":[{more}]}}}}");
    let kv = |key: &str, at: &str| format!("{{\"kv\":{{\"key\":\"{key}\",\"mod_revision\":{at},\"value\":\"eA==\"}}}}");
    for (line, wanted) in [
        (
            r#"{"result":{"header":{"cluster_id":"1","revision":"7","raft_term":"2"},"created":true}}"#.to_owned(),
            Some(Event::Quiet(7)),
        ),
        (r#"{"result":{"header":{"revision":"12"}}}"#.to_owned(), Some(Event::Quiet(12))),
        (set(&kv(&key, "\"8\"")), Some(Event::Changed(8))),
        (set(&format!("{},{}", kv(&key, "\"8\""), kv(&key, "9"))), Some(Event::Changed(9))),
        (
            set(&format!("{{\"type\":\"DELETE\",\"kv\":{{\"key\":\"{key}\",\"mod_revision\":\"9\"}}}}")),
            Some(Event::Changed(9)),
        ),
        // Not what is watched.
        (set(&kv("b3RoZXI=", "\"8\"")), Some(Event::Quiet(9))),
        (r#"{"result":{"header":{},"canceled":true,"compact_revision":"5"}}"#.to_owned(), Some(Event::Compacted(5))),
        (
            r#"{"result":{"canceled":true,"cancel_reason":"etcdserver: no leader"}}"#.to_owned(),
            Some(Event::Ended("etcdserver: no leader".into())),
        ),
        (
            r#"{"error":{"grpc_code":16,"http_code":401,"message":"etcdserver: invalid auth token"}}"#.to_owned(),
            Some(Event::Ended("etcdserver: invalid auth token".into())),
        ),
        ("{}".to_owned(), None),
        ("not JSON".to_owned(), None),
        (r#"{"result":{"header":{"revision":"x"}}}"#.to_owned(), None),
        (r#"{"result":{"events":[{"kv":7}]}}"#.to_owned(), None),
    ] {
        assert_eq!(read(line.as_bytes(), KEY), wanted, "{line}");
    }
}

#[test]
fn a_head_is_judged_once_and_again_only_if_that_was_forgotten() {
    let mut cursor = Cursor::default();
    assert_eq!(cursor.todo(), Do::Read);
    assert_eq!(cursor.handle_read(None, 4), Found::Nothing);
    assert_eq!(cursor.todo(), Do::Watch(5));
    cursor.handle_event(&Event::Quiet(9));
    assert_eq!(cursor.todo(), Do::Watch(10), "what was quiet is not watched again");
    cursor.handle_event(&Event::Changed(10));
    assert_eq!(cursor.todo(), Do::Read);
    assert_eq!(cursor.handle_read(Some(10), 12), Found::Another);
    // Nothing was judged: it would be the same again.
    cursor.handle_doubt();
    assert_eq!(cursor.handle_read(Some(10), 12), Found::Another);
    cursor.handle_judged(10);
    cursor.handle_event(&Event::Compacted(12));
    assert_eq!(cursor.todo(), Do::Read);
    assert_eq!(cursor.handle_read(Some(10), 20), Found::Same);
    assert_eq!(cursor.todo(), Do::Watch(21));
    // A cluster that was made anew from a backup has gone back.
    cursor.handle_event(&Event::Ended(String::new()));
    assert_eq!(cursor.handle_read(Some(3), 5), Found::Another);
    assert_eq!(cursor.todo(), Do::Watch(6));
    cursor.handle_judged(3);
    cursor.forget();
    assert_eq!((cursor.todo(), cursor.handle_read(Some(3), 5)), (Do::Read, Found::Another));
}

/// etcd as far as a watch of one key goes.
#[derive(Debug, Default)]
struct Cluster {
    revision: i64,
    compacted: i64,
    /// Revisions at which the head was set or removed.
    changes: Vec<(i64, bool)>,
}

impl Cluster {
    fn head(&self) -> Option<i64> {
        self.changes.last().filter(|(_, set)| *set).map(|(at, _)| *at)
    }

    /// What a watch from `from` on says at once: all that has happened since, or that it cannot be told.
    fn watch(&self, from: i64) -> Vec<Event> {
        if from <= self.compacted {
            return vec![Event::Compacted(self.compacted)];
        }
        let since = self.changes.iter().filter(|(at, _)| *at >= from);
        since.map(|(at, _)| Event::Changed(*at)).collect()
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    SetHead,
    RemoveHead,
    SetOther,
    Compact,
    LoseConnection,
    LongQuiet,
    /// The reader does one thing.
    Turn,
    JudgeFails,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::SetHead),
        1 => Just(Step::RemoveHead),
        3 => Just(Step::SetOther),
        1 => Just(Step::Compact),
        1 => Just(Step::LoseConnection),
        1 => Just(Step::LongQuiet),
        6 => Just(Step::Turn),
        1 => Just(Step::JudgeFails),
    ]
}

/// One thing that a reader does; what it read, if it did.
fn turn(cursor: &mut Cursor, cluster: &Cluster, told: &mut i64) -> Option<Option<i64>> {
    match cursor.todo() {
        Do::Read => {
            let found = cursor.handle_read(cluster.head(), cluster.revision);
            if found == Found::Another {
                cursor.handle_judged(cluster.head().unwrap());
            }
            Some(cluster.head())
        }
        Do::Watch(from) => {
            let events = cluster.watch(from);
            match events.first() {
                Some(event) => cursor.handle_event(event),
                None => cursor.handle_event(&Event::Quiet(cluster.revision.max(*told))),
            }
            *told = cluster.revision;
            None
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_reader_ends_with_the_head_that_is_there(steps in prop::collection::vec(step(), 0..120)) {
        let (mut cluster, mut cursor) = (Cluster::default(), Cursor::default());
        let (mut read, mut told) = (None, 0);
        for step in steps {
            match step {
                Step::SetHead => { cluster.revision += 1; cluster.changes.push((cluster.revision, true)); }
                Step::RemoveHead => { cluster.revision += 1; cluster.changes.push((cluster.revision, false)); }
                Step::SetOther => cluster.revision += 1,
                Step::Compact => cluster.compacted = cluster.revision,
                Step::LoseConnection | Step::LongQuiet => cursor.handle_doubt(),
                Step::JudgeFails => cursor.forget(),
                Step::Turn => if let Some(head) = turn(&mut cursor, &cluster, &mut told) { read = Some(head) },
            }
        }
        // At rest three turns are enough: it is told, it reads, and it watches from there.
        for _ in 0..3 {
            if let Some(head) = turn(&mut cursor, &cluster, &mut told) { read = Some(head) }
        }
        prop_assert_eq!(read, Some(cluster.head()), "{:?} {:?}", cluster, cursor);
        prop_assert_eq!(cursor.todo(), Do::Watch(cluster.revision + 1));
    }
}
