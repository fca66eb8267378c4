//! The strict certificate profile, checked after webpki has built a chain.
//!
//! rustls-webpki takes trust anchors as bare names and keys, so it accepts expired roots and knows nothing of their
//! path lengths; and it is lenient where public issuers are sloppy. The issuers of a mesh are few and known, so here
//! RFC 5280 is meant, and some of what browsers require (CA/Browser Forum baseline requirements §7.1) on top:
//!
//! | of | asked |
//! |---|---|
//! | all | version 3; serial positive, minimal, at most 20 octets; every extension once and readable; no critical extension that is not processed; key identifiers and AIA not critical; keys P-256, P-384, Ed25519, or RSA of 2048 to 8192 bits in whole octets (outside issuers' roots are often RSA) |
//! | leaf | extended key usage present, not critical, with the purpose of the role and without "any"; not a CA by basic constraints nor by key usage; digitalSignature if there is a key usage; no name constraints; authority key identifier; DNS names of one host each, so no wildcards; a SAN that is critical exactly if the subject is empty |
//! | CA | basic constraints critical with cA; keyCertSign if there is a key usage; subject; subject key identifier; name constraints critical and only of DNS names and IP ranges; no policy constraints |
//! | intermediate | authority key identifier |
//! | root | no extended key usage; path length kept; if it has an authority key identifier, its own |
//!
//! [`identity_of`] is a step of its own: the names that make a leaf a node's. So is [`publisher_of`], for those that may sign
//! mesh documents: their certificates have an extended key usage of their own and none that a connection is made with, and a
//! name that is no node's, so neither can ever stand for the other.

use mesh_config::published::Generation;
use mesh_config::{MeshName, NodeName};
use x509_parser::extensions::{GeneralName, NameConstraints, ParsedExtension, X509Extension};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Version;

use super::certificate::{Certificate, Place};
use super::flaw::Flaw;

/// The role in which a peer shows its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// It was dialled.
    Server,
    /// It dialled.
    Client,
    /// It has signed a mesh document. Such a certificate is for that alone.
    Publisher,
}

mod oid {
    pub(super) const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
    pub(super) const P256: &str = "1.2.840.10045.3.1.7";
    pub(super) const P384: &str = "1.3.132.0.34";
    pub(super) const ED25519: &str = "1.3.101.112";
    pub(super) const RSA: &str = "1.2.840.113549.1.1.1";
}

/// Everything that the profile asks of one certificate at its place, dates and names apart.
///
/// # Errors
/// The first [`Flaw`] found.
pub(crate) fn check_certificate(cert: &Certificate<'_>, purpose: Option<Purpose>) -> Result<(), Flaw> {
    check_envelope(cert)?;
    check_key(cert)?;
    check_extensions(cert)?;
    match cert.place {
        Place::Leaf => check_leaf(cert, purpose),
        Place::Intermediate => check_ca(cert).and_then(|()| check_intermediate(cert)),
        Place::Root => check_ca(cert).and_then(|()| check_root(cert)),
    }
}

fn check_envelope(cert: &Certificate<'_>) -> Result<(), Flaw> {
    let tbs = &cert.x509.tbs_certificate;
    if tbs.version != X509Version::V3 {
        return Err(Flaw::Version);
    }
    match cert.x509.raw_serial() {
        [] | [0] => return Err(Flaw::Serial("zero")),
        [first, ..] if first & 0x80 != 0 => return Err(Flaw::Serial("negative")),
        [0, second, ..] if second & 0x80 == 0 => return Err(Flaw::Serial("padded with zeros")),
        serial if serial.len() > 20 => return Err(Flaw::Serial("longer than 20 octets")),
        _ => {}
    }
    if tbs.signature != cert.x509.signature_algorithm {
        return Err(Flaw::SignatureAlgorithmMismatch);
    }
    if tbs.issuer_uid.is_some() || tbs.subject_uid.is_some() {
        return Err(Flaw::UniqueIdentifier);
    }
    if tbs.issuer.iter_rdn().next().is_none() {
        return Err(Flaw::EmptyIssuer);
    }
    if tbs.validity.not_before > tbs.validity.not_after {
        return Err(Flaw::Validity);
    }
    Ok(())
}

