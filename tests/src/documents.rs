//! Signed mesh documents from outside: publishing as a person does, and a member that hands on what it likes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use serde_json::Value;

use crate::agent::Agent;
use crate::binary::{self, Output};
use crate::hostile::{CONTROL, client_config};
use crate::member::hello;
use crate::mesh::Mesh;
use crate::pki::Identity;
use crate::place::Place;

const PING: u8 = 9;
const PONG: u8 = 10;
const SUMMARY: u8 = 15;
const ASK: u8 = 16;
const HAND: u8 = 17;
/// The longest piece of a document in a frame.
const PIECE: usize = 4_000;

impl Mesh {
    /// Makes a publisher with the mesh's authority; gives its directory.
    pub fn publisher(&self, name: &str) -> Result<PathBuf> {
        delegate(self.root(), name)
    }
}

/// Makes a publisher with the authority in `root`; gives its directory.
pub fn delegate(root: &Path, name: &str) -> Result<PathBuf> {
    let mut command = Place::Here.command(binary::path()?);
    command.arg("--dir").arg(root).args(["ca", "delegate", name, "--json"]);
    let answer = binary::run(&mut command, binary::BOUND)?.success()?.json()?;
    Ok(answer["directory"].as_str().context("no directory")?.into())
}

/// `adit publish` of a text with the directory `dir`, whether an agent runs there or not.
pub fn publish_in(dir: &Path, publisher: &Path, text: &str, more: &[&str]) -> Result<Output> {
    let file = dir.join("to-publish.toml");
    fs::write(&file, text)?;
    let mut command = Place::Here.command(binary::path()?);
    command.arg("--dir").arg(dir).arg("publish").arg(file).args(["--yes", "--json", "--publisher"]).arg(publisher);
    binary::run(command.args(more), binary::BOUND)
}

/// The same on an agent's host, which has to succeed; gives its answer.
pub fn publish(agent: &Agent, publisher: &Path, text: &str) -> Result<Value> {
    publish_in(agent.directory(), publisher, text, &[])?.success()?.json()
}

/// The signed document that a directory keeps.
pub fn kept(dir: &Path) -> Result<Document> {
    let path = dir.join("state/published");
    Document::of(&fs::read(&path).with_context(|| path.display().to_string())?)
}

/// A signed document, taken apart without a look at what it says.
#[derive(Debug, Clone)]
pub struct Document {
    /// What its publisher says of it.
    pub header: Vec<u8>,
    /// The mesh file.
    pub text: Vec<u8>,
    /// Certificates in DER.
    pub chain: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

impl Document {
    /// Takes bytes apart.
    pub fn of(mut bytes: &[u8]) -> Result<Self> {
        let mut parts = Vec::new();
        for field in 1..=4_u8 {
            let (tag, rest) = bytes.split_first().context("cut off")?;
            ensure!(*tag == field << 3 | 2, "field {tag:#x} instead of {field}");
            let (length, rest) = varint(rest)?;
            let (part, rest) = rest.split_at_checked(usize::try_from(length)?).context("cut off")?;
            parts.push(part.to_vec());
            bytes = rest;
        }
        ensure!(bytes.is_empty(), "bytes behind its end");
        let [header, text, chain, signature] = <[_; 4]>::try_from(parts).map_err(|_| anyhow::anyhow!("four parts"))?;
        Ok(Self { header, text, chain, signature })
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let parts = [&self.header, &self.text, &self.chain, &self.signature];
        let mut out = Vec::new();
        for (part, field) in parts.iter().zip(1..) {
            put_bytes(&mut out, field, part);
        }
        out
    }

    /// Its identity.
    pub fn id(&self) -> [u8; 32] {
        let mut id = [0; 32];
        id.copy_from_slice(digest(&SHA256, &self.header).as_ref());
        id
    }
}

fn varint(mut bytes: &[u8]) -> Result<(u64, &[u8])> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first().context("cut off")?;
        value |= u64::from(byte & 0x7f) << shift;
        bytes = rest;
        if byte & 0x80 == 0 {
            return Ok((value, bytes));
        }
    }
    bail!("a number too long")
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            return out.push(low & 0x7f);
        }
        out.push(low | 0x80);
    }
}

fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.push(field << 3 | 2);
        put_varint(out, bytes.len() as u64);
        out.extend(bytes);
    }
}

fn put_number(out: &mut Vec<u8>, field: u8, value: u64) {
    if value > 0 {
        out.push(field << 3);
        put_varint(out, value);
    }
}

/// A member of the mesh by hand on a control channel, who hands on whatever it likes.
pub struct Gossiper {
    tls: StreamOwned<ClientConnection, TcpStream>,
}

impl Gossiper {
    /// Dials an agent's control channel as the member `identity`.
    pub fn dial(stream: TcpStream, host: &str, identity: &Identity, run: u64) -> Result<Self> {
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        let config = Arc::new(client_config(CONTROL, Some(identity))?);
        let tls = ClientConnection::new(config, ServerName::try_from(host.to_owned())?)?;
        let mut this = Self { tls: StreamOwned::new(tls, stream) };
        this.tls.write_all(&hello(run.to_be_bytes()))?;
        this.frame().context("its HELLO")?;
        Ok(this)
    }

    /// Says that it has a document of this identity and version; waits until it is asked for it; then hands over `bytes`, said to
    /// be `total` long.
    pub fn offer(&mut self, id: [u8; 32], version: u64, bytes: &[u8], total: u64) -> Result<()> {
        let mut rank = Vec::new();
        rank.extend(1_u64.to_be_bytes());
        rank.extend(version.to_be_bytes());
        rank.extend(id);
        let mut summary = Vec::new();
        put_bytes(&mut summary, 1, &rank);
        self.send(SUMMARY, &summary)?;
        ensure!(self.asked(&id)? == 0, "it is asked for from the beginning");
        let mut sent = 0_u64;
        for piece in bytes.chunks(PIECE) {
            let mut hand = Vec::new();
            put_bytes(&mut hand, 1, &id);
            put_number(&mut hand, 2, total);
            put_number(&mut hand, 3, sent);
            put_bytes(&mut hand, 4, piece);
            self.send(HAND, &hand)?;
            sent += piece.len() as u64;
        }
        Ok(())
    }

    /// Answers what has to be answered until a document is asked for; gives from where on.
    fn asked(&mut self, id: &[u8; 32]) -> Result<u64> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            let (kind, payload) = self.frame()?;
            match kind {
                PING => self.send(PONG, &payload)?,
                ASK => {
                    ensure!(payload.get(2..34) == Some(&id[..]), "another document is asked for");
                    let rest = payload.get(34..).unwrap_or_default();
                    return Ok(if rest.is_empty() { 0 } else { varint(rest.get(1..).unwrap_or_default())?.0 });
                }
                _ => {}
            }
        }
        bail!("nobody asks for it")
    }

    fn send(&mut self, kind: u8, payload: &[u8]) -> Result<()> {
        let [.., high, low] = payload.len().to_be_bytes();
        Ok(self.tls.write_all(&[&[kind, 0, high, low], payload].concat())?)
    }

    fn frame(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut header = [0; 4];
        self.tls.read_exact(&mut header)?;
        let [kind, _, high, low] = header;
        let mut payload = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        self.tls.read_exact(&mut payload)?;
        Ok((kind, payload))
    }
}
