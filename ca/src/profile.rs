//! What stands in each of the four kinds of certificate (RFC 5280 §4).
//!
//! | | root | intermediate | node | publisher |
//! |---|---|---|---|---|
//! | signed by | itself | root | intermediate | root, or intermediate in the first generation |
//! | life | 10 years | 1 year | 7 days unless asked otherwise | 1 year unless asked otherwise |
//! | basicConstraints, critical | CA, path length 1 | CA, path length 0 | no CA | no CA |
//! | keyUsage, critical | keyCertSign, cRLSign | keyCertSign, cRLSign | digitalSignature | digitalSignature |
//! | extendedKeyUsage | – | – | clientAuth, serverAuth | [`PUBLISHER_USAGE`] alone |
//! | nameConstraints, critical | DNS: MESH | DNS: MESH | – | – |
//! | subjectAltName | – | – | `spiffe://MESH/node/NAME`, DNS `NAME.MESH` | `spiffe://MESH/publisher/NAME/generation/N` |
//!
//! All have subject and authority key identifiers (RFC 7093 method 1), a random serial of 128 bits, and begin five
//! minutes before they are made, for hosts whose clocks are behind. None outlives its issuer.
//!
//! The DNS constraint stands on both CAs: on the root for verifiers that apply the constraints of their anchors, on the
//! intermediate for those that do not (RFC 5280 §6.1 leaves it open). There is no URI constraint, because
//! rustls-webpki refuses every URI name under one; who verifies checks the SPIFFE trust domain by its own rule.

use mesh_config::published::Generation;
use mesh_config::{MeshName, NodeName};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints, PublicKeyData, SanType, string::Ia5String,
};
use time::{Duration, OffsetDateTime};

use crate::error::Error;
use crate::serial::Serial;

/// How long a root is valid.
pub const ROOT_LIFE: Duration = Duration::days(3652);
/// How long an intermediate is valid.
pub const INTERMEDIATE_LIFE: Duration = Duration::days(365);
/// How long a node's certificate is valid unless asked otherwise.
pub const LEAF_LIFE: Duration = Duration::days(7);
/// How long a publisher's certificate is valid unless asked otherwise.
pub const PUBLISHER_LIFE: Duration = Duration::days(365);
/// How far before its making a certificate begins.
pub const BACK_DATED: Duration = Duration::minutes(5);

/// The extended key usage of who may sign mesh documents, as the content octets of its object identifier:
/// `2.25.97786147917561254226021775744996369714.1.1`.
///
/// Anybody may derive an arc below 2.25 from a random UUID (ITU-T X.667 §7); this one is of
/// `4990ed52-a111-4a32-ab48-e808fb426532`. Below it, 1 is for key usages, and 1.1 is this.
pub const PUBLISHER_USAGE: &[u8] = &[
    0x69, 0x81, 0x93, 0x90, 0xf6, 0xd4, 0xd4, 0x91, 0x8a, 0xa8, 0xe5, 0xab, 0xa4, 0xba, 0x81, 0x8f, 0xda, 0x89, 0xca,
    0x32, 0x01, 0x01,
];

/// First and last second of a certificate's life, both within it (RFC 5280 §4.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
}

impl Window {
    /// From `now`, back-dated, for `life`; in whole seconds of UTC, as certificates have them.
    pub(crate) fn new(now: OffsetDateTime, life: Duration) -> Self {
        let now = whole_seconds(now);
        Self { not_before: now.saturating_sub(BACK_DATED), not_after: now.saturating_add(life).min(LAST) }
    }

    /// The part of it that lies within `outer`.
    pub(crate) fn within(self, outer: Self) -> Self {
        Self { not_before: self.not_before.max(outer.not_before), not_after: self.not_after.min(outer.not_after) }
    }
}

/// The greatest time that a certificate can tell: GeneralizedTime has four digits for the year.
const LAST: OffsetDateTime = time::macros::datetime!(9999-12-31 23:59:59 UTC);

fn whole_seconds(t: OffsetDateTime) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(t.unix_timestamp()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn authority(
    mesh: &MeshName,
    kind: &str,
    path_length: u8,
    key: &impl PublicKeyData,
    serial: Serial,
    window: Window,
) -> CertificateParams {
    let mut params = base(serial, window);
    let id = params.key_identifier(key);
    // Two authorities of one mesh have to differ in their subjects, so that a chain is found by name as well.
    let short: String = id.iter().take(4).map(|b| format!("{b:02x}")).collect();
    params.distinguished_name.push(DnType::OrganizationName, mesh.as_str());
    params.distinguished_name.push(DnType::CommonName, format!("{kind} {short}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(mesh.as_str().to_owned())],
        excluded_subtrees: Vec::new(),
    });
    params
}

pub(crate) fn root(mesh: &MeshName, key: &impl PublicKeyData, serial: Serial, window: Window) -> CertificateParams {
    authority(mesh, "root", 1, key, serial, window)
}

pub(crate) fn intermediate(
    mesh: &MeshName,
    key: &impl PublicKeyData,
    serial: Serial,
    window: Window,
) -> CertificateParams {
    authority(mesh, "intermediate", 0, key, serial, window)
}

pub(crate) fn leaf(
    mesh: &MeshName,
    node: &NodeName,
    serial: Serial,
    window: Window,
) -> Result<CertificateParams, Error> {
    let mut params = base(serial, window);
    params.distinguished_name.push(DnType::CommonName, node.as_str());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names =
        vec![SanType::URI(ascii(spiffe_id(mesh, node))?), SanType::DnsName(ascii(dns_name(mesh, node))?)];
    Ok(params)
}

pub(crate) fn publisher(
    mesh: &MeshName,
    name: &NodeName,
    generation: Generation,
    serial: Serial,
    window: Window,
) -> Result<CertificateParams, Error> {
    let mut params = base(serial, window);
    params.distinguished_name.push(DnType::CommonName, name.as_str());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // By hand, since rcgen takes no arc above 64 bits: a sequence of one object identifier (RFC 5280 §4.2.1.12).
    let length = u8::try_from(PUBLISHER_USAGE.len()).map_err(|_| Error::Crypto("an extension is too long"))?;
    let usage = [&[0x30, length + 2, 0x06, length], PUBLISHER_USAGE].concat();
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 37], usage)];
    params.subject_alt_names = vec![SanType::URI(ascii(publisher_id(mesh, name, generation))?)];
    Ok(params)
}

/// The name in a publisher's certificate: `spiffe://MESH/publisher/NAME/generation/N`. It can be no node's.
pub fn publisher_id(mesh: &MeshName, name: &NodeName, generation: Generation) -> String {
    format!("spiffe://{mesh}/publisher/{name}/generation/{generation}")
}

/// A node's SPIFFE ID: `spiffe://MESH/node/NAME`.
pub fn spiffe_id(mesh: &MeshName, node: &NodeName) -> String {
    format!("spiffe://{mesh}/node/{node}")
}

/// A node's DNS name in its certificate: `NAME.MESH`.
pub fn dns_name(mesh: &MeshName, node: &NodeName) -> String {
    format!("{node}.{mesh}")
}

fn base(serial: Serial, window: Window) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(serial.as_bytes().to_vec().into());
    params.not_before = window.not_before;
    params.not_after = window.not_after;
    params.use_authority_key_identifier_extension = true;
    params
}

fn ascii(text: String) -> Result<Ia5String, Error> {
    Ia5String::try_from(text).map_err(Error::Encode)
}
