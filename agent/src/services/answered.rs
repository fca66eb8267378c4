//! Hears when a stream is answered while its bytes are moved.

use std::io::{self, IoSlice, IoSliceMut};
use std::task::{Context, Poll};

use crate::peers::stream::Stream;
use crate::reason::Reason;
use crate::splice::{Broken, Carrier, Received};
use crate::tcp::Tcp;
use crate::transport::message::{Opened, Refused};

/// A stream that may know how its far side has answered.
pub trait Asked: Carrier {
    /// How it was answered, once it was.
    fn answer(&self) -> Option<Result<Opened, Refused>>;
}

impl Asked for Stream {
    fn answer(&self) -> Option<Result<Opened, Refused>> {
        Stream::answer(self)
    }
}

/// A stream of which `hear` is told once how it was answered: whether it was let in. The answer comes with what is received, so
/// that is where it is looked for; after that it costs the moving of bytes one test of a flag.
pub struct Answered<'s, C, H> {
    stream: &'s mut C,
    hear: Option<H>,
}

impl<'s, C: Asked, H: FnOnce(bool)> Answered<'s, C, H> {
    /// Watches `stream`.
    pub fn new(stream: &'s mut C, hear: H) -> Self {
        Self { stream, hear: Some(hear) }
    }

    fn look(&mut self) {
        if let Some(answer) = self.stream.answer()
            && let Some(hear) = self.hear.take()
        {
            hear(answer.is_ok());
        }
    }
}

impl<C: Asked, H: FnOnce(bool)> Carrier for Answered<'_, C, H> {
    fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.stream.poll_slot(cx)
    }

    fn fill(
        &mut self,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>,
    ) -> Result<Poll<io::Result<usize>>, Broken> {
        self.stream.fill(read)
    }

    fn finish(&mut self) {
        self.stream.finish();
    }

    fn reset(&mut self, reason: Reason) {
        self.stream.reset(reason);
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.stream.poll_flush(cx)
    }

    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Broken>> {
        let received = self.stream.poll_received(cx);
        if self.hear.is_some() {
            self.look();
        }
        received
    }

    fn chunk(&self) -> &[u8] {
        self.stream.chunk()
    }

    fn consume(&mut self, len: usize) {
        self.stream.consume(len);
    }

    fn drain(&mut self, write: impl FnOnce(&[IoSlice<'_>]) -> Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.stream.drain(write)
    }

    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        self.stream.poll_lost(cx)
    }

    fn moved(&self) -> Option<Reason> {
        self.stream.moved()
    }

    fn tcp(&mut self) -> Option<&mut Tcp> {
        self.stream.tcp()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// A stream that gives a byte, or nothing, and was answered so.
    struct Given {
        answer: Option<Result<Opened, Refused>>,
        received: Poll<Received>,
    }

    impl Asked for Given {
        fn answer(&self) -> Option<Result<Opened, Refused>> {
            self.answer.clone()
        }
    }

    impl Carrier for Given {
        fn poll_slot(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
            Poll::Pending
        }
        fn fill(
            &mut self,
            read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>,
        ) -> Result<Poll<io::Result<usize>>, Broken> {
            Ok(read(&mut []))
        }
        fn finish(&mut self) {}
        fn reset(&mut self, _: Reason) {}
        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
            Poll::Ready(Ok(()))
        }
        fn poll_received(&mut self, _: &mut Context<'_>) -> Poll<Result<Received, Broken>> {
            self.received.map(Ok)
        }
        fn chunk(&self) -> &[u8] {
            b"x"
        }
        fn consume(&mut self, _: usize) {}
    }

    #[test]
    fn an_answer_is_told_once_and_as_soon_as_something_was_received() {
        let opened = || Some(Ok(Opened::default()));
        let refused = || Some(Err(Refused { reason: Reason::NotPermitted, detail: Default::default() }));
        let reset = Poll::Ready(Received::Reset(Reason::NotPermitted));
        for (answer, received, told) in [
            (None, Poll::Pending, None),
            (None, Poll::Ready(Received::Data), None),
            (opened(), Poll::Pending, Some(true)),
            (opened(), Poll::Ready(Received::Data), Some(true)),
            (opened(), Poll::Ready(Received::Fin), Some(true)),
            (refused(), reset, Some(false)),
        ] {
            let mut heard = Vec::new();
            let mut stream = Given { answer, received };
            let mut watched = Answered::new(&mut stream, |opened| heard.push(opened));
            let mut cx = Context::from_waker(Waker::noop());
            for _ in 0..3 {
                assert_eq!(watched.poll_received(&mut cx).map(Result::unwrap), received);
            }
            assert_eq!(heard, told.into_iter().collect::<Vec<_>>());
        }
    }
}
