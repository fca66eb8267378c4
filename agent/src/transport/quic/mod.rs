//! QUIC: application streams with credit of their own, over quinn.
//!
//! The first stream of a connection carries HELLO each way. Every other bidirectional stream is one application stream, with
//! the number 1, and the frames of the [front page](super):
//!
//! ```text
//!   OPEN 1, DATA (≤ 4 KiB until answered) ──────────▶
//!          ◀────────────── OPENED 1, or REFUSED 1 and the end
//!   DATA, CREDIT 1, FIN 1 ◀──────────────▶ DATA, CREDIT 1, FIN 1      the end of the QUIC stream after both FINs
//!   RESET_STREAM and STOP_SENDING with the reason's code: RESET
//! ```
//!
//! Credit that QUIC has granted cannot be taken back, and it is granted to every stream alike. So the windows of QUIC are
//! wide, everything that arrives is read at once, and what a peer may send is told by CREDIT frames out of one [`Budget`] a
//! peer: a stalled reader blocks its own stream alone, and pins no more than its stream's share. Every stream always has
//! [`EARLY_CREDIT`]; it grows while its reader drains it quickly, and a sender that has nothing to send gives unused credit
//! back. FIN is a frame because CREDIT may have to follow it.

mod credit;
pub mod endpoint;
mod link;
mod pump;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

pub use credit::{Budget, EARLY_CREDIT, INITIAL_CREDIT, MOST_CREDIT, Overrun, Window};
pub use link::{QuicError, QuicLink, QuicRequest, greet};
use quinn::{IdleTimeout, TransportConfig, VarInt};
pub use stream::QuicStream;

/// The bytes that the readers of one peer's streams may leave unread, all in all.
pub const BUDGET: u64 = 24 << 20;
/// Streams that a peer may have open towards us.
pub const MOST_STREAMS: u32 = 4096;
/// A connection on which nothing arrives for this long is lost.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Settings of a connection that carries application streams.
///
/// One stream's window is wider than the most credit a stream ever has, the connection's wider than the budget, so QUIC's own
/// flow control holds back only a peer that ignores its credit; the connection's bounds what such a peer can pin to 32 MiB.
pub fn transport_config() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(MOST_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(8 << 20))
        .receive_window(VarInt::from_u32(32 << 20))
        .send_window(16 << 20)
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(Duration::from_secs(5)))
        .max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok());
    config
}

/// Settings of a control connection: one stream, small windows.
pub fn control_transport_config() -> TransportConfig {
    let mut config = transport_config();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .stream_receive_window(VarInt::from_u32(64 << 10))
        .receive_window(VarInt::from_u32(128 << 10))
        .send_window(256 << 10);
    config
}
