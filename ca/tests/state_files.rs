//! State files that are damaged, exposed, or gone.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Instant;

use aws_lc_rs::digest::{SHA256, digest};
use ca::{Authority, Error, NodeKey, PrivateKey, State, Warning};
use common::{NOW, authority, mesh, node};

/// What must not change behind anybody's back.
fn essence(authority: &Authority) -> Vec<u8> {
    let der = |pem: &str| {
        use rustls_pki_types::pem::PemObject as _;
        rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
    };
    let mut all = [der(authority.trust_pem()), der(authority.intermediate_pem())].concat();
    all.extend(format!("{:?}", authority.records()).into_bytes());
    digest(&SHA256, &all).as_ref().to_vec()
}

/// Writes every damaged form of a file in turn; each has to be refused, or to make no difference (the file's last good
/// content was found in another, or the damage is one that PEM steps over).
fn damage(file: &str) -> (usize, usize) {
    let (_keep, dir, mut authority) = authority();
    for name in ["alpha", "beta"] {
        authority.issue(&node(name), &NodeKey::generate().unwrap().public_key(), None, NOW).unwrap();
    }
    let good = essence(&authority);
    drop(authority);
    let path = dir.join(file);
    let head = fs::read(dir.join("index.head")).unwrap();
    let bytes = fs::read(&path).unwrap();
    let (mut refused, mut harmless) = (0, 0);
    let mut check = |bad: &[u8], what: &dyn Fn() -> String| {
        fs::write(&path, bad).unwrap();
        match Authority::open(&dir) {
            Ok(opened) => {
                assert_eq!(essence(&opened), good, "{file}, {}", what());
                harmless += 1;
            }
            Err(Error::Damaged { path: told, .. } | Error::BadKey(told)) => {
                assert!(told == path || file == "root.pem", "{file}, {}: {told:?}", what());
                refused += 1;
            }
            Err(other) => panic!("{file}, {}: {other:?}", what()),
        }
        // What opening may have mended.
        if file == "index" {
            fs::write(dir.join("index.head"), &head).unwrap();
        }
    };
    for length in 0..bytes.len() {
        check(&bytes[..length], &|| format!("cut to {length}"));
    }
    // Every bit of the index is flipped in a test beside its parser; here are some of them, through the whole way.
    for bit in (0..bytes.len() * 8).step_by(if file == "index" { 13 } else { 1 }) {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        check(&bad, &|| format!("bit {bit}"));
    }
    (refused, harmless)
}

#[test]
fn every_damage_to_the_index_is_refused() {
    let (refused, harmless) = damage("index");
    assert!(refused > 1000);
    assert_eq!(harmless, 0);
}

#[test]
fn a_damaged_head_is_made_anew_from_the_index() {
    let (refused, harmless) = damage("index.head");
    assert_eq!(refused, 0);
    assert!(harmless > 1000);
    let (_keep, dir, mut authority) = authority();
    authority.issue(&node("alpha"), &NodeKey::generate().unwrap().public_key(), None, NOW).unwrap();
    let head = fs::read(dir.join("index.head")).unwrap();
    fs::remove_file(dir.join("index.head")).unwrap();
    let opened = Authority::open(&dir).unwrap();
    assert_eq!(opened.warnings(), [Warning::HeadRebuilt(dir.join("index.head"))]);
    assert_eq!(fs::read(dir.join("index.head")).unwrap(), head);
    assert!(Authority::open(&dir).unwrap().warnings().is_empty());
}

#[test]
fn no_damage_to_a_certificate_changes_what_is_trusted() {
    for file in ["root.pem", "intermediate.pem"] {
        let (refused, harmless) = damage(file);
        assert!(refused > 20 * harmless, "{file}: {refused} refused, {harmless} harmless");
    }
}

#[test]
fn no_damage_to_a_key_changes_what_signs() {
    for file in ["root.key", "intermediate.key"] {
        let (refused, harmless) = damage(file);
        assert!(refused > 20 * harmless, "{file}: {refused} refused, {harmless} harmless");
    }
}

