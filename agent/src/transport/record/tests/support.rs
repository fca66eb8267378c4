//! Two ends in memory, and records that no honest end would make.

use super::super::cipher::seal_in_place;
use super::super::*;

/// A secret of `suite` that is `byte` all over.
pub(super) fn secret(suite: Suite, byte: u8) -> Secret {
    let len = if suite == Suite::Aes256Gcm { 48 } else { 32 };
    Secret::new(suite, &vec![byte; len]).unwrap()
}

/// The client's and the server's end of one connection.
pub(super) fn pair(suite: Suite, limits: Limits) -> (Records, Records) {
    let end = |side| Records::new(suite, side, secret(suite, 1), secret(suite, 2), limits).unwrap();
    (end(Side::Client), end(Side::Server))
}

/// The two ends with ordinary limits.
pub(super) fn plain_pair() -> (Records, Records) {
    pair(Suite::Aes128Gcm, Limits::default())
}

/// `content` as one data record.
pub(super) fn data(from: &mut Records, content: &[u8]) -> Vec<u8> {
    let mut record = vec![0; HEADER + content.len() + TRAILER];
    record[HEADER..][..content.len()].copy_from_slice(content);
    let len = from.seal(&mut record, content.len()).unwrap();
    assert_eq!(len, record.len());
    record
}

/// What is to be sent beside data.
pub(super) fn control(from: &mut Records) -> Vec<u8> {
    let mut out = Vec::new();
    let any = from.poll_control(&mut out).unwrap();
    assert_eq!(any, !out.is_empty());
    out
}

/// Opens every whole record of `bytes`; what is left is a part of one.
pub(super) fn feed(to: &mut Records, mut bytes: Vec<u8>) -> Result<(Vec<u8>, Vec<Received>), Fatal> {
    let (mut content, mut received) = (Vec::new(), Vec::new());
    while let Some(len) = to.parse(&bytes)? {
        if bytes.len() < len {
            break;
        }
        let what = to.open(&mut bytes[..len])?;
        if let Received::Data(range) = &what {
            content.extend_from_slice(&bytes[range.clone()]);
        }
        received.push(what);
        bytes.drain(..len);
    }
    Ok((content, received))
}

/// A record with this inner plaintext, whatever it is: content, type and padding; sealed as the next one of `from`.
pub(super) fn forge(from: &mut Records, inner: &[u8]) -> Vec<u8> {
    forge_headed(from, inner, [23, 3, 3])
}

/// The same with another outer type and version.
pub(super) fn forge_headed(from: &mut Records, inner: &[u8], [kind, major, minor]: [u8; 3]) -> Vec<u8> {
    let len = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
    let header = [kind, major, minor, len[0], len[1]];
    let mut record = [&header[..], inner, &[0; 16]].concat();
    let (key, nonce) = from.directions().0.keys().take_nonce().unwrap();
    let (body, tag) = record[HEADER..].split_at_mut(inner.len());
    seal_in_place(key, nonce, &header, body, tag).unwrap();
    record
}
