mod handshake;
mod load;
mod profile;
mod quic;
mod revocation;
mod secrets;
mod support;
