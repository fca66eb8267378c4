//! One record at a time: sealed or opened in its place (RFC 8446 §5.2).

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use aws_lc_rs::error::Unspecified;

use super::crypto_info::CryptoInfo;
use super::error::{Fatal, SealError};
use super::keys::{KeyError, Keys, Secret, Suite};
use super::{ContentType, HEADER, MAX_CONTENT, TAG, TRAILER};

/// Seals the records of the sending direction, in order.
#[derive(Debug)]
pub struct Sealer {
    keys: Keys,
    update_after: u64,
}

impl Sealer {
    /// A sealer that asks for new keys after `update_after` records under one key, one at least.
    ///
    /// # Errors
    /// The crypto library failed; it has no reason to.
    pub fn new(secret: Secret, update_after: u64) -> Result<Self, KeyError> {
        Ok(Self { keys: Keys::new(secret)?, update_after: update_after.max(1) })
    }

    /// Seals `record[HEADER..][..content]` in place and says how long the record is that `record` begins with then.
    ///
    /// # Errors
    /// [`SealError::Length`]: the content is longer than [`MAX_CONTENT`], or `record` has no room for [`TRAILER`] behind
    /// it; nothing has changed. [`SealError::Ended`]: the content may be lost.
    #[inline]
    pub fn seal(&mut self, record: &mut [u8], content: usize, kind: ContentType) -> Result<usize, SealError> {
        if content > MAX_CONTENT {
            return Err(SealError::Length);
        }
        let total = HEADER + content + TRAILER;
        let record = record.get_mut(..total).ok_or(SealError::Length)?;
        let (head, body) = record.split_at_mut(HEADER);
        let (inner, tag) = body.split_at_mut(content + 1);
        // Fits: at most MAX_CONTENT + TRAILER.
        let [.., high, low] = (content + TRAILER).to_be_bytes();
        let header = [ContentType::ApplicationData as u8, 3, 3, high, low];
        head.copy_from_slice(&header);
        inner[content] = kind as u8;
        let (key, nonce) = self.keys.take_nonce()?;
        seal_in_place(key, nonce, &header, inner, tag).map_err(|_| Fatal::Internal)?;
        Ok(total)
    }

    /// Whether the key has been used for as many records as it should be. There is time left to change it, but not without
    /// end.
    #[inline]
    #[must_use]
    pub fn due(&self) -> bool {
        self.keys.used() >= self.update_after
    }

    /// Whether it has been used for `more` records beyond that.
    #[inline]
    pub(super) fn overdue(&self, more: u64) -> bool {
        self.keys.used() >= self.update_after.saturating_add(more)
    }

    /// Goes on with new keys. The peer must have been told by a KeyUpdate under the old ones.
    ///
    /// # Errors
    /// The crypto library failed; nothing more can be sealed.
    pub fn update(&mut self) -> Result<(), KeyError> {
        self.keys.update()
    }

    /// Nothing is to be sealed for the time being.
    #[inline]
    pub(super) fn rest(&mut self) {
        self.keys.rest();
    }

    /// The suite.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.keys.suite()
    }

    /// The keys for somebody else who goes on with them. Nothing may be sealed here any more.
    pub(super) fn crypto_info(&self) -> Result<CryptoInfo, KeyError> {
        self.keys.crypto_info()
    }

    /// The secret, and how many records have been sealed with its keys; then, after how many they should be changed.
    pub(super) fn into_secret(self) -> ((Secret, u64), u64) {
        (self.keys.into_secret(), self.update_after)
    }

    #[cfg(test)]
    pub(super) fn keys(&mut self) -> &mut Keys {
        &mut self.keys
    }
}

/// Opens the records of the receiving direction, in order.
#[derive(Debug)]
pub struct Opener {
    keys: Keys,
}

impl Opener {
    /// An opener of what is sealed with `secret`.
    ///
    /// # Errors
    /// The crypto library failed; it has no reason to.
    pub fn new(secret: Secret) -> Result<Self, KeyError> {
        Ok(Self { keys: Keys::new(secret)? })
    }

    /// Opens the whole record `record` in place: what it carries, and how long the content is that lies at [`HEADER`].
    ///
    /// # Errors
    /// It is not the record that is due. There is no second try with another one.
    #[inline]
    pub fn open(&mut self, record: &mut [u8]) -> Result<(ContentType, usize), Fatal> {
        let (header, body) = record.split_first_chunk_mut::<HEADER>().ok_or(Fatal::BadRecord)?;
        let (inner, tag) = body.split_last_chunk_mut::<TAG>().ok_or(Fatal::BadRecord)?;
        let (key, nonce) = self.keys.take_nonce()?;
        open_in_place(key, nonce, header, inner, tag).map_err(|_| Fatal::BadRecord)?;
        // Padding counts, too (RFC 8446 §5.4).
        if inner.len() > MAX_CONTENT + 1 {
            return Err(Fatal::Overflow);
        }
        let content = inner.iter().rposition(|&byte| byte != 0).ok_or(Fatal::NoContent)?;
        Ok((ContentType::inside(inner[content])?, content))
    }

    /// Goes on with new keys, as the peer's KeyUpdate says.
    ///
    /// # Errors
    /// The crypto library failed; nothing more can be opened.
    pub fn update(&mut self) -> Result<(), KeyError> {
        self.keys.update()
    }

    /// Nothing is to be opened for the time being.
    #[inline]
    pub(super) fn rest(&mut self) {
        self.keys.rest();
    }

    /// The keys for somebody else who goes on with them. Nothing may be opened here any more.
    pub(super) fn crypto_info(&self) -> Result<CryptoInfo, KeyError> {
        self.keys.crypto_info()
    }

    /// The secret, and how many records have been opened with its keys.
    pub(super) fn into_secret(self) -> (Secret, u64) {
        self.keys.into_secret()
    }

    #[cfg(test)]
    pub(super) fn keys(&mut self) -> &mut Keys {
        &mut self.keys
    }
}

/// Encrypts `inner` in place and writes its tag.
#[inline]
pub(super) fn seal_in_place(
    key: &LessSafeKey,
    nonce: Nonce,
    aad: &[u8],
    inner: &mut [u8],
    tag: &mut [u8],
) -> Result<(), Unspecified> {
    tag.copy_from_slice(key.seal_in_place_separate_tag(nonce, Aad::from(aad), inner)?.as_ref());
    Ok(())
}

/// Checks the tag and decrypts `inner` in place. With the tag apart the library has no bytes to move afterwards.
#[inline]
pub(super) fn open_in_place(
    key: &LessSafeKey,
    nonce: Nonce,
    aad: &[u8],
    inner: &mut [u8],
    tag: &[u8],
) -> Result<(), Unspecified> {
    key.open_in_place_separate_tag(nonce, Aad::from(aad), tag, inner).map(|_| ())
}
