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
//! | under way, or behind a gap and not to be used yet | [`WINDOWS`] | the receive windows of the connections, which share it |
//! | where those pieces are | [`MOST_PIECES`] | more cost the connection |
//! | of a connection before HELLO | [`FIRST_WINDOW`] | its receive window, one stream; how many, by the caps on handshakes |
//! | queued for a peer that takes nothing | 64 KiB a stream, one CREDIT, FIN | owed credit is added up until CREDIT can be written |
//!
//! Streams are read in whatever order their bytes come, and put into order here: QUIC itself would keep a thousand pieces of each
//! with the datagrams that came beside them. What is kept behind gaps is copied, and narrows its connection's window.
//!
//! Between two reads of a stream QUIC lists the frames that come for it, and the list keeps its size for the next stream that has
//! it: 56 bytes a frame, 115 KiB at the most. So streams are granted in steps. A peer may have [`UNSERVED`] and some more for
//! each that is being served: who may use no service pins 15 MiB at the most in this way, and who may use one, as much as two
//! such lists for each application connection that it has open.

pub mod congestion;
mod credit;
pub mod endpoint;
mod link;
mod pump;
mod reorder;
mod share;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use congestion::Algorithm;
pub use credit::{Budget, EARLY_CREDIT, INITIAL_CREDIT, MOST_CREDIT, Overrun, Window};
pub use link::{QuicError, QuicLink, QuicRequest, greet};
use quinn::{IdleTimeout, TransportConfig, VarInt};
pub use share::PeerShare;
pub use stream::QuicStream;

/// The bytes that the readers of one peer's streams may leave unread, all in all.
pub const BUDGET: u64 = 22 << 20;
/// The bytes that one peer may have under way in QUIC or behind gaps, all connections together.
pub const WINDOWS: u64 = 8 << 20;
/// A connection's receive window in bytes until HELLO has come and it gets its part of [`WINDOWS`].
pub const FIRST_WINDOW: u32 = 64 << 10;
/// The pieces behind gaps that the streams of one peer may have, all connections together.
///
/// A sender that keeps to [`WINDOWS`] has some 7,000 datagrams under way: with one of ten lost they make 700 pieces, and with
/// every second one lost, 3,500.
pub const MOST_PIECES: u64 = 16 << 10;
/// What such a piece costs in bytes beyond its own: its places in maps here and in QUIC, and the grain of allocation.
const PIECE: u64 = 128;
const _: () = assert!(BUDGET + WINDOWS + MOST_PIECES * PIECE <= 32 << 20, "what a peer may pin");
/// Streams that a peer may have open towards us.
pub const MOST_STREAMS: u32 = 4096;
/// How many of them there may be while none is being served: they have not said OPEN, or are refused or cut and the peer has yet
/// to end them.
pub const UNSERVED: u32 = 128;
/// A connection on which nothing arrives for this long is lost.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Settings of a connection that carries application streams.
///
/// One stream's window is wider than the most credit a stream ever has. The connection's begins small, and is wide once HELLO
/// has come: everything is read at once, so it bounds only what is under way, and what a peer that leaves gaps can pin. Until
/// then there is no stream but that of HELLO.
pub fn transport_config(congestion: Algorithm) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .congestion_controller_factory(congestion.factory())
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
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
    let mut config = transport_config(Algorithm::default());
    config
        .stream_receive_window(VarInt::from_u32(64 << 10))
        .receive_window(VarInt::from_u32(128 << 10))
        .send_window(256 << 10);
    config
}
