//! The record layer and its handshake against other implementations: rustls in memory, and the programs of OpenSSL.

#[cfg(test)]
mod differential;
#[cfg(test)]
mod forger;
#[cfg(test)]
mod handshake;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod openssl;
#[cfg(test)]
mod pki;
#[cfg(test)]
mod wire;
