//! Every interleaving of two ends over two streams, with retirement by either end and loss at every moment.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Instant;

use super::{open_request, pair, sent};
use crate::reason::Reason;
use crate::transport::frame::Kind;
use crate::transport::lane::machine::{End, Event, Lane, Lost, Piece};
use crate::transport::message::{Detail, Frame, Opened, Refused};

const STREAMS: u32 = 2;
const O: usize = 0;
const R: usize = 1;

/// What is on the way: a frame and its stream; for DATA a ghost of it; `None` is the close of the connection.
type Message = Option<(Kind, u32)>;

/// What the applications know of one stream, at the opener's end and at the responder's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Fate {
    data: [bool; 2],
    fin: [bool; 2],
    eof: [bool; 2],
    /// Told of a RST or a refusal, or cut by its own application.
    cut: [bool; 2],
    served: bool,
    moved: bool,
}

#[derive(Debug, Clone, Hash)]
struct State {
    lanes: [Lane; 2],
    wires: [VecDeque<Message>; 2],
    fates: [Fate; STREAMS as usize],
    closed: [bool; 2],
}

impl State {
    fn current(&self, end: usize) -> Option<u32> {
        self.lanes[end].stream.as_ref().map(|stream| stream.n)
    }

    fn fate(&mut self, n: u32) -> &mut Fate {
        &mut self.fates[n as usize - 1]
    }

    fn flush(&mut self, end: usize) {
        for frame in sent(&mut self.lanes[end]) {
            let n = match frame {
                Frame::Open(n, _)
                | Frame::Opened(n, _)
                | Frame::Refused(n, _)
                | Frame::Fin(n)
                | Frame::Reset(n, _)
                | Frame::Done(n)
                | Frame::Bye(n, _) => n,
                _ => panic!("{frame:?}"),
            };
            self.wires[end].push_back(Some((frame.kind(), n)));
        }
    }

    /// What the applications or the agents may do now.
    fn local(&self, now: Instant) -> Vec<Self> {
        let mut next = Vec::new();
        for end in [O, R] {
            if self.closed[end] {
                continue;
            }
            let mut step = |act: &dyn Fn(&mut Self) -> bool| {
                let mut state = self.clone();
                if act(&mut state) {
                    state.flush(end);
                    next.push(state);
                }
            };
            if end == O {
                step(&|s| s.lanes[O].last < STREAMS && s.lanes[O].open(open_request()).is_ok());
                step(&|s| !s.lanes[O].is_retiring() && s.lanes[O].retire().is_ok());
                step(&|s| {
                    let closes = s.lanes[O].may_close();
                    if closes {
                        s.closed[O] = true;
                        s.wires[O].push_back(None);
                    }
                    closes
                });
            } else {
                step(&|s| s.lanes[R].bye(Reason::Draining).is_ok());
                step(&|s| {
                    let accepted = s.lanes[R].accept(Opened::default()).is_ok();
                    if accepted {
                        let n = s.current(R).unwrap();
                        s.fate(n).served = true;
                    }
                    accepted
                });
                step(&|s| {
                    let refused = Refused { reason: Reason::NotPermitted, detail: Detail::default() };
                    let n = s.current(R);
                    let refused = s.lanes[R].refuse(refused).is_ok();
                    if refused {
                        s.fate(n.unwrap()).cut[R] = true;
                    }
                    refused
                });
            }
            step(&|s| {
                let Some(n) = s.current(end).filter(|&n| !s.fates[n as usize - 1].data[end]) else { return false };
                let sends = s.lanes[end].data(1).is_ok();
                if sends {
                    s.fate(n).data[end] = true;
                    s.wires[end].push_back(Some((Kind::Data, n)));
                }
                sends
            });
            step(&|s| {
                let fin = s.lanes[end].fin().is_ok();
                if fin {
                    let n = s.current(end).unwrap();
                    s.fate(n).fin[end] = true;
                }
                fin
            });
            step(&|s| {
                let reset = s.lanes[end].reset(Reason::Application, now).is_ok();
                if reset {
                    let n = s.current(end).unwrap();
                    s.fate(n).cut[end] = true;
                }
                reset
            });
        }
        next
    }

