//! A signed document as the values of keys, and back: pure.
//!
//! ```text
//!   PREFIX head                     header, certificates, signature; which pieces the index is
//!   PREFIX index/DIGEST             a line for each piece of the text, in order: its length and its key
//!   PREFIX node/NAME/DIGEST         what the mesh file says of a node
//!   PREFIX service/NAME/DIGEST      the same of a service
//!   PREFIX mesh/DIGEST              what stands between them
//! ```
//!
//! Every key but the head is named by the digest of its value, so a value never changes: pieces are written first, then the head
//! is set in one step, and whoever reads finds the document of before or this one, whole, whatever has been written or left
//! half-written meanwhile. A change of one node writes one piece, the index and the head, and that is what readers fetch.
//!
//! What is put together has to be the text whose digest the signed header names, byte for byte. How it was cut decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use mesh_config::published::MAX_HEADER;
use mesh_config::{Digest, MAX_FILE, MAX_NAME, NodeName};
use serde::{Deserialize, Serialize};

use crate::identity::published::{Envelope, MAX_CHAIN, MAX_SIGNATURE, Refused};

/// The key of the head, below the prefix.
pub(crate) const HEAD: &str = "head";
/// The longest value of a piece or an index, in bytes: a request to etcd has 1.5 MiB at most.
pub(crate) const MAX_PIECE: usize = 256 << 10;
/// The longest value of the head, in bytes.
pub(crate) const MAX_HEAD: usize = 512 << 10;
/// The most pieces of a text: a mesh of as many nodes and services.
const MAX_PIECES: usize = 1 << 17;
/// The most values of an index: each piece takes a line, and the longest is shorter than this.
const MAX_INDEX: usize = MAX_PIECES * LONGEST_LINE / MAX_PIECE + 1;
const LONGEST_LINE: usize = 7 + "service//".len() + MAX_NAME + NAMED_BY + 2;
/// Hexadecimal digits of a digest in a key: 128 bits keep two values apart. What is put together is held against the whole one.
const NAMED_BY: usize = 32;

/// The value of the head.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    /// Of this layout.
    layout: u32,
    /// The signed document without its text, in Base64.
    envelope: String,
    /// The digests by which the values of the index are named, in order.
    index: Vec<String>,
}

const LAYOUT: u32 = 1;

/// Keys below the prefix, and their values.
pub(crate) type Pieces = BTreeMap<String, Bytes>;

/// A key below the prefix, and its value.
pub(crate) type Pair = (String, Bytes);

/// A document as keys and values.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// The value of the head.
    pub(crate) head: Bytes,
    /// All others, each once.
    pub(crate) pieces: Pieces,
}

impl Parts {
    /// Takes a signed document apart.
    ///
    /// # Errors
    /// [`Refused::Malformed`], [`Refused::TooLarge`].
    pub(crate) fn of(document: Bytes) -> Result<Self, Refused> {
        let envelope = Envelope::decode(document)?;
        let text = envelope.document.clone();
        let mut pieces = BTreeMap::new();
        let mut index = vec![String::new()];
        for (key, value) in cut(&text) {
            let line = format!("{} {key}\n", value.len());
            if index.last().is_some_and(|last| last.len() + line.len() > MAX_PIECE) {
                index.push(String::new());
            }
            if let Some(last) = index.last_mut() {
                last.push_str(&line);
            }
            pieces.insert(key, value);
        }
        let mut named = Vec::new();
        for value in index {
            let value = Bytes::from(value);
            let name = named_by(&value);
            pieces.insert(index_key(&name), value);
            named.push(name);
        }
        let head = head(&envelope, named);
        if head.len() > MAX_HEAD {
            return Err(Refused::TooLarge { what: "its head", bytes: head.len(), most: MAX_HEAD });
        }
        Ok(Self { head, pieces })
    }
}

fn head(envelope: &Envelope, index: Vec<String>) -> Bytes {
    let bare = Envelope { document: Bytes::new(), ..envelope.clone() };
    let wire = Wire { layout: LAYOUT, envelope: BASE64.encode(bare.encode()), index };
    // Strings and a number always become JSON.
    serde_json::to_vec(&wire).unwrap_or_default().into()
}

/// A piece, as an index names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Its key.
    pub(crate) key: String,
    /// The length of its value.
    pub(crate) length: usize,
}

