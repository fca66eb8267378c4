mod handshake;
mod load;
mod profile;
mod revocation;
mod secrets;
mod support;
