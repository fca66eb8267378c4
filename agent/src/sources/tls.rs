//! TLS towards a source: its certificate against roots of its own or the system's, never the mesh's.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use crate::agent_file::TlsFiles;
use crate::clock::Clock;
use crate::identity::time_provider;
use crate::source::SourceError;

/// The longest file that is read: a bundle of all the roots that there are has a quarter of it.
const LONGEST: u64 = 1 << 20;

/// Makes a configuration. The files are read anew each time, so those that were renewed count from the next connection on.
/// Relative paths are below `dir`.
///
/// # Errors
/// [`SourceError::File`], [`SourceError::Roots`].
pub(super) fn config(files: &TlsFiles, dir: &Path, clock: Clock) -> Result<Arc<ClientConfig>, SourceError> {
    let mut roots = RootCertStore::empty();
    match &files.ca {
        Some(ca) => {
            let path = dir.join(ca);
            for root in certificates(&path)? {
                roots.add(root).map_err(|error| SourceError::file(&path, format!("a root in it is none: {error}")))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                let why = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
                return Err(SourceError::Roots(why));
            }
        }
    }
    // Servers are not ours, so whatever rustls holds to be safe is taken, and not the mesh's selection alone.
    let builder = ClientConfig::builder_with_details(Arc::new(default_provider()), time_provider(clock));
    let builder =
        builder.with_safe_default_protocol_versions().map_err(SourceError::tls)?.with_root_certificates(roots);
    let mut config = match &files.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let (chain, path) = (certificates(&dir.join(certificate))?, dir.join(key));
            let key = PrivateKeyDer::from_pem_slice(&secret(&path)?)
                .map_err(|error| SourceError::file(&path, format!("it holds no private key: {error:?}")))?;
            let fits = builder.with_client_auth_cert(chain, key);
            fits.map_err(|error| SourceError::file(&path, format!("it cannot be used: {error}")))?
        }
    };
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    let found = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| SourceError::file(path, format!("it is no PEM: {error:?}")))?;
    match found.is_empty() {
        true => Err(SourceError::file(path, "it holds no certificate")),
        false => Ok(found),
    }
}

/// Reads a file that nobody but its owner and group may read.
pub(super) fn secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let mode = fs::metadata(path).map_err(|error| unreadable(path, &error))?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(SourceError::file(
            path,
            format!("everybody on this host may use it (mode {:o}): chmod 640", mode & 0o777),
        ));
    }
    read(path).map(Zeroizing::new)
}

fn read(path: &Path) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
    read.map_err(|error| unreadable(path, &error))?;
    match bytes.len() as u64 > LONGEST {
        true => Err(SourceError::file(path, "it is longer than 1 MiB")),
        false => Ok(bytes),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> SourceError {
    SourceError::File { path: PathBuf::from(path), why: format!("it cannot be read: {error}") }
}
