//! A document's text, and the problems found in it.

use std::collections::HashSet;
use std::ops::Range;

use crate::diagnostic::{Problem, Severity, Snippet};
use crate::fault::Fault;
use crate::suggest::Suggester;

/// Problems kept of one document. The rest is counted.
pub const MAX_PROBLEMS: usize = 1_000;

/// A part of a document: byte offsets into its text.
pub type Span = Range<usize>;

/// A document's text and the name of the file it came from.
#[derive(Debug)]
pub struct Source<'t> {
    file: &'t str,
    text: &'t str,
    /// Line ends before each block of the text, so that an offset's line is found without reading all before it. An
    /// index of all lines would be eight times a file of empty ones.
    blocks: Vec<usize>,
}

/// Bytes of a block.
const BLOCK: usize = 4_096;

fn line_ends(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// Where the line begins that comes after `before`.
fn line_start(before: &[u8]) -> usize {
    before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

impl<'t> Source<'t> {
    /// Takes `text`, which came from `file`. A byte order mark at its start is left out.
    pub fn new(file: &'t str, text: &'t str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut seen = 0;
        let mut blocks = Vec::with_capacity(text.len() / BLOCK + 1);
        for block in text.as_bytes().chunks(BLOCK) {
            blocks.push(seen);
            seen += line_ends(block);
        }
        Self { file, text, blocks }
    }

    /// The file's name as it was given.
    pub fn file(&self) -> &'t str {
        self.file
    }

    /// The text without a byte order mark.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// Line and column of a byte offset, both from 1, the column in characters.
    pub fn place(&self, offset: usize) -> (usize, usize) {
        let (line, start) = self.line_of(offset);
        (line + 1, self.characters(start, offset) + 1)
    }

    /// The line's index and where it begins.
    fn line_of(&self, offset: usize) -> (usize, usize) {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        let block = before.len() / BLOCK;
        let Some(counted) = self.blocks.get(block) else {
            return (line_ends(before), line_start(before));
        };
        (counted + line_ends(before.get(block * BLOCK..).unwrap_or_default()), line_start(before))
    }

    /// Characters that begin from `from` up to before `to`.
    fn characters(&self, from: usize, to: usize) -> usize {
        let to = self.text.floor_char_boundary(to);
        self.text.get(from..to).map_or(0, |part| part.chars().count())
    }

    /// A problem at `span`.
    pub fn problem(&self, severity: Severity, span: &Span, message: impl AsRef<str>) -> Problem {
        let mut problem = Problem::with_file(severity, self.file, message);
        let (index, start) = self.line_of(span.start);
        let rest = self.text.get(start..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let before = self.characters(start, span.start);
        let width = self.characters(self.text.floor_char_boundary(span.start), span.end.min(start + line.len()));
        problem.line = index + 1;
        problem.column = before + 1;
        problem.snippet = Some(Snippet::of(line, before, width));
        problem
    }
}

/// The problems found in one document, at most [`MAX_PROBLEMS`] of them.
#[derive(Debug)]
pub struct Problems<'s> {
    source: &'s Source<'s>,
    found: Vec<(Span, Problem)>,
    errors: usize,
    unkept: usize,
    /// Where the text could not be read as TOML.
    torn: HashSet<usize>,
    incomplete: bool,
    suggester: Suggester,
}

impl<'s> Problems<'s> {
    /// None yet.
    pub fn new(source: &'s Source<'s>) -> Self {
        Self {
            source,
            found: Vec::new(),
            errors: 0,
            unkept: 0,
            torn: HashSet::new(),
            incomplete: false,
            suggester: Suggester::default(),
        }
    }

    /// An error at `span`.
    pub fn error(&mut self, span: &Span, message: impl AsRef<str>) -> Noted<'_> {
        self.note(Severity::Error, span, message.as_ref())
    }

    /// A warning at `span`.
    pub fn warning(&mut self, span: &Span, message: impl AsRef<str>) -> Noted<'_> {
        self.note(Severity::Warning, span, message.as_ref())
    }

    /// A fault at `span`.
    pub fn fault(&mut self, span: &Span, fault: &Fault) {
        self.error(span, &fault.message).hint_if(fault.hint.as_deref());
    }

    /// Which of `candidates` `text` was most likely meant to be, as a hint. The work done for one document is bounded.
    pub fn nearest<'c>(&self, text: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
        if self.found.len() == MAX_PROBLEMS {
            return None;
        }
        self.suggester.nearest(text, candidates).map(|name| format!("did you mean `{name}`?"))
    }

    /// An error at `span`, where the text could not be read as TOML: what stands there instead is not complained about
    /// again, and parts of the document may be unknown.
    pub(crate) fn tear(&mut self, span: &Span, message: &str) -> Noted<'_> {
        self.incomplete = true;
        self.torn.insert(span.start);
        self.push(Severity::Error, span, message)
    }

    /// Says that parts of the document are unknown.
    pub(crate) fn give_up(&mut self) {
        self.incomplete = true;
    }

    /// Whether parts of the document may be unknown, because its text could not be read as TOML everywhere. What is
    /// missing may then be in such a part, so nothing that follows from an absence is worth a word.
    pub fn torn(&self) -> bool {
        self.incomplete
    }

    /// Whether there is an error among them.
    pub fn refused(&self) -> bool {
        self.errors > 0
    }

    fn note(&mut self, severity: Severity, span: &Span, message: &str) -> Noted<'_> {
        if self.torn.contains(&span.start) {
            return Noted(None);
        }
        self.push(severity, span, message)
    }

    fn push(&mut self, severity: Severity, span: &Span, message: &str) -> Noted<'_> {
        self.errors += usize::from(severity == Severity::Error);
        if self.found.len() == MAX_PROBLEMS {
            self.unkept += 1;
            return Noted(None);
        }
        self.found.push((span.clone(), self.source.problem(severity, span, message)));
        Noted(self.found.last_mut().map(|(_, problem)| problem))
    }

    /// All of them by place. The last one says how many were not kept.
    ///
    /// # Errors
    /// If the document is refused: the errors and the warnings.
    pub fn finish(mut self) -> Result<Vec<Problem>, Vec<Problem>> {
        self.found.sort_by(|(a, p), (b, q)| (a.start, p.severity, &p.message).cmp(&(b.start, q.severity, &q.message)));
        self.found.dedup_by(|(_, a), (_, b)| a == b);
        let mut all: Vec<Problem> = self.found.into_iter().map(|(_, problem)| problem).collect();
        if self.unkept > 0 {
            let severity = if self.errors > 0 { Severity::Error } else { Severity::Warning };
            let message = format!("{} more problems are not shown", self.unkept);
            all.push(Problem::with_file(severity, self.source.file, message));
        }
        if self.errors > 0 { Err(all) } else { Ok(all) }
    }
}

