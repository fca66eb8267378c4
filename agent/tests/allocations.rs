//! Sealing and opening records takes no memory, however many there are.

use std::hint::black_box;

use agent::transport::record::{HEADER, Limits, Received, Records, Secret, Side, Suite, TRAILER};

const RECORDS: u64 = 10_000;
const CONTENT: usize = 1400;

fn ends(suite: Suite) -> (Records, Records) {
    let len = if suite == Suite::Aes256Gcm { 48 } else { 32 };
    let end = |side| {
        let secret = |byte| Secret::new(suite, &vec![byte; len]).expect("its length is right");
        Records::new(suite, side, secret(1), secret(2), Limits::default()).expect("keys can be made")
    };
    (end(Side::Client), end(Side::Server))
}

#[test]
fn no_record_is_an_allocation() {
    for suite in Suite::ALL {
        let (mut client, mut server) = ends(suite);
        let mut record = vec![7; HEADER + CONTENT + TRAILER];
        let mut pass = |records: u64| {
            for _ in 0..records {
                client.seal(&mut record, CONTENT).expect("it can be sealed");
                assert!(matches!(server.open(&mut record).expect("it was sealed"), Received::Data(_)));
            }
        };
        pass(1);
        let taken = allocation_counter::measure(|| pass(RECORDS));
        assert_eq!(taken.count_total, 0, "{suite:?}: {taken:?}");
    }
    // What counts does count.
    assert_eq!(allocation_counter::measure(|| drop(black_box(Box::new(7)))).count_total, 1);
}