/// Puts a document together again. What is wanted is asked for with [`wanted`](Self::wanted), and given with
/// [`put`](Self::put), until nothing is wanted any more.
#[derive(Debug)]
pub(crate) struct Assembly {
    envelope: Envelope,
    index: Vec<Piece>,
    /// In the order of the text, once the index is here.
    text: Option<Vec<Piece>>,
    have: Pieces,
}

impl Assembly {
    /// Begins with the value of the head; `have` are pieces that are here already.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(head: &[u8], have: &Pieces) -> Result<Self, Refused> {
        if head.len() > MAX_HEAD {
            return Err(Refused::TooLarge { what: "its head", bytes: head.len(), most: MAX_HEAD });
        }
        let wire: Wire = serde_json::from_slice(head).map_err(|_| Refused::Malformed("its head is none"))?;
        if wire.layout != LAYOUT {
            return Err(Refused::Malformed("its keys are laid out as this version of Adit does not know"));
        }
        let envelope = BASE64.decode(&wire.envelope).map_err(|_| Refused::Malformed("its head is not Base64"))?;
        if envelope.len() > MAX_HEADER + MAX_CHAIN + MAX_SIGNATURE + 64 {
            return Err(Refused::TooLarge { what: "its head", bytes: envelope.len(), most: MAX_HEAD });
        }
        let envelope = Envelope::decode(envelope.into())?;
        if !envelope.document.is_empty() {
            return Err(Refused::Malformed("its head has a text"));
        }
        if wire.index.len() > MAX_INDEX || !wire.index.iter().all(|name| is_name(name)) {
            return Err(Refused::Malformed("its head names no index"));
        }
        let index = wire.index.iter().map(|name| Piece { key: index_key(name), length: MAX_PIECE }).collect();
        let mut this = Self { envelope, index, text: None, have: have.clone() };
        this.advance()?;
        Ok(this)
    }

    /// The next pieces that are wanted: at most `count`, and of `bytes` together unless one alone is longer.
    pub(crate) fn wanted(&self, count: usize, bytes: usize) -> Vec<Piece> {
        let mut asked = BTreeSet::new();
        let (mut wanted, mut sum) = (Vec::new(), 0);
        for piece in self.text.as_ref().unwrap_or(&self.index) {
            if self.have.contains_key(&piece.key) || !asked.insert(&piece.key) {
                continue;
            }
            if !wanted.is_empty() && (wanted.len() >= count || sum + piece.length > bytes) {
                break;
            }
            sum += piece.length;
            wanted.push(piece.clone());
        }
        wanted
    }

    /// Gives a piece that was wanted.
    ///
    /// # Errors
    /// If it is not what its key and the index say.
    pub(crate) fn put(&mut self, piece: &Piece, value: Bytes) -> Result<(), Refused> {
        let fits = match &self.text {
            None => value.len() <= piece.length,
            Some(_) => value.len() == piece.length,
        };
        let named = piece.key.rsplit('/').next().unwrap_or_default();
        if !fits || named_by(&value) != named {
            return Err(Refused::Forged("a piece of its text is not the one that its key names"));
        }
        self.have.insert(piece.key.clone(), value);
        self.advance()
    }

    /// Reads the index once all of it is here.
    fn advance(&mut self) -> Result<(), Refused> {
        if self.text.is_some() || !self.index.iter().all(|piece| self.have.contains_key(&piece.key)) {
            return Ok(());
        }
        let mut pieces = Vec::new();
        let mut sum = 0_u64;
        for value in self.index.iter().filter_map(|piece| self.have.get(&piece.key)) {
            let text = std::str::from_utf8(value).map_err(|_| Refused::Malformed("its index is no text"))?;
            for line in text.lines() {
                let piece = parse(line).ok_or(Refused::Malformed("a line of its index is none"))?;
                sum += piece.length as u64;
                if sum > MAX_FILE {
                    let bytes = usize::try_from(sum).unwrap_or(usize::MAX);
                    let most = usize::try_from(MAX_FILE).unwrap_or(usize::MAX);
                    return Err(Refused::TooLarge { what: "its text", bytes, most });
                }
                pieces.push(piece);
                if pieces.len() > MAX_PIECES {
                    return Err(Refused::TooLarge { what: "its index", bytes: pieces.len(), most: MAX_PIECES });
                }
            }
        }
        self.text = Some(pieces);
        // One that is here already may be of another length than the index says; no digest is of two values.
        Ok(())
    }

    /// The keys of the document that are known by now.
    pub(crate) fn keys(&self) -> BTreeSet<String> {
        self.index.iter().chain(self.text.iter().flatten()).map(|piece| piece.key.clone()).collect()
    }

    /// The signed document, and its pieces for the next one; nothing while something is wanted.
    ///
    /// # Errors
    /// If the text is not the one that the header names.
    pub(crate) fn finish(self) -> Result<Option<(Bytes, Pieces)>, Refused> {
        let Some(order) = &self.text else { return Ok(None) };
        let mut text = Vec::with_capacity(order.iter().map(|piece| piece.length).sum());
        for piece in order {
            let Some(value) = self.have.get(&piece.key) else { return Ok(None) };
            if value.len() != piece.length {
                return Err(Refused::Forged("a piece of its text is not as long as its index says"));
            }
            text.extend_from_slice(value);
        }
        let keys = self.keys();
        let envelope = Envelope { document: text.into(), ..self.envelope };
        let mut pieces = self.have;
        pieces.retain(|key, _| keys.contains(key));
        Ok(Some((envelope.encode().into(), pieces)))
    }
}