/// A problem just noted, to be given a hint. Empty if it was beyond the number kept.
#[derive(Debug)]
pub struct Noted<'p>(Option<&'p mut Problem>);

impl Noted<'_> {
    /// Adds what to do.
    pub fn hint(self, hint: impl AsRef<str>) {
        self.hint_if(Some(hint));
    }

    /// Adds what to do, if that is known.
    pub fn hint_if(self, hint: Option<impl AsRef<str>>) {
        if let (Some(problem), Some(hint)) = (self.0, hint) {
            problem.hint = Some(crate::diagnostic::printable(hint.as_ref()).into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_end_with_crlf_or_lf() {
        let source = Source::new("f", "\u{feff}aé=1\r\nb = \"ü\" x\n");
        assert_eq!(source.place(0), (1, 1));
        assert_eq!(source.place(3), (1, 3));
        let x = source.text().find('x').unwrap();
        assert_eq!(source.place(x), (2, 9));
        let problem = source.problem(Severity::Error, &(x..x + 1), "m");
        assert_eq!(problem.render(false), "f:2:9: error: m\n  |\n2 | b = \"ü\" x\n  |         ^");
    }

    #[test]
    fn places_are_right_across_blocks() {
        let text = "é\nxyz\n\n".repeat(3_000);
        let source = Source::new("f", &text);
        for (offset, _) in text.char_indices().step_by(7).chain([(text.len(), ' ')]) {
            let before = &text[..offset];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
            assert_eq!(source.place(offset), (line, column), "{offset}");
        }
    }

    #[test]
    fn any_span_has_a_place() {
        for text in ["", "\n", "é", "a\r\n\r\n", "\u{feff}"] {
            let source = Source::new("f", text);
            for start in 0..6 {
                for end in start..8 {
                    let problem = source.problem(Severity::Error, &(start..end), "m");
                    assert!(problem.line >= 1 && problem.column >= 1, "{text:?} {start} {end}");
                }
            }
        }
    }

    #[test]
    fn problems_are_sorted_by_place_and_capped() {
        let text = "x".repeat(3_000);
        let source = Source::new("f", &text);
        let mut problems = Problems::new(&source);
        for at in (0..MAX_PROBLEMS + 5).rev() {
            problems.error(&(at..at + 1), "m").hint("h");
        }
        let all = problems.finish().unwrap_err();
        assert_eq!(all.len(), MAX_PROBLEMS + 1);
        assert!(all[..MAX_PROBLEMS].is_sorted_by_key(|p| p.column));
        assert_eq!(all[MAX_PROBLEMS].message, "5 more problems are not shown");
        assert!(all[MAX_PROBLEMS].is_error());
    }
}
