//! Black-box tests: the real `adit` binary, started as a user starts it.
//!
//! `cargo test --release -p adit-tests --test blackbox [FILTER]`, after `cargo build --release`. `ADIT_BIN` names another
//! binary. `ADIT_TEST_KEEP` keeps the directories of the tests. What needs network namespaces is skipped, and says so,
//! where there are none.

mod afresh;
mod asked;
mod audit;
mod changes;
mod closing;
mod congestion;
mod crowds;
mod data;
mod directories;
mod doctor;
mod drain;
mod editing;
mod evidence;
mod exchanged;
mod faults;
mod ktls;
mod limits;
mod loss;
mod offerers;
mod operate;
mod page;
mod paths;
mod prompted;
mod published;
mod quic;
mod refusals;
mod reload;
mod removed;
mod replaced;
mod restart;
mod rootless;
mod simulator;
mod sources;
mod stalls;
mod strangers;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = adit_tests::load::part() {
        return code;
    }
    adit_tests::suite::prepare();
    let groups = [
        data::tests(),
        ktls::tests(),
        paths::tests(),
        loss::tests(),
        congestion::tests(),
        stalls::tests(),
        offerers::tests(),
        refusals::tests(),
        strangers::tests(),
        quic::tests(),
        restart::tests(),
        drain::tests(),
        closing::tests(),
        limits::tests(),
        crowds::tests(),
        operate::tests(),
        reload::tests(),
        afresh::tests(),
        replaced::tests(),
        published::tests(),
        prompted::tests(),
        removed::tests(),
        changes::tests(),
        sources::tests(),
        directories::tests(),
        editing::tests(),
        asked::tests(),
        exchanged::tests(),
        audit::tests(),
        faults::tests(),
        simulator::tests(),
        doctor::tests(),
        page::tests(),
        rootless::tests(),
    ];
    adit_tests::suite::run(groups.into_iter().flatten().collect())
}
