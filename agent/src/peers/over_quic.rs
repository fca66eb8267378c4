//! A stream over QUIC, as its opener has it: what the peer refuses because it retires is kept, to be said again elsewhere.

use std::io::{self, IoSliceMut};
use std::task::{Context, Poll, ready};

use tokio::time::timeout;

use super::quic::Held;
use super::serve::SETTLE;
use crate::reason::Reason;
use crate::splice::{Broken, Carrier, Received};
use crate::transport::message::{Incarnation, Open, Opened, Refused};
use crate::transport::quic::QuicStream;

/// What has been said on a stream that the peer has not answered: OPEN, the bytes, and whether FIN came after them.
pub type Replay = (Open, Vec<u8>, bool);

/// The most bytes that are kept of an unanswered stream. Of one on which the peer takes more, nothing is.
const MOST_SAID: usize = 64 << 10;

/// An application stream over QUIC.
pub struct OverQuic {
    stream: QuicStream,
    on: Held,
    /// What the application has said, until the peer serves the stream.
    said: Option<Replay>,
    /// How many of those bytes the stream has taken: the rest comes from another stream.
    taken: usize,
}

impl OverQuic {
    pub(super) fn new(stream: QuicStream, on: Held, said: Replay) -> Self {
        Self { stream, on, said: Some(said), taken: 0 }
    }

    /// The peer's run that it leads to.
    pub fn incarnation(&self) -> Incarnation {
        self.on.0.incarnation
    }

    /// How it was answered, once it was.
    pub fn answer(&self) -> Option<Result<Opened, Refused>> {
        self.stream.answered()
    }

    /// What to say again elsewhere, after it has moved.
    pub(super) fn take_replay(&mut self) -> Option<Replay> {
        self.moved().and_then(|_| self.said.take())
    }

    /// Winds the stream up after its end. One that is not over is cut by its drop.
    pub(super) async fn give_back(mut self) {
        timeout(SETTLE, self.stream.settle()).await.ok();
    }

    /// Says what another stream had said. Ready when all of it is in the queue of this one.
    fn catch_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Some((_, bytes, fin)) = &self.said else { return Poll::Ready(Ok(())) };
        while self.taken < bytes.len() {
            ready!(self.stream.poll_slot(cx))?;
            let slot = self.stream.slot();
            let len = slot.len().min(bytes.len() - self.taken);
            slot[..len].copy_from_slice(&bytes[self.taken..self.taken + len]);
            self.stream.commit(len);
            self.taken += len;
        }
        if *fin {
            self.stream.finish();
        }
        if matches!(self.stream.answered(), Some(Ok(_))) {
            self.said = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl Carrier for OverQuic {
    fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        ready!(self.catch_up(cx))?;
        self.stream.poll_slot(cx)
    }

    fn fill(
        &mut self,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>,
    ) -> Result<Poll<io::Result<usize>>, Broken> {
        let read = read(&mut [IoSliceMut::new(self.stream.slot())]);
        if let Poll::Ready(Ok(len)) = read {
            if let Some((_, bytes, _)) = &mut self.said {
                bytes.extend_from_slice(&self.stream.slot()[..len]);
                self.taken += len;
                if bytes.len() > MOST_SAID {
                    self.said = None;
                }
            }
            self.stream.commit(len);
        }
        Ok(read)
    }

    fn finish(&mut self) {
        match &mut self.said {
            // Behind the bytes that it has yet to take.
            Some((_, bytes, fin)) => {
                *fin = true;
                if self.taken == bytes.len() {
                    self.stream.finish();
                }
            }
            None => self.stream.finish(),
        }
    }

    fn reset(&mut self, reason: Reason) {
        self.stream.reset(reason);
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let caught_up = self.catch_up(cx)?;
        ready!(self.stream.poll_flush(cx))?;
        caught_up.map(Ok)
    }

    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Broken>> {
        let received = self.stream.poll_received(cx);
        if let Some(reason) = self.moved() {
            // Its other streams are refused as well.
            self.on.0.retire();
            return Poll::Ready(Err(Broken(reason.text().to_owned())));
        }
        received
    }

    fn chunk(&self) -> &[u8] {
        self.stream.chunk()
    }

    fn consume(&mut self, len: usize) {
        self.stream.consume(len);
    }

    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        self.stream.poll_lost(cx)
    }

