//! A member of the mesh by hand, over TCP: rustls makes its records, so that it can ask for new keys whenever it likes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use crate::hostile::{LANE, client_config};
use crate::mesh::NAME;
use crate::pki::Identity;

const OPEN: u8 = 2;
const OPENED: u8 = 3;
const DATA: u8 = 5;
const PING: u8 = 9;
const PONG: u8 = 10;
/// An agent that is well answers sooner.
const BOUND: Duration = Duration::from_secs(20);

/// The frame HELLO of one run of a node of the mesh under test.
pub fn hello(incarnation: [u8; 8]) -> Vec<u8> {
    let mut hello = vec![0x08, 1, 0x10, 1, 0x19];
    hello.extend(incarnation);
    hello.extend([0x2a, u8::try_from(NAME.len()).unwrap_or_default()]);
    hello.extend(NAME.as_bytes());
    hello.extend([0x30, 1, 0x3a, 32]);
    hello.extend([0; 32]);
    frame(1, &hello)
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let [.., high, low] = payload.len().to_be_bytes();
    [&[kind, 0, high, low], payload].concat()
}

/// A lane with one open stream.
pub struct Lane {
    tls: StreamOwned<ClientConnection, TcpStream>,
    /// Bytes of the stream that came before they were asked for.
    early: Vec<u8>,
}

impl Lane {
    /// Dials an agent as the member `identity` and opens a stream to one of its services.
    pub fn open(stream: TcpStream, host: &str, identity: &Identity, run: u64, service: &str) -> Result<Self> {
        stream.set_read_timeout(Some(BOUND))?;
        stream.set_write_timeout(Some(BOUND))?;
        let config = Arc::new(client_config(LANE, Some(identity))?);
        let tls = ClientConnection::new(config, ServerName::try_from(host.to_owned())?)?;
        let mut lane = Self { tls: StreamOwned::new(tls, stream), early: Vec::new() };
        lane.tls.write_all(&hello(run.to_be_bytes()))?;
        lane.frame().context("its HELLO")?;
        let mut open = vec![0, 0, 0, 1, 0x12, u8::try_from(service.len())?];
        open.extend(service.as_bytes());
        open.extend([0x32, 16]);
        open.extend([0x5a; 16]);
        lane.tls.write_all(&frame(OPEN, &open))?;
        let (kind, _) = lane.frame().context("its OPENED")?;
        ensure!(kind == OPENED, "frame {kind} instead of OPENED");
        Ok(lane)
    }

    /// Takes new keys for this end, and asks the agent to take new ones, too (RFC 8446 §4.6.3).
    pub fn update_keys(&mut self) -> Result<()> {
        Ok(self.tls.conn.refresh_traffic_keys()?)
    }

    /// Sends bytes through the stream.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.tls.write_all(&frame(DATA, bytes))?)
    }

    /// Sends bytes through the stream to an echo service, and checks that they come back.
    pub fn echo(&mut self, bytes: &[u8]) -> Result<()> {
        self.send(bytes)?;
        while self.early.len() < bytes.len() {
            let (kind, payload) = self.frame()?;
            match kind {
                DATA => self.early.extend(payload),
                PING => self.tls.write_all(&frame(PONG, &payload))?,
                _ => ensure!(kind == PONG, "frame {kind} instead of the echo"),
            }
        }
        let back: Vec<u8> = self.early.drain(..bytes.len()).collect();
        ensure!(back == bytes, "other bytes came back");
        Ok(())
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
