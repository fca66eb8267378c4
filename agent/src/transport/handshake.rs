//! A TLS 1.3 handshake by rustls, whose traffic secrets go to the [record layer](super::record) when it is done.
//!
//! No I/O: bytes of the peer are told to it, and it is asked for bytes to send.
//!
//! ```text
//!   bytes ──▶ handle_input ──▶ rustls, record by record ──▶ is_done ──▶ finish ──▶ Established { records, .. }
//!                                    │                                   ▲
//!                             poll_output ──▶ bytes to send              └─ KeyLog of this handshake alone
//! ```
//!
//! rustls is given no byte behind the record that ends the handshake. So it never decrypts or seals anything with the traffic
//! secrets, and both sequence numbers are zero when the record layer takes over.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Connection, Error, InvalidMessage, KeyLog, NamedGroup,
    ServerConfig, ServerConnection,
};
use zeroize::Zeroizing;

use super::record::{ContentType, HEADER, KeyError, Limits, MAX_CONTENT, MAX_RECORD, Records, Secret, Side, Suite};

/// The most bytes that a peer may send before the handshake is done. A chain of certificates is a few thousand.
pub const MAX_INPUT: usize = 128 << 10;

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Established {
    /// The record layer, both of whose directions are at their beginning.
    pub records: Records,
    /// What is to be sent before anything of `records`: the rest of this side's flight, if it was not polled.
    pub unsent: Vec<u8>,
    /// The protocol that was chosen (ALPN).
    pub alpn: Option<Vec<u8>>,
    /// The group of the key exchange.
    pub group: Option<NamedGroup>,
}

/// A handshake under way.
#[derive(Debug)]
pub struct Handshake {
    connection: Connection,
    secrets: Arc<Captured>,
    input: usize,
    record: Place,
    failed: Option<Error>,
    /// An alert that rustls does not know of.
    alert: Option<[u8; HEADER + 2]>,
}

/// Where in a record the input stands.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// In its header, of which so much is there.
    Header([u8; HEADER], usize),
    /// In its body, of which so much is to come.
    Body(usize),
}

impl Place {
    const START: Self = Self::Header([0; HEADER], 0);
}

impl Handshake {
    /// Dials: the ClientHello is to be sent.
    ///
    /// The session is not resumed and no early data is sent, whatever `config` says.
    ///
    /// # Errors
    /// What rustls has against `config`.
    pub fn client(config: &ClientConfig, name: ServerName<'static>) -> Result<Self, Error> {
        let secrets = Arc::<Captured>::default();
        let mut config = config.clone();
        config.key_log = secrets.clone();
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        let connection = ClientConnection::new(Arc::new(config), name)?;
        Ok(Self::new(connection.into(), secrets))
    }

    /// Answers a dialler.
    ///
    /// No tickets are sent and no early data is taken, whatever `config` says: both would use the traffic secrets.
    ///
    /// # Errors
    /// What rustls has against `config`.
    pub fn server(config: &ServerConfig) -> Result<Self, Error> {
        let secrets = Arc::<Captured>::default();
        let mut config = config.clone();
        config.key_log = secrets.clone();
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.send_half_rtt_data = false;
        let connection = ServerConnection::new(Arc::new(config))?;
        Ok(Self::new(connection.into(), secrets))
    }

    fn new(connection: Connection, secrets: Arc<Captured>) -> Self {
        Self { connection, secrets, input: 0, record: Place::START, failed: None, alert: None }
    }

