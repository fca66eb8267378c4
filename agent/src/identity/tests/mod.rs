mod handshake;
mod load;
mod profile;
mod quic;
mod refusals;
mod revocation;
mod secrets;
mod support;

pub(crate) use support::contexts;
