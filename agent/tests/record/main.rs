//! The record layer and its handshake against other implementations: rustls in memory, and the programs of OpenSSL.

mod handshake;
mod memory;
mod openssl;
mod pki;