/// P-256 and P-384 points must be written uncompressed, so that one key has one encoding and a revocation by public
/// key cannot be sidestepped with the other.
fn check_key(cert: &Certificate<'_>) -> Result<(), Flaw> {
    let spki = cert.x509.public_key();
    let bits: &[u8] = &spki.subject_public_key.data;
    let algorithm = spki.algorithm.algorithm.to_id_string();
    match algorithm.as_str() {
        oid::EC_PUBLIC_KEY => {
            let curve = spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).map(|o| o.to_id_string());
            let length = match curve.as_deref() {
                Some(oid::P256) => 65,
                Some(oid::P384) => 97,
                Some(_) => return Err(Flaw::Key("of the curves only P-256 and P-384 are")),
                None => return Err(Flaw::Key("its curve is not given by name")),
            };
            if bits.len() != length || bits[0] != 4 {
                return Err(Flaw::Key("its point is not written uncompressed"));
            }
            Ok(())
        }
        oid::ED25519 if bits.len() == 32 && spki.algorithm.parameters.is_none() => Ok(()),
        oid::ED25519 => Err(Flaw::Key("it is not a well-formed Ed25519 key")),
        oid::RSA => match spki.parsed() {
            Ok(PublicKey::RSA(key)) => check_rsa_modulus(key.modulus),
            _ => Err(Flaw::Key("it is not a well-formed RSA key")),
        },
        _ => Err(Flaw::Key("only ECDSA, Ed25519 and RSA keys are")),
    }
}

fn check_rsa_modulus(modulus: &[u8]) -> Result<(), Flaw> {
    let octets = match modulus {
        [0, rest @ ..] => rest,
        _ => return Err(Flaw::Key("its size is not a whole number of octets")),
    };
    match octets.first() {
        Some(first) if first & 0x80 != 0 => {}
        _ => return Err(Flaw::Key("its size is not a whole number of octets")),
    }
    match octets.len() * 8 {
        2048..=8192 => Ok(()),
        0..2048 => Err(Flaw::Key("an RSA key needs 2048 bits")),
        _ => Err(Flaw::Key("an RSA key has at most 8192 bits")),
    }
}

fn check_extensions(cert: &Certificate<'_>) -> Result<(), Flaw> {
    let extensions = cert.x509.extensions();
    for (n, extension) in extensions.iter().enumerate() {
        let name = || extension.oid.to_id_string();
        if extensions[..n].iter().any(|e| e.oid == extension.oid) {
            return Err(Flaw::DuplicateExtension(name()));
        }
        match extension.parsed_extension() {
            ParsedExtension::ParseError { .. } => return Err(Flaw::MalformedExtension(name())),
            ParsedExtension::SubjectAlternativeName(san)
                if san.general_names.is_empty() || san.general_names.iter().any(unreadable) =>
            {
                return Err(Flaw::MalformedExtension(name()));
            }
            ParsedExtension::BasicConstraints(_)
            | ParsedExtension::KeyUsage(_)
            | ParsedExtension::ExtendedKeyUsage(_)
            | ParsedExtension::SubjectAlternativeName(_)
            | ParsedExtension::NameConstraints(_) => {}
            ParsedExtension::AuthorityKeyIdentifier(_) if extension.critical => {
                return Err(Flaw::Critical("the authority key identifier"));
            }
            ParsedExtension::SubjectKeyIdentifier(_) if extension.critical => {
                return Err(Flaw::Critical("the subject key identifier"));
            }
            ParsedExtension::AuthorityInfoAccess(_) if extension.critical => {
                return Err(Flaw::Critical("the authority information access"));
            }
            ParsedExtension::AuthorityInfoAccess(aia)
                if aia.accessdescs.is_empty() || aia.accessdescs.iter().any(|d| unreadable(&d.access_location)) =>
            {
                return Err(Flaw::MalformedExtension(name()));
            }
            // Policies are not processed, and a constraint that is not kept must not be passed over.
            ParsedExtension::PolicyConstraints(_) => return Err(Flaw::Forbidden("policy constraints")),
            _ if extension.critical => return Err(Flaw::UnknownCritical(name())),
            _ => {}
        }
    }
    Ok(())
}