    /// Takes bytes of the peer and says how many. All of them, unless the handshake is done: what lies behind it is for
    /// [`Records`].
    ///
    /// # Errors
    /// The handshake has failed, and why; the same again ever after. [`poll_output`](Handshake::poll_output) may have an alert.
    pub fn handle_input(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.take(bytes).inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn take(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let mut left = bytes;
        while !left.is_empty() && !self.is_done() {
            let wanted = match self.record {
                Place::Header(_, have) => HEADER - have,
                Place::Body(to_come) => to_come,
            };
            let (piece, rest) = left.split_at(left.len().min(wanted));
            left = rest;
            self.feed(piece)?;
            // A header is judged by itself, so that an impossible one is not waited for; a record when it is whole.
            if piece.len() == wanted {
                self.connection.process_new_packets()?;
            }
            match &mut self.record {
                Place::Header(header, have) => {
                    header[*have..][..piece.len()].copy_from_slice(piece);
                    *have += piece.len();
                    if let (&mut [kind, _, _, high, low], HEADER) = (header, *have) {
                        let len = usize::from(u16::from_be_bytes([high, low]));
                        self.check_length(kind, len)?;
                        self.record = Place::Body(len);
                    }
                }
                Place::Body(to_come) => *to_come -= piece.len(),
            }
            if let Place::Body(0) = self.record {
                self.record = Place::START;
            }
        }
        Ok(bytes.len() - left.len())
    }

    /// Holds a record to the length that the rules allow it (RFC 8446 §5.1, §5.2); rustls is more generous.
    fn check_length(&mut self, kind: u8, len: usize) -> Result<(), Error> {
        let most = if kind == ContentType::ApplicationData as u8 { MAX_RECORD - HEADER } else { MAX_CONTENT };
        if len <= most {
            return Ok(());
        }
        // Once keys are in use the alert would have to be sealed, and they are not here.
        if self.connection.negotiated_cipher_suite().is_none() {
            const FATAL: u8 = 2;
            let alert = [FATAL, u8::from(AlertDescription::RecordOverflow)];
            self.alert = Some([ContentType::Alert as u8, 3, 3, 0, 2, alert[0], alert[1]]);
        }
        Err(Error::PeerSentOversizedRecord)
    }

    /// Gives rustls a piece of a record.
    fn feed(&mut self, mut piece: &[u8]) -> Result<(), Error> {
        self.input += piece.len();
        if self.input > MAX_INPUT {
            return Err(Error::General("the peer's part of the handshake is too long".to_owned()));
        }
        while !piece.is_empty() {
            // It refuses when it holds as much of one message as it will.
            match self.connection.read_tls(&mut piece) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(InvalidMessage::HandshakePayloadTooLarge.into()),
            }
        }
        Ok(())
    }

    /// Appends what is to be sent to `out` and says whether there was anything. After an error that is the alert, if any.
    pub fn poll_output(&mut self, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        // A vector takes all that it is given.
        while self.connection.wants_write() && self.connection.write_tls(out).is_ok_and(|written| written > 0) {}
        out.extend(self.alert.take().into_iter().flatten());
        out.len() > before
    }

    /// Whether the handshake is done and [`finish`](Handshake::finish) gives its result. What
    /// [`poll_output`](Handshake::poll_output) has is still to be sent.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.failed.is_none() && !self.connection.is_handshaking()
    }

    /// The protocol that was chosen (ALPN), as soon as it is known.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// The connection that comes of it.
    ///
    /// # Errors
    /// The handshake is not done, has failed, or was not of TLS 1.3.
    pub fn finish(mut self, limits: Limits) -> Result<Established, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if !self.is_done() {
            return Err(Error::HandshakeNotComplete);
        }
        let mut unsent = Vec::new();
        self.poll_output(&mut unsent);
        let suite = self.connection.negotiated_cipher_suite().and_then(|suite| Suite::from_rustls(suite.suite()));
        let suite = suite.ok_or_else(|| Error::General("not a cipher suite of TLS 1.3".to_owned()))?;
        let (client, server) = self.secrets.take(suite);
        let (Some(client), Some(server)) = (client, server) else {
            return Err(Error::General("rustls did not tell the traffic secrets".to_owned()));
        };
        let side = match self.connection {
            Connection::Client(_) => Side::Client,
            Connection::Server(_) => Side::Server,
        };
        let records = Records::new(suite, side, client, server, limits)
            .map_err(|error: KeyError| Error::General(error.to_string()))?;
        Ok(Established {
            records,
            unsent,
            alpn: self.connection.alpn_protocol().map(<[u8]>::to_vec),
            group: self.connection.negotiated_key_exchange_group().map(|group| group.name()),
        })
    }
}

/// The two traffic secrets of one handshake, as rustls tells them.
#[derive(Default)]
struct Captured(Mutex<Pair>);

#[derive(Default)]
struct Pair {
    client: Option<Zeroizing<Box<[u8]>>>,
    server: Option<Zeroizing<Box<[u8]>>>,
}

impl Captured {
    /// Hands them over, once: the client's and the server's.
    fn take(&self, suite: Suite) -> (Option<Secret>, Option<Secret>) {
        let Pair { client, server } = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let secret = |bytes: Option<Zeroizing<Box<[u8]>>>| bytes.and_then(|bytes| Secret::new(suite, &bytes));
        (secret(client), secret(server))
    }
}

impl std::fmt::Debug for Captured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

const CLIENT_SECRET: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER_SECRET: &str = "SERVER_TRAFFIC_SECRET_0";

impl KeyLog for Captured {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        let mut pair = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = match label {
            CLIENT_SECRET => &mut pair.client,
            SERVER_SECRET => &mut pair.server,
            _ => return,
        };
        *place = Some(Zeroizing::new(secret.into()));
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, CLIENT_SECRET | SERVER_SECRET)
    }
}

#[cfg(test)]
mod tests;
