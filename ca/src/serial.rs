//! Serial numbers.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A certificate's serial number: 128 random bits, positive (RFC 5280 §4.1.2.2).
///
/// The first octet is never zero and its highest bit never set, so that the number's DER, and the text that other tools
/// print, always have these 16 octets and no other. Shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial([u8; 16]);

impl Serial {
    /// A new one.
    ///
    /// # Errors
    /// [`Error::Crypto`] if the system gives no randomness.
    pub(crate) fn random() -> Result<Self, Error> {
        loop {
            let mut bytes = [0; 16];
            aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Crypto("no random bytes"))?;
            if Self::fits(&bytes) {
                return Ok(Self(bytes));
            }
        }
    }

    fn fits(bytes: &[u8; 16]) -> bool {
        (0x01..0x80).contains(&bytes[0])
    }

    /// The 16 octets, big-endian.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Not 32 lower-case hexadecimal digits of a serial number that this authority gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a serial number is 32 hexadecimal digits")]
pub struct NotASerial;

impl FromStr for Serial {
    type Err = NotASerial;

    fn from_str(text: &str) -> Result<Self, NotASerial> {
        let number = u128::from_str_radix(text, 16).map_err(|_| NotASerial)?;
        let serial = Self(number.to_be_bytes());
        if Self::fits(&serial.0) && serial.to_string() == text { Ok(serial) } else { Err(NotASerial) }
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Serial {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
