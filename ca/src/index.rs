//! The index of issued certificates: a file that only grows.
//!
//! One event a line, `DIGEST JSON`. Each digest is the SHA-256 of the digest before it and of the JSON, so a line that
//! was changed, removed or moved is found. A second, small file, the *head*, is replaced after each append and says how
//! many events there are and what the last digest is, so that an index that was cut at the end of a line is found too.
//!
//! An append is: write the line, bring it to the disk, replace the head. Ended at any moment, it leaves
//!
//! - an incomplete line behind as many as the head counts: not an event, cut off before the next append;
//! - a complete line more than the head counts: an event, which the next head counts;
//! - all of it.
//!
//! Fewer or other lines than the head counts are damage, and refused.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};

use crate::atomic;
use crate::disk;
use crate::error::Error;
use crate::record::{Event, Record};
use crate::serial::Serial;

const INDEX: &str = "index";
const HEAD: &str = "index.head";
const HEADER: &str = "adit-ca-index 1\n";

/// All events, as of the last reading.
#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    head_path: PathBuf,
    state: Events,
    head: Option<Head>,
}

/// What the lines of an index amount to.
#[derive(Debug)]
struct Events {
    records: Vec<Record>,
    by_serial: HashMap<Serial, usize>,
    head: Head,
    /// Bytes up to the end of the last event.
    length: u64,
}

/// How many events there are, and the digest of the last (64 hexadecimal digits).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    count: u64,
    digest: String,
}

impl Index {
    /// Writes one without events into a directory that nobody reads yet.
    pub(crate) fn create(dir: &Path) -> Result<(), Error> {
        atomic::write_new(&dir.join(INDEX), HEADER.as_bytes(), atomic::SECRET)?;
        atomic::write_new(&dir.join(HEAD), Head::start().to_text().as_bytes(), atomic::SECRET)
    }

    /// Reads it. Needs no lock: what another process is just appending is there whole or not at all.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let (path, head_path) = (dir.join(INDEX), dir.join(HEAD));
        // The head first: the index is never behind it.
        let head = read_head(&head_path)?;
        let bytes = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::damaged(&path, "it is missing"),
            _ => Error::io("read", &path)(error),
        })?;
        let state = Events::parse(&bytes, head.as_ref()).map_err(|what| Error::damaged(&path, what))?;
        Ok(Self { path, head_path, state, head })
    }

    /// Whether the head has to be made anew: it was lost or damaged, while the index holds.
    pub(crate) fn lacks_head(&self) -> bool {
        self.head.is_none()
    }

    pub(crate) fn head_path(&self) -> &Path {
        &self.head_path
    }

    pub(crate) fn records(&self) -> &[Record] {
        &self.state.records
    }

    pub(crate) fn contains(&self, serial: Serial) -> bool {
        self.state.by_serial.contains_key(&serial)
    }

    /// Takes in what other processes appended. The caller holds the lock.
    pub(crate) fn refresh(&mut self) -> Result<(), Error> {
        let length = fs::metadata(&self.path).map_err(Error::io("read", &self.path))?.len();
        let head = read_head(&self.head_path)?;
        if head.as_ref() != Some(&self.state.head) || length != self.state.length {
            *self = Self::open(atomic::parent(&self.path))?;
        }
        Ok(())
    }

    /// Brings the head in line with the index. The caller holds the lock.
    pub(crate) fn write_head(&mut self) -> Result<(), Error> {
        atomic::write(&self.head_path, self.state.head.to_text().as_bytes(), atomic::SECRET)?;
        self.head = Some(self.state.head.clone());
        Ok(())
    }

    /// Appends an event and brings it to the disk. The caller holds the lock and has refreshed.
    pub(crate) fn append(&mut self, event: Event) -> Result<(), Error> {
        let json = event.to_json();
        let digest = chain(&self.state.head.digest, json.as_bytes());
        let line = format!("{digest} {json}\n");
        let length = self.state.length;
        let mut file = OpenOptions::new().write(true).open(&self.path).map_err(Error::io("open", &self.path))?;
        // An incomplete line of an append that was interrupted goes first.
        if file.metadata().map_err(Error::io("read", &self.path))?.len() != length {
            disk::truncate(&file, length).map_err(Error::io("repair", &self.path))?;
        }
        file.seek(SeekFrom::Start(length)).map_err(Error::io("write", &self.path))?;
        if let Err(error) = disk::write_all(&file, line.as_bytes()).and_then(|()| disk::sync(&file)) {
            // It is not known what of it is on the disk. If it cannot be cut off now, the next append does it, or
            // counts it as the complete event that it is.
            drop(disk::truncate(&file, length).and_then(|()| disk::sync(&file)));
            return Err(Error::io("write", &self.path)(error));
        }
        self.state.length += line.len() as u64;
        self.state.head = Head { count: self.state.head.count + 1, digest };
        self.state.apply(event);
        self.write_head()
    }
}

impl Events {
    fn parse(bytes: &[u8], head: Option<&Head>) -> Result<Self, String> {
        let mut rest = bytes.strip_prefix(HEADER.as_bytes()).ok_or("it does not begin as an index does")?;
        let mut state =
            Self { records: Vec::new(), by_serial: HashMap::new(), head: Head::start(), length: HEADER.len() as u64 };
        let mut matches = head.is_none_or(|h| *h == state.head);
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let (line, after) = rest.split_at(end + 1);
            let Some((digest, event)) = read_line(line, &state.head.digest) else { break };
            state.head = Head { count: state.head.count + 1, digest };
            state.length += line.len() as u64;
            state.apply(event);
            matches |= head.is_some_and(|h| *h == state.head);
            rest = after;
        }
        let line = state.head.count + 2;
        match head {
            Some(head) if head.count > state.head.count => {
                Err(format!("line {line} is missing or changed, and {} certificates were recorded", head.count))
            }
            Some(_) if !matches => Err("its lines are not those that its head counts".to_owned()),
            // Without a head, nothing tells an interrupted append from damage.
            None if !rest.is_empty() => Err(format!("line {line} is changed or incomplete")),
            _ => Ok(state),
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Issued(record) => {
                self.by_serial.insert(record.serial, self.records.len());
                self.records.push(record);
            }
            Event::Revoked { serial, at } => {
                if let Some(record) = self.by_serial.get(&serial).and_then(|n| self.records.get_mut(*n)) {
                    record.revoked.get_or_insert(at);
                }
            }
        }
    }
}

