//! Tests of the record layer.

mod alerts;
mod flips;
mod kernel;
mod malformed;
mod model;
pub(crate) mod nonces;
mod rfc8448;
mod secrecy;
mod support;
mod update;
mod wycheproof;