/// The pieces of a text that is here already, for the [`Assembly`] of the next one.
pub(crate) fn known(text: &Bytes) -> Pieces {
    cut(text).into_iter().collect()
}

/// Whether a key below the prefix is one that a document can have: no other is ever removed.
pub(crate) fn is_ours(key: &str) -> bool {
    key.strip_prefix("index/").is_some_and(is_name) || is_piece(key)
}

fn parse(line: &str) -> Option<Piece> {
    let (length, key) = line.split_once(' ')?;
    let digits = !length.is_empty() && length.len() <= 7 && length.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.parse().ok().filter(|length| digits && (1..=MAX_PIECE).contains(length))?;
    is_piece(key).then(|| Piece { key: key.to_owned(), length })
}

fn is_piece(key: &str) -> bool {
    match key.split('/').collect::<Vec<_>>()[..] {
        ["mesh", name] => is_name(name),
        ["node" | "service", of, name] => NodeName::new(of).is_ok() && is_name(name),
        _ => false,
    }
}

fn is_name(name: &str) -> bool {
    name.len() == NAMED_BY && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn named_by(value: &[u8]) -> String {
    let mut name = Digest::of(value).to_string();
    name.truncate(NAMED_BY);
    name
}

fn index_key(name: &str) -> String {
    format!("index/{name}")
}

/// The pieces of a text, in order: together they are the text. One for each node and service, as far as its lines tell them
/// apart; a line that only looks like a table's header makes no more than an odd piece.
fn cut(text: &Bytes) -> Vec<Pair> {
    let mut ranges = sections(text);
    if ranges.len() > MAX_PIECES {
        ranges = vec![(None, 0..text.len())];
    }
    let mut pieces = Vec::with_capacity(ranges.len());
    for (of, range) in ranges {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + MAX_PIECE);
            let value = text.slice(start..end);
            let name = named_by(&value);
            let key = match &of {
                Some((kind, of)) => format!("{kind}/{of}/{name}"),
                None => format!("mesh/{name}"),
            };
            pieces.push((key, value));
            start = end;
        }
    }
    pieces
}

type Section = (Option<(&'static str, String)>, Range<usize>);

fn sections(text: &[u8]) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let (mut of, mut start) = (None, 0);
    // Where the remarks begin that stand directly above the line that comes.
    let mut remarks = None;
    let mut at = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let trimmed = line.trim_ascii_start();
        if trimmed.starts_with(b"[") {
            let next = header(trimmed);
            let begin = remarks.unwrap_or(at);
            if next != of {
                if begin > start {
                    sections.push((of.take(), start..begin));
                }
                (of, start) = (next, begin.max(start));
            }
            remarks = None;
        } else if trimmed.starts_with(b"#") {
            remarks = remarks.or(Some(at));
        } else {
            remarks = None;
        }
        at += line.len();
    }
    if text.len() > start {
        sections.push((of, start..text.len()));
    }
    sections
}

/// The node or service that a table's header is about.
fn header(line: &[u8]) -> Option<(&'static str, String)> {
    let (kind, rest) = [("node", &b"[node."[..]), ("service", b"[service."[..].as_ref())]
        .into_iter()
        .find_map(|(kind, begins)| Some((kind, line.strip_prefix(begins)?)))?;
    let length = rest.iter().position(|byte| matches!(byte, b'.' | b']'))?;
    let name = std::str::from_utf8(rest.get(..length)?).ok()?;
    Some((kind, NodeName::new(name).ok()?.to_string()))
}

#[cfg(test)]
mod tests;
