//! Peers that deserve no link: TLS clients and servers that present what they like and accept anything, and clients
//! that do not speak TLS at all.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs as provider, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    ServerConnection, SignatureScheme, Stream,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::pki::Identity;

/// The ALPN of lanes.
pub const LANE: &[u8] = b"adit-lane/1";
/// The ALPN of control channels.
pub const CONTROL: &[u8] = b"adit-ctl/1";

/// What came of an attempt to be taken for a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A fatal alert.
    Alert(AlertDescription),
    /// The connection was closed without an alert.
    Closed,
    /// The agent sent application data: it has taken the peer for a member.
    Accepted,
}

/// Does a TLS 1.3 handshake with an agent as a client with this identity, or with none, and tells the agent's answer.
pub fn dial(stream: TcpStream, host: &str, alpn: &[u8], identity: Option<&Identity>) -> Result<Answer> {
    let config = client_config(alpn, identity)?;
    let name = ServerName::try_from(host.to_owned())?;
    let mut connection = ClientConnection::new(Arc::new(config), name)?;
    let mut stream = bounded(stream)?;
    let mut byte = [0];
    judge(Stream::new(&mut connection, &mut stream).read(&mut byte))
}

/// The certificates, leaf first, that an agent shows to whoever dials it.
pub fn shown(stream: TcpStream, host: &str, alpn: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let name = ServerName::try_from(host.to_owned())?;
    let mut connection = ClientConnection::new(Arc::new(client_config(alpn, None)?), name)?;
    let mut stream = bounded(stream)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(connection.peer_certificates().context("it has shown none")?.to_vec())
}

/// A client with this identity, or with none, that accepts whoever answers.
pub(crate) fn client_config(alpn: &[u8], identity: Option<&Identity>) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAnything::default()));
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.key())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

/// Waits for an agent to dial, does the server's part of a TLS 1.3 handshake with this identity, and tells what the agent
/// made of it.
pub fn impersonate(listener: &TcpListener, identity: &Identity, bound: Duration) -> Result<Answer> {
    let mut config = ServerConfig::builder_with_provider(provider::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(AcceptAnything::default()))
        .with_single_cert(identity.chain.clone(), identity.key())?;
    config.alpn_protocols = vec![LANE.to_vec(), CONTROL.to_vec()];
    let stream = crate::wait::accept(listener, bound)?;
    let mut connection = ServerConnection::new(Arc::new(config))?;
    let mut stream = bounded(stream)?;
    let mut byte = [0];
    judge(Stream::new(&mut connection, &mut stream).read(&mut byte))
}

/// Longer than any handshake limit.
const HANG: Duration = Duration::from_secs(20);

fn bounded(stream: TcpStream) -> Result<TcpStream> {
    stream.set_read_timeout(Some(HANG))?;
    stream.set_write_timeout(Some(HANG))?;
    Ok(stream)
}

fn judge(outcome: std::io::Result<usize>) -> Result<Answer> {
    match outcome {
        Ok(0) => Ok(Answer::Closed),
        Ok(_) => Ok(Answer::Accepted),
        Err(error) => match error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
            Some(Error::AlertReceived(alert)) => Ok(Answer::Alert(*alert)),
            Some(_) => Err(error).context("the agent broke off in an unexpected way"),
            None => match error.kind() {
                ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => Ok(Answer::Closed),
                _ => Err(error).context("the agent neither answered nor closed"),
            },
        },
    }
}

/// Accepts every certificate, and signatures only if they are right, so that what fails is never this end.
#[derive(Debug)]
struct AcceptAnything {
    algorithms: WebPkiSupportedAlgorithms,
}

impl Default for AcceptAnything {
    fn default() -> Self {
        let CryptoProvider { signature_verification_algorithms: algorithms, .. } = provider::default_provider();
        Self { algorithms }
    }
}

impl ServerCertVerifier for AcceptAnything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 was not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for AcceptAnything {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A ClientHello that offers TLS 1.2 and nothing newer (RFC 5246 §7.4.1.2), in its record.
pub fn client_hello_of_tls_1_2() -> Vec<u8> {
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 23, // supported_groups: secp256r1
        0, 11, 0, 2, 1, 0, // ec_point_formats: uncompressed
        0, 13, 0, 4, 0, 2, 4, 3, // signature_algorithms: ecdsa_secp256r1_sha256
    ];
    let mut hello = vec![3, 3];
    hello.extend([0x5a; 32]);
    hello.push(0);
    hello.extend([0, 4, 0xc0, 0x2b, 0xc0, 0x2f]);
    hello.extend([1, 0]);
    hello.extend([0, u8::try_from(extensions.len()).unwrap_or(u8::MAX)]);
    hello.extend(extensions);
    record(&handshake(1, &hello))
}

/// The beginning of a ClientHello that claims to be 16 MiB less a byte long: what follows is as many records as the agent
/// takes, each made by [`more_of_an_endless_client_hello`].
pub fn endless_client_hello() -> Vec<u8> {
    let mut start = vec![1, 0xff, 0xff, 0xff, 3, 3];
    start.extend([0x5a; 32]);
    start.push(0);
    record(&start)
}

