//! Against `openssl s_server` and `s_client` over loopback, with certificates both ways and key updates both ways.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use agent::transport::handshake::Handshake;
use agent::transport::record::{Fatal, Limits, Received, Records, Suite};

use crate::memory::sealed;
use crate::pki;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often keys change at the wish of OpenSSL in a storm.
const STORM: usize = 24;
/// What OpenSSL sends between two changes, in bytes: several records.
const BULK: usize = 40_000;
/// What this side sends at once, in bytes, and how often in a row without having waited for OpenSSL.
const PIECE: usize = 20_000;
const AHEAD: usize = 8;
/// How long to wait for OpenSSL before the next piece.
const MOMENT: Duration = Duration::from_millis(1);
/// What OpenSSL remarks in the midst of data.
const REMARKS: [&str; 2] = ["Read BLOCK\n", "SSL_do_handshake -> 1\n"];

/// A program of OpenSSL, and what it has said.
struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    said: Arc<(Mutex<Vec<u8>>, Condvar)>,
    _files: tempfile::TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Program {
    /// Starts it with the certificate; `None`, aloud, on a machine without it.
    fn start(arguments: &[&str], suite: Suite) -> Option<Self> {
        let files = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = files.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (cert, key) = (file("cert.pem", &pki::PKI.cert_pem), file("key.pem", &pki::PKI.key_pem));
        let ca = file("ca.pem", &pki::PKI.ca_pem);
        let suite = match suite {
            Suite::Aes128Gcm => "TLS_AES_128_GCM_SHA256",
            Suite::Aes256Gcm => "TLS_AES_256_GCM_SHA384",
            Suite::ChaCha20Poly1305 => "TLS_CHACHA20_POLY1305_SHA256",
        };
        let started = Command::new("openssl")
            .args(arguments)
            .args(["-tls1_3", "-alpn", "test/1", "-verify_return_error", "-ciphersuites", suite])
            .arg("-cert")
            .arg(cert)
            .arg("-key")
            .arg(key)
            .arg("-CAfile")
            .arg(ca)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = match started {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("SKIPPED: openssl is not on this machine");
                return None;
            }
            other => other.unwrap(),
        };
        let said = Arc::<(Mutex<Vec<u8>>, Condvar)>::default();
        let (mut stdout, heard) = (child.stdout.take().unwrap(), said.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = stdout.read(&mut buffer) {
                heard.0.lock().unwrap().extend_from_slice(&buffer[..len]);
                heard.1.notify_all();
            }
        });
        let stdin = child.stdin.take();
        Some(Self { child, stdin, said, _files: files })
    }

    /// Writes a line into its terminal.
    fn type_in(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(line.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Waits until it has said `what`, and gives what it has said by then.
    fn wait_for(&self, what: &str) -> String {
        let heard = |said: &[u8]| without_remarks(&String::from_utf8_lossy(said));
        let said = self.said.0.lock().unwrap();
        let (said, _) = self.said.1.wait_timeout_while(said, PATIENCE, |said| !heard(said).contains(what)).unwrap();
        let text = heard(&said);
        drop(said);
        assert!(text.contains(what), "it never said {:?}", &what[..what.len().min(80)]);
        text
    }

    /// Waits until it has said `end`, looked for in the last of what it has said alone, and gives the digits in all of it. `s_client`
    /// keeps its remarks back, and makes them amid data and amid one another.
    fn digits_before(&self, end: &str) -> String {
        let last = |said: &[u8]| String::from_utf8_lossy(&said[said.len().saturating_sub(4096)..]).into_owned();
        let said = self.said.0.lock().unwrap();
        let (said, waited) = self.said.1.wait_timeout_while(said, PATIENCE, |said| !last(said).contains(end)).unwrap();
        assert!(!waited.timed_out(), "it never said {end:?}");
        digits(&without_remarks(&String::from_utf8_lossy(&said)))
    }
}

fn without_remarks(said: &str) -> String {
    REMARKS.iter().fold(said.to_owned(), |said, remark| said.replace(remark, ""))
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// Our end.
struct Link {
    stream: TcpStream,
    records: Records,
    inbox: Vec<u8>,
    received: Vec<u8>,
    /// Records that brought nothing: tickets and key updates.
    silent: usize,
    closed: bool,
}

impl Link {
    fn new(mut stream: TcpStream, mut handshake: Handshake) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut inbox = Vec::new();
        loop {
            let mut out = Vec::new();
            handshake.poll_output(&mut out);
            stream.write_all(&out).unwrap();
            if handshake.is_done() {
                break;
            }
            let mut buffer = [0; 700];
            let len = stream.read(&mut buffer).unwrap();
            assert!(len > 0, "it hung up");
            let used = handshake.handle_input(&buffer[..len]).unwrap();
            inbox.extend_from_slice(&buffer[used..len]);
        }
        let established = handshake.finish(Limits { update_after: 2, ..Limits::default() }).unwrap();
        assert_eq!(established.alpn.as_deref(), Some(&b"test/1"[..]));
        let mut link =
            Self { stream, records: established.records, inbox, received: Vec::new(), silent: 0, closed: false };
        link.open().unwrap();
        link
    }

    /// Opens what has arrived and answers it.
    fn open(&mut self) -> Result<(), Fatal> {
        while let Some(len) = self.records.parse(&self.inbox)?.filter(|&len| len <= self.inbox.len()) {
            match self.records.open(&mut self.inbox[..len])? {
                Received::Data(range) => self.received.extend_from_slice(&self.inbox[range]),
                Received::Nothing => self.silent += 1,
                Received::Closed => self.closed = true,
            }
            self.inbox.drain(..len);
        }
        Ok(())
    }

    /// Reads until it is so.
    fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !so(self) {
            assert!(Instant::now() < deadline, "{what}: not in time");
            let mut buffer = [0; 4096];
            let len = self.stream.read(&mut buffer).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(len > 0, "{what}: it hung up");
            self.inbox.extend_from_slice(&buffer[..len]);
            self.open().unwrap();
        }
    }

    /// The same while data goes the other way, as much as OpenSSL may lag behind: what it gets is added to `sent`.
    fn until_amid_bulk(&mut self, sent: &mut String, what: &str, so: impl Fn(&Self) -> bool) {
        self.stream.set_read_timeout(Some(MOMENT)).unwrap();
        for _ in 0..AHEAD {
            let piece = numbers(sent.len(), PIECE);
            self.send(piece.as_bytes());
            sent.push_str(&piece);
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => panic!("{what}: it hung up"),
                Ok(len) => {
                    self.inbox.extend_from_slice(&buffer[..len]);
                    self.open().unwrap();
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => panic!("{what}: {error}"),
            }
            if so(self) {
                break;
            }
        }
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.until(what, so);
    }

    fn send(&mut self, content: &[u8]) {
        let wire = sealed(&mut self.records, content);
        self.stream.write_all(&wire).unwrap();
    }
}

