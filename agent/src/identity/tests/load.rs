use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use time::Duration;

use super::super::{CERTIFICATE_FILE, Identity, KEY_FILE, LoadError, LoadWarning, TRUST_FILE, Trust};
use super::support::*;

/// A directory that goes with the test.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("adit-identity-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn write(&self, name: &str, contents: impl AsRef<[u8]>, mode: u32) {
        let path = self.0.join(name);
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The files of a node, as they should be.
    pub(super) fn fill(&self, pki: &Pki, issued: &Issued) {
        self.write(CERTIFICATE_FILE, pem(&issued.chain), 0o644);
        self.write(KEY_FILE, issued.key.serialize_pem(), 0o600);
        self.write(TRUST_FILE, pki.root.pem(), 0o644);
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn pem(chain: &[rustls::pki_types::CertificateDer<'_>]) -> String {
    chain.iter().map(|der| block("CERTIFICATE", der)).collect()
}

fn block(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let bits = chunk.iter().fold(0usize, |bits, b| bits << 8 | usize::from(*b)) << (8 * (3 - chunk.len()));
        for n in 0..4 {
            text.push(if n <= chunk.len() { char::from(DIGITS[bits >> (18 - 6 * n) & 63]) } else { '=' });
        }
    }
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

fn load(dir: &Directory) -> Result<(Identity, Vec<LoadWarning>), LoadError> {
    Identity::load(dir.path(), &node("alpha"), &mesh(), now())
}

#[test]
fn a_good_directory_gives_an_identity_and_no_warning() {
    let (pki, dir) = (Pki::new(), Directory::new());
    let alpha = pki.node("alpha");
    dir.fill(&pki, &alpha);
    let (identity, warnings) = load(&dir).unwrap();
    assert_eq!(warnings, []);
    assert_eq!((identity.node(), identity.mesh()), (&node("alpha"), &mesh()));
    assert_eq!(identity.spki_sha256(), alpha.identity("alpha").spki_sha256());
    let (trust, warnings) = Trust::load(dir.path(), now()).unwrap();
    assert_eq!(warnings, []);
    identity.check_against(&trust, now()).unwrap();
    assert_eq!(identity.check_against(&Pki::new().trust(), now()).unwrap_err().name(), "unknown_ca");
}

#[test]
fn every_bad_directory_is_refused_with_what_where_and_what_to_do() {
    let pki = Pki::new();
    let alpha = pki.node("alpha");
    let key = alpha.key.serialize_pem();
    let chain = pem(&alpha.chain);
    type Spoil<'a> = Box<dyn Fn(&Directory) + 'a>;
    let write = |name: &'static str, contents: Vec<u8>| -> Spoil<'_> {
        Box::new(move |dir| {
            std::fs::remove_file(dir.path().join(name)).unwrap();
            dir.write(name, &contents, 0o600);
        })
    };
    let replace = |name: &'static str, with: fn(&Path)| -> Spoil<'_> {
        Box::new(move |dir| {
            let path = dir.path().join(name);
            std::fs::remove_file(&path).unwrap();
            with(&path);
        })
    };
    let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE").into_bytes();
    let legacy = key.replace("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\n\n").into_bytes();
    let mut no_usage = leaf_params("alpha");
    no_usage.extended_key_usages.clear();
    let cases: Vec<(&str, Spoil<'_>, &str, &str)> = vec![
        (KEY_FILE, replace(KEY_FILE, |_| {}), "there is no such file", "adit ca issue"),
        (CERTIFICATE_FILE, replace(CERTIFICATE_FILE, |_| {}), "there is no such file", "adit init"),
        (KEY_FILE, replace(KEY_FILE, |p| symlink(p, p).unwrap()), "it cannot be read", "ls -l"),
        (KEY_FILE, replace(KEY_FILE, |p| std::fs::create_dir(p).unwrap()), "not a regular file", "right file"),
        (
            KEY_FILE,
            replace(KEY_FILE, |p| {
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(rustix::fs::CWD, p, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            }),
            "not a regular file",
            "right file",
        ),
        (KEY_FILE, write(KEY_FILE, vec![]), "the file is empty", "again"),
        (CERTIFICATE_FILE, write(CERTIFICATE_FILE, vec![]), "the file is empty", "again"),
        (KEY_FILE, write(KEY_FILE, key[..key.len() - 30].into()), "cut off", "whole"),
        (CERTIFICATE_FILE, write(CERTIFICATE_FILE, chain[..200].into()), "cut off", "whole"),
        (KEY_FILE, write(KEY_FILE, key.replace('M', "*").into_bytes()), "damaged", "again"),
        (CERTIFICATE_FILE, write(CERTIFICATE_FILE, b"hello".to_vec()), "no certificate", "PEM"),
        (KEY_FILE, write(KEY_FILE, chain.clone().into_bytes()), "no private key", "again"),
        (CERTIFICATE_FILE, write(CERTIFICATE_FILE, block("CERTIFICATE", b"no DER").into()), "not a DER", "issue"),
        (KEY_FILE, write(KEY_FILE, block("PRIVATE KEY", b"no DER").into()), "cannot be used", "issue"),
        (KEY_FILE, write(KEY_FILE, encrypted), "encrypted", "openssl pkey"),
        (KEY_FILE, write(KEY_FILE, legacy), "encrypted", "openssl pkey"),
        (KEY_FILE, write(KEY_FILE, vec![b'x'; 1024 * 1024 + 1]), "1 MiB is the most", "right file"),
        (KEY_FILE, write(KEY_FILE, pki.node("beta").key.serialize_pem().into()), "key of another node", "same issue"),
        (
            CERTIFICATE_FILE,
            write(CERTIFICATE_FILE, pem(&pki.node("beta").chain).into()),
            "is for node beta of mesh lab, but this host is alpha of lab",
            "agent.toml",
        ),
        (
            CERTIFICATE_FILE,
            write(CERTIFICATE_FILE, pem(&pki.issue(no_usage).chain).into()),
            "has no extended key usage",
            "adit ca issue",
        ),
    ];
    for (file, spoil, what, todo) in cases {
        let dir = Directory::new();
        dir.fill(&pki, &alpha);
        spoil(&dir);
        let error = load(&dir).expect_err(what);
        let text = error.to_string();
        assert!(text.starts_with(&dir.path().join(file).display().to_string()), "{file}: {text}");
        assert!(text.contains(what), "{what}: {text}");
        assert!(error.hint().contains(todo), "{what}: {}", error.hint());
    }
}

#[test]
fn a_world_readable_key_is_refused_and_a_group_readable_one_warned_about() {
    let (pki, dir) = (Pki::new(), Directory::new());
    dir.fill(&pki, &pki.node("alpha"));
    let key = dir.path().join(KEY_FILE);
    for mode in [0o604, 0o644, 0o666, 0o602] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = load(&dir).unwrap_err();
        assert!(error.hint().starts_with(&format!("chmod 600 {}", key.display())), "{}", error.hint());
    }
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let (_, warnings) = load(&dir).unwrap();
    assert_eq!(warnings, [LoadWarning::GroupReadableKey { path: key, mode: 0o640 }]);
}

#[test]
fn an_expired_certificate_is_loaded_with_a_warning() {
    let (pki, dir) = (Pki::new(), Directory::new());
    dir.fill(&pki, &pki.node("alpha"));
    for (later, name) in [(Duration::days(8), "expired"), (Duration::days(-1), "not_yet_valid")] {
        let (_, warnings) = Identity::load(dir.path(), &node("alpha"), &mesh(), now() + later).unwrap();
        let [LoadWarning::NotValidNow { rejection, .. }] = warnings.as_slice() else { panic!("{warnings:?}") };
        assert_eq!(rejection.name(), name);
        assert!(warnings[0].to_string().contains("every peer will refuse this host"));
    }
}

#[test]
fn roots_are_warned_about_and_without_a_usable_one_there_is_no_trust() {
    let (pki, dir) = (Pki::new(), Directory::new());
    let mut flawed = ca_params("flawed", 1);
    flawed.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
    let flawed = Pki::with(flawed, |_| {});
    dir.write(TRUST_FILE, pki.root.pem() + &flawed.root.pem(), 0o644);
    let (trust, warnings) = Trust::load(dir.path(), now()).unwrap();
    assert_eq!(trust.certificates().len(), 2);
    assert!(warnings[0].to_string().contains("\"CN=flawed\""), "{}", warnings[0]);

    let (_, warnings) = Trust::load(dir.path(), now() + Duration::days(4000)).unwrap();
    assert!(matches!(warnings[1], LoadWarning::RootNotValidNow { .. }), "{warnings:?}");

    dir.write(TRUST_FILE, flawed.root.pem(), 0o644);
    assert!(matches!(Trust::load(dir.path(), now()), Err(LoadError::NoRoot { .. })));
}
