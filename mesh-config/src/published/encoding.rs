//! Headers as bytes: one encoding for each, so that a signature and an identity are of the header and not of a way to
//! write it.
//!
//! ```text
//!   "adit mesh header 1\n"
//!   mesh: u8 length, bytes │ generation: u64 │ version: u64 │ document: 32 │ published at: u64 │ refresh by: u64
//!   parents: u16 count, ranks │ ancestors: u16 count, ranks │ tombstones: u16 count, tombstones
//!   rank       generation: u64 │ version: u64 │ identity: 32
//!   tombstone  generation: u64 │ version: u64 │ key: 32 │ node: u8 length, bytes
//! ```
//!
//! Numbers are big-endian, times are seconds since 1970.

use crate::model::{Digest, MeshVersion};
use crate::name::{MAX_NAME, MeshName, NodeName};

use super::header::{MAX_ANCESTORS, MAX_PARENTS, Parts};
use super::rank::{Generation, Rank};
use super::tombstone::{MAX_TOMBSTONES, Tombstone};

const MAGIC: &[u8] = b"adit mesh header 1\n";
const DIGEST: usize = 32;
const RANK: usize = 16 + DIGEST;

/// The longest header, in bytes.
pub const MAX_HEADER: usize = MAGIC.len()
    + (1 + MAX_NAME)
    + 4 * 8
    + DIGEST
    + 3 * 2
    + (MAX_PARENTS + MAX_ANCESTORS) * RANK
    + MAX_TOMBSTONES * (RANK + 1 + MAX_NAME);

/// Why bytes are not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It does not begin as headers of this format do.
    #[error("it does not begin as a header does")]
    Magic,
    /// It ends before it is complete.
    #[error("it is cut off")]
    Truncated,
    /// Something follows its end.
    #[error("it has bytes after its end")]
    Trailing,
    /// Not the name of a mesh or a node.
    #[error("a name in it is not one")]
    Name,
    /// A generation or version of zero, or above what a mesh file can say.
    #[error("a generation or version in it is out of range")]
    Number,
    /// Too many parents, out of order, or not earlier than the document.
    #[error("its parents are too many, out of order, or not earlier than itself")]
    Parents,
    /// The same of its ancestors.
    #[error("its ancestors are too many, out of order, or not earlier than itself")]
    Ancestors,
    /// Too many tombstones, out of order, or of a later document.
    #[error("its tombstones are too many, out of order, or of a later document")]
    Tombstones,
    /// It is to be refreshed before it was published, or after the year 9999.
    #[error("the time to refresh it by is not after its publication")]
    Times,
}

pub(super) fn encode(parts: &Parts) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + parts.tombstones.len() * (RANK + 16));
    out.extend_from_slice(MAGIC);
    put_text(&mut out, parts.mesh.as_str());
    out.extend_from_slice(&parts.generation.number().to_be_bytes());
    out.extend_from_slice(&parts.version.number().to_be_bytes());
    out.extend_from_slice(parts.document.as_bytes());
    out.extend_from_slice(&parts.published_at.to_be_bytes());
    out.extend_from_slice(&parts.refresh_by.to_be_bytes());
    for ranks in [&parts.parents, &parts.ancestors] {
        put_count(&mut out, ranks.len());
        for rank in ranks {
            put_rank(&mut out, rank.generation, rank.version, &rank.id);
        }
    }
    put_count(&mut out, parts.tombstones.len());
    for tombstone in &parts.tombstones {
        put_rank(&mut out, tombstone.generation, tombstone.version, &tombstone.key);
        put_text(&mut out, tombstone.node.as_str());
    }
    out
}

/// Lists are bounded far below the greatest count; a longer one would be refused on reading.
fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
}

fn put_text(out: &mut Vec<u8>, name: &str) {
    // Names have at most 63 bytes.
    out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(name.as_bytes());
}

fn put_rank(out: &mut Vec<u8>, generation: Generation, version: MeshVersion, id: &Digest) {
    out.extend_from_slice(&generation.number().to_be_bytes());
    out.extend_from_slice(&version.number().to_be_bytes());
    out.extend_from_slice(id.as_bytes());
}

pub(super) fn decode(bytes: &[u8]) -> Result<Parts, HeaderError> {
    let mut reader = Reader(bytes.strip_prefix(MAGIC).ok_or(HeaderError::Magic)?);
    let mesh = MeshName::new(reader.text()?).map_err(|_| HeaderError::Name)?;
    let (generation, version) = reader.place()?;
    let document = reader.digest()?;
    let (published_at, refresh_by) = (reader.number()?, reader.number()?);
    let parents = reader.ranks(MAX_PARENTS, HeaderError::Parents)?;
    let ancestors = reader.ranks(MAX_ANCESTORS, HeaderError::Ancestors)?;
    let count = reader.count(MAX_TOMBSTONES, RANK + 2, HeaderError::Tombstones)?;
    let mut tombstones = Vec::with_capacity(count);
    for _ in 0..count {
        let (generation, version) = reader.place()?;
        let key = reader.digest()?;
        let node = NodeName::new(reader.text()?).map_err(|_| HeaderError::Name)?;
        tombstones.push(Tombstone { generation, version, key, node });
    }
    if !reader.0.is_empty() {
        return Err(HeaderError::Trailing);
    }
    Ok(Parts { mesh, generation, version, document, published_at, refresh_by, parents, ancestors, tombstones })
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, length: usize) -> Result<&'b [u8], HeaderError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(HeaderError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HeaderError> {
        self.take(N)?.try_into().map_err(|_| HeaderError::Truncated)
    }

    fn number(&mut self) -> Result<u64, HeaderError> {
        self.array().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Result<&'b str, HeaderError> {
        let [length] = self.array()?;
        std::str::from_utf8(self.take(usize::from(length))?).map_err(|_| HeaderError::Name)
    }

    fn digest(&mut self) -> Result<Digest, HeaderError> {
        self.array().map(Digest)
    }

    fn place(&mut self) -> Result<(Generation, MeshVersion), HeaderError> {
        let generation = Generation::new(self.number()?).ok_or(HeaderError::Number)?;
        let version = MeshVersion::new(self.number()?).ok_or(HeaderError::Number)?;
        Ok((generation, version))
    }

    /// A count of things of at least `size` bytes each, which the rest has to be long enough for.
    fn count(&mut self, most: usize, size: usize, beyond: HeaderError) -> Result<usize, HeaderError> {
        let count = usize::from(u16::from_be_bytes(self.array()?));
        if count > most {
            Err(beyond)
        } else if count * size > self.0.len() {
            Err(HeaderError::Truncated)
        } else {
            Ok(count)
        }
    }

    fn ranks(&mut self, most: usize, beyond: HeaderError) -> Result<Vec<Rank>, HeaderError> {
        let count = self.count(most, RANK, beyond)?;
        (0..count)
            .map(|_| {
                let (generation, version) = self.place()?;
                Ok(Rank { generation, version, id: self.digest()? })
            })
            .collect()
    }
}
