//! A response of one JSON document a line, made while it is read.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use serde::Serialize;
use tokio::sync::mpsc;

use super::backend::Failure;

/// Documents that wait for a slow reader.
pub(super) const QUEUE: usize = 256;

type Work = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// What `work` sends, as lines; its failure, if it fails, as the last one. The work runs only while the body is read, and
/// ends with it.
pub(super) struct Lines<T> {
    work: Option<Work>,
    items: mpsc::Receiver<T>,
    ahead: Option<T>,
    failure: Option<Failure>,
}

impl<T: Serialize + Send + Unpin> Lines<T> {
    pub(super) fn new<W>(work: impl FnOnce(mpsc::Sender<T>) -> W) -> Self
    where
        W: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let (sender, items) = mpsc::channel(QUEUE);
        Self { work: Some(Box::pin(work(sender))), items, ahead: None, failure: None }
    }

    /// Waits for the first document, so that work that fails before it can answer with a status of its own.
    pub(super) async fn started(mut self) -> Result<Self, Failure> {
        match poll_fn(|cx| self.poll_next(cx)).await {
            Some(Err(failure)) => Err(failure),
            Some(Ok(first)) => {
                self.ahead = Some(first);
                Ok(self)
            }
            None => Ok(self),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Failure>>> {
        loop {
            if let Some(item) = self.ahead.take() {
                return Poll::Ready(Some(Ok(item)));
            }
            let drained = match self.items.poll_recv(cx) {
                Poll::Ready(Some(item)) => return Poll::Ready(Some(Ok(item))),
                Poll::Ready(None) => true,
                Poll::Pending => false,
            };
            match self.work.as_mut().map(|work| work.as_mut().poll(cx)) {
                Some(Poll::Ready(outcome)) => {
                    self.work = None;
                    self.failure = outcome.err();
                    // The work was the only sender.
                    self.items.close();
                }
                Some(Poll::Pending) => return Poll::Pending,
                None if drained => return Poll::Ready(self.failure.take().map(Err)),
                None => return Poll::Pending,
            }
        }
    }
}

impl<T: Serialize + Send + Unpin> Body for Lines<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.poll_next(cx).map(|next| {
            next.map(|item| {
                Ok(Frame::data(match item {
                    Ok(item) => line(&item),
                    Err(failure) => line(&failure.document()),
                }))
            })
        })
    }
}

/// One document and a line feed.
pub(super) fn line(document: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec(document).unwrap_or_default();
    text.push(b'\n');
    text.into()
}
