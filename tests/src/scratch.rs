//! Directories that last as long as the test that made them, and a look at everything written in them.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};

static NEXT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static OF_THIS_TEST: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
}

/// The end of a log that is shown when a test fails, in bytes.
const TAIL: usize = 24 * 1024;

/// Makes a directory for the test that runs on this thread. Its path is short, because a Unix socket's path in it has
/// room for 107 bytes only. [`finish`] removes it.
pub fn directory() -> Result<PathBuf> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("adit-test-{}-{number}", std::process::id()));
    let made = fs::DirBuilder::new().mode(0o700).create(&path);
    made.with_context(|| format!("make {}", path.display()))?;
    OF_THIS_TEST.with_borrow_mut(|all| all.push(path.clone()));
    Ok(path)
}

/// What the logs of a test give away.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What must not be in any log: a panic, a private key.
    pub offences: Vec<String>,
    /// The end of each log.
    pub logs: String,
}

/// Reads every log below this test's directories, then removes the directories (unless `ADIT_TEST_KEEP` is set).
pub fn finish() -> Verdict {
    let mut verdict = Verdict::default();
    for root in OF_THIS_TEST.take() {
        let mut files = Vec::new();
        collect(&root, &mut files);
        let keys: Vec<_> = files.iter().filter(|f| f.extension().is_some_and(|e| e == "key")).collect();
        let secrets: Vec<String> = keys.into_iter().filter_map(|f| secret_line(f)).collect();
        for log in files.iter().filter(|f| f.extension().is_some_and(|e| e == "log")) {
            let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
            if let Some(line) = text.lines().find(|l| l.contains("panicked at")) {
                verdict.offences.push(format!("{}: {line}", log.display()));
            }
            if secrets.iter().any(|s| text.contains(s)) {
                verdict.offences.push(format!("{} holds a private key", log.display()));
            }
            let from = text.ceil_char_boundary(text.len().saturating_sub(TAIL));
            let _ = writeln!(verdict.logs, "--- {}\n{}", log.display(), &text[from..]);
        }
        if std::env::var_os("ADIT_TEST_KEEP").is_none() {
            let _ = fs::remove_dir_all(&root);
        }
    }
    verdict
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}

/// The second line of a PEM key's Base64: in a P-256 key of PKCS #8 the secret number is in it, and nothing public.
fn secret_line(key: &Path) -> Option<String> {
    let text = fs::read_to_string(key).ok()?;
    text.lines().nth(2).filter(|l| l.len() > 40).map(str::to_owned)
}
