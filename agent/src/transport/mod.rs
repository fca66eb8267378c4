//! How two agents are joined: frames, the life of streams on lanes, and QUIC.
//!
//! ```text
//!   bytes ──▶ frame::Parser ──▶ message::Frame ──▶ hello::Greeting ──▶ lane::Lane ──▶ events
//!                    └─ DATA pieces, borrowed ─────────────────────────▲    └──▶ frames to send
//! ```
//!
//! Everything on this picture is pure: no I/O, no clock, no randomness. What drives it is told apart in files of their own.
//!
//! # Frames
//!
//! `type: u8 │ flags: u8 │ length: u16, big endian │ payload`. *n* is a stream's number, four bytes, big endian, before the
//! protobuf message; DATA carries no number, it belongs to the stream that the lane carries now.
//!
//! | type | frame | payload | length | where |
//! |---|---|---|---|---|
//! | 1 | HELLO | `Hello` | ≤ 4096 | first frame each way, everywhere |
//! | 2 | OPEN | n, `Open` | 4–1024 | lane, QUIC stream |
//! | 3 | OPENED | n, `Opened` | 4–512 | lane, QUIC stream |
//! | 4 | REFUSED | n, `Refused` | 4–512 | lane, QUIC stream |
//! | 5 | DATA | bytes | 1–16384 | lane, QUIC stream |
//! | 6 | FIN | n | 4 | lane, QUIC stream |
//! | 7 | RESET | n, `Reset` | 4–256 | lane |
//! | 8 | DONE | n | 4 | lane |
//! | 9 | PING | `Ping` | ≤ 256 | lane, control |
//! | 10 | PONG | `Pong` | ≤ 256 | lane, control |
//! | 11 | DATAGRAM | bytes | ≤ 4096 | lane; dropped as long as no service asks for it |
//! | 12 | CREDIT | n, `Credit` | 4–256 | QUIC stream |
//! | 13 | WANT_LANES | `WantLanes` | ≤ 256 | control |
//! | 14 | BYE | m, `Bye` | 4–256 | lane, control |
//!
//! Flag bit 7 (`CRITICAL`) says that a receiver that does not know the type must end the connection; a frame of an unknown
//! type without it is skipped (≤ 16384 bytes). Type 0 is never valid. The other flag bits are sent as zero and ignored.

pub mod caps;
pub mod congestion;
pub mod connect;
pub mod failure;
pub mod frame;
pub mod handshake;
pub mod hello;
pub mod ktls;
pub mod lane;
pub mod listen;
pub mod message;
pub mod quic;
mod race;
pub mod record;
pub mod resolve;
pub mod retry;
pub mod sealing;
pub mod secure;
pub mod socket;
pub mod tcp_info;
pub mod wire;