/// Whether a name of text is empty or holds characters outside printable ASCII: IA5String, without controls.
fn unreadable(name: &GeneralName<'_>) -> bool {
    match name {
        GeneralName::Invalid(..) => true,
        GeneralName::DNSName(t) | GeneralName::URI(t) | GeneralName::RFC822Name(t) => {
            t.is_empty() || !t.bytes().all(|b| b.is_ascii_graphic())
        }
        _ => false,
    }
}

fn find<'c, 'a, T>(
    cert: &'c Certificate<'a>,
    pick: impl Fn(&'c ParsedExtension<'a>) -> Option<T>,
) -> Option<(T, &'c X509Extension<'a>)> {
    cert.x509.extensions().iter().find_map(|e| pick(e.parsed_extension()).map(|found| (found, e)))
}

macro_rules! extension {
    ($cert:expr, $kind:ident) => {
        find($cert, |e| match e {
            ParsedExtension::$kind(found) => Some(found),
            _ => None,
        })
    };
}

fn check_leaf(cert: &Certificate<'_>, purpose: Option<Purpose>) -> Result<(), Flaw> {
    if let Some((constraints, _)) = extension!(cert, BasicConstraints)
        && constraints.ca
    {
        return Err(Flaw::LeafIsCa("its basic constraints say cA"));
    }
    if let Some((usage, _)) = extension!(cert, KeyUsage) {
        if usage.key_cert_sign() || usage.crl_sign() {
            return Err(Flaw::LeafIsCa("its key usage lets it sign certificates or revocation lists"));
        }
        if !usage.digital_signature() {
            return Err(Flaw::KeyUsage("digitalSignature"));
        }
    }
    let Some((usage, extension)) = extension!(cert, ExtendedKeyUsage) else {
        return Err(Flaw::Missing("extended key usage"));
    };
    if extension.critical {
        return Err(Flaw::Critical("the extended key usage"));
    }
    if usage.any {
        return Err(Flaw::AnyExtendedKeyUsage);
    }
    match purpose {
        Some(Purpose::Publisher) => {
            let others = [usage.server_auth, usage.client_auth, usage.code_signing, usage.email_protection];
            if !matches!(&usage.other[..], [only] if only.as_bytes() == ca::profile::PUBLISHER_USAGE) {
                return Err(Flaw::ExtendedKeyUsage("meshPublisher"));
            }
            if others.contains(&true) || usage.time_stamping || usage.ocsp_signing {
                return Err(Flaw::Forbidden("another extended key usage than meshPublisher"));
            }
        }
        purpose => {
            if !usage.server_auth && purpose != Some(Purpose::Client) {
                return Err(Flaw::ExtendedKeyUsage("serverAuth"));
            }
            if !usage.client_auth && purpose != Some(Purpose::Server) {
                return Err(Flaw::ExtendedKeyUsage("clientAuth"));
            }
        }
    }
    if extension!(cert, NameConstraints).is_some() {
        return Err(Flaw::Forbidden("name constraints"));
    }
    let Some((san, extension)) = extension!(cert, SubjectAlternativeName) else {
        return Err(Flaw::Missing("subject alternative name"));
    };
    for name in &san.general_names {
        if let GeneralName::DNSName(name) = name
            && !name.split('.').all(is_label)
        {
            return Err(Flaw::Name(format!("its DNS name {} is not that of one host", name.escape_debug())));
        }
    }
    match (cert.x509.subject().iter_rdn().next().is_none(), extension.critical) {
        (true, false) => return Err(Flaw::NotCritical("the subject alternative name, though its subject is empty,")),
        (false, true) => return Err(Flaw::Critical("the subject alternative name, though it has a subject,")),
        _ => {}
    }
    check_authority_key_identifier(cert)
}

fn check_authority_key_identifier(cert: &Certificate<'_>) -> Result<(), Flaw> {
    match extension!(cert, AuthorityKeyIdentifier) {
        None => Err(Flaw::Missing("authority key identifier")),
        Some((aki, _)) if aki.key_identifier.is_none() => Err(Flaw::AuthorityKeyIdentifier("names no key")),
        Some(_) => Ok(()),
    }
}

