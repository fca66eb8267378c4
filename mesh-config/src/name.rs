//! The names that a mesh file may use, as types.
//!
//! One character set, one case, one length for all of them: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`. That is a DNS label
//! (RFC 1123 §2.1) without upper case, so a name can stand in a certificate's DNS SAN and is compared byte by byte.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name, in bytes: a DNS label's limit (RFC 1035 §2.3.4).
pub const MAX_NAME: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("a name cannot be empty")]
    Empty,
    /// More than [`MAX_NAME`] bytes.
    #[error("a name has at most 63 characters")]
    TooLong,
    /// A character outside `a-z`, `0-9`, `-`.
    #[error("`{0}` cannot stand in a name: only a-z, 0-9 and - can")]
    Character(char),
    /// A hyphen at either end.
    #[error("a name begins and ends with a letter or a digit")]
    Hyphen,
    /// A mesh name of digits alone: it ends DNS names, and no TLS library takes such a last label.
    #[error("a mesh name needs at least one letter")]
    AllDigits,
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if let Some(c) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return Err(NameError::Character(c));
    }
    if text.len() > MAX_NAME {
        return Err(NameError::TooLong);
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(NameError::Hyphen);
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $extra:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes `text` as a name.
            ///
            /// # Errors
            /// [`NameError`] says which rule it breaks.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check(text)?;
                let extra: fn(&str) -> Result<(), NameError> = $extra;
                extra(text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }
    };
}

name!(
    /// A mesh: the trust domain of its SPIFFE IDs and the last label of its DNS names.
    MeshName,
    |text| if text.bytes().all(|b| b.is_ascii_digit()) { Err(NameError::AllDigits) } else { Ok(()) }
);
name!(
    /// A host of the mesh.
    NodeName,
    |_| Ok(())
);
name!(
    /// A set of nodes.
    GroupName,
    |_| Ok(())
);
name!(
    /// Something that nodes offer and other nodes reach.
    ServiceName,
    |_| Ok(())
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_one_rule() {
        for good in ["a", "0", "a-b", "node-01", &"x".repeat(63)] {
            assert!(NodeName::new(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", NameError::Empty),
            ("-a", NameError::Hyphen),
            ("a-", NameError::Hyphen),
            ("A", NameError::Character('A')),
            ("a.b", NameError::Character('.')),
            ("a.", NameError::Character('.')),
            ("é", NameError::Character('é')),
            (&"x".repeat(64), NameError::TooLong),
        ] {
            assert_eq!(NodeName::new(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn a_mesh_name_is_not_all_digits() {
        assert_eq!(MeshName::new("42"), Err(NameError::AllDigits));
        assert!(MeshName::new("4a").is_ok());
        assert!(NodeName::new("42").is_ok());
    }
}