    /// The next message from `from` arrives at the other end.
    fn deliver(&self, from: usize) -> Option<Self> {
        let to = 1 - from;
        let mut s = self.clone();
        let Some((kind, n)) = s.wires[from].pop_front()? else {
            s.closed[to] = true;
            assert_eq!(s.lanes[to].handle_lost(), Lost::Unnoticed, "closed in order under a stream");
            return Some(s);
        };
        if s.closed[to] {
            return Some(s);
        }
        let before = s.current(to);
        let frame = match kind {
            Kind::Data => {
                let piece = s.lanes[to].handle_data(1).unwrap();
                assert!(piece == Piece::Discard || before == Some(n), "DATA of {n} reached stream {before:?}");
                return Some(s);
            }
            Kind::Open => Frame::Open(n, Box::new(open_request())),
            Kind::Opened => Frame::Opened(n, Opened::default()),
            Kind::Refused => Frame::Refused(n, Refused { reason: Reason::NotPermitted, detail: Detail::default() }),
            Kind::Fin => Frame::Fin(n),
            Kind::Reset => Frame::Reset(n, Reason::Application),
            Kind::Done => Frame::Done(n),
            Kind::Bye => Frame::Bye(n, Reason::Draining),
            _ => panic!("{kind:?}"),
        };
        match s.lanes[to].handle(frame).unwrap() {
            Some(Event::Fin) => {
                assert_eq!(before, Some(n));
                s.fate(n).eof[to] = true;
            }
            Some(Event::Reset(_) | Event::Refused(_)) => {
                assert_eq!(before, Some(n));
                s.fate(n).cut[to] = true;
            }
            Some(Event::Bye { moved: true, .. }) => s.fate(before.unwrap()).moved = true,
            _ => {}
        }
        s.flush(to);
        Some(s)
    }

    fn check(&self) {
        for fate in &self.fates {
            for end in [O, R] {
                assert!(!fate.eof[end] || fate.fin[1 - end], "an end of file that nobody sent");
            }
            assert!(!(fate.served && fate.moved), "served here and moved elsewhere");
        }
        for end in [O, R] {
            let through = self.current(end).is_none_or(|n| {
                let fate = self.fates[n as usize - 1];
                fate.cut[end] || (fate.fin[end] && fate.eof[end])
            });
            let expected = if through { Lost::Unnoticed } else { Lost::Cut };
            assert_eq!(self.lanes[end].clone().handle_lost(), expected, "lost now");
        }
    }
}

#[test]
fn two_streams_in_every_interleaving_keep_every_promise() {
    let (opener, responder, now) = pair();
    assert_eq!((opener.end(), responder.end()), (End::Opener, End::Responder));
    let start =
        State { lanes: [opener, responder], wires: Default::default(), fates: Default::default(), closed: [false; 2] };
    let (mut seen, mut todo, mut ends) = (HashSet::new(), VecDeque::from([start]), 0);
    while let Some(state) = todo.pop_front() {
        let mut next = state.local(now);
        next.extend(state.deliver(O));
        next.extend(state.deliver(R));
        if next.is_empty() {
            ends += 1;
            assert!(state.lanes.iter().all(Lane::is_idle), "somebody waits for ever: {state:?}");
        }
        for state in next {
            let mut hasher = DefaultHasher::new();
            state.hash(&mut hasher);
            if seen.insert(hasher.finish()) {
                state.check();
                todo.push_back(state);
            }
        }
    }
    println!("{} states, {ends} ends", seen.len());
    assert!(seen.len() > 100_000 && ends > 100, "{} states, {ends} ends", seen.len());
}
