//! The last good signed mesh document of a node, and the floor below which none is ever taken again.
//!
//! Two files in a directory of the agent's: `published`, the signed document as it came, and `published.floor`, one line
//! with its rank. The document is replaced first and the floor raised after it. Ended at any moment, that leaves the old
//! document with the old floor, the new one with the old floor, or the new one with the new floor; never a document below
//! its floor. The files say nothing about trust: what is read back is verified like one that has just arrived.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use mesh_config::published::{Generation, Rank};
use mesh_config::{Digest, MeshVersion};

use crate::atomic;
use crate::error::Error;

const DOCUMENT: &str = "published";
const FLOOR: &str = "published.floor";
const FLOOR_MAGIC: &str = "adit-published-floor 1";
/// More than a floor's line has, in bytes.
const MAX_FLOOR: u64 = 1024;

/// The last good signed document, kept in a directory. One process at a time may write there.
#[derive(Debug)]
pub struct LastGood {
    dir: PathBuf,
    floor: Option<Rank>,
}

impl LastGood {
    /// Opens the directory, which is made (0700) if it is not there, and removes what an interrupted change left.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the floor is not as it was written, [`Error::Io`].
    pub fn open(dir: &Path) -> Result<Self, Error> {
        atomic::make_directory(dir)?;
        atomic::sweep(dir)?;
        Self::look(dir)
    }

    /// The same for somebody who only reads, while another process may write: nothing is made or removed. A directory that is
    /// not there holds nothing.
    ///
    /// # Errors
    /// Those of [`LastGood::open`].
    pub fn look(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FLOOR);
        let floor = match read(&path, MAX_FLOOR)? {
            None => None,
            Some(bytes) => {
                let floor = std::str::from_utf8(&bytes).ok().and_then(parse);
                Some(floor.ok_or_else(|| Error::damaged(&path, "it is not the line that was written"))?)
            }
        };
        Ok(Self { dir: dir.to_owned(), floor })
    }

    /// The rank of the greatest document that was ever kept: no lesser one may come back.
    pub fn floor(&self) -> Option<Rank> {
        self.floor
    }

    /// The document that was kept last, of at most `limit` bytes, as it came; nothing if there is none.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is longer, [`Error::Io`].
    pub fn document(&self, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        read(&self.path(), u64::try_from(limit).unwrap_or(u64::MAX))
    }

    /// Where the document is.
    pub fn path(&self) -> PathBuf {
        self.dir.join(DOCUMENT)
    }

    /// Keeps a verified document of this rank in the place of the one before, and raises the floor to it.
    ///
    /// # Errors
    /// [`Error::BelowFloor`] for one of a lesser rank: nothing is changed. [`Error::Io`]: the old document or the new one
    /// is there.
    pub fn keep(&mut self, rank: Rank, document: &[u8]) -> Result<(), Error> {
        if let Some(floor) = self.floor
            && rank < floor
        {
            return Err(Error::BelowFloor { rank, floor });
        }
        atomic::write(&self.path(), document, atomic::SECRET)?;
        self.raise(rank)
    }

    /// Raises the floor alone: for a document that was found without it, as an interruption leaves it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn raise(&mut self, rank: Rank) -> Result<(), Error> {
        if self.floor < Some(rank) {
            atomic::write(&self.dir.join(FLOOR), line(rank).as_bytes(), atomic::SECRET)?;
            self.floor = Some(rank);
        }
        Ok(())
    }
}

/// All of a file, if it is there and within its limit.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    // Asked before opening: opening a pipe would wait for its writer.
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
        Ok(metadata) if !metadata.is_file() => return Err(Error::damaged(path, "it is not an ordinary file")),
        Ok(metadata) if metadata.len() > limit => return Err(Error::damaged(path, "it is too long")),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::io("read", path))?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::damaged(path, "it is too long"));
    }
    Ok(Some(bytes))
}

fn line(rank: Rank) -> String {
    let line = format!("{FLOOR_MAGIC} {} {} {}", rank.generation, rank.version, rank.id);
    let check: String = digest(&SHA256, line.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("{line} {check}\n")
}

/// Takes only the very bytes that [`line()`] gives.
fn parse(text: &str) -> Option<Rank> {
    let mut words = text.strip_prefix(FLOOR_MAGIC)?.strip_prefix(' ')?.split(' ');
    let generation = Generation::new(words.next()?.parse().ok()?)?;
    let version = MeshVersion::new(words.next()?.parse().ok()?)?;
    let hex = words.next()?.as_bytes();
    let mut id = [0; 32];
    for (byte, pair) in id.iter_mut().zip(hex.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    let rank = Rank { generation, version, id: Digest::from_bytes(id) };
    (line(rank) == text).then_some(rank)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn rank(generation: u64, version: u64) -> Rank {
        Rank {
            generation: Generation::new(generation).unwrap(),
            version: MeshVersion::new(version).unwrap(),
            id: Digest::of(&version.to_be_bytes()),
        }
    }

    #[test]
    fn an_older_document_never_comes_back_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let mut kept = LastGood::open(&state).unwrap();
        assert_eq!((kept.floor(), kept.document(99).unwrap()), (None, None));
        kept.keep(rank(1, 7), b"seven").unwrap();
        for mut kept in [kept, LastGood::open(&state).unwrap()] {
            assert!(matches!(kept.keep(rank(1, 6), b"six"), Err(Error::BelowFloor { .. })));
            kept.keep(rank(1, 7), b"seven").unwrap();
            assert_eq!(kept.document(99).unwrap().as_deref(), Some(&b"seven"[..]));
        }
        let mut kept = LastGood::open(&state).unwrap();
        kept.keep(rank(2, 1), b"one").unwrap();
        assert!(matches!(kept.keep(rank(1, 8), b"eight"), Err(Error::BelowFloor { .. })));
        // Also if the document was lost: the floor is not.
        fs::remove_file(kept.path()).unwrap();
        let mut kept = LastGood::open(&state).unwrap();
        assert_eq!((kept.floor(), kept.document(99).unwrap()), (Some(rank(2, 1)), None));
        assert!(kept.keep(rank(1, 8), b"eight").is_err());
    }

    #[test]
    fn a_floor_takes_no_flipped_bit_and_no_cut() {
        let text = line(rank(3, 12));
        assert_eq!(parse(&text), Some(rank(3, 12)));
        for length in 0..text.len() {
            assert_eq!(parse(&text[..length]), None);
        }
        for bit in 0..text.len() * 8 {
            let mut bad = text.clone().into_bytes();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(std::str::from_utf8(&bad).ok().and_then(parse), None, "bit {bit}");
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FLOOR), &text[1..]).unwrap();
        assert!(matches!(LastGood::open(dir.path()), Err(Error::Damaged { .. })));
    }

    #[test]
    fn what_is_too_long_or_no_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = LastGood::open(dir.path()).unwrap();
        kept.keep(rank(1, 1), &[7; 100]).unwrap();
        assert!(kept.document(100).is_ok());
        assert!(matches!(kept.document(99), Err(Error::Damaged { .. })));
        fs::remove_file(kept.path()).unwrap();
        fs::create_dir(kept.path()).unwrap();
        assert!(matches!(kept.document(99), Err(Error::Damaged { .. })));
    }
}
