//! The side of an exchange that answers.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::message::{Arriving, Content, Head, REQUEST, answer_head, answer_to};
use super::{Journal, Line, Taken};
use crate::history::{Attempt, Digest, Outcome, Receipt, Stub};
use crate::scenario::clients::MOST_SIZE;

/// Takes what a client sends, writes it down, and answers it.
pub(in crate::scenario::run) fn receive(stream: TcpStream, service: &str, journal: &Journal, over: &AtomicBool) {
    // There is no bound in time: the client has one.
    let Ok(mut line) = Line::new(stream, None, over) else { return };
    let node = || service.to_owned();
    let receipt = |id, digest| journal.history().receipt(Receipt { id, node: node(), digest, at: journal.now() });
    let mut first = [0; REQUEST];
    match line.head(&mut first) {
        Ok(REQUEST) => {}
        // Whoever says nothing only looked whether there is somebody.
        Ok(0) | Err(_) => return,
        // Its number is unknown, or of no use: what would bear it has not come.
        Ok(_) => return journal.history().stub(Stub { id: 0, node: node(), at: journal.now() }),
    }
    let Some(Head { id, length, answer }) = Head::read(&first, MOST_SIZE) else {
        // No attempt has this number.
        return receipt(0, Digest::of(&first));
    };
    let mut arriving = Arriving::new(id, length);
    match line.take(&mut arriving) {
        Taken::Whole => receipt(id, arriving.digest()),
        _ if !arriving.is_right() => return receipt(id, arriving.digest()),
        Taken::Short => return journal.history().stub(Stub { id, node: node(), at: journal.now() }),
        Taken::Broken => return,
    }
    let (back, begin) = (answer_to(id), journal.now());
    let mut content = Content::new(back, answer);
    let (digest, to) = (content.clone().digest(), journal.client(id).unwrap_or("nobody").to_owned());
    // What came twice is told by its receipts.
    if journal.is_first(id) {
        // Whether it has arrived is the client's to know.
        let outcome = Outcome::Reset;
        journal.history().attempt(Attempt { id: back, from: node(), to, digest, begin, end: begin, outcome });
    }
    let sent = line
        .write(&answer_head(back, arriving.digest()))
        .and_then(|()| line.send(&mut content, answer, Duration::ZERO))
        .and_then(|()| line.stream.shutdown(Shutdown::Write));
    match (sent, line.read(&mut [0; 1])) {
        (Ok(()), Ok(0)) => line.close(),
        // Nothing may follow the end of the request.
        (Ok(()), Ok(_)) => receipt(id, !arriving.digest()),
        _ => {}
    }
}
