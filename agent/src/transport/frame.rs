//! Frames: the header, its limits, and a parser that does not care about record borders.
//!
//! The table of frames is on the [front page](super) of this room.

use std::fmt;

/// Bytes of a frame's header.
pub const HEADER: usize = 4;
/// The longest payload of any frame but DATA.
pub const MAX_CONTROL: usize = 4096;
/// The longest payload of a DATA frame; also the most that is skipped of a frame of an unknown type.
pub const MAX_DATA: usize = 16 * 1024;
/// The flag of a frame that a receiver must know: if it does not, it ends the connection instead of skipping the frame.
pub const CRITICAL: u8 = 0x80;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $code:literal, $name:literal, $min:literal..=$max:expr;)*) => {
        /// What a frame is: its type byte.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $kind = $code,)*
        }

        impl Kind {
            /// Every kind that this version knows.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// The kind behind a type byte, if this version knows it.
            pub fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$kind),)*
                    _ => None,
                }
            }

            /// Whether a payload of `length` bytes is within this kind's limits.
            pub fn takes(self, length: usize) -> bool {
                match self { $(Self::$kind => ($min..=$max).contains(&length),)* }
            }

            /// The name in the protocol's own words.
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    /// Who speaks, and how.
    Hello = 1, "HELLO", 0..=MAX_CONTROL;
    /// Asks for a stream.
    Open = 2, "OPEN", 4..=1024;
    /// The stream is served.
    Opened = 3, "OPENED", 4..=512;
    /// The stream is not served.
    Refused = 4, "REFUSED", 4..=512;
    /// Application bytes.
    Data = 5, "DATA", 1..=MAX_DATA;
    /// No more DATA of this stream from this side.
    Fin = 6, "FIN", 4..=4;
    /// Both directions of the stream are cut.
    Reset = 7, "RESET", 4..=256;
    /// The sender's last frame of the stream.
    Done = 8, "DONE", 4..=4;
    /// Asks for a sign of life.
    Ping = 9, "PING", 0..=256;
    /// The answer to PING.
    Pong = 10, "PONG", 0..=256;
    /// One datagram of a service.
    Datagram = 11, "DATAGRAM", 0..=MAX_CONTROL;
    /// How much more DATA may be sent.
    Credit = 12, "CREDIT", 4..=256;
    /// How many reverse lanes the sender would like.
    WantLanes = 13, "WANT_LANES", 0..=256;
    /// The sender serves no further streams.
    Bye = 14, "BYE", 4..=256;
    /// What mesh documents the sender knows.
    Summary = 15, "SUMMARY", 0..=1024;
    /// Asks for a mesh document, from an offset on.
    Ask = 16, "ASK", 0..=64;
    /// A piece of a mesh document.
    Hand = 17, "HAND", 0..=MAX_CONTROL;
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A header that cannot be. The connection it came on is of no further use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FrameError {
    /// The length does not fit the kind.
    #[error("{kind} frame of {length} bytes")]
    Length {
        /// The frame's kind.
        kind: Kind,
        /// The length that its header states, in bytes.
        length: u16,
    },
    /// A type that this version does not know and must not skip.
    #[error("unknown frame type {0} that must not be skipped")]
    Unknown(u8),
    /// An ignorable frame of an unknown type that is too long to be skipped.
    #[error("unknown frame type {code} of {length} bytes")]
    UnknownLength {
        /// The type byte.
        code: u8,
        /// The length that its header states, in bytes.
        length: u16,
    },
}

/// The header of a frame.
///
/// # Panics
/// If the length does not fit the kind: an encoder knows what it encodes.
pub fn header(kind: Kind, length: usize) -> [u8; HEADER] {
    assert!(kind.takes(length), "{kind} frame of {length} bytes");
    let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    [kind as u8, 0, high, low]
}

/// What a parser found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A whole frame other than DATA.
    Control {
        /// Its kind.
        kind: Kind,
        /// Its payload, of a length that fits the kind.
        payload: &'a [u8],
    },
    /// A piece of a DATA frame's payload, never empty: always a part of the input itself, the last part read so far.
    Data(&'a [u8]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    Header,
    Control { kind: Kind, length: u16 },
    Data { left: u16 },
    Skip { left: u16 },
    Failed(FrameError),
}