    /// A refusal is a sure sign that the peer has not served the stream, and that it retires says that it would have. So is the
    /// end of a retired connection: what was said there has come too late even to be refused.
    fn moved(&self) -> Option<Reason> {
        self.said.as_ref()?;
        let refused = self.stream.refused().is_some_and(|refused| refused.reason == Reason::Draining);
        (refused || self.stream.was_passed_by()).then_some(Reason::Draining)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;
    use crate::peers::quic::Quic;
    use crate::transport::message::{Detail, Incarnation};
    use crate::transport::quic::tests::{links, request};
    use crate::transport::quic::{EARLY_CREDIT, QuicLink};

    const BOUND: Duration = Duration::from_secs(20);

    async fn flushed(stream: &mut OverQuic) {
        let flush = poll_fn(|cx| match stream.poll_received(cx) {
            Poll::Ready(Err(broken)) => Poll::Ready(Err(broken)),
            _ => stream.poll_flush(cx),
        });
        timeout(BOUND, flush).await.unwrap().unwrap();
    }

    /// Serves the next stream and reads it to its end.
    async fn serve(link: &QuicLink) -> Vec<u8> {
        let mut stream = link.accept().await.unwrap().accept(Detail::default());
        let mut bytes = Vec::new();
        loop {
            match poll_fn(|cx| stream.poll_received(cx)).await.unwrap() {
                Received::Data => {
                    let len = stream.chunk().len();
                    bytes.extend_from_slice(stream.chunk());
                    stream.consume(len);
                }
                Received::Fin => return bytes,
                Received::Reset(reason) => panic!("cut: {reason}"),
            }
        }
    }

    async fn refuse(link: &QuicLink, reason: Reason) {
        let request = link.accept().await.unwrap();
        request.refuse(Refused { reason, detail: Detail::default() }).await;
    }

    /// How an unanswered stream ends, and what is left to be said elsewhere.
    async fn ending(stream: &mut OverQuic) -> (Result<Received, Broken>, Option<Replay>) {
        let end = timeout(BOUND, poll_fn(|cx| stream.poll_received(cx))).await.unwrap();
        (end, stream.take_replay())
    }

    #[tokio::test]
    async fn what_a_retiring_peer_refuses_is_said_again_whole_and_once() {
        let (_pair, a, b) = links().await;
        let quic = Quic::new(a, Incarnation(2));
        let mut stream = quic.clone().open((request(), Vec::new(), false)).await.unwrap();
        poll_fn(|cx| stream.poll_slot(cx)).await.unwrap();
        let said = stream.fill(|slots| {
            slots[0][..5].copy_from_slice(b"early");
            Poll::Ready(Ok(5))
        });
        assert!(said.unwrap().is_ready());
        stream.finish();
        flushed(&mut stream).await;
        refuse(&b, Reason::Draining).await;
        let (end, said) = ending(&mut stream).await;
        assert!(end.is_err() && quic.is_retired());
        let said = said.unwrap();
        assert_eq!((&said.1[..], said.2), (&b"early"[..], true));

        let mut again = quic.clone().open(said).await.unwrap();
        let (bytes, ()) = tokio::join!(timeout(BOUND, serve(&b)), flushed(&mut again));
        assert_eq!(bytes.unwrap(), b"early");
        assert!(again.moved().is_none() && matches!(again.answer(), None | Some(Ok(_))));
    }

    #[tokio::test]
    async fn what_a_lane_let_an_application_say_early_passes_although_quic_lets_it_say_less() {
        let (_pair, a, b) = links().await;
        let quic = Quic::new(a, Incarnation(2));
        let early: Vec<u8> = (0..MOST_SAID).map(|at| u8::try_from(at % 251).unwrap()).collect();
        assert!(early.len() as u64 > EARLY_CREDIT);
        // Refused once more, it still has all of it to say.
        let mut stream = quic.clone().open((request(), early.clone(), true)).await.unwrap();
        let (end, ()) = tokio::join!(ending(&mut stream), refuse(&b, Reason::Draining));
        let said = end.1.unwrap();
        assert_eq!((&said.1, said.2), (&early, true));
        let mut again = quic.clone().open(said).await.unwrap();
        let (bytes, ()) = tokio::join!(timeout(BOUND, serve(&b)), flushed(&mut again));
        assert!(bytes.unwrap() == early);
    }

    #[tokio::test]
    async fn what_was_refused_for_another_reason_or_lost_is_not_said_again() {
        let (_pair, a, b) = links().await;
        let quic = Quic::new(a, Incarnation(2));
        let mut refused = quic.clone().open((request(), Vec::new(), false)).await.unwrap();
        let (end, ()) = tokio::join!(ending(&mut refused), refuse(&b, Reason::TargetRefused));
        assert!(matches!(end, (Ok(Received::Reset(Reason::TargetRefused)), None)));
        let mut lost = quic.clone().open((request(), Vec::new(), false)).await.unwrap();
        let asked = b.accept().await.unwrap();
        b.close(Reason::Draining);
        drop(asked);
        // It may have been served: that the connection is gone says nothing of it.
        let (end, said) = ending(&mut lost).await;
        assert!(!matches!(end, Ok(Received::Fin | Received::Data)) && said.is_none());
        assert!(!quic.is_retired());
    }

    #[tokio::test]
    async fn what_comes_too_late_for_a_retired_connection_is_said_again_and_what_was_served_there_is_not() {
        let (_pair, a, b) = links().await;
        let quic = Quic::new(a, Incarnation(2));
        let mut served = quic.clone().open((request(), b"served".to_vec(), false)).await.unwrap();
        let mut answered = b.accept().await.unwrap().accept(Detail::default());
        poll_fn(|cx| answered.poll_flush(cx)).await.unwrap();
        let reached = timeout(BOUND, poll_fn(|cx| served.stream.poll_opened(cx))).await.unwrap();
        assert!(matches!(reached, Ok(Ok(_))));
        let mut late = quic.clone().open((request(), b"late".to_vec(), true)).await.unwrap();
        b.close(Reason::Superseded);
        let (end, said) = ending(&mut late).await;
        assert!(end.is_err() && quic.is_retired());
        let said = said.unwrap();
        assert_eq!((&said.1[..], said.2), (&b"late"[..], true));
        let (end, said) = ending(&mut served).await;
        assert!(end.is_err() && said.is_none());
    }

    #[tokio::test]
    async fn an_answer_that_nobody_has_looked_at_counts_when_a_retired_connection_ends() {
        let (_pair, a, b) = links().await;
        let quic = Quic::new(a, Incarnation(2));
        let mut stream = quic.clone().open((request(), Vec::new(), true)).await.unwrap();
        poll_fn(|cx| stream.poll_flush(cx)).await.unwrap();
        let served = async {
            let mut served = b.accept().await.unwrap().accept(Detail::default());
            served.finish();
            while !matches!(poll_fn(|cx| served.poll_received(cx)).await.unwrap(), Received::Fin) {}
            poll_fn(|cx| served.poll_flush(cx)).await.unwrap();
            served.settle().await
        };
        assert!(timeout(BOUND, served).await.unwrap(), "its end is known");
        b.close(Reason::Superseded);
        timeout(BOUND, quic.link.connection().closed()).await.unwrap();
        let (end, said) = ending(&mut stream).await;
        assert!(matches!(end, Ok(Received::Fin)) && said.is_none());
        assert!(matches!(stream.answer(), Some(Ok(_))));
    }
}
