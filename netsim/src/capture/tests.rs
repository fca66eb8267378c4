use std::sync::mpsc::Receiver;

use super::writer::Files;
use super::*;

fn post(room: usize, snap: usize) -> (Post, Receiver<Seen>, Arc<AtomicUsize>) {
    let (queue, receiver) = sync_channel(room);
    let queued = Arc::<AtomicUsize>::default();
    let post = Post { link: 0, way: 1, snap, before: -5, tally: Arc::default(), queued: queued.clone(), queue };
    (post, receiver, queued)
}

#[test]
fn what_finds_no_room_is_counted_and_never_waited_for() {
    let (mut post, receiver, queued) = post(2, 10);
    for number in 0..5 {
        post.see(&[7; 60], 100 + number, Fate::Lost);
    }
    let seen: Vec<Seen> = receiver.try_iter().collect();
    let told: Vec<_> = seen.iter().map(|seen| (seen.interface, seen.at, seen.bytes.len(), seen.length)).collect();
    assert_eq!(told, [(1, 95, 10, 60), (1, 96, 10, 60)]);
    assert_eq!((Tally::sum(&post.tally.seen), queued.load(Ordering::Relaxed)), (5, 20));
}

#[test]
fn bytes_that_wait_are_bounded() {
    let (mut post, receiver, _) = post(QUEUE, 1 << 20);
    for _ in 0..100 {
        post.see(&[0; 1 << 20], 0, Fate::Passed);
    }
    let waiting: usize = receiver.try_iter().map(|seen| seen.bytes.len()).sum();
    assert!(waiting <= QUEUE_BYTES + (1 << 20), "{waiting}");
}

#[test]
fn a_full_file_ends_within_its_bound_and_says_how_much_is_missing() {
    let path = std::env::temp_dir().join(format!("netsim-full-{}.pcapng", std::process::id()));
    let (mut post, receiver, queued) = post(QUEUE, 100);
    let limits = CaptureLimits { file: 4096, ..CaptureLimits::default() };
    let mut files = Files::new(receiver, queued.clone(), limits);
    files.add(&path, ["alpha", "beta"], post.tally.clone()).unwrap();
    for number in 0..1000 {
        post.see(&[0; 100], number, if number % 2 == 0 { Fate::Passed } else { Fate::Cut });
    }
    let tally = post.tally.clone();
    drop(post);
    files.write().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let (seen, written) = (Tally::sum(&tally.seen), Tally::sum(&tally.written));
    assert_eq!((seen, queued.load(Ordering::Relaxed)), (1000, 0));
    assert!((20..40).contains(&written), "{written}");
    // And four blocks of statistics.
    assert!(bytes.len() <= 4096 + 4 * 60, "{}", bytes.len());
}

#[test]
fn a_file_that_cannot_be_made_or_written_is_named() {
    let (post, receiver, queued) = post(QUEUE, 100);
    let mut files = Files::new(receiver, queued, CaptureLimits::default());
    let error = files.add(Path::new("/proc/nothing.pcapng"), ["a", "b"], post.tally.clone()).unwrap_err();
    assert_eq!(error.to_string(), "write the capture /proc/nothing.pcapng");
    if Path::new("/dev/full").exists() {
        let added = files.add(Path::new("/dev/full"), ["a", "b"], post.tally.clone());
        drop(post);
        let outcome = added.and_then(|_| files.write());
        assert_eq!(outcome.unwrap_err().to_string(), "write the capture /dev/full");
    }
}