/// What both directions go through, whoever dialled.
fn converse(link: &mut Link, program: &mut Program) {
    // Much, with new keys of ours after every other record.
    let text: String = (0..20_000).map(|n| format!("{n:05}-")).collect();
    link.send(text.as_bytes());
    program.wait_for(&text);
    program.type_in("xfirst\n");
    link.until("a line", |link| link.received.ends_with(b"xfirst\n"));
    // New keys of theirs; with `K` they ask for ours, too.
    for (round, key_update) in ["K\n", "k\n", "K\n", "K\n", "k\n"].into_iter().enumerate() {
        let before = link.silent;
        program.type_in(key_update);
        link.until("a key update", |link| link.silent > before);
        if key_update == "K\n" {
            assert!(link.records.has_control(), "the request is answered");
        }
        let line = format!("<answer {round}>\n");
        link.send(line.as_bytes());
        program.wait_for(&line);
        let line = format!("xline {round}\n");
        program.type_in(&line);
        link.until("a line", |link| link.received.ends_with(line.as_bytes()));
    }
}

/// Digits and lines, `len` bytes of them: nothing that begins with one is a command to OpenSSL. No two pieces with other `seed`s are
/// alike.
fn numbers(seed: usize, len: usize) -> String {
    let mut text: String = (0..len / 10 + 1).map(|n| format!("{:09}\n", seed + n)).collect();
    text.truncate(len);
    text
}

