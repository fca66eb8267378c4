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
//!
//! What one peer can pin here, over all of its connections ([`PeerShare`]):
//!
//! | bytes | bound | by |
//! |---|---|---|
//! | that came in order and no application has taken | [`BUDGET`] | credit: a stream's DATA beyond it costs the connection |
//! | behind a gap, which QUIC cannot hand over yet | [`WINDOWS`] | the receive windows of the connections, which share it |
//! | of a connection before HELLO | [`FIRST_WINDOW`] | its receive window; how many, by the caps on handshakes |
//! | queued for a peer that takes nothing | 64 KiB a stream, one CREDIT, FIN | owed credit is added up until CREDIT can be written |
//!
//! What QUIC notes of gaps comes on top: some 50 KiB for a stream of tiny frames with gaps between them, on as many streams as
//! [`MOST_STREAMS`] and [`WINDOWS`] leave room for.

mod credit;
pub mod endpoint;
mod link;
mod pump;
mod share;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

pub use credit::{Budget, EARLY_CREDIT, INITIAL_CREDIT, MOST_CREDIT, Overrun, Window};
pub use link::{QuicError, QuicLink, QuicRequest, greet};
use quinn::{IdleTimeout, TransportConfig, VarInt};
pub use share::PeerShare;
pub use stream::QuicStream;

/// The bytes that the readers of one peer's streams may leave unread, all in all.
pub const BUDGET: u64 = 24 << 20;
/// The bytes that one peer may have under way in QUIC beyond what was handed over, all connections together.
pub const WINDOWS: u64 = 8 << 20;
/// A connection's receive window in bytes until HELLO has come and it gets its part of [`WINDOWS`].
pub const FIRST_WINDOW: u32 = 64 << 10;
const _: () = assert!(BUDGET + WINDOWS <= 32 << 20, "what a peer may pin");
/// Streams that a peer may have open towards us.
pub const MOST_STREAMS: u32 = 4096;
/// A connection on which nothing arrives for this long is lost.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Settings of a connection that carries application streams.
///
/// One stream's window is wider than the most credit a stream ever has. The connection's begins small, and is wide once HELLO
/// has come: everything is read at once, so it bounds only what is under way, and what a peer that leaves gaps can pin.
pub fn transport_config() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(MOST_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(8 << 20))
        .receive_window(VarInt::from_u32(FIRST_WINDOW))
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
