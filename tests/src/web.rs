//! A small real web server over TLS, whose answers a test chooses.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::addresses::Block;
use crate::pki::Authority;

/// How long a client may be silent.
const BOUND: Duration = Duration::from_secs(10);

/// What is answered from now on.
#[derive(Debug, Clone)]
pub enum Content {
    /// A document with an entity tag: nothing more than that it is unchanged for whoever has it.
    Tagged(Vec<u8>, String),
    /// These bytes, whatever the client has.
    Plain(Vec<u8>),
    /// A body that is said to be so long.
    Claims(u64),
    /// A body in chunks that does not end before so many bytes.
    Endless(usize),
    /// That it is elsewhere.
    Redirect(String),
    /// This status.
    Status(u16),
}

/// What was answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Whole answers.
    pub whole: u32,
    /// Answers that it is unchanged.
    pub unchanged: u32,
    /// All others.
    pub other: u32,
}

struct Shared {
    content: Mutex<Content>,
    counts: Mutex<Counts>,
    ends: AtomicBool,
}

/// The server. Dropping it ends it.
pub struct Web {
    address: SocketAddr,
    authority: Authority,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// Starts one that answers with `content`.
    pub fn start(content: Content) -> Result<Self> {
        let ip: Ipv4Addr = Block::next().address(1);
        let authority = Authority::new()?;
        let identity = authority.issue_host(ip.into())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(identity.chain.clone(), identity.key())?;
        let listener = TcpListener::bind((ip, 0))?;
        let address = listener.local_addr()?;
        let shared =
            Arc::new(Shared { content: Mutex::new(content), counts: Mutex::default(), ends: AtomicBool::new(false) });
        let (config, of_thread) = (Arc::new(config), shared.clone());
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.ends.load(Ordering::SeqCst) {
                    return;
                }
                // Whoever breaks off has his reason: the test looks at what the agent says of it.
                let _ = stream.map_err(anyhow::Error::from).and_then(|stream| serve(stream, &config, &of_thread));
            }
        });
        Ok(Self { address, authority, shared, thread: Some(thread) })
    }

    /// Answers otherwise from now on.
    pub fn show(&self, content: Content) {
        *self.shared.content.lock().unwrap_or_else(PoisonError::into_inner) = content;
    }

    /// What was answered so far.
    pub fn counts(&self) -> Counts {
        *self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `[source.https]` for an agent file of the agent in `directory`, which gets the files that belong to it.
    pub fn source(&self, directory: &Path, lines: &str) -> Result<String> {
        std::fs::write(directory.join("web-ca.pem"), self.authority.root_pem())?;
        Ok(format!("[source.https]\nurl = \"https://{}/lab/mesh.signed\"\nca = \"web-ca.pem\"\n{lines}", self.address))
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        // Wakes it up; if that fails it has ended.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, config: &Arc<ServerConfig>, shared: &Shared) -> Result<()> {
    stream.set_read_timeout(Some(BOUND))?;
    stream.set_write_timeout(Some(BOUND))?;
    let mut tls = StreamOwned::new(ServerConnection::new(config.clone())?, stream);
    let (mut has, mut lines) = (None, Vec::new());
    let mut reader = BufReader::new(&mut tls);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("if-none-match")
        {
            has = Some(value.trim().to_owned());
        }
        lines.push(line);
    }
    let first = lines.first().context("no request")?;
    anyhow::ensure!(first.starts_with("GET /lab/mesh.signed HTTP/1.1"), "{first}");
    let content = shared.content.lock().unwrap_or_else(PoisonError::into_inner).clone();
    {
        let mut counts = shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match &content {
            Content::Tagged(_, tag) if has.as_ref() == Some(tag) => counts.unchanged += 1,
            Content::Tagged(..) | Content::Plain(_) => counts.whole += 1,
            _ => counts.other += 1,
        }
    }
    match content {
        Content::Tagged(_, tag) if has.as_ref() == Some(&tag) => {
            write!(tls, "HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\nConnection: close\r\n\r\n")?;
        }
        Content::Tagged(body, tag) => {
            write!(
                tls,
                "HTTP/1.1 200 OK\r\nETag: {tag}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            )?;
            tls.write_all(&body)?;
        }
        Content::Plain(body) => {
            write!(tls, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
            tls.write_all(&body)?;
        }
        Content::Claims(length) => {
            write!(tls, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nbegin")?;
        }
        Content::Endless(most) => {
            write!(tls, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            let chunk = [b'x'; 1 << 16];
            for _ in 0..most.div_ceil(chunk.len()) {
                write!(tls, "{:x}\r\n", chunk.len())?;
                tls.write_all(&chunk)?;
                tls.write_all(b"\r\n")?;
            }
        }
        Content::Redirect(to) => {
            write!(tls, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        }
        Content::Status(status) => {
            write!(tls, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        }
    }
    tls.conn.send_close_notify();
    tls.flush()?;
    Ok(())
}
