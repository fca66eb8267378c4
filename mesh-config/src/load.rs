//! The one place that reads files.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use crate::check::Checked;
use crate::diagnostic::{Problem, Severity};
use crate::document::Source;
use crate::model::Mesh;

/// The greatest document that is read, in bytes. A mesh of 10,000 nodes and 2,000 services has less than one.
pub const MAX_FILE: u64 = 16 << 20;

/// Reads and checks a mesh file.
///
/// # Errors
/// Every problem of the file, as [`Mesh::check`] says, or the one that keeps it from being read.
pub fn load(path: &Path) -> Result<Checked, Vec<Problem>> {
    let text = read_text(path).map_err(|problem| vec![*problem])?;
    Mesh::check(&text, &path.display().to_string())
}

/// Reads a document's text: at most [`MAX_FILE`] bytes of UTF-8 out of an ordinary file.
///
/// # Errors
/// What keeps it from being read, and what to do about it.
pub fn read_text(path: &Path) -> Result<String, Box<Problem>> {
    let name = path.display().to_string();
    let fail = |message: String, hint: &str| Box::new(Problem::with_file(Severity::Error, &name, message).hint(hint));
    let unreadable = |error: std::io::Error| {
        let hint = match error.kind() {
            ErrorKind::NotFound => "give the path of a file that exists, or make one with `adit init`",
            ErrorKind::PermissionDenied => "let the user that runs this read the file and enter its directories",
            _ => "see that the path is right and the disk is well",
        };
        fail(format!("cannot be read: {}", plain(&error)), hint)
    };
    // Asked before opening: opening a pipe would wait for its writer.
    let kind = std::fs::metadata(path).map_err(unreadable)?;
    if kind.is_dir() {
        return Err(fail("is a directory".to_owned(), "give the path of the file in it"));
    }
    if !kind.is_file() {
        return Err(fail("is not an ordinary file".to_owned(), "pipes and devices are not read: give a file's path"));
    }
    let too_great = || {
        let message = format!("is greater than {} MiB", MAX_FILE >> 20);
        fail(message, "that is far more than such a document needs: see that the path is right")
    };
    if kind.len() > MAX_FILE {
        return Err(too_great());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(kind.len()).unwrap_or_default());
    File::open(path).map_err(unreadable)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(too_great());
    }
    decode(bytes, &name)
}

/// `bytes` as text. `file` is what problems call it.
///
/// # Errors
/// The place of the first byte that is not UTF-8.
pub fn decode(bytes: Vec<u8>, file: &str) -> Result<String, Box<Problem>> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.into_bytes();
        let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
        let text = String::from_utf8_lossy(&bytes);
        // Up to the bad byte the lossy text is the same; a byte order mark is left out of it.
        let mark = text.len() - text.strip_prefix('\u{feff}').unwrap_or(&text).len();
        let source = Source::new(file, &text);
        let at = at.saturating_sub(mark);
        let byte = bytes.get(at + mark).copied().unwrap_or_default();
        let message = format!("byte 0x{byte:02x} is not UTF-8");
        let hint = if utf16 { "this looks like UTF-16: save the file as UTF-8" } else { "save the file as UTF-8" };
        Box::new(source.problem(Severity::Error, &(at..at + 1), message).hint(hint))
    })
}

/// An error's text in the house style: lower case, without the number.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &Path) -> String {
        let problems = load(path).unwrap_err();
        assert_eq!(problems.len(), 1);
        problems[0].to_string()
    }

    #[test]
    fn what_cannot_be_read_is_told_with_what_to_do() {
        for (path, what) in [
            ("/nonexistent/mesh.toml", "error: cannot be read: there is no such file\n  help: "),
            ("/", "error: is a directory\n  help: "),
            ("/dev/zero", "error: is not an ordinary file\n  help: "),
        ] {
            assert_eq!(
                told(Path::new(path)).split_once("help: ").unwrap().0,
                format!("{path}: {what}").replace("help: ", "")
            );
        }
    }

    #[test]
    fn a_file_beyond_the_limit_is_not_read() {
        let path = std::env::temp_dir().join(format!("mesh-config-{}.toml", std::process::id()));
        let file = File::create(&path).unwrap();
        // Sparse: it takes no room.
        file.set_len(MAX_FILE + 1).unwrap();
        let told = told(&path);
        std::fs::remove_file(&path).unwrap();
        assert!(told.contains("error: is greater than 16 MiB\n  help: "), "{told}");
    }

    #[test]
    fn bytes_that_are_not_text_are_told_at_their_place() {
        for (bytes, place, hint) in [
            (&b"a\n\xc3\xa9\xff"[..], (2, 2), "save the file as UTF-8"),
            (b"\xef\xbb\xbfab\xc3", (1, 3), "save the file as UTF-8"),
            (b"\xff\xfe[\0m\0", (1, 1), "this looks like UTF-16: save the file as UTF-8"),
        ] {
            let problem = decode(bytes.to_vec(), "f").unwrap_err();
            assert_eq!(((problem.line, problem.column), problem.hint.as_deref()), (place, Some(hint)), "{bytes:?}");
        }
        assert_eq!(decode("é".into(), "f").unwrap(), "é");
    }
}
