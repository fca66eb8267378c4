//! What programs have said, within bounds.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Lines that are kept of each node: the last.
const MOST_LINES: usize = 100_000;
/// Bytes of lines that are kept of each node: the last.
const MOST_BYTES: usize = 16 << 20;
/// Bytes that are kept of a line: the first.
const MOST_LINE: usize = 8 << 10;

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// A program's standard output.
    Stdout,
    /// A program's standard error.
    Stderr,
    /// The simulator: what it did on this node.
    Simulator,
}

impl Stream {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Simulator => "simulator",
        }
    }
}

/// A line that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When it was read.
    pub at: Duration,
    /// Where.
    pub node: String,
    /// Which of the node's programs said it; empty for the simulator.
    pub program: String,
    /// How.
    pub stream: Stream,
    /// What, without the line's end.
    pub text: String,
}

impl Line {
    /// A line.
    pub fn new(
        at: Duration,
        node: impl Into<String>,
        program: impl Into<String>,
        stream: Stream,
        text: impl Into<String>,
    ) -> Self {
        Self { at, node: node.into(), program: program.into(), stream, text: text.into() }
    }
}

/// Lines, of each node apart: a talkative one does not push out what the others have said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    nodes: BTreeMap<String, Said>,
}

/// What one node has said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Said {
    lines: VecDeque<Line>,
    bytes: usize,
    left_out: u64,
}

impl Log {
    /// Adds a line. Of each node the last 100,000 lines and 16 MiB are kept, and of a line the first 8 KiB.
    pub fn push(&mut self, mut line: Line) {
        if line.text.len() > MOST_LINE {
            line.text.truncate(line.text.floor_char_boundary(MOST_LINE));
            line.text.push('…');
        }
        let said = match self.nodes.get_mut(&line.node) {
            Some(said) => said,
            None => self.nodes.entry(line.node.clone()).or_default(),
        };
        said.bytes += line.text.len();
        said.lines.push_back(line);
        while said.lines.len() > MOST_LINES || said.bytes > MOST_BYTES {
            let Some(first) = said.lines.pop_front() else { return };
            said.bytes -= first.text.len();
            said.left_out += 1;
        }
    }

    /// What a node has said, in the order in which it was added.
    pub fn of(&self, node: &str) -> impl DoubleEndedIterator<Item = &Line> + ExactSizeIterator {
        static NOTHING: VecDeque<Line> = VecDeque::new();
        self.nodes.get(node).map_or(&NOTHING, |said| &said.lines).iter()
    }

    /// How many of a node's first lines were not kept.
    #[must_use]
    pub fn left_out(&self, node: &str) -> u64 {
        self.nodes.get(node).map_or(0, |said| said.left_out)
    }

    /// When the last line was said.
    pub(super) fn last(&self) -> Option<Duration> {
        self.nodes.values().flat_map(|said| &said.lines).map(|line| line.at).max()
    }
}