#[test]
fn an_incomplete_last_line_is_cut_off_by_the_next_writer() {
    let (_keep, dir, mut authority) = authority();
    let key = NodeKey::generate().unwrap().public_key();
    let first = authority.issue(&node("alpha"), &key, None, NOW).unwrap().serial;
    for torn in ["x", "0123456789abcdef", &"f".repeat(3000), "\n", "half a line\n"] {
        let mut index = fs::read(dir.join("index")).unwrap();
        index.extend_from_slice(torn.as_bytes());
        fs::write(dir.join("index"), index).unwrap();
        let mut opened = Authority::open(&dir).unwrap();
        assert_eq!(opened.records()[0].serial(), first);
        let count = opened.records().len();
        opened.issue(&node("beta"), &key, None, NOW).unwrap();
        assert_eq!(Authority::open(&dir).unwrap().records().len(), count + 1, "{torn:?}");
    }
}

#[test]
fn a_missing_index_is_refused() {
    let (_keep, dir, _) = authority();
    fs::remove_file(dir.join("index")).unwrap();
    assert_eq!(Authority::open(&dir).unwrap_err().code(), "damaged");
}

#[test]
fn keys_and_directory_are_for_their_owner_alone() {
    let (keep, dir, mut authority) = authority();
    let key = NodeKey::generate().unwrap();
    let issued = authority.issue(&node("alpha"), &key.public_key(), None, NOW).unwrap();
    let place = keep.path().join("alpha");
    ca::write_node_directory(&place, &key, &issued.chain_pem, authority.trust_pem()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    for (path, expected) in [
        (dir.clone(), 0o700),
        (dir.join("root.key"), 0o600),
        (dir.join("intermediate.key"), 0o600),
        (dir.join("index"), 0o600),
        (dir.join("index.head"), 0o600),
        (dir.join("lock"), 0o600),
        (dir.join("root.pem"), 0o644),
        (place.clone(), 0o700),
        (place.join("node.key"), 0o600),
        (place.join("node.pem"), 0o644),
        (place.join("trust.pem"), 0o644),
    ] {
        assert_eq!(mode(&path), expected, "{}", path.display());
    }
}

#[test]
fn exposed_keys_are_refused_and_a_groups_are_told() {
    for file in ["root.key", "intermediate.key"] {
        let (_keep, dir, _) = authority();
        let path = dir.join(file);
        for mode in [0o604, 0o602, 0o644, 0o666, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Authority::open(&dir).unwrap_err();
            assert!(matches!(&error, Error::Exposed { path: p, mode: m } if *p == path && *m == mode), "{error:?}");
            assert!(error.hint().unwrap().contains("chmod 600"));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(
            Authority::open(&dir).unwrap().warnings(),
            [Warning::GroupAccess { path: path.clone(), mode: 0o640 }]
        );
    }
}

#[test]
fn the_roots_key_may_be_away() {
    let (_keep, dir, mut authority) = authority();
    assert!(authority.holds_root_key());
    fs::remove_file(dir.join("root.key")).unwrap();
    assert!(!authority.holds_root_key());
    let key = NodeKey::generate().unwrap().public_key();
    authority.issue(&node("alpha"), &key, None, NOW).unwrap();
    let mut opened = Authority::open(&dir).unwrap();
    opened.issue(&node("alpha"), &key, None, NOW).unwrap();
    fs::remove_file(dir.join("intermediate.key")).unwrap();
    let mut opened = Authority::open(&dir).unwrap();
    assert_eq!(opened.records().len(), 2);
    assert_eq!(opened.issue(&node("alpha"), &key, None, NOW).unwrap_err().code(), "no-key");
}

#[test]
fn a_signer_outside_the_directory_takes_the_keys_place() {
    let (_keep, dir, _) = authority();
    let (elsewhere, _) = PrivateKey::load(&dir.join("intermediate.key")).unwrap();
    fs::remove_file(dir.join("intermediate.key")).unwrap();
    let stranger = Box::new(PrivateKey::generate().unwrap());
    assert!(Authority::open(&dir).unwrap().with_signer(stranger).is_err());
    let mut authority = Authority::open(&dir).unwrap().with_signer(Box::new(elsewhere)).unwrap();
    authority.issue(&node("alpha"), &NodeKey::generate().unwrap().public_key(), None, NOW).unwrap();
}

#[test]
fn the_key_of_another_authority_is_refused() {
    let (_keep, dir, _) = authority();
    let (_keep, other, _) = common::authority();
    for file in ["root.key", "intermediate.key", "intermediate.pem"] {
        let own = fs::read(dir.join(file)).unwrap();
        fs::write(dir.join(file), fs::read(other.join(file)).unwrap()).unwrap();
        assert_eq!(Authority::open(&dir).unwrap_err().code(), "damaged", "{file}");
        fs::write(dir.join(file), own).unwrap();
    }
    Authority::open(&dir).unwrap();
}

#[test]
fn create_takes_an_empty_directory_and_no_other() {
    let temporary = common::temporary();
    let dir = temporary.path().join("ca");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("mine"), "x").unwrap();
    assert_eq!(Authority::create(&dir, &mesh("lab"), NOW).unwrap_err().code(), "exists");
    assert_eq!(fs::read_to_string(dir.join("mine")).unwrap(), "x");
    fs::remove_file(dir.join("mine")).unwrap();
    Authority::create(&dir, &mesh("lab"), NOW).unwrap();
    assert_eq!(Authority::create(&dir, &mesh("lab"), NOW).unwrap_err().code(), "exists");
    fs::write(temporary.path().join("file"), "x").unwrap();
    assert_eq!(Authority::create(&temporary.path().join("file"), &mesh("lab"), NOW).unwrap_err().code(), "io");
}

#[test]
fn secrets_show_in_no_debug_output() {
    let (_keep, dir, authority) = authority();
    let (key, _) = PrivateKey::load(&dir.join("intermediate.key")).unwrap();
    let pem = key.to_pem().unwrap();
    let secrets: Vec<&str> = pem.lines().filter(|l| !l.starts_with('-')).collect();
    let shown = format!("{key:?} {authority:?} {:?}", authority.records());
    assert!(secrets.iter().all(|s| !shown.contains(s)));
    assert!(shown.contains("PrivateKey { public: PublicKey("), "{shown}");
}

#[test]
fn states_follow_the_time_that_is_given() {
    let (_keep, _, mut authority) = authority();
    let issued = authority.issue(&node("a"), &NodeKey::generate().unwrap().public_key(), None, NOW).unwrap();
    let state = |at| authority.list(at)[0].1;
    assert_eq!(state(NOW), State::Valid);
    assert_eq!(state(issued.not_after), State::Valid);
    assert_eq!(state(issued.not_after + time::Duration::SECOND), State::Expired);
}

/// An index of `count` lines, as the authority would have written it.
fn fill(dir: &Path, count: usize) {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let text = fs::read_to_string(dir.join("index")).unwrap();
    let (header, line) = text.split_once('\n').unwrap();
    let sample = line.trim_end().split_once(' ').unwrap().1;
    let serial = sample.split_once("\"serial\":\"").unwrap().1[..32].to_owned();
    let mut last = hex(digest(&SHA256, format!("{header}\n").as_bytes()).as_ref());
    let mut out = format!("{header}\n");
    for n in 0..count {
        let json = sample.replace(&serial, &format!("{:032x}", (1_u128 << 120) + n as u128));
        last = hex(digest(&SHA256, format!("{last}{json}").as_bytes()).as_ref());
        out += &format!("{last} {json}\n");
    }
    fs::write(dir.join("index"), out).unwrap();
    fs::remove_file(dir.join("index.head")).unwrap();
}

#[test]
fn ten_thousand_certificates_are_no_burden() {
    let (_keep, dir, mut authority) = authority();
    let key = NodeKey::generate().unwrap().public_key();
    authority.issue(&node("alpha"), &key, None, NOW).unwrap();
    fill(&dir, 10_000);
    let start = Instant::now();
    let mut opened = Authority::open(&dir).unwrap();
    let open = start.elapsed();
    assert_eq!(opened.list(NOW).len(), 10_000);
    let start = Instant::now();
    opened.issue(&node("alpha"), &key, None, NOW).unwrap();
    let issue = start.elapsed();
    println!("10,000 certificates: open {open:?}, issue {issue:?}");
    assert!(open.as_secs() < 3 && issue.as_secs() < 3, "open {open:?}, issue {issue:?}");
}