/// One more record of an endless ClientHello.
pub fn more_of_an_endless_client_hello() -> Vec<u8> {
    record(&[0x13; 1024])
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = body.len().to_be_bytes();
    [&[kind, high, middle, low], body].concat()
}

fn record(fragment: &[u8]) -> Vec<u8> {
    let [.., high, low] = fragment.len().to_be_bytes();
    [&[22, 3, 1, high, low], fragment].concat()
}

/// Sends `first` and then `next()` until it gives nothing, and waits until the agent closes. Returns what the agent sent
/// and how long it let the peer hang on. An error if it still has not closed after `bound`.
pub fn speak(
    stream: TcpStream,
    first: &[u8],
    mut next: impl FnMut() -> Option<Vec<u8>>,
    bound: Duration,
) -> Result<(Vec<u8>, Duration)> {
    let start = Instant::now();
    let (mut stream, mut answer, mut buffer) = (stream, Vec::new(), [0; 1024]);
    let mut to_send = Some(first.to_vec());
    loop {
        ensure!(start.elapsed() < bound, "the agent has not closed after {bound:?}; it sent {answer:02x?}");
        if let Some(bytes) = to_send.take().filter(|bytes| !bytes.is_empty())
            && stream.write_all(&bytes).is_err()
        {
            // A peer that is reset while it sends may still find an alert.
            stream.set_read_timeout(Some(Duration::from_millis(100)))?;
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                answer.extend(&buffer[..n]);
            }
            return Ok((answer, start.elapsed()));
        }
        to_send = next();
        let pause = if to_send.is_some() { Duration::from_millis(1) } else { Duration::from_millis(100) };
        stream.set_read_timeout(Some(pause))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok((answer, start.elapsed())),
            Ok(n) => answer.extend(&buffer[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                return Ok((answer, start.elapsed()));
            }
            Err(e) => bail!("an odd end of a connection: {e}"),
        }
    }
}

/// The description in a plaintext alert record (RFC 8446 §6), if that is all that was sent.
pub fn plain_alert(answer: &[u8]) -> Option<AlertDescription> {
    match answer {
        [21, 3, _, 0, 2, 2, description] => Some(AlertDescription::from(*description)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rustls::RootCertStore;
    use rustls::server::WebPkiClientVerifier;

    use super::*;
    use crate::pki::{Authority, Leaf};

    /// A careful server: TLS 1.3 alone, and a client certificate of `authority`. It answers with a byte.
    fn serve(listener: &TcpListener, authority: &Authority) {
        let mut roots = RootCertStore::empty();
        roots.add(authority.root_der()).unwrap();
        let provider: Arc<CryptoProvider> = provider::default_provider().into();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
        let own = authority.issue(&Leaf::of("alpha")).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(own.chain.clone(), own.key())
            .unwrap();
        config.alpn_protocols = vec![CONTROL.to_vec()];
        let mut stream = crate::wait::accept(listener, HANG).unwrap();
        let mut connection = ServerConnection::new(config.into()).unwrap();
        // The client tells what came of it.
        let _ = Stream::new(&mut connection, &mut stream).write_all(b"x");
    }

    fn answer(authority: &Authority, identity: Option<&Identity>) -> Answer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| serve(&listener, authority));
            dial(stream, "alpha.lab", CONTROL, identity).unwrap()
        })
    }

    #[test]
    fn the_answer_of_a_careful_server_is_told() {
        let authority = Authority::new().unwrap();
        let stranger = Authority::new().unwrap().issue(&Leaf::of("beta")).unwrap();
        let member = authority.issue(&Leaf::of("beta")).unwrap();
        let old =
            Leaf { not_before: time::Duration::days(-3), not_after: time::Duration::days(-1), ..Leaf::of("beta") };
        let old = authority.issue(&old).unwrap();
        assert_eq!(answer(&authority, Some(&member)), Answer::Accepted);
        assert_eq!(answer(&authority, None), Answer::Alert(AlertDescription::CertificateRequired));
        assert_eq!(answer(&authority, Some(&stranger)), Answer::Alert(AlertDescription::UnknownCA));
        assert_eq!(answer(&authority, Some(&old)), Answer::Alert(AlertDescription::CertificateExpired));
    }

    /// The handmade hello is one that a TLS stack understands well enough to refuse for its version.
    #[test]
    fn the_hello_of_tls_1_2_is_refused_for_its_version() {
        let authority = Authority::new().unwrap();
        let speak_to_server = |hello: &[u8], bound| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| serve(&listener, &authority));
                speak(stream, hello, || None, bound)
            })
        };
        let (answer, _) = speak_to_server(&client_hello_of_tls_1_2(), HANG).unwrap();
        assert_eq!(plain_alert(&answer), Some(AlertDescription::ProtocolVersion));
        assert_eq!(plain_alert(&[22, 3, 3, 0, 2, 2, 70]), None);
    }
}
