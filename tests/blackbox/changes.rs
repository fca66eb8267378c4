//! What the endurance tests do hundreds of times, a few times.

use std::time::Duration;

use adit_tests::changes::crash::{amid_a_file, amid_a_publish};
use adit_tests::changes::cut::halves;
use adit_tests::changes::cycles::cycles;
use adit_tests::changes::storm::{Size, storm};
use adit_tests::suite::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("long_connections_bear_changes_and_each_removed_permit_cuts_its_own_alone", || {
            storm(Size { agents: 5, connections: 20, reloads: 4 })
        }),
        Test::new("changes_under_load_leave_nothing_behind", || cycles(10)),
        Test::new("a_kill_amid_a_change_leaves_one_document_whole", || amid_a_file(4)),
        Test::new("a_kill_amid_a_publish_leaves_one_document_whole", || amid_a_publish(4)),
        Test::in_namespaces("both_halves_of_a_network_that_was_cut_have_the_newest_soon_after_it_heals", || {
            halves(4, Duration::from_secs(1))
        }),
    ]
}