fn check_ca(cert: &Certificate<'_>) -> Result<(), Flaw> {
    match extension!(cert, BasicConstraints) {
        None => return Err(Flaw::NotCa("it has no basic constraints")),
        Some((constraints, _)) if !constraints.ca => {
            return Err(Flaw::NotCa("its basic constraints do not say cA"));
        }
        Some((_, extension)) if !extension.critical => return Err(Flaw::NotCritical("its basic constraints")),
        Some(_) => {}
    }
    if let Some((usage, _)) = extension!(cert, KeyUsage)
        && !usage.key_cert_sign()
    {
        return Err(Flaw::NotCa("its key usage lacks keyCertSign"));
    }
    if cert.x509.subject().iter_rdn().next().is_none() {
        return Err(Flaw::EmptySubject);
    }
    if extension!(cert, SubjectKeyIdentifier).is_none() {
        return Err(Flaw::Missing("subject key identifier"));
    }
    match extension!(cert, NameConstraints) {
        Some((_, extension)) if !extension.critical => Err(Flaw::NotCritical("its name constraints")),
        Some((constraints, _)) => check_name_constraints(constraints),
        None => Ok(()),
    }
}

fn check_intermediate(cert: &Certificate<'_>) -> Result<(), Flaw> {
    check_authority_key_identifier(cert)
}

/// A root that is its own issuer may leave out the authority key identifier (RFC 5280 §4.2.1.1); one that another CA has
/// signed may not.
fn check_root(cert: &Certificate<'_>) -> Result<(), Flaw> {
    if extension!(cert, ExtendedKeyUsage).is_some() {
        return Err(Flaw::Forbidden("an extended key usage"));
    }
    match extension!(cert, AuthorityKeyIdentifier) {
        None if cert.x509.issuer() != cert.x509.subject() => {
            Err(Flaw::Missing("authority key identifier, though another CA signed it"))
        }
        None => Ok(()),
        Some((aki, _)) => {
            let own = extension!(cert, SubjectKeyIdentifier).map(|(ski, _)| ski.0);
            match &aki.key_identifier {
                None => Err(Flaw::AuthorityKeyIdentifier("names no key")),
                Some(_) if aki.authority_cert_issuer.is_some() || aki.authority_cert_serial.is_some() => {
                    Err(Flaw::AuthorityKeyIdentifier("names an issuer and serial"))
                }
                Some(key) if Some(key.0) != own && cert.x509.issuer() == cert.x509.subject() => {
                    Err(Flaw::AuthorityKeyIdentifier("is not its own key's"))
                }
                Some(_) => Ok(()),
            }
        }
    }
}

