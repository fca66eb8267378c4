//! One stream of records, right or wrong, for this record layer and for rustls: both take the same content and end alike. The
//! rules are those of the tests of the record layer, which run the same on streams of their own.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/record/differential.rs"]
mod differential;
#[path = "../../tests/record/forger.rs"]
mod forger;
#[path = "../../tests/record/pki.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod pki;
#[path = "../../tests/record/wire.rs"]
mod wire;

fuzz_target!(|input: &[u8]| differential::compare(input));
