//! Signed mesh documents: who signed one, and whether he may.
//!
//! ```text
//!   bytes ─▶ size ─▶ envelope ─▶ header ─▶ this mesh? ─▶ chain, profile, dates ─▶ generation ─▶ signature ─▶ document
//!                                    any step may refuse: [`Refused`], with a name of its own ◀─┘
//! ```
//!
//! Nothing of the document's text is parsed before its signature has been found to be a publisher's.

mod envelope;
mod refused;
mod verify;

#[cfg(test)]
pub(crate) mod tests;

pub use envelope::{Envelope, MAX_CHAIN, MAX_SIGNATURE, message, seal};
pub use refused::Refused;
pub use verify::{Occasion, Published, Signer, public_key_digest, signer, verify};
