//! The measuring service that every agent has inside: `adit bench` opens streams to it like any other stream.
//!
//! Its modes: `Sink` takes bytes until FIN and then answers their number (8 bytes, big endian); `Source` gives bytes until the
//! opener resets the stream; `Echo` gives back what it gets.

use std::future::poll_fn;
use std::io::{IoSliceMut, Read as _};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::reason::Reason;
use crate::splice::{Broken, Carrier, Received};
use crate::transport::message::Bench;

/// What is sent to be counted.
const FILLING: u8 = 0x5a;

/// Why a measuring stream ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The link was lost.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The far side cut the stream.
    #[error("the stream was cut: {0}")]
    Reset(Reason),
    /// It ended before its answer was whole.
    #[error("the stream ended early")]
    Short,
}

/// The far end's part: serves one stream.
///
/// # Errors
/// If the link is lost; a reset by the opener is the ordinary end of `source`.
pub async fn serve<C: Carrier>(stream: &mut C, mode: Bench) -> Result<(), Error> {
    match mode {
        Bench::Source => loop {
            if let Some(received) = fill_or_receive(stream).await? {
                match received {
                    Received::Reset(_) => return Ok(()),
                    Received::Fin => {
                        stream.finish();
                        flush(stream).await?;
                        return Ok(());
                    }
                    Received::Data => {
                        let len = stream.chunk().len();
                        stream.consume(len);
                    }
                }
            }
        },
        Bench::Sink => {
            let bytes = drain(stream).await?;
            send(stream, &bytes.to_be_bytes()).await?;
            stream.finish();
            flush(stream).await?;
            Ok(())
        }
        Bench::Echo => loop {
            match receive(stream).await? {
                Received::Data => {
                    let bytes = stream.chunk().to_vec();
                    stream.consume(bytes.len());
                    send(stream, &bytes).await?;
                }
                Received::Fin => {
                    stream.finish();
                    flush(stream).await?;
                    return Ok(());
                }
                Received::Reset(_) => return Ok(()),
            }
        },
    }
}

/// Sends for `time`, then waits for the count. Bytes that arrived at the far end.
///
/// # Errors
/// If the stream is refused, cut or lost.
pub async fn push<C: Carrier>(stream: &mut C, time: Duration) -> Result<u64, Error> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        match fill_or_receive(stream).await? {
            None => {}
            Some(Received::Reset(reason)) => return Err(Error::Reset(reason)),
            // The answer comes after FIN, never before.
            Some(Received::Data | Received::Fin) => return Err(Error::Short),
        }
    }
    stream.finish();
    flush(stream).await?;
    let mut answer = Vec::with_capacity(8);
    loop {
        match receive(stream).await? {
            Received::Data => {
                let chunk = stream.chunk();
                let len = chunk.len();
                answer.extend_from_slice(&chunk[..len.min(8 - answer.len())]);
                stream.consume(len);
            }
            Received::Fin => break,
            Received::Reset(reason) => return Err(Error::Reset(reason)),
        }
    }
    answer.try_into().map(u64::from_be_bytes).map_err(|_| Error::Short)
}

/// Takes bytes for `time`, then resets the stream. Bytes that arrived.
///
/// # Errors
/// If the stream is refused, cut or lost.
pub async fn pull<C: Carrier>(stream: &mut C, time: Duration) -> Result<u64, Error> {
    let end = Instant::now() + time;
    let mut total = 0;
    while Instant::now() < end {
        match receive(stream).await? {
            Received::Data => {
                let len = stream.chunk().len();
                total += len as u64;
                stream.consume(len);
            }
            Received::Fin => return Err(Error::Short),
            Received::Reset(reason) => return Err(Error::Reset(reason)),
        }
    }
    stream.reset(Reason::Application);
    Ok(total)
}

/// Reads to FIN; the number of bytes.
async fn drain<C: Carrier>(stream: &mut C) -> Result<u64, Error> {
    let mut total = 0;
    loop {
        match receive(stream).await? {
            Received::Data => {
                let len = stream.chunk().len();
                total += len as u64;
                stream.consume(len);
            }
            Received::Fin => return Ok(total),
            Received::Reset(reason) => return Err(Error::Reset(reason)),
        }
    }
}

/// Fills one slot with bytes to send, or tells what came in meanwhile.
async fn fill_or_receive<C: Carrier>(stream: &mut C) -> Result<Option<Received>, Broken> {
    poll_fn(|cx| {
        if let Poll::Ready(received) = stream.poll_received(cx) {
            return Poll::Ready(received.map(Some));
        }
        match stream.poll_slot(cx) {
            Poll::Ready(Ok(())) => {
                let all = |slots: &mut [IoSliceMut<'_>]| {
                    // What was in them before is nobody's business.
                    slots.iter_mut().for_each(|slot| slot.fill(FILLING));
                    Poll::Ready(Ok(slots.iter().map(|slot| slot.len()).sum()))
                };
                Poll::Ready(stream.fill(all).map(|_| None))
            }
            Poll::Ready(Err(broken)) => Poll::Ready(Err(broken)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// The next thing that arrives; what is queued to be sent keeps moving meanwhile.
///
/// # Errors
/// If the link is lost.
pub async fn receive<C: Carrier>(stream: &mut C) -> Result<Received, Broken> {
    poll_fn(|cx| {
        if let Poll::Ready(Err(broken)) = stream.poll_flush(cx) {
            return Poll::Ready(Err(broken));
        }
        stream.poll_received(cx)
    })
    .await
}

/// Sends `bytes`.
///
/// # Errors
/// If the link is lost.
pub async fn send<C: Carrier>(stream: &mut C, mut bytes: &[u8]) -> Result<(), Broken> {
    while !bytes.is_empty() {
        poll_fn(|cx| stream.poll_slot(cx)).await?;
        let copy = |slots: &mut [IoSliceMut<'_>]| {
            let mut copied = 0;
            for slot in slots {
                copied += bytes.read(slot)?;
            }
            Poll::Ready(Ok(copied))
        };
        // Copying waits for nothing and does not fail.
        let _copied = stream.fill(copy)?;
    }
    flush(stream).await
}

/// Hands everything queued to the kernel or to QUIC.
///
/// # Errors
/// If the link is lost.
pub async fn flush<C: Carrier>(stream: &mut C) -> Result<(), Broken> {
    poll_fn(|cx| stream.poll_flush(cx)).await
}