/// Keys change both ways all the time while data goes both ways: ours before every other record, theirs between all that they say,
/// half the time with a request for ours.
fn storm(link: &mut Link, program: &mut Program) {
    link.stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // Tickets come before it.
    program.type_in("xfirst\n");
    link.until("a line", |link| link.received.ends_with(b"xfirst\n"));
    let (mut sent, mut typed) = (String::new(), String::from_utf8(link.received.clone()).unwrap());
    for round in 0..STORM {
        let before = link.silent;
        // It must come alone, or it is data: all that was typed before has come.
        program.type_in(if round % 2 == 0 { "K\n" } else { "k\n" });
        link.until_amid_bulk(&mut sent, "a key update", |link| link.silent > before);
        let bulk = numbers(typed.len(), BULK);
        typed.push_str(&bulk);
        program.type_in(&bulk);
        let len = typed.len();
        link.until_amid_bulk(&mut sent, "data", |link| link.received.len() >= len);
    }
    assert!(link.received == typed.as_bytes(), "other bytes came than OpenSSL was given");
    link.send(b"<end>");
    assert!(program.digits_before("<end>").ends_with(&digits(&sent)), "other bytes came than were sent to OpenSSL");
}

#[test]
fn storms_of_key_updates_both_ways_while_bulk_goes_both_ways_lose_nothing_at_openssl() {
    for suite in Suite::ALL {
        let arguments = ["s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-Verify", "2"];
        let Some(mut program) = Program::start(&arguments, suite) else { return };
        let handshake = Handshake::client(&pki::client(suite), pki::name()).unwrap();
        let mut link = Link::new(TcpStream::connect(listening(&program)).unwrap(), handshake);
        storm(&mut link, &mut program);

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let arguments = ["s_client", "-connect", &address, "-servername", pki::NAME, "-verify_hostname", pki::NAME];
        let Some(mut program) = Program::start(&arguments, suite) else { return };
        let mut link = Link::new(accept(listener), Handshake::server(&pki::server(suite)).unwrap());
        storm(&mut link, &mut program);
    }
}

#[test]
fn a_client_of_ours_speaks_with_openssl() {
    for suite in Suite::ALL {
        let arguments = ["s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-Verify", "2"];
        let Some(mut program) = Program::start(&arguments, suite) else { return };
        let address = listening(&program);
        let handshake = Handshake::client(&pki::client(suite), pki::name()).unwrap();
        let mut link = Link::new(TcpStream::connect(address).unwrap(), handshake);
        converse(&mut link, &mut program);
        assert!(link.silent >= 2, "OpenSSL sends tickets");
        link.records.close();
        let mut out = Vec::new();
        link.records.poll_control(&mut out).unwrap();
        link.stream.write_all(&out).unwrap();
        program.wait_for("DONE");
        link.until("close_notify", |link| link.closed);
    }
}

/// Where it listens.
fn listening(program: &Program) -> SocketAddr {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = program.wait_for("ACCEPT ");
        let rest = said.split_once("ACCEPT ").unwrap().1;
        if let Some((address, _)) = rest.split_once('\n') {
            return address.parse().unwrap();
        }
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn a_server_of_ours_speaks_with_openssl() {
    for suite in Suite::ALL {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let arguments = ["s_client", "-connect", &address, "-servername", pki::NAME, "-verify_hostname", pki::NAME];
        let Some(mut program) = Program::start(&arguments, suite) else { return };
        let handshake = Handshake::server(&pki::server(suite)).unwrap();
        let mut link = Link::new(accept(listener), handshake);
        converse(&mut link, &mut program);
        // The end of its input is the end of its direction.
        drop(program.stdin.take());
        link.until("close_notify", |link| link.closed);
    }
}

#[test]
fn openssl_understands_our_alert() {
    let arguments = ["s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-Verify", "2"];
    let Some(mut program) = Program::start(&arguments, Suite::Aes128Gcm) else { return };
    let address = listening(&program);
    let handshake = Handshake::client(&pki::client(Suite::Aes128Gcm), pki::name()).unwrap();
    let mut link = Link::new(TcpStream::connect(address).unwrap(), handshake);
    link.send(b"<here>");
    program.wait_for("<here>");
    assert_eq!(link.records.parse(b"GET /"), Err(Fatal::Unsealed(b'G')));
    let mut out = Vec::new();
    link.records.poll_control(&mut out).unwrap();
    link.stream.write_all(&out).unwrap();
    program.wait_for("ERROR");
    program.stdin = None;
}

/// One connection, within the time that anything may take.
fn accept(listener: TcpListener) -> TcpStream {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || tell.send(listener.accept().unwrap().0).unwrap());
    told.recv_timeout(PATIENCE).unwrap()
}