/// Finds frames in a stream of bytes that arrives in pieces of any size.
///
/// DATA is handed on as it comes. Other frames are borrowed from the input if they are whole there, else gathered in a
/// buffer that is no larger than the header says and the kind allows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Parser {
    state: State,
    head: [u8; HEADER],
    head_len: usize,
    gathered: Vec<u8>,
}

impl Default for Parser {
    fn default() -> Self {
        Self { state: State::Header, head: [0; HEADER], head_len: 0, gathered: Vec::new() }
    }
}

impl Parser {
    /// A parser at the border of two frames.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next item of `input`, which is advanced past it. `None`: the input is used up.
    ///
    /// # Errors
    /// [`FrameError`] as soon as a header is read that cannot be; the same again at every later call.
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Item<'a>>, FrameError> {
        loop {
            match self.state {
                State::Failed(error) => return Err(error),
                State::Header => {
                    self.gathered = Vec::new();
                    let piece = take(input, HEADER - self.head_len);
                    self.head[self.head_len..self.head_len + piece.len()].copy_from_slice(piece);
                    self.head_len += piece.len();
                    if self.head_len < HEADER {
                        return Ok(None);
                    }
                    self.head_len = 0;
                    self.state = begin(self.head);
                }
                State::Data { left } => {
                    let piece = take(input, left.into());
                    if piece.is_empty() {
                        return Ok(None);
                    }
                    let left = left - len16(piece);
                    self.state = if left == 0 { State::Header } else { State::Data { left } };
                    return Ok(Some(Item::Data(piece)));
                }
                State::Skip { left } => {
                    let left = left - len16(take(input, left.into()));
                    if left > 0 {
                        self.state = State::Skip { left };
                        return Ok(None);
                    }
                    self.state = State::Header;
                }
                State::Control { kind, length } => {
                    let length = usize::from(length);
                    if self.gathered.is_empty() && input.len() >= length {
                        self.state = State::Header;
                        return Ok(Some(Item::Control { kind, payload: take(input, length) }));
                    }
                    if input.is_empty() {
                        return Ok(None);
                    }
                    if self.gathered.is_empty() {
                        self.gathered.reserve_exact(length);
                    }
                    let missing = length - self.gathered.len();
                    self.gathered.extend_from_slice(take(input, missing));
                    if self.gathered.len() < length {
                        return Ok(None);
                    }
                    self.state = State::Header;
                    return Ok(Some(Item::Control { kind, payload: &self.gathered }));
                }
            }
        }
    }

    /// Whether an input that begins with the byte `next` begins with DATA, or its header.
    pub fn continues_with_data(&self, next: u8) -> bool {
        match self.state {
            State::Data { .. } => true,
            State::Header => Kind::Data as u8 == if self.head_len > 0 { self.head[0] } else { next },
            _ => false,
        }
    }

    /// Whether the last byte read was the last of a frame (or none was read).
    pub fn at_border(&self) -> bool {
        self.state == State::Header && self.head_len == 0
    }
}

fn begin([code, flags, high, low]: [u8; HEADER]) -> State {
    let length = u16::from_be_bytes([high, low]);
    match Kind::from_code(code) {
        Some(kind) if !kind.takes(length.into()) => State::Failed(FrameError::Length { kind, length }),
        Some(Kind::Data) => State::Data { left: length },
        Some(kind) => State::Control { kind, length },
        None if code == 0 || flags & CRITICAL != 0 => State::Failed(FrameError::Unknown(code)),
        None if usize::from(length) > MAX_DATA => State::Failed(FrameError::UnknownLength { code, length }),
        None => State::Skip { left: length },
    }
}

fn take<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (piece, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    piece
}