/// Only what webpki can keep: DNS suffixes, and IP networks with one run of ones as mask. Everything else (URIs, e-mail
/// and directory names, wildcards) would be a constraint that is there and not kept.
fn check_name_constraints(constraints: &NameConstraints<'_>) -> Result<(), Flaw> {
    let subtrees = [&constraints.permitted_subtrees, &constraints.excluded_subtrees];
    if subtrees.iter().all(|s| s.as_ref().is_none_or(Vec::is_empty)) {
        return Err(Flaw::NameConstraint("it constrains nothing"));
    }
    for subtree in subtrees.into_iter().flatten().flatten() {
        match &subtree.base {
            GeneralName::DNSName(suffix) => {
                if !suffix.is_empty() && !suffix.split('.').all(is_label) {
                    return Err(Flaw::NameConstraint("a DNS suffix is written as bare labels, without wildcards"));
                }
            }
            GeneralName::IPAddress(network) if is_network(network) => {}
            GeneralName::IPAddress(_) => return Err(Flaw::NameConstraint("an IP range is an address and a mask")),
            GeneralName::URI(_) => return Err(Flaw::NameConstraint("of URIs")),
            _ => return Err(Flaw::NameConstraint("of names other than DNS names and IP ranges")),
        }
    }
    Ok(())
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn is_network(network: &[u8]) -> bool {
    if !matches!(network.len(), 8 | 32) {
        return false;
    }
    let mask = &network[network.len() / 2..];
    let bits = mask.iter().fold(0u128, |bits, b| bits << 8 | u128::from(*b)) << (128 - mask.len() * 8);
    bits.leading_ones() == bits.count_ones()
}

/// The key identifier of the issuer's key that a certificate names.
pub(crate) fn authority_key_identifier<'c>(cert: &'c Certificate<'_>) -> Option<&'c [u8]> {
    extension!(cert, AuthorityKeyIdentifier).and_then(|(aki, _)| aki.key_identifier.as_ref()).map(|id| id.0)
}

/// The key identifier of a certificate's own key.
pub(crate) fn subject_key_identifier<'c>(cert: &'c Certificate<'_>) -> Option<&'c [u8]> {
    extension!(cert, SubjectKeyIdentifier).map(|(id, _)| id.0)
}

/// The path length of a CA certificate, if it sets one.
pub(crate) fn path_length(cert: &Certificate<'_>) -> Option<u32> {
    extension!(cert, BasicConstraints).and_then(|(constraints, _)| constraints.path_len_constraint)
}

/// Whether a CA certificate may sign revocation lists: its key usage says so, or it has none.
pub(crate) fn may_sign_crls(cert: &Certificate<'_>) -> bool {
    extension!(cert, KeyUsage).is_none_or(|(usage, _)| usage.crl_sign())
}

/// The node that a leaf is made for: exactly one URI `spiffe://MESH/node/NAME` and one DNS name `NAME.MESH`, and no
/// other name, each parsed as a value of one case, one length and one character set.
///
/// # Errors
/// [`Flaw::Name`] says what is there instead.
pub(crate) fn identity_of(cert: &Certificate<'_>) -> Result<(MeshName, NodeName), Flaw> {
    let Some((san, _)) = extension!(cert, SubjectAlternativeName) else {
        return Err(Flaw::Missing("subject alternative name"));
    };
    let (uri, dns) = match san.general_names.as_slice() {
        [GeneralName::URI(uri), GeneralName::DNSName(dns)] | [GeneralName::DNSName(dns), GeneralName::URI(uri)] => {
            (*uri, *dns)
        }
        _ => return Err(Flaw::Name("it needs exactly one URI and one DNS name".into())),
    };
    let (mesh, node) = uri
        .strip_prefix("spiffe://")
        .and_then(|rest| rest.split_once('/'))
        .and_then(|(mesh, path)| Some((mesh, path.strip_prefix("node/")?)))
        .ok_or_else(|| Flaw::Name(format!("its URI is not spiffe://MESH/node/NAME but {}", uri.escape_debug())))?;
    let mesh = MeshName::new(mesh).map_err(|e| Flaw::Name(format!("the mesh in its URI: {e}")))?;
    let node = NodeName::new(node).map_err(|e| Flaw::Name(format!("the node in its URI: {e}")))?;
    if dns.split_once('.') != Some((node.as_str(), mesh.as_str())) {
        return Err(Flaw::Name(format!("its DNS name is not {node}.{mesh} but {}", dns.escape_debug())));
    }
    Ok((mesh, node))
}

/// The publisher that a leaf is made for: exactly one name, the URI `spiffe://MESH/publisher/NAME/generation/N`.
///
/// # Errors
/// [`Flaw::Name`] says what is there instead.
pub(crate) fn publisher_of(cert: &Certificate<'_>) -> Result<(MeshName, NodeName, Generation), Flaw> {
    let Some((san, _)) = extension!(cert, SubjectAlternativeName) else {
        return Err(Flaw::Missing("subject alternative name"));
    };
    let [GeneralName::URI(uri)] = san.general_names.as_slice() else {
        return Err(Flaw::Name("it needs exactly one URI".into()));
    };
    let other = || {
        let shown = uri.escape_debug();
        Flaw::Name(format!("its URI is not spiffe://MESH/publisher/NAME/generation/N but {shown}"))
    };
    let parts: Vec<&str> = uri.strip_prefix("spiffe://").ok_or_else(other)?.split('/').collect();
    let [mesh, "publisher", name, "generation", number] = parts[..] else { return Err(other()) };
    let mesh = MeshName::new(mesh).map_err(|e| Flaw::Name(format!("the mesh in its URI: {e}")))?;
    let name = NodeName::new(name).map_err(|e| Flaw::Name(format!("the publisher in its URI: {e}")))?;
    let generation = number.parse().ok().and_then(Generation::new).ok_or_else(other)?;
    // One way to write each.
    if ca::profile::publisher_id(&mesh, &name, generation) != *uri {
        return Err(other());
    }
    Ok((mesh, name, generation))
}