/// The digest and event of a line, if it follows `before`.
fn read_line(line: &[u8], before: &str) -> Option<(String, Event)> {
    let (digest, json) = std::str::from_utf8(line).ok()?.strip_suffix('\n')?.split_once(' ')?;
    (digest == chain(before, json.as_bytes())).then_some(())?;
    Some((digest.to_owned(), Event::from_json(json)?))
}

fn chain(before: &str, json: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(before.as_bytes());
    context.update(json);
    context.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

impl Head {
    /// The head of an index without events.
    fn start() -> Self {
        Self { count: 0, digest: chain("", HEADER.as_bytes()) }
    }

    /// One line: count, digest, and the digest of these two.
    fn to_text(&self) -> String {
        let line = format!("{} {}", self.count, self.digest);
        format!("{line} {}\n", chain("head", line.as_bytes()))
    }

    /// Takes only the very bytes that [`Head::to_text`] gives.
    fn from_text(text: &str) -> Option<Self> {
        let (count, rest) = text.split_once(' ')?;
        let head = Self { count: count.parse().ok()?, digest: rest.split_once(' ')?.0.to_owned() };
        (head.to_text() == text).then_some(head)
    }
}

/// The head, or nothing if it is missing or damaged.
fn read_head(path: &Path) -> Result<Option<Head>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(std::str::from_utf8(&bytes).ok().and_then(Head::from_text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_config::NodeName;
    use time::OffsetDateTime;

    fn serial(n: u8) -> Serial {
        format!("{:032x}", (1_u128 << 120) + u128::from(n)).parse().unwrap()
    }

    fn issued(n: u8) -> Event {
        Event::Issued(Record {
            serial: serial(n),
            node: NodeName::new("alpha").unwrap(),
            publisher: n.is_multiple_of(2),
            not_before: OffsetDateTime::UNIX_EPOCH,
            not_after: OffsetDateTime::UNIX_EPOCH,
            issuer: "CN=intermediate".to_owned(),
            revoked: None,
            der: vec![n; 40],
        })
    }

    /// An index of these events, and its head.
    fn written(events: &[Event]) -> (Vec<u8>, Head) {
        let (mut text, mut head) = (HEADER.to_owned(), Head::start());
        for event in events {
            let json = event.to_json();
            head = Head { count: head.count + 1, digest: chain(&head.digest, json.as_bytes()) };
            text += &format!("{} {json}\n", head.digest);
        }
        (text.into_bytes(), head)
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let (good, head) = written(&[issued(1), issued(2), issued(3)]);
        assert_eq!(Events::parse(&good, Some(&head)).unwrap().records.len(), 3);
        for length in 0..good.len() {
            assert!(Events::parse(&good[..length], Some(&head)).is_err(), "cut to {length}");
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Events::parse(&bad, Some(&head)).is_err(), "bit {bit}");
            assert!(Events::parse(&bad, None).is_err(), "bit {bit}, without the head");
        }
    }

    #[test]
    fn removed_repeated_and_exchanged_lines_are_refused() {
        let (good, head) = written(&[issued(1), issued(2), issued(3)]);
        let lines: Vec<&[u8]> = good.split_inclusive(|b| *b == b'\n').collect();
        for order in [&[0, 2, 3][..], &[0, 1, 3], &[0, 1, 2], &[0, 2, 1, 3], &[0, 1, 1, 2, 3], &[1, 2, 3]] {
            let bad: Vec<u8> = order.iter().flat_map(|n| lines[*n].to_vec()).collect();
            assert!(Events::parse(&bad, Some(&head)).is_err(), "{order:?}");
        }
        // Another index that holds together, but is not the one that the head counts.
        let (other, _) = written(&[issued(1), issued(2), issued(4)]);
        assert!(Events::parse(&other, Some(&head)).is_err());
    }

    #[test]
    fn a_head_takes_no_flipped_bit_and_no_cut() {
        let (_, head) = written(&[issued(1)]);
        let text = head.to_text();
        assert_eq!(Head::from_text(&text), Some(head));
        for length in 0..text.len() {
            assert_eq!(Head::from_text(&text[..length]), None);
        }
        for bit in 0..text.len() * 8 {
            let mut bad = text.clone().into_bytes();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(std::str::from_utf8(&bad).ok().and_then(Head::from_text), None, "bit {bit}");
        }
    }

    #[test]
    fn a_revocation_is_read_and_the_first_stands() {
        let at = |n| OffsetDateTime::from_unix_timestamp(n).unwrap();
        let revoked = |n, t| Event::Revoked { serial: serial(n), at: at(t) };
        let (text, head) = written(&[issued(1), issued(2), revoked(2, 5), revoked(2, 9), revoked(7, 1)]);
        let state = Events::parse(&text, Some(&head)).unwrap();
        assert_eq!(state.records.iter().map(Record::revoked).collect::<Vec<_>>(), [None, Some(at(5))]);
        assert_eq!(state.records[1].state(at(0)), crate::State::Revoked);
    }
}
