//! A value that nothing prints.

use std::fmt;

/// Holds a secret: a token, a key's bytes. Neither `Debug` nor `Display` shows it, so that no log line, panic message or
/// error can; whoever needs it says [`expose`](Secret::expose). It is not serializable. It does not wipe its memory:
/// hold a `zeroize::Zeroizing` in it for that.
#[derive(Clone, Default)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Takes a secret in.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The secret itself. Never hand it to anything that prints.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}
