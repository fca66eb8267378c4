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
        // It remarks on key updates in the midst of data.
        let heard = |said: &[u8]| String::from_utf8_lossy(said).replace("Read BLOCK\n", "");
        let said = self.said.0.lock().unwrap();
        let (said, _) = self.said.1.wait_timeout_while(said, PATIENCE, |said| !heard(said).contains(what)).unwrap();
        let text = heard(&said);
        drop(said);
        assert!(text.contains(what), "it never said {:?}", &what[..what.len().min(80)]);
        text
    }
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