/// The length of a piece that is no longer than a frame's payload.
fn len16(piece: &[u8]) -> u16 {
    u16::try_from(piece.len()).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Control frames as (kind, payload); consecutive pieces of DATA joined.
    fn parse(parser: &mut Parser, bytes: &[u8], chunk: usize) -> Result<Vec<(Kind, Vec<u8>)>, FrameError> {
        let mut found: Vec<(Kind, Vec<u8>)> = Vec::new();
        let mut fresh = true;
        for mut input in bytes.chunks(chunk) {
            loop {
                let item = parser.next(&mut input)?.map(|item| match item {
                    Item::Control { kind, payload } => (kind, payload.to_vec()),
                    Item::Data(piece) => (Kind::Data, piece.to_vec()),
                });
                let Some((kind, payload)) = item else { break };
                match found.last_mut() {
                    Some((Kind::Data, data)) if kind == Kind::Data && !fresh => data.extend(payload),
                    _ => found.push((kind, payload)),
                }
                fresh = parser.at_border();
            }
        }
        Ok(found)
    }

    fn put(out: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
        out.extend(header(kind, payload.len()));
        out.extend(payload);
    }

    #[test]
    fn every_chunking_gives_the_same_frames() {
        let mut bytes = Vec::new();
        put(&mut bytes, Kind::Hello, &[7; 4096]);
        put(&mut bytes, Kind::Ping, &[]);
        put(&mut bytes, Kind::Data, &[1; 16384]);
        put(&mut bytes, Kind::Data, &[2]);
        bytes.extend([77, 0x01, 0, 3, 9, 9, 9]); // unknown, ignorable
        bytes.extend([78, 0, 0, 0]); // unknown, ignorable, empty
        put(&mut bytes, Kind::Done, &[0, 0, 0, 1]);
        let whole = parse(&mut Parser::new(), &bytes, bytes.len()).unwrap();
        let kinds: Vec<_> = whole.iter().map(|(kind, payload)| (*kind, payload.len())).collect();
        assert_eq!(
            kinds,
            [(Kind::Hello, 4096), (Kind::Ping, 0), (Kind::Data, 16384), (Kind::Data, 1), (Kind::Done, 4)]
        );
        for chunk in [1, 2, 3, 4, 5, 7, 63, 4095, 4096, 4099, 16384] {
            assert_eq!(parse(&mut Parser::new(), &bytes, chunk).unwrap(), whole, "chunks of {chunk}");
        }
    }

    #[test]
    fn data_is_handed_on_before_its_frame_is_whole() {
        let mut parser = Parser::new();
        let head = header(Kind::Data, 100);
        let input = [&head[..], b"abc"].concat();
        let mut rest = &input[..];
        assert_eq!(parser.next(&mut rest), Ok(Some(Item::Data(b"abc"))));
        assert!(!parser.at_border());
        assert_eq!(parser.next(&mut rest), Ok(None));
    }

    #[test]
    fn limits_are_judged_by_the_header_alone_and_nothing_is_allocated() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind as u8), Some(kind));
            for length in 0..=u16::MAX {
                if !kind.takes(length.into()) {
                    let [high, low] = length.to_be_bytes();
                    let mut parser = Parser::new();
                    let mut input = &[kind as u8, 0, high, low][..];
                    assert_eq!(parser.next(&mut input), Err(FrameError::Length { kind, length }));
                    assert_eq!(parser.gathered.capacity(), 0);
                    assert_eq!(
                        parser.next(&mut &[0u8; 9][..]),
                        Err(FrameError::Length { kind, length }),
                        "stays failed"
                    );
                }
            }
        }
    }

    #[test]
    fn unknown_types_are_skipped_unless_critical() {
        let cases: &[(&[u8], Result<usize, FrameError>)] = &[
            (&[200, 0, 0, 1, 5, 9, 0, 0, 0], Ok(1)),
            (&[200, CRITICAL, 0, 1, 5], Err(FrameError::Unknown(200))),
            (&[0, 0, 0, 0], Err(FrameError::Unknown(0))),
            (&[200, 0, 0x40, 1], Err(FrameError::UnknownLength { code: 200, length: 0x4001 })),
            (&[Kind::Ping as u8, 0xff, 0, 0], Ok(1)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(parse(&mut Parser::new(), bytes, 100).map(|found| found.len()), *expected, "{bytes:?}");
        }
    }
}
